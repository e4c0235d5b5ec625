"""Our evaluation loop against the usual one: the same pictures, the same detections, the time of both in turn."""

import tempfile
from argparse import Namespace
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from benchmarks.baselines import USUAL
from benchmarks.baselines.published import as_published
from benchmarks.baselines.usual_loop import usual_loop
from benchmarks.consistency import find_pictures, match
from benchmarks.engine_files import write_files
from benchmarks.engines import ONNX_FLOAT, PYTORCH, load_engine
from benchmarks.rows import for_the_eye, in_turn, measured, report, times_as_fast
from benchmarks.timing import spread
from detection.face_detector import Candidates, FaceDetector
from detection.inference import detect_files
from detection.suppression import Detections, DetectionSettings
from detection.text_files import DetectionFolder
from models import load_model
from utils.distributed import parse_devices
from utils.tables import Row
from utils.turns import take_turns

#: Two detections are the same within these: rounding of float32 in another order of steps.
SAME_PIXELS = 0.05
SAME_SCORE = 1e-4


class Agreement(NamedTuple):
    """How two lists of detections of the same pictures compare."""

    first: int  #: detections of each
    second: int
    same: int  #: pairs within SAME_PIXELS and SAME_SCORE
    pixels: float  #: largest difference among all pairs that overlap
    score: float


def measure_evaluation_loop(options: Namespace) -> None:
    """Write and print the time of both loops, and whether they detect the same; options: those of benchmark.py."""
    paths = find_pictures(options.dataset_folder, options.pictures)
    device = parse_devices(options.gpu)[0]
    rows, agreements, detections = compare_loops(
        options.trained_model, paths, device, options.num_workers, options.rounds
    )
    speed = for_the_eye(rows, "loop", "ms/picture", "ms quartiles", "times as fast", "ratio quartiles")
    note = (
        f"{in_turn(options.rounds)}; {len(paths)} pictures at their own size, from files of pictures to files of "
        f"detections; {options.num_workers} workers for ours, their start included\n"
        f"the same: within {SAME_PIXELS} px and {SAME_SCORE:g} in score of one of the usual loop's without +1, padded "
        f"as ours; as it is, with +1 and without padding, the usual loop has {detections:,} detections"
    )
    report(rows, options.output_folder / "evaluation_loop", [speed, agreement_table(agreements)], note)


def compare_loops(
    checkpoint: Path, paths: list[Path], device: torch.device, workers: int, rounds: int
) -> tuple[list[Row], dict[str, Agreement], int]:
    """A row for each loop, the usual one and ours by engine (ONNX Runtime on the CPU only).

    Then {our engine: how its detections compare with the usual loop's, conventions made ours}, and how many detections
    the usual loop has with its own conventions. UserError where the checkpoint or a picture cannot be read.
    """
    network = load_model(checkpoint)
    published = as_published(network).to(device)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        detectors = {PYTORCH: FaceDetector(network).to(device)}
        if device.type == "cpu":
            detectors[ONNX_FLOAT] = load_engine(ONNX_FLOAT, write_files(checkpoint, folder, [], False)[ONNX_FLOAT])
        loops = {USUAL: partial(usual_loop, published, paths, folder / "usual", device)}
        for engine, detector in detectors.items():
            loops[f"ours, {engine}"] = partial(our_loop, detector, paths, folder / engine, device, workers)
        found = {name: loop() for name, loop in loops.items()}
        reference = loops[USUAL](as_ours=True)
        times = take_turns(loops, rounds, warmup=0)  # each has run already
    rows = [{
        "loop": name, "model": network.name, "pictures": len(paths), "workers": 0 if name == USUAL else workers,
        "threads": torch.get_num_threads(), "device": str(device), "rounds": rounds,
        **measured("ms/picture", spread([time / len(paths) for time in milliseconds]), "ms "),
        **times_as_fast(times[USUAL], milliseconds),
    } for name, milliseconds in times.items()]
    agreements = {name: compare_detections(found[name], reference) for name in found if name != USUAL}
    return rows, agreements, sum(len(detections.scores) for detections in found[USUAL])


def our_loop(
    detector: Callable[[Tensor], Candidates], paths: list[Path], folder: Path, device: torch.device, workers: int
) -> list[Detections | None]:
    """As test_widerface.py does it, text files included; the start of the workers is part of it."""
    names = [f"{path.parent.name}/{path.name}" for path in paths]  # EVENT/NAME.jpg, whatever the folder
    written = DetectionFolder(folder, names, {})
    found: list[Detections | None] = [None] * len(paths)
    for index, detections in detect_files(detector, paths, "original", DetectionSettings(), device, workers):
        written.write(names[index], detections)
        found[index] = detections
    return found


def compare_detections(first: list[Detections], second: list[Detections]) -> Agreement:
    """Detections of the same pictures, matched one to one."""
    same, pixels, score = 0, [0.0], [0.0]
    for one, other in zip(first, second, strict=True):
        pairs, _ = match(one.boxes, other.boxes)
        rows, columns = pairs.T
        moved = np.abs(one.boxes[rows] - other.boxes[columns]).max(axis=1, initial=0)
        changed = np.abs(one.scores[rows] - other.scores[columns])
        same += int(((moved <= SAME_PIXELS) & (changed <= SAME_SCORE)).sum())
        pixels += moved.tolist()
        score += changed.tolist()
    return Agreement(*(sum(len(found.scores) for found in side) for side in (first, second)), same,
                     max(pixels), max(score))


def agreement_table(agreements: dict[str, Agreement]) -> list[Row]:
    """For the eye: how many detections of each loop of ours the usual one has too, and how far the two are apart."""
    return [{
        "loop": name, "detections": agreement.first, "usual loop's": agreement.second, "the same": agreement.same,
        "largest difference, px": f"{agreement.pixels:.1g}", "in score": f"{agreement.score:.1g}",
    } for name, agreement in agreements.items()]
