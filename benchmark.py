#!/usr/bin/env python3
"""Measure what a student gains over its teacher, whether both see the same faces, and how fast training is.

    python benchmark.py --teacher_model weights/FeatherNetB_se.pth --trained_model weights/FeatherFaceV2.pth
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

--evaluation_loop measures the loop of test_widerface.py against the usual one, a stand-in for that of RetinaFace's
PyTorch port (benchmarks/baselines/), on the same pictures at their own size, in turn, and compares their detections.

--train measures training with the flags of train_v2.py (and a few of its own: --train --help), on the CPU or a GPU:
the loader alone by number of processes against the usual loader, the step alone against a plain one, with the time of
each of its phases and peak memory, and both together; all numbers go to training.json in --output_folder. --profile
FILE.json writes a trace.
"""

from utils.errors import stop_quietly

if __name__ == "__main__":
    stop_quietly()

from argparse import Namespace
from functools import partial
from pathlib import Path

from data.config import CACHES
from detection.protocols import PROTOCOLS
from training.flags import parse_args as parse_training_flags
from utils.arguments import ArgumentParser, number
from utils.errors import run_script
from utils.files import check_folder_is_writable
from utils.locks import folder_lock

#: Of the folder that a run writes to.
LOCK = ".benchmark.lock"

#: Flags that --evaluation_loop does not take, and those that say how the pictures of --dataset_folder are looked at.
OF_DETECTORS = ("teacher_model", "compile", "protocol", "face_threshold", "table")
OF_PICTURES = ("pictures", "protocol", "face_threshold", "num_workers")

#: Flags of train_v2.py in whose place --train has its own.
SETTLED = {
    "num_workers": "give --workers, several are measured",
    "cache": "give --caches, several are measured",
    "save_folder": "nothing is trained, tables go to --output_folder",
    "dataset_shares": "pictures are taken evenly from all sets",
}

# What measures is imported where it is used: --help and mistaken flags are answered at once.


def what_to_measure() -> ArgumentParser:
    """The flag that decides which others there are."""
    parser = ArgumentParser(add_help=False)
    parser.add_argument("--train", action="store_true", help="measure training, see --train --help")
    return parser


def parse_args(arguments: list[str] | None = None) -> Namespace:
    """The flags of all but --train."""
    parser = ArgumentParser(description=__doc__, parents=[what_to_measure()])
    add = parser.add_argument
    add("--evaluation_loop", action="store_true", help="measure the evaluation loop in place of the detectors")
    add("--trained_model", type=Path, required=True, help="checkpoint of the student")
    add("--teacher_model", type=Path, help="checkpoint it is compared with; not of --evaluation_loop")
    add("--dataset_folder", type=Path, help="pictures, in WIDER FACE's validation layout or any other")
    add("--output_folder", type=Path, default="./results/v2/")
    add("--pictures", type=number(int, 1), help="of the folder, evenly spread (default: all)")
    add("--threads", type=number(int, 1, 2**10), help="of PyTorch and ONNX Runtime (default: as many as PyTorch takes)")
    add("--rounds", type=number(int, 1), help="(default: 20, of --evaluation_loop 3)")
    add("--num_workers", type=number(int, 0, 2**8), default=2, help="processes that read pictures ahead")
    add("--compile", action="store_true", help="measure torch.compile too; it compiles for minutes")
    add("--protocol", choices=list(PROTOCOLS), default="original", help="sizes at which both look for faces")
    add("--face_threshold", type=number(float, 0.02, 1), default=0.5, help="lowest score of what counts as a face")
    add("--table", type=Path, help="table.json of test_widerface.py, for the AP in the figure")
    add("--gpu", default="auto", help="of --evaluation_loop: GPU number, cpu, or auto: GPU 0, else the CPU")
    options = parser.parse_args(arguments)
    if options.evaluation_loop and options.dataset_folder is None:
        parser.error("argument --evaluation_loop: it needs the pictures of --dataset_folder")
    if not options.evaluation_loop and options.teacher_model is None:
        parser.error("argument --teacher_model: give the checkpoint to compare with, or --evaluation_loop")
    if not options.evaluation_loop and options.gpu not in ("auto", "cpu"):
        parser.error("argument --gpu: detectors are compared on the CPU; only --evaluation_loop runs on a GPU")
    if options.evaluation_loop:
        parser.refuse(arguments, OF_DETECTORS, "not of --evaluation_loop, which times one checkpoint on pictures at "
                                               "their own size; leave it out")
    if options.dataset_folder is None:
        parser.refuse(arguments, OF_PICTURES, "it goes with --dataset_folder, whose pictures it is for")
    if options.rounds is None:
        options.rounds = 3 if options.evaluation_loop else 20
    return options


def parse_training_args(arguments: list[str]) -> tuple[Namespace, Namespace]:
    """The flags of --train itself, and all others as those of train_v2.py."""
    parser = ArgumentParser(
        prog="benchmark.py --train",
        description="Measure training: the loader alone, the step alone with its phases, both together.",
        epilog="Most other flags are those of train_v2.py: --training_dataset, --batch_size, --image_size, --gpu, ...",
    )
    add = parser.add_argument
    add("--rounds", type=number(int, 1), default=7, help="of everything that is measured")
    add("--workers", type=number(int, 0, 2**8), nargs="+", default=[0, 2],
        help="numbers of loader processes, each measured")
    add("--batches", type=number(int, 1), default=4, help="of one round of the loader, and of loader and step together")
    add("--caches", choices=CACHES, nargs="+", default=list(CACHES), help="of loader and step together, each measured")
    add("--step_alone", action="store_true", help="measure no loader: neither alone nor with the step")
    add("--longer_side", type=number(int, 64, 2**14), help="scale the pictures to this and encode them anew")
    add("--drawn", action="store_true", help="measure on drawn pictures, for want of others")
    add("--profile", type=Path, metavar="FILE.json", help="write a trace of some steps, for Perfetto")
    add("--output_folder", type=Path, default="./results/v2/")
    own, others = parser.parse_known_args(arguments)
    for name, reason in SETTLED.items():
        parser.refuse(others, (name,), f"not of --train: {reason}")
    if own.drawn:
        parser.refuse(others, ("training_dataset",), "--drawn measures on drawn pictures, give one of them")
    if own.step_alone:
        parser.refuse(arguments, ("workers", "caches"), "--step_alone measures no loader, leave it out")
    training = parse_training_flags(arguments=others)
    training.save_folder = own.output_folder  # nothing is trained: a run in the usual folder is in nobody's way
    return own, training


def main(arguments: list[str] | None = None) -> None:
    chosen, others = what_to_measure().parse_known_args(arguments)
    if chosen.train:
        own, training = parse_training_args(others)
        from benchmarks.training import measure_training
        work, folder = partial(measure_training, own, training), own.output_folder
    else:
        options = parse_args(others)
        work, folder = partial(measure_detectors, options), options.output_folder
    check_folder_is_writable(folder)
    with folder_lock(folder, LOCK):  # two runs would mix their tables, and slow each other
        work()


def measure_detectors(options: Namespace) -> None:
    """Teacher and student against each other, or the evaluation loop with the student."""
    import torch

    from benchmarks.comparison import STUDENT, TEACHER, measure_performance
    from benchmarks.consistency import find_pictures, measure_consistency
    from benchmarks.evaluation_loop import measure_evaluation_loop

    if options.threads:
        torch.set_num_threads(options.threads)
    if options.evaluation_loop:
        measure_evaluation_loop(options)
        return
    checkpoints = {TEACHER: options.teacher_model, STUDENT: options.trained_model}
    paths = find_pictures(options.dataset_folder, options.pictures) if options.dataset_folder else []
    measure_performance(checkpoints, paths, options)
    if paths:
        measure_consistency(checkpoints, paths, options)


if __name__ == "__main__":
    run_script(main)
