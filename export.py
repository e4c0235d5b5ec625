#!/usr/bin/env python3
"""Write a trained detector as a package to hand over: weights, an ONNX graph, and a page that says how to use them.

    python export.py --trained_model weights/FeatherFaceV2.pth
    python export.py --trained_model weights/FeatherFaceV2.pth --nms --confidence_threshold 0.5
    python export.py --trained_model weights/FeatherFaceV2.pth --image_size 640 480
    python export.py --trained_model weights/FeatherFaceV2.pth --half --dataset_folder data/widerface/val
    python export.py --trained_model weights/FeatherFaceV2.pth --int8 --dataset_folder data/widerface/val

Writes to --output_folder, v1 in place of v2 for a V1 checkpoint:

    featherface_v2_deployment.pth           averaged weights, configuration, preprocessing, AP where it is known
    featherface_v2_deployment.onnx          one or more BGR pictures of any size to boxes, scores, landmarks in pixels
    featherface_v2_deployment_nms.onnx      the same with suppression inside (--nms)
    featherface_v2_deployment_640x480.onnx  the same for one picture of 640 x 480 float32 pixels (--image_size 640 480)
    featherface_v2_deployment_half.onnx     the same with float16 weights, half the file (--half)
    featherface_v2_deployment_int8.onnx     the same with 8-bit convolutions (--int8)
    README.md                               how to load them, what goes in and comes out, what was measured

The graphs are ONNX opset 17. That is enough for V1 too: its deformable convolution is exported as the bilinear sampling
it is written with (GridSample, opset 16), not as DeformConv (opset 19), which fewer runtimes have.

The graph is compared with PyTorch on pictures of four sizes, every anchor. A difference over 1e-3 pixels or 1e-4 in
score is an error, and then no file is written. With --dataset_folder, --half and --int8 print the AP on the validation
pictures before and after.
"""

from utils.errors import stop_quietly

if __name__ == "__main__":
    stop_quietly()

import statistics
from argparse import Namespace
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import nn

from deployment.onnx_graph import (
    add_suppression,
    check_graph,
    check_suppression,
    differences,
    export_fixed_graph,
    export_graph,
    halve_weights,
    metadata_in,
    metadata_of,
    save_graph,
    suppression_metadata,
)
from deployment.package import Package, PackageFile
from deployment.page import MADE_BY, write_page
from deployment.quantization import ACCEPTED_LOSS, PROTOCOL, quantize
from deployment.weights_file import deployment_state, known_precision
from detection.face_detector import FaceDetector
from detection.onnx_detector import PIXEL_TYPES, OnnxDetector, open_session, run_session
from detection.suppression import DetectionSettings
from detection.validation import ValidationSet, mistakes_told, open_validation_set, predict
from models import load_model
from utils.arguments import ArgumentParser, number
from utils.errors import UserError, run_script
from utils.files import atomic_path, check_folder_is_writable, fingerprint
from utils.locks import folder_lock
from utils.tables import Row, print_table
from utils.turns import take_turns
from widerface_evaluate.average_precision import evaluate

CPU = torch.device("cpu")

PAGE = "README.md"
#: Of the folder that a run writes to.
LOCK = ".export.lock"

#: Runs whose median is a graph's time, after some that do not count.
TIMED_RUNS, WARM_UP_RUNS = 20, 3

#: Of --image_size, in pixels. On maps of one row or column, those of 32 pixels, OpenCV 4.x gives wrong numbers.
SMALLEST_SIDE = 64

#: Where test_widerface.py leaves its table, relative to the working folder.
TABLE = Path("./results/widerface_txt/table.json")


def parse_args(arguments: list[str] | None = None) -> Namespace:
    parser = ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--trained_model", type=Path, required=True, help="checkpoint of train_v2.py, or FeatherNetB_se.pth")
    add("--output_folder", type=Path, default="./results/v2/")
    add("--float_input", action="store_true",
        help="the graphs take float32 pixels in place of uint8, which is four times as much to hand over, for runtimes "
             "without uint8")
    add("--nms", action="store_true", help="write a graph with suppression inside, too")
    add("--confidence_threshold", type=number(float, 0, 1), default=0.5, help="of --nms; the page advises it")
    add("--nms_threshold", type=number(float, 0, 1), default=0.4, help="of --nms; the page advises it")
    add("--keep_top_k", type=number(int, 1), default=750, help="of --nms: faces kept of a picture")
    add("--image_size", type=number(int, SMALLEST_SIDE, 8192), nargs=2, metavar=("WIDTH", "HEIGHT"),
        help="write a graph for one picture of this size, too, of float32 pixels and without shapes to be computed: "
             "for OpenCV 4.x, TensorRT and converters for mobile devices")
    add("--half", action="store_true",
        help="write a graph with float16 weights, too: half the file; --dataset_folder tells what it costs")
    add("--int8", action="store_true", help="write a graph with 8-bit convolutions, too; needs --dataset_folder")
    add("--dataset_folder", type=Path,
        help="of --half and --int8, for AP before and after: pictures in WIDER FACE's validation layout, with "
             "ground_truth/")
    add("--calibration_pictures", type=number(int, 1), default=100, help="of --int8: pictures that set the ranges")
    add("--table", type=Path, help=f"table.json of test_widerface.py, for the AP (default: {TABLE}, if there)")
    options = parser.parse_args(arguments)
    if not options.nms:
        parser.refuse(arguments, ("keep_top_k",), "it goes with --nms: the other graphs give all candidates")
    if not options.int8:
        parser.refuse(arguments, ("calibration_pictures",), "it goes with --int8, whose ranges these pictures set")
    if options.int8 and options.dataset_folder is None:
        parser.error("--int8 needs --dataset_folder, whose pictures set the ranges and tell the AP before and after")
    if options.dataset_folder is not None and not (options.half or options.int8):
        parser.error("--dataset_folder goes with --half or --int8, whose AP is measured on it")
    if options.table is None and TABLE.is_file():
        options.table = TABLE
    return options


def main() -> None:
    options = parse_args()
    network = load_model(options.trained_model)
    precision = known_precision(options.trained_model, options.table)
    if options.table is not None and not precision:
        print(f"{options.table} has no AP of {options.trained_model}, the package goes without")
    # Mistakes are told before the work.
    pictures = open_validation_set(options.dataset_folder) if options.dataset_folder else None
    check_output_folder(options.output_folder)
    with folder_lock(options.output_folder, LOCK):  # two runs would mix their files under one page
        package = write_package(network, precision, pictures, options)
    differences = {"graph": package.differences, "half": package.half_differences}
    for kind, file in package.files.items():
        told = [f"{file.size / 1000:,.0f} kB"]
        if file.milliseconds is not None:
            told.append(f"{file.milliseconds:.1f} ms at {file.timed_at}")
        if kind in differences:
            told.append("at most {:.1g} px and {:.1g} in score from PyTorch".format(*differences[kind]))
        print(f"{options.output_folder / file.name}: {', '.join(told)}")
    print(f"{options.output_folder / PAGE}: how to use them")
    written = {file.name for file in package.files.values()}
    for path in sorted(options.output_folder.glob(f"featherface_{package.model}_deployment*")):
        if path.name not in written:
            print(f"warning: {path} is of an earlier export, {PAGE} does not speak of it")


def check_output_folder(folder: Path) -> None:
    """UserError where no package can be written to a folder, or where it would replace a page that is none of ours."""
    check_folder_is_writable(folder)
    page = folder / PAGE
    if page.is_file() and MADE_BY.encode() not in page.read_bytes():
        raise UserError(f"{page} is of something else and would be replaced: give another --output_folder")


def write_package(
    network: nn.Module, precision: list[Row], pictures: ValidationSet | None, options: Namespace
) -> Package:
    """Write every file of the package, or none where one fails; UserError as the checks of deployment.onnx_graph.

    The page is the first to go and the last to come: where it stands, all files of its export do.
    """
    detector = FaceDetector(network)
    settings = DetectionSettings(
        options.confidence_threshold, nms_threshold=options.nms_threshold, keep_top_k=options.keep_top_k
    )
    package = Package(detector.name, detector.parameter_count, options.float_input, settings, precision)
    names = file_names(detector.name, options)
    # Files get their true names together at the end, when all of them are written and checked.
    with ExitStack() as files:
        # What is started first gets its true name last.
        page, *paths = (
            files.enter_context(atomic_path(options.output_folder / name)) for name in (PAGE, *names.values())
        )
        paths = dict(zip(names, paths))
        torch.save(deployment_state(network, detector.parameter_count, precision), paths["weights"])
        graphs = {kind: path for kind, path in paths.items() if kind != "weights"}
        write_graphs(graphs, detector, pictures, options, package)
        times = time_graphs(graphs)
        package.files = {
            kind: PackageFile(names[kind], path.stat().st_size, fingerprint(path), *times.get(kind, ()))
            for kind, path in paths.items()
        }
        page.write_text(write_page(package), encoding="utf-8", errors="backslashreplace")
        (options.output_folder / PAGE).unlink(missing_ok=True)
    return package


def file_names(model: str, options: Namespace) -> dict[str, str]:
    """The files of the package that the flags ask for, by kind."""
    ends = {"weights": ".pth", "graph": ".onnx"}
    if options.nms:
        ends["suppressed"] = "_nms.onnx"
    if options.image_size:
        ends["fixed"] = "_{}x{}.onnx".format(*options.image_size)
    if options.half:
        ends["half"] = "_half.onnx"
    if options.int8:
        ends["quantized"] = "_int8.onnx"
    return {kind: f"featherface_{model}_deployment{end}" for kind, end in ends.items()}


def write_graphs(
    paths: dict[str, Path], detector: FaceDetector, pictures: ValidationSet | None, options: Namespace, package: Package
) -> None:
    """Write and check the graphs of file_names, and note in `package` what was measured."""
    plain = paths["graph"]
    package.differences = write_graph(plain, detector, options.float_input)
    if "suppressed" in paths:
        write_suppressed(paths["suppressed"], plain, detector, package.settings)
    if "fixed" in paths:
        package.image_size = tuple(options.image_size)
        write_fixed(paths["fixed"], detector, *package.image_size)
    if "half" in paths:
        package.half_differences = write_half(paths["half"], plain, detector)
    if "quantized" in paths:
        package.calibration_pictures = write_quantized(
            paths["quantized"], plain, detector, pictures, options.calibration_pictures
        )
    if pictures:
        folder = "/".join(pictures.folder.resolve().parts[-2:])
        package.measured_on = f"{pictures.extent} of {folder}"
        package.reduced_precision = compare_precision(plain, paths.get("half"), paths.get("quantized"), pictures)


def write_graph(path: Path, detector: FaceDetector, float_input: bool) -> tuple[float, float]:
    """Export the detector and compare it with PyTorch; returns the largest differences in pixels and in scores."""
    graph = export_graph(detector, float_input)
    save_graph(graph, path, metadata_of(detector))
    return check_graph(path, detector)


def write_suppressed(path: Path, plain: Path, detector: FaceDetector, settings: DetectionSettings) -> None:
    """The graph in `plain` with suppression inside, compared with suppression outside."""
    graph = add_suppression(onnx.load(plain), settings)
    save_graph(graph, path, metadata_of(detector) | suppression_metadata(settings))
    check_suppression(path, plain, settings)


def write_fixed(path: Path, detector: FaceDetector, width: int, height: int) -> None:
    """A graph of one size, compared with PyTorch on a picture of that size."""
    graph = export_fixed_graph(detector, width, height)
    save_graph(graph, path, metadata_of(detector))
    check_graph(path, detector, [(1, height, width)])


def write_half(path: Path, plain: Path, detector: FaceDetector) -> tuple[float, float]:
    """The graph in `plain` with float16 weights; returns the largest differences from PyTorch, in pixels and scores."""
    save_graph(halve_weights(onnx.load(plain)), path, metadata_of(detector))
    return differences(path, detector)


def write_quantized(
    path: Path, plain: Path, detector: FaceDetector, pictures: ValidationSet, calibration_pictures: int
) -> int:
    """The graph in `plain` with 8-bit convolutions; returns how many pictures set the ranges."""
    chosen = np.linspace(0, len(pictures.paths) - 1, min(len(pictures.paths), calibration_pictures)).round().astype(int)
    calibrated = quantize(plain, path, [pictures.paths[index] for index in chosen])
    save_graph(onnx.load(path), path, metadata_of(detector) | {"calibration_pictures": calibrated})
    return calibrated


def compare_precision(plain: Path, half: Path | None, quantized: Path | None, pictures: ValidationSet) -> list[Row]:
    """Measure what fewer bits cost, print it and store it in the graphs: a row of "graph" and AP for each."""
    graphs = {"float32": plain, "half": half, "int8": quantized}
    precision = {}
    with mistakes_told():
        for name, path in graphs.items():
            if path:
                found = predict(OnnxDetector(path), pictures, PROTOCOL, CPU, workers=0)
                precision[name] = evaluate(found, pictures.truth)
    rows = [{"graph": name} | values for name, values in precision.items()]
    print(f"AP of {pictures.extent} of {pictures.folder}, protocol {PROTOCOL}")
    print_table(rows)
    before = precision.pop("float32")
    for name, after in precision.items():
        graph = onnx.load(graphs[name])
        save_graph(graph, graphs[name], metadata_in(graph) | {
            "ap_protocol": PROTOCOL, "ap_pictures": len(pictures.names), "ap_float32": known(before),
            f"ap_{name}": known(after),
        })
        lost = {subset: before[subset] - after[subset] for subset in before}
        if any(loss > ACCEPTED_LOSS for loss in lost.values()):
            told = ", ".join(f"{100 * loss:.1f} on {subset}" for subset, loss in lost.items())
            remedy = "other or more --calibration_pictures may help, else " if name == "int8" else ""
            print(f"warning: {name} costs {told} points of AP, more than {100 * ACCEPTED_LOSS:g}: {remedy}ship the "
                  "float32 graph")
    return rows


def known(precision: dict[str, float]) -> dict[str, float | None]:
    """AP as JSON can hold it: a subset without faces has none."""
    return {subset: None if value != value else value for subset, value in precision.items()}


def time_graphs(graphs: dict[str, Path]) -> dict[str, tuple[float, str]]:
    """Median milliseconds of each graph for one picture, the graphs in turn, and the picture's size in words.

    The picture is as the graph takes it, of 640 x 640 where it takes any.
    """
    generator = torch.Generator().manual_seed(0)
    runs, sizes = {}, {}
    for name, path in graphs.items():
        session = open_session(path, CPU)
        [pixels] = session.get_inputs()
        height, width = (side if isinstance(side, int) else 640 for side in pixels.shape[2:])
        images = torch.randint(0, 256, (1, 3, height, width), generator=generator, dtype=torch.uint8)
        runs[name] = partial(run_session, session, images.to(PIXEL_TYPES[pixels.type]))
        sizes[name] = f"{width} x {height}"
    times = take_turns(runs, TIMED_RUNS, WARM_UP_RUNS)
    return {name: (statistics.median(own), sizes[name]) for name, own in times.items()}


if __name__ == "__main__":
    run_script(main)
