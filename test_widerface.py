#!/usr/bin/env python3
"""Run checkpoints over a WIDER FACE folder, write their detections and print the AP table.

    python test_widerface.py --trained_model weights/v2/FeatherFaceV2_final.pth
    python test_widerface.py --trained_model teacher.pth student.pth --protocol vga
    python test_widerface.py --trained_model student.pth --dataset_folder data/demo_set/val --save_image

The folder holds images/EVENT/NAME.jpg, wider_val.txt and, for AP, ground_truth/ with the four official .mat files.
Detections go to SAVE_FOLDER/CHECKPOINT_PROTOCOL/EVENT/NAME.txt, which widerface_evaluate/evaluation.py reads too.
Protocols: original keeps every picture's size, vga scales its longer side to 640.
"""

import statistics
import time
from argparse import Namespace
from pathlib import Path

import torch
from torch import nn
from tqdm import tqdm

from models import MODELS, load_model
from utils.arguments import ArgumentParser, number
from utils.detector import PROTOCOLS, DetectionSettings, PictureFolder, detect
from utils.distributed import parse_devices
from utils.files import read_picture
from utils.log import UserError, run_script
from utils.plots import contact_sheet, draw_detections
from utils.validation import average_precision, list_pictures, predict, read_ground_truth, write_predictions

#: Pictures on which the time of one is measured.
TIMED_PICTURES = 30
#: Pictures of detections drawn by --save_image.
DRAWN_PICTURES = 12


def parse_args(arguments: list[str] | None = None) -> Namespace:
    parser = ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--trained_model", type=Path, nargs="+", required=True, help="checkpoints, a row of the table each")
    add("--network", choices=sorted(MODELS), help="checked against the checkpoint, which knows its model")
    add("--dataset_folder", type=Path, default="./data/widerface/val", help="validation folder")
    add("--save_folder", type=Path, default="./results/widerface_txt/", help="for the detections")
    add("--protocol", choices=sorted(PROTOCOLS), default="original")
    add("--confidence_threshold", type=number(float, 0, 1), default=0.02)
    add("--top_k", type=number(int, 1), default=5000, help="candidates before suppression")
    add("--nms_threshold", type=number(float, 0, 1), default=0.4)
    add("--keep_top_k", type=number(int, 1), default=750, help="detections kept of a picture")
    add("--gpu", default=None, help="GPU number or cpu (default: GPU 0 where there is one)")
    add("--cpu", action="store_true", help="the same as --gpu cpu")
    add("--num_workers", type=number(int, 0), default=2, help="processes that read pictures")
    add("--save_image", action="store_true", help="draw detections on some of the pictures into save_folder")
    add("--vis_thres", type=number(float, 0, 1), default=0.5, help="lowest score that is drawn")
    return parser.parse_args(arguments)


def main() -> None:
    options = parse_args()
    device = choose_device(options)
    settings = DetectionSettings(options.confidence_threshold, options.top_k, options.nms_threshold, options.keep_top_k)
    networks = {path: load_checked(path, options.network).to(device) for path in options.trained_model}
    paths = [options.dataset_folder / "images" / name for name in list_pictures(options.dataset_folder)]
    ground_truth_folder = options.dataset_folder / "ground_truth"
    ground_truth = read_ground_truth(ground_truth_folder) if ground_truth_folder.is_dir() else None

    rows = []
    for path, network in networks.items():
        predictions = run_detector(path.stem, network, len(paths), options, settings, device)
        precision = average_precision(predictions, ground_truth) if ground_truth else {}
        rows.append([path.stem, f"{parameters(network):,}", *(f"{value:.4f}" for value in precision.values())])
    times = time_pictures(list(networks.values()), paths, options.protocol, settings, device)
    for row, milliseconds in zip(rows, times):
        row.append(f"{milliseconds:.1f}")
    print_table(["model", "parameters", *(["easy", "medium", "hard"] if ground_truth else []), "ms/picture"], rows)
    print(f"{len(paths)} pictures of {options.dataset_folder}, protocol {options.protocol}, confidence > "
          f"{settings.confidence_threshold}, top {settings.top_k}, NMS {settings.nms_threshold}, keep "
          f"{settings.keep_top_k}; ms: median of one picture at a time on {device}, {torch.get_num_threads()} threads")
    if ground_truth is None:
        print(f"no AP: the .mat files of the ground truth are not in {ground_truth_folder}")
    if options.save_image:
        for path, network in networks.items():
            sheet = options.save_folder / f"{path.stem}_{options.protocol}.jpg"
            draw_sheet(network, paths, options, settings, device, sheet)
            print(f"detections drawn in {sheet}")


def run_detector(name: str, network: nn.Module, pictures: int, options: Namespace, settings, device) -> dict:
    """The detections on the whole set, as utils.validation.predict returns them; writes them to the save folder."""
    with tqdm(total=pictures, unit="picture", desc=name) as progress:
        predictions, unreadable = predict(network, options.dataset_folder, options.protocol, settings, device,
                                          options.num_workers, progress.update)
    write_predictions(predictions, options.save_folder / f"{name}_{options.protocol}")
    for picture in unreadable:
        print(f"warning: cannot read {options.dataset_folder / 'images' / picture}, it got no detections")
    return predictions


def choose_device(options: Namespace) -> torch.device:
    if options.cpu:
        return torch.device("cpu")
    if options.gpu is None:
        return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    return parse_devices(options.gpu)[0]


def load_checked(path: Path, expected: str | None) -> nn.Module:
    """Load a checkpoint; UserError where it is not the network the user says it is."""
    network = load_model(path)
    if expected not in (None, network.name):
        raise UserError(f"{path} holds {network.name}, not {expected}: leave --network out, the checkpoint knows")
    return network


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def time_pictures(networks: list[nn.Module], paths: list[Path], protocol: str, settings, device) -> list[float]:
    """Median milliseconds per network from scaled picture to faces, one picture at a time, networks in turn."""
    pictures = PictureFolder(paths[:: max(1, len(paths) // TIMED_PICTURES)], protocol)
    times: list[list[float]] = [[] for _ in networks]
    for index in range(len(pictures)):
        _, picture, _ = pictures[index]
        if picture is None:
            continue
        for network, measured in zip(networks, times):
            images = picture[None].to(device)
            start = time.perf_counter()
            detect(network, images, settings)  # ends with the faces on the CPU: nothing is left running
            measured.append(1000 * (time.perf_counter() - start))
    return [statistics.median(measured) if measured else float("nan") for measured in times]


def draw_sheet(network: nn.Module, paths: list[Path], options: Namespace, settings, device, sheet: Path) -> None:
    """Draw the detections of some pictures into one."""
    drawn = []
    for path in paths[:: max(1, len(paths) // DRAWN_PICTURES)][:DRAWN_PICTURES]:
        _, picture, scales = PictureFolder([path], options.protocol)[0]
        if picture is not None:
            [found] = detect(network, picture[None].to(device), settings)
            drawn.append(draw_detections(read_picture(path), found.rescaled(scales), options.vis_thres))
    contact_sheet(drawn, sheet)


def print_table(header: list[str], rows: list[list[str]]) -> None:
    """Columns as wide as their widest cell, the first to the left."""
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    for row in [header, *rows]:
        print(row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:])), sep="  ")


if __name__ == "__main__":
    run_script(main)
