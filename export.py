#!/usr/bin/env python3
"""Write a trained detector as a package to hand over: weights, an ONNX graph, and a page that says how to use them.

    python export.py --trained_model weights/FeatherFaceV2.pth
    python export.py --trained_model weights/FeatherFaceV2.pth --nms --confidence_threshold 0.5
    python export.py --trained_model weights/FeatherFaceV2.pth --int8 --dataset_folder data/widerface/val

Writes to --output_folder, v1 in place of v2 for a V1 checkpoint:

    featherface_v2_deployment.pth        averaged weights, configuration, preprocessing, AP where it is known
    featherface_v2_deployment.onnx       BGR pictures of any number and size to boxes, scores and landmarks in pixels
    featherface_v2_deployment_nms.onnx   the same with suppression inside (--nms)
    featherface_v2_deployment_int8.onnx  the same with 8-bit convolutions (--int8)
    README.md                            how to load them, what goes in and comes out, what was measured

The graphs are ONNX opset 17. That is enough for V1 too: its deformable convolution is exported as the bilinear sampling
it is written with (GridSample, opset 16), not as DeformConv (opset 19), which fewer runtimes have.

The graph is compared with PyTorch on pictures of four sizes, every anchor. A difference over 1e-3 pixels or 1e-4 in
score is an error, and then no file is written. --int8 prints the AP on the validation pictures before and after.
"""

from utils.errors import stop_quietly

if __name__ == "__main__":
    stop_quietly()

import statistics
import time
from argparse import Namespace
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import nn

from deployment.onnx_graph import (
    add_suppression,
    check_graph,
    check_suppression,
    export_graph,
    metadata_of,
    save_graph,
    suppression_metadata,
)
from deployment.page import MADE_BY, Package, PackageFile, write_page
from deployment.quantization import ACCEPTED_LOSS, PROTOCOL, quantize
from deployment.weights_file import deployment_state, known_precision
from detection.face_detector import FaceDetector
from detection.onnx_detector import OnnxDetector, open_session, run_session
from detection.suppression import DetectionSettings
from detection.validation import ValidationSet, mistakes_told, open_validation_set, predict
from models import load_model
from utils.arguments import ArgumentParser, number
from utils.errors import UserError, run_script
from utils.files import atomic_path, check_folder_is_writable, fingerprint
from utils.locks import folder_lock
from utils.tables import Row, print_table
from widerface_evaluate.average_precision import evaluate

CPU = torch.device("cpu")

PAGE = "README.md"
#: Of the folder that a run writes to.
LOCK = ".export.lock"

#: Runs whose median is a graph's time, after some that do not count.
TIMED_RUNS, WARM_UP_RUNS = 20, 3

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
    add("--int8", action="store_true", help="write a graph with 8-bit convolutions, too; needs --dataset_folder")
    add("--dataset_folder", type=Path, help="of --int8: pictures in WIDER FACE's validation layout, with ground_truth/")
    add("--calibration_pictures", type=number(int, 1), default=100, help="of --int8: pictures that set the ranges")
    add("--table", type=Path, help=f"table.json of test_widerface.py, for the AP (default: {TABLE}, if there)")
    options = parser.parse_args(arguments)
    if options.int8 != (options.dataset_folder is not None):
        parser.error("--int8 and --dataset_folder go together: the AP is measured before and after")
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
    pictures = open_validation_set(options.dataset_folder) if options.int8 else None
    check_output_folder(options.output_folder)
    with folder_lock(options.output_folder, LOCK):  # two runs would mix their files under one page
        package = write_package(network, precision, pictures, options)
    for file in package.files:
        milliseconds = "" if file.milliseconds is None else f", {file.milliseconds:.1f} ms at 640 x 640"
        print(f"{options.output_folder / file.name}: {file.size / 1000:,.0f} kB{milliseconds}")
    print(f"{options.output_folder / PAGE}: how to use them; differences from PyTorch at most "
          f"{package.differences[0]:.1g} px and {package.differences[1]:.1g} in score")
    written = {file.name for file in package.files}
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
    # Files get their true names together at the end, when all of them are written and checked.
    with ExitStack() as files:

        def start(name: str) -> Path:
            return files.enter_context(atomic_path(options.output_folder / name))

        def entry(suffix: str, use: str) -> PackageFile | None:
            path = paths[suffix]
            return PackageFile(stem + suffix, use, path.stat().st_size, fingerprint(path), times.get(suffix))

        stem = f"featherface_{detector.name}_deployment"
        page = start(PAGE)  # what is started first gets its true name last
        paths = {".onnx": start(f"{stem}.onnx")}
        package = Package(detector.name, detector.parameter_count, options.float_input, settings, precision)
        package.differences = write_graph(paths[".onnx"], detector, options.float_input)
        if options.nms:
            paths["_nms.onnx"] = start(f"{stem}_nms.onnx")
            write_suppressed(paths["_nms.onnx"], paths[".onnx"], detector, settings)
        if options.int8:
            paths["_int8.onnx"] = start(f"{stem}_int8.onnx")
            package.calibration_pictures, package.quantized_precision = write_quantized(
                paths["_int8.onnx"], paths[".onnx"], detector, pictures, options.calibration_pictures)
        times = time_graphs(paths, options.float_input)
        paths[".pth"] = start(f"{stem}.pth")
        torch.save(deployment_state(network, detector.parameter_count, precision), paths[".pth"])

        package.weights = entry(".pth", "weights for PyTorch")
        package.graph = entry(".onnx", "boxes, scores and landmarks of every anchor")
        package.suppressed = entry("_nms.onnx", "with suppression inside") if options.nms else None
        package.quantized = entry("_int8.onnx", "with 8-bit convolutions") if options.int8 else None
        page.write_text(write_page(package), encoding="utf-8", errors="backslashreplace")
        (options.output_folder / PAGE).unlink(missing_ok=True)
    return package


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


def write_quantized(
    path: Path, plain: Path, detector: FaceDetector, pictures: ValidationSet, calibration_pictures: int
) -> tuple[int, list[Row]]:
    """Write the 8-bit graph and measure what it costs: how many pictures set its ranges, AP before and after."""
    chosen = np.linspace(0, len(pictures.paths) - 1, min(len(pictures.paths), calibration_pictures)).round().astype(int)
    calibrated = quantize(plain, path, [pictures.paths[index] for index in chosen])
    with mistakes_told():
        before, after = (
            evaluate(predict(OnnxDetector(graph), pictures, PROTOCOL, CPU, workers=0), pictures.truth)
            for graph in (plain, path)
        )
    graph = onnx.load(path)
    save_graph(graph, path, metadata_of(detector) | {
        "calibration_pictures": calibrated, "ap_protocol": PROTOCOL, "ap_pictures": len(pictures.names),
        "ap_float32": known(before), "ap_int8": known(after),
    })
    rows = [{"graph": "float32"} | before, {"graph": "int8"} | after]
    print(f"AP of {pictures.extent} of {pictures.folder}, protocol {PROTOCOL}, {calibrated} calibration pictures")
    print_table(rows)
    lost = {subset: before[subset] - after[subset] for subset in before}
    if any(loss > ACCEPTED_LOSS for loss in lost.values()):
        told = ", ".join(f"{100 * loss:.1f} on {subset}" for subset, loss in lost.items())
        print(f"warning: 8 bits cost {told} points of AP, more than {100 * ACCEPTED_LOSS:g}: other or more "
              "--calibration_pictures may help, else ship the float graph")
    return calibrated, rows


def known(precision: dict[str, float]) -> dict[str, float | None]:
    """AP as JSON can hold it: a subset without faces has none."""
    return {subset: None if value != value else value for subset, value in precision.items()}


def time_graphs(graphs: dict[str, Path], float_input: bool) -> dict[str, float]:
    """Median milliseconds of each graph for one picture of 640 x 640, the graphs in turn."""
    images = torch.randint(0, 256, (1, 3, 640, 640), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    images = images.float() if float_input else images
    sessions = {name: open_session(path, CPU) for name, path in graphs.items()}
    times: dict[str, list[float]] = {name: [] for name in graphs}
    for _ in range(WARM_UP_RUNS + TIMED_RUNS):
        for name, session in sessions.items():
            start = time.perf_counter()
            run_session(session, images)
            times[name].append(1000 * (time.perf_counter() - start))
    return {name: statistics.median(measured[WARM_UP_RUNS:]) for name, measured in times.items()}


if __name__ == "__main__":
    run_script(main)
