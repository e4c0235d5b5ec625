#!/usr/bin/env python3
"""Measure what a student gains over its teacher, whether both see the same faces, and how fast training is.

    python benchmark.py --teacher_model weights/FeatherNetB_se.pth --trained_model weights/v2/FeatherFaceV2_final.pth
    python benchmark.py --teacher_model V1.pth --trained_model V2.pth --dataset_folder data/widerface/val
    python benchmark.py --evaluation_loop --trained_model V2.pth --dataset_folder data/widerface/val --pictures 60
    python benchmark.py --train --training_dataset data/widerface/train/label.txt --teacher_model V1.pth --gpu cpu

The first two write to --output_folder:

    performance_comparison.csv, .json, .png   parameters, multiply-adds, file size, peak memory; latency in PyTorch and
                                              ONNX Runtime, one picture and eight, three sizes; AP too, where known
    consistency.json                          with --dataset_folder: faces both find, of those any of them finds
    confidence_histogram.png                  with --dataset_folder: scores of all detections

In each round every detector runs once, in turn, so that whatever else the machine does slows all alike; ratios are
medians of the ratios round by round. Latency goes from uint8 pixels to decoded boxes, without suppression. "As
published" is the network in plain PyTorch, its deformable convolutions, if any, by torchvision; "PyTorch" is what
this repo makes of it. 8 bits are measured with --dataset_folder only: their ranges come from its pictures.

--evaluation_loop measures the loop of test_widerface.py against a stand-in of the lineage's own loop
(benchmarks/lineage_loop.py), on the same pictures at their own size, in turn, and compares their detections.

--train measures training with the flags of train_v2.py (and a few of its own: --train --help), on the CPU or a GPU:
the loader alone by number of processes against a stand-in of the lineage's, the step alone against a plain one, with
the time of each of its phases and peak memory, and both together. --profile FILE.json writes a trace.
"""

import sys
from argparse import Namespace
from pathlib import Path

import torch

from benchmarks.comparison import SETTINGS, STUDENT, TEACHER, compare, size_table, speed_table, verdict
from benchmarks.consistency import (
    compare_faces,
    find_faces,
    find_pictures,
    plot_confidence,
    write_consistency,
)
from benchmarks.engines import CPU
from benchmarks.figures import plot_comparison
from benchmarks.throughput import SAME_PIXELS, SAME_SCORE, compare_loops, loop_table, loop_verdict
from benchmarks.training import measure_training
from deployment.weights_file import known_precision
from detection.face_detector import load_detector
from detection.protocols import PROTOCOLS
from utils.arguments import ArgumentParser, number
from utils.distributed import parse_devices
from utils.errors import run_script
from utils.files import check_folder_is_writable
from utils.tables import print_table, write_table

#: Pictures that set the ranges of 8 bits.
CALIBRATION_PICTURES = 20


def parse_args(arguments: list[str] | None = None) -> Namespace:
    parser = ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--trained_model", type=Path, required=True, help="checkpoint of the student")
    add("--teacher_model", type=Path, help="checkpoint it is compared with; not of --evaluation_loop")
    add("--evaluation_loop", action="store_true", help="measure the evaluation loop in place of the detectors")
    add("--dataset_folder", type=Path, help="pictures, in WIDER FACE's validation layout or any other")
    add("--output_folder", type=Path, default="./results/v2/")
    add("--pictures", type=number(int, 1), help="of the folder, evenly spread (default: all)")
    add("--threads", type=number(int, 1), default=torch.get_num_threads(), help="of PyTorch and ONNX Runtime")
    add("--rounds", type=number(int, 1), help="(default: 20, of --evaluation_loop 3)")
    add("--num_workers", type=number(int, 0), default=2, help="processes that read pictures ahead")
    add("--compile", action="store_true", help="measure torch.compile too; it compiles for minutes")
    add("--protocol", choices=list(PROTOCOLS), default="original", help="sizes at which both look for faces")
    add("--face_threshold", type=number(float, 0.02, 1), default=0.5, help="lowest score of what counts as a face")
    add("--table", type=Path, help="table.json of test_widerface.py, for the AP in the figure")
    add("--gpu", default="cpu", help="of --evaluation_loop: GPU number or cpu")
    options = parser.parse_args(arguments)
    if options.evaluation_loop and options.dataset_folder is None:
        parser.error("argument --evaluation_loop: it needs the pictures of --dataset_folder")
    if not options.evaluation_loop and options.teacher_model is None:
        parser.error("argument --teacher_model: give the checkpoint to compare with, or --evaluation_loop")
    if not options.evaluation_loop and options.gpu != "cpu":
        parser.error("argument --gpu: detectors are compared on the CPU; only --evaluation_loop runs on a GPU")
    if options.rounds is None:
        options.rounds = 3 if options.evaluation_loop else 20
    return options


def main() -> None:
    if "--train" in sys.argv:
        measure_training([argument for argument in sys.argv[1:] if argument != "--train"])
        return
    options = parse_args()
    check_folder_is_writable(options.output_folder)
    torch.set_num_threads(options.threads)
    if options.evaluation_loop:
        measure_evaluation_loop(options)
        return
    checkpoints = {TEACHER: options.teacher_model, STUDENT: options.trained_model}
    paths = find_pictures(options.dataset_folder, options.pictures) if options.dataset_folder else []
    measure_performance(checkpoints, paths, options)
    if paths:
        measure_consistency(checkpoints, paths, options)


def measure_performance(checkpoints: dict[str, Path], paths: list[Path], options: Namespace) -> None:
    """Write the comparison and its figure, print its tables and the verdict."""
    # Told before the work, not after it.
    precision = {role: known_precision(path, options.table) for role, path in checkpoints.items()}
    calibration = paths[:: max(1, len(paths) // CALIBRATION_PICTURES)][:CALIBRATION_PICTURES]
    rows = compare(checkpoints, SETTINGS, options.rounds, calibration, options.compile)
    table = options.output_folder / "performance_comparison"
    write_table(rows, table)
    plot_comparison(rows, precision, table.with_suffix(".png"))
    print_table(size_table(rows))
    print("multiply-adds and peak memory: one picture of 640x640; memory: by how much a fresh process grows\n")
    print_table(speed_table(rows))
    print(f"medians and quartiles of {options.rounds} rounds in turn, {options.threads} threads"
          f"{'' if calibration else '; no 8 bits without the pictures of --dataset_folder'}")
    print(verdict(rows))
    print(f"written: {table}.csv, .json and .png")


def measure_consistency(checkpoints: dict[str, Path], paths: list[Path], options: Namespace) -> None:
    """Write how far the two agree on the pictures, and the histogram of their scores."""
    found = {
        role: find_faces(load_detector(path, CPU), paths, options.protocol, options.num_workers)
        for role, path in checkpoints.items()
    }
    unreadable = [path for path, detections in zip(paths, found[TEACHER]) if detections is None]
    for path in unreadable:
        print(f"warning: cannot read {path}, it is left out")
    agreement = compare_faces(found[TEACHER], found[STUDENT], options.face_threshold)
    names = {role: str(path) for role, path in checkpoints.items()}
    folder = options.output_folder
    write_consistency(names | {"protocol": options.protocol} | agreement, folder / "consistency.json")
    plot_confidence(found, options.face_threshold, folder / "confidence_histogram.png")
    values = ("teacher_faces", "student_faces", "matched", "agreement", "recall_of_teacher", "score_correlation")
    print()
    print_table([{name.replace("_", " "): float("nan") if agreement[name] is None else agreement[name]
                  for name in values}])
    print(f"{agreement['pictures']} pictures, protocol {options.protocol}; a face is a detection scored at least "
          f"{options.face_threshold:g}, the same face an IoU of at least {agreement['iou']:g}")
    print(f"written: {folder / 'consistency.json'} and confidence_histogram.png")


def measure_evaluation_loop(options: Namespace) -> None:
    """Write and print the time of both loops, and whether they detect the same."""
    paths = find_pictures(options.dataset_folder, options.pictures)
    device = parse_devices(options.gpu)[0]
    rows, agreements, detections = compare_loops(
        options.trained_model, paths, device, options.num_workers, options.rounds
    )
    write_table(rows, options.output_folder / "evaluation_loop")
    print_table(loop_table(rows))
    print(f"medians and quartiles of {options.rounds} rounds in turn, {len(paths)} pictures at their own size, from "
          f"files of pictures to files of detections; {options.threads} threads, {options.num_workers} workers for "
          "ours, their start included")
    for name, agreement in agreements.items():
        print(f"{name}: of {agreement.first:,} detections {agreement.same:,} are among the {agreement.second:,} of the "
              f"lineage's loop (without +1, padded as ours) within {SAME_PIXELS} px and {SAME_SCORE:g} in score; "
              f"largest difference {agreement.pixels:.1g} px, {agreement.score:.1g}")
    print(f"as it is, with +1 and without padding, the lineage's loop has {detections:,} detections")
    print(loop_verdict(rows))


if __name__ == "__main__":
    run_script(main)
