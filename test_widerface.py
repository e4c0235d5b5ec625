#!/usr/bin/env python3
"""Run checkpoints over a WIDER FACE folder, write their detections and print the AP table.

    python test_widerface.py --trained_model weights/FeatherFaceV2.pth
    python test_widerface.py --trained_model teacher.pth student.pth --protocol vga
    python test_widerface.py --trained_model student.pth --protocol all
    python test_widerface.py --trained_model student.pth --split test --protocol multiscale
    python test_widerface.py --trained_model student.pth --by size

The folder holds images/EVENT/NAME.jpg, wider_val.txt and, for AP, ground_truth/ with the four official .mat files.
Pictures that wider_val.txt does not name are left out of the evaluation: a shorter list measures on a part of the set,
and the table says how much of it.
Detections go to SAVE_FOLDER/CHECKPOINT_PROTOCOL/EVENT/NAME.txt, which widerface_evaluate/evaluation.py reads too, the
table to SAVE_FOLDER/table.csv and table.json. A run that was stopped goes on when started again.

Protocols: original keeps every picture's size; vga scales its longer side to 640; 1600 its shorter side to 1600, its
longer side at most to 2150; multiscale looks at five sizes and their mirror images and lets the boxes vote.
"""

from utils.errors import stop_quietly

if __name__ == "__main__":
    stop_quietly()

import argparse
import statistics
import time
from argparse import Namespace
from dataclasses import asdict
from pathlib import Path

import torch
from torch import nn
from tqdm import tqdm

from data.picture_files import read_picture
from data.widerface import list_test_pictures
from detection.drawing import contact_sheet, draw_detections
from detection.face_detector import load_detector
from detection.inference import PictureFolder, detect, detect_files, detect_looks, join_looks
from detection.protocols import PROTOCOLS
from detection.suppression import DetectionSettings
from detection.text_files import DetectionFolder
from detection.validation import ValidationSet, groups_of_folder, open_validation_set, precision_of_folder
from models import MODELS
from utils.arguments import ArgumentParser, number
from utils.distributed import choose_device
from utils.errors import UserError, run_script
from utils.files import check_folder_is_writable, fingerprint
from utils.locks import folder_lock
from utils.tables import print_table, write_table

#: Of the folder that a run writes to.
LOCK = ".test_widerface.lock"
#: Pictures on which the time of one is measured.
TIMED_PICTURES = 20
#: Pictures of detections drawn by --save_image.
DRAWN_PICTURES = 12


def parse_args(arguments: list[str] | None = None) -> Namespace:
    parser = ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--trained_model", type=Path, nargs="+", required=True, help="checkpoints, a row of the table each")
    add("--network", choices=sorted(MODELS), help="checked against the checkpoint, which knows its model")
    add("--dataset_folder", type=Path, help="(default: ./data/widerface/val, with --split test ./data/widerface/test)")
    add("--split", choices=("val", "test"), default="val", help="test: no AP, a zip for the official server")
    add("--save_folder", type=Path, default="./results/widerface_txt/", help="for detections and table")
    add("--protocol", choices=[*PROTOCOLS, "all"], help="sizes at which pictures are looked at (default: original)")
    add("--origin_size", type=yes_or_no, help="true: --protocol original, false: --protocol 1600")
    add("--confidence_threshold", type=number(float, 0, 1), default=0.02)
    add("--top_k", type=number(int, 1), default=5000, help="candidates before suppression")
    add("--nms_threshold", type=number(float, 0, 1), default=0.4)
    add("--keep_top_k", type=number(int, 1), default=750, help="detections kept of a picture")
    add("--gpu", default="auto", help="GPU number, cpu, or auto: GPU 0, else the CPU")
    add("--cpu", action="store_const", const="cpu", dest="gpu", help="the same as --gpu cpu")
    add("--num_workers", type=number(int, 0, 2**8), default=2, help="processes that read pictures ahead")
    add("--by", choices=("size", "event"), help="print AP by height of the faces, or of the hard faces by event, too")
    add("--save_image", action="store_true", help="draw detections on some of the pictures into save_folder")
    add("--vis_thres", type=number(float, 0, 1), default=0.5, help="lowest score that is drawn")
    options = parser.parse_args(arguments)
    if options.origin_size is not None and options.protocol is not None:
        parser.error("argument --origin_size: it is another name for --protocol, give one of them")
    if options.origin_size is not None:
        options.protocol = "original" if options.origin_size else "1600"
    if options.dataset_folder is None:
        options.dataset_folder = Path("./data/widerface") / options.split
    return options


def yes_or_no(text: str) -> bool:
    """A type for add_argument: true or false in words, so that False is false."""
    known = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    if text.lower() not in known:
        raise argparse.ArgumentTypeError(f"'{text}' is neither true nor false")
    return known[text.lower()]


def main() -> None:
    options = parse_args()
    device = choose_device(options.gpu)
    settings = DetectionSettings(options.confidence_threshold, options.top_k, options.nms_threshold, options.keep_top_k)
    detectors = load_detectors(options, device)
    pictures = open_pictures(options)
    check_folder_is_writable(options.save_folder)
    with folder_lock(options.save_folder, LOCK):  # two runs would mix detections of two settings under one table
        rows = measure(detectors, pictures, settings, options, device)
        if options.save_image:
            draw_sheets(detectors, pictures.paths, options, settings, device)
    print_table(rows)
    print(f"{pictures.extent} of {options.dataset_folder}; ms: median of one picture at a time on {device}, "
          f"{torch.get_num_threads()} threads, from scaled picture to faces")
    if pictures.truth is None and options.split == "val":
        print(f"no AP: the .mat files of the ground truth are not in {options.dataset_folder / 'ground_truth'}")


def measure(detectors: dict[str, nn.Module], pictures: ValidationSet, settings, options, device) -> list[dict]:
    """Write detections and table; returns its rows, one a protocol and checkpoint."""
    rows = []
    for protocol in list(PROTOCOLS) if options.protocol == "all" else [options.protocol or "original"]:
        started = len(rows)
        for (name, detector), path in zip(detectors.items(), options.trained_model):
            stamp = {"checkpoint": fingerprint(path), "pictures": str(pictures.folder.resolve()),
                     "protocol": protocol, **asdict(settings)}
            place = options.save_folder / f"{name}_{protocol}"
            folder = DetectionFolder(place, pictures.names, stamp, pictures.paths)
            run_detector(detector, folder, pictures, options, protocol, settings, device)
            if options.split == "test":
                print(f"for the official server: {folder.pack()}")
            precision = precision_of_folder(folder.folder, pictures.truth) if pictures.truth else {}
            rows.append(protocol_columns(name, detector, pictures, protocol, settings) | precision)
            folder.write_scales(pictures.paths, PROTOCOLS[protocol])
            if options.by:
                tables = groups_of_folder(folder.folder, options.by, pictures)
                print(f"{folder.folder.name}, {pictures.extent}\n{tables}\n")
        times = time_pictures(list(detectors.values()), pictures.paths, protocol, settings, device)
        for row, milliseconds in zip(rows[started:], times):
            row["ms/picture"] = milliseconds
        write_table(rows, options.save_folder / "table")
    return rows


def load_detectors(options: Namespace, device: torch.device) -> dict[str, nn.Module]:
    """Checkpoints by a name that tells them apart: the file's, or its folder's too where two files have one name."""
    paths = options.trained_model
    stems = [path.stem for path in paths]
    names = [stem if stems.count(stem) == 1 else f"{path.resolve().parent.name}_{stem}"
             for path, stem in zip(paths, stems)]
    if len(set(names)) < len(names):
        raise UserError(f"--trained_model names {max(names, key=names.count)} twice: leave one out or rename it")
    detectors = {name: load_detector(path, device) for name, path in zip(names, paths)}
    for path, detector in zip(paths, detectors.values()):
        if options.network not in (None, detector.name):
            raise UserError(f"{path} holds {detector.name}, not {options.network}: leave --network out, "
                            "the checkpoint knows")
    return detectors


def open_pictures(options: Namespace) -> ValidationSet:
    """The pictures to look at; says what of the list is left out."""
    if options.split == "test":
        names = list_test_pictures(options.dataset_folder)
        return ValidationSet(options.dataset_folder, names, None, f"{len(names):,} pictures")
    pictures = open_validation_set(options.dataset_folder, needs_truth=options.by is not None)
    for remark in pictures.remarks:
        print(f"warning: {remark}")
    return pictures


def run_detector(
    detector: nn.Module, folder: DetectionFolder, pictures: ValidationSet, options, protocol: str, settings, device
) -> None:
    """Write the detections of every picture that has none yet; name those that cannot be read at the end."""
    names = folder.unfinished()
    unreadable = []
    done = len(folder.names) - len(names)
    with tqdm(total=len(folder.names), initial=done, unit="picture", desc=folder.folder.name) as progress:
        paths = [pictures.folder / "images" / name for name in names]
        for index, found in detect_files(detector, paths, protocol, settings, device, options.num_workers):
            folder.write(names[index], found)
            if found is None:
                unreadable.append(paths[index])
            progress.update()
    for path in sorted(unreadable):
        print(f"warning: cannot read {path}, it got no detections")


def protocol_columns(
    name: str, detector: nn.Module, pictures: ValidationSet, protocol: str, settings: DetectionSettings
) -> dict:
    """The columns of a row that say what was measured, and how."""
    return {
        "model": name,
        "parameters": detector.parameter_count,
        "dataset": "/".join(pictures.folder.resolve().parts[-2:]),
        "pictures": pictures.extent,
        **({"subsets": pictures.subsets} if pictures.truth else {}),
        "protocol": protocol,
        "scale": PROTOCOLS[protocol].description,
        "threshold": f"> {settings.confidence_threshold}",
        "NMS": f"{settings.nms_threshold}{' and voting' if PROTOCOLS[protocol].votes else ''}",
        "top-k": f"{settings.top_k} to {settings.keep_top_k}",
    }


def time_pictures(detectors: list[nn.Module], paths: list[Path], protocol: str, settings, device) -> list[float]:
    """Median milliseconds per detector from scaled picture to faces, one picture at a time, detectors in turn."""
    pictures = PictureFolder(paths[:: max(1, len(paths) // TIMED_PICTURES)], PROTOCOLS[protocol])
    times: list[list[float]] = [[] for _ in detectors]
    for index in range(len(pictures)):
        _, looks = pictures[index]
        for detector, measured in zip(detectors, times if looks else []):
            start = time.perf_counter()
            # Ends with the faces on the CPU: nothing is left running.
            found = [detect_looks(detector, [look], settings, device)[0] for look in looks]
            join_looks(found, PROTOCOLS[protocol], settings)
            measured.append(1000 * (time.perf_counter() - start))
    return [statistics.median(measured) if measured else float("nan") for measured in times]


def draw_sheets(detectors: dict[str, nn.Module], paths: list[Path], options, settings, device) -> None:
    """Draw the detections of some pictures into one, for each checkpoint."""
    protocol = options.protocol if options.protocol in PROTOCOLS else "original"
    for name, detector in detectors.items():
        drawn = []
        for path in paths[:: max(1, len(paths) // DRAWN_PICTURES)][:DRAWN_PICTURES]:
            picture = read_picture(path)
            if picture is not None:
                found = detect(detector, picture, PROTOCOLS[protocol], settings, device)
                drawn.append(draw_detections(picture, found, options.vis_thres))
        sheet = options.save_folder / f"{name}_{protocol}.jpg"
        if drawn:
            contact_sheet(drawn, sheet)
        print(f"detections drawn in {sheet}" if drawn else f"warning: no picture could be read to be drawn in {sheet}")


if __name__ == "__main__":
    run_script(main)
