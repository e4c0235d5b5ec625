"""Our evaluation loop against the lineage's: the same pictures, the same detections, the time of both in turn."""

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.consistency import match
from benchmarks.engine_files import write_files
from benchmarks.engines import ONNX_FLOAT, PYTORCH, load_engine
from benchmarks.lineage_loop import as_published, detect_file, write_text
from benchmarks.timing import ratio, spread, take_turns
from detection.face_detector import Candidates, FaceDetector
from detection.inference import detect_files
from detection.suppression import Detections, DetectionSettings
from detection.text_files import DetectionFolder
from models import load_model
from utils.tables import Row

#: How many times as fast as the lineage's this project wants our loop to be.
WANTED_SPEED_UP = 3.0

#: Two detections are the same within these: rounding of float32 in another order of steps.
SAME_PIXELS = 0.05
SAME_SCORE = 1e-4


LINEAGE = "lineage"


class Agreement(NamedTuple):
    """How two lists of detections of the same pictures compare."""

    first: int  #: detections of each
    second: int
    same: int  #: pairs within SAME_PIXELS and SAME_SCORE
    pixels: float  #: largest difference among all pairs that overlap
    score: float


def our_loop(
    detector: Callable[[Tensor], Candidates], paths: list[Path], folder: Path, device: torch.device, workers: int
) -> list[Detections | None]:
    """As test_widerface.py does it, text files included; the start of the workers is part of it."""
    names = text_names(paths)
    written = DetectionFolder(folder, names, {})
    found: list[Detections | None] = [None] * len(paths)
    for index, detections in detect_files(detector, paths, "original", DetectionSettings(), device, workers):
        written.write(names[index], detections)
        found[index] = detections
    return found


def lineage_loop(
    network: nn.Module, paths: list[Path], folder: Path, device: torch.device, as_ours: bool = False
) -> list[Detections]:
    """As the lineage does it, text files included; `network` is one from as_published, `as_ours` as in detect_file."""
    found = []
    for name, path in zip(text_names(paths), paths):
        found.append(detect_file(network, path, DetectionSettings(), device, as_ours))
        write_text(found[-1], (folder / name).with_suffix(".txt"))
    return found


def text_names(paths: list[Path]) -> list[str]:
    """EVENT/NAME.jpg, the event being the folder of the picture."""
    return [f"{path.parent.name}/{path.name}" for path in paths]


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


def compare_loops(
    checkpoint: Path, paths: list[Path], device: torch.device, workers: int, rounds: int
) -> tuple[list[Row], dict[str, Agreement], int]:
    """A row for each loop, the lineage's and ours by engine (ONNX Runtime on the CPU only).

    Then {our engine: how its detections compare with the lineage's, conventions made ours}, and how many detections the
    lineage has with its own conventions. UserError where the checkpoint or a picture cannot be read.
    """
    network = load_model(checkpoint)
    published = as_published(network).to(device)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        detectors = {PYTORCH: FaceDetector(network).to(device)}
        if device.type == "cpu":
            detectors[ONNX_FLOAT] = load_engine(ONNX_FLOAT, write_files(checkpoint, folder, [], False)[ONNX_FLOAT])
        loops = {LINEAGE: partial(lineage_loop, published, paths, folder / "lineage", device)}
        for engine, detector in detectors.items():
            loops[f"ours, {engine}"] = partial(our_loop, detector, paths, folder / engine, device, workers)
        found = {name: loop() for name, loop in loops.items()}
        reference = loops[LINEAGE](as_ours=True)
        times = take_turns(loops, rounds, warmup=0)  # each has run already
    rows = []
    for name, milliseconds in times.items():
        faster, per_picture = ratio(times[LINEAGE], milliseconds), spread([time / len(paths) for time in milliseconds])
        rows.append({
            "loop": name, "model": network.name, "pictures": len(paths), "workers": 0 if name == LINEAGE else workers,
            "threads": torch.get_num_threads(), "device": str(device), "rounds": rounds,
            "ms/picture": per_picture.median, "ms lower quartile": per_picture.lower,
            "ms upper quartile": per_picture.upper, "times as fast": faster.median,
            "ratio lower quartile": faster.lower, "ratio upper quartile": faster.upper,
        })
    original = found.pop(LINEAGE)
    agreements = {name: compare_detections(ours, reference) for name, ours in found.items()}
    return rows, agreements, sum(len(picture.scores) for picture in original)


def loop_table(rows: list[Row]) -> list[Row]:
    """For the eye: a row for each loop."""
    return [{
        "loop": row["loop"], "ms/picture": row["ms/picture"],
        "quartiles": f"{row['ms lower quartile']:.1f}-{row['ms upper quartile']:.1f}",
        "times as fast": row["times as fast"],
        "ratio quartiles": f"{row['ratio lower quartile']:.2f}-{row['ratio upper quartile']:.2f}",
    } for row in rows]


def loop_verdict(rows: list[Row]) -> str:
    """In one line: whether a loop of ours is WANTED_SPEED_UP times as fast as the lineage's."""
    best = max(rows[1:], key=lambda row: row["times as fast"])
    answer = "is" if best["times as fast"] >= WANTED_SPEED_UP else "is not"
    told = ", ".join(f"{row['times as fast']:.2f} times ({row['loop'].removeprefix('ours, ')})" for row in rows[1:])
    return f"our loop {answer} {WANTED_SPEED_UP:g} times as fast as the lineage's here: {told}"
