"""What a student gains over its teacher on a CPU: size, multiply-adds, memory, and latency in every engine."""

import tempfile
from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from benchmarks.engine_files import write_files
from benchmarks.engines import COMPILED, PUBLISHED, load_engine, peak_memory
from benchmarks.figures import plot_comparison
from benchmarks.rows import for_the_eye, in_turn, measured, quartiles, report, times_as_fast
from benchmarks.timing import random_pictures, ratio, spread
from deployment.weights_file import known_precision
from detection.face_detector import Candidates
from models import load_model
from models.ledger import measure, total
from utils.errors import UserError
from utils.tables import Row
from utils.turns import take_turns

TEACHER, STUDENT = "teacher", "student"

#: Height and width in pixels of the one picture with which peak memory is measured.
MEMORY_SIZE = (640, 640)

#: Pictures that set the ranges of 8 bits.
CALIBRATION_PICTURES = 20


class Setting(NamedTuple):
    """The pictures of one run."""

    batch: int
    height: int  #: pixels
    width: int


SETTINGS = [Setting(batch, height, width) for height, width in ((320, 320), (480, 640), (640, 640)) for batch in (1, 8)]


@dataclass(frozen=True)
class Contender:
    """One detector in one engine."""

    role: str  #: TEACHER or STUDENT
    model: str  #: v1 or v2
    checkpoint: Path
    engine: str
    path: Path  #: what the engine loads
    run: Callable[[Tensor], Candidates]

    @property
    def name(self) -> str:
        return f"{self.role} in {self.engine}"


def measure_performance(checkpoints: dict[str, Path], paths: list[Path], options: Namespace) -> None:
    """Write and print the comparison of {role: checkpoint}, and draw its figure; options: those of benchmark.py."""
    # Told before the work, not after it.
    precision = {role: known_precision(path, options.table) for role, path in checkpoints.items()}
    calibration = paths[:: max(1, len(paths) // CALIBRATION_PICTURES)][:CALIBRATION_PICTURES]
    rows = compare(checkpoints, SETTINGS, options.rounds, calibration, options.compile)
    note = in_turn(options.rounds) + (
        "" if calibration else "; no 8 bits without the pictures of --dataset_folder"
    ) + "\nmultiply-adds and peak memory: one picture of 640x640; memory: by how much a fresh process grows"
    path = options.output_folder / "performance_comparison"
    report(rows, path, [size_table(rows), speed_table(rows)], note)
    plot_comparison(rows, precision, path.with_suffix(".png"))
    print(f"written: {path}.png")


def compare(
    checkpoints: dict[str, Path], settings: list[Setting], rounds: int, calibration: list[Path], compiled: bool
) -> list[Row]:
    """All that is measured of {role: checkpoint}: a row for each role, engine and setting.

    calibration: pictures for 8 bits, which are left out without. UserError where a checkpoint cannot be read.
    """
    with tempfile.TemporaryDirectory() as folder:
        contenders = []
        for role, checkpoint in checkpoints.items():
            files = Path(folder) / role
            files.mkdir()
            contenders += enter(role, checkpoint, write_files(checkpoint, files, calibration, compiled))
        sizes = {contender.name: describe_sizes(contender) for contender in contenders}
        speeds = compare_speed(contenders, settings, rounds)
    costs = {role: multiply_adds(checkpoint, settings) for role, checkpoint in checkpoints.items()}
    return [
        sizes[name] | {"multiply-adds": costs[row["role"]][setting]} | row for (name, setting), row in speeds.items()
    ]


def enter(role: str, checkpoint: Path, files: dict[str, Path]) -> list[Contender]:
    """A detector in every engine; torch.compile, where it does not work here, is named and left out."""
    contenders = []
    for engine, path in files.items():
        try:
            run = load_engine(engine, path)
        except UserError as error:
            if engine != COMPILED:
                raise
            print(f"warning: {error}, it is left out for the {role}")
            continue
        contenders.append(Contender(role, load_model(checkpoint).name, checkpoint, engine, path, run))
    return contenders


def describe_sizes(contender: Contender) -> Row:
    """What does not depend on the pictures."""
    return {
        "role": contender.role,
        "model": contender.model,
        "checkpoint": str(contender.checkpoint),
        "engine": contender.engine,
        "parameters": sum(parameter.numel() for parameter in load_model(contender.checkpoint).parameters()),
        "file MB": contender.path.stat().st_size / 1e6,
        "peak memory MB": peak_memory(contender.engine, contender.path, *MEMORY_SIZE) / 1e6,
    }


def multiply_adds(checkpoint: Path, settings: list[Setting]) -> dict[Setting, int]:
    """Of one picture at the size of each setting."""
    network = load_model(checkpoint)
    costs = {size: total(measure(network, *size)).multiply_adds for size in {setting[1:] for setting in settings}}
    return {setting: costs[setting[1:]] for setting in settings}


def compare_speed(contenders: list[Contender], settings: list[Setting], rounds: int) -> dict[tuple[str, Setting], Row]:
    """Milliseconds of a batch, and how many times as fast as the teacher, by contender's name and setting.

    In a round every contender runs once, in turn. Ratios are taken round by round, to the teacher in the same engine
    (NaN where it is not there) and to the teacher as published.
    """
    rows = {}
    for setting in settings:
        images = random_pictures(*setting)
        times = take_turns({one.name: partial(one.run, images) for one in contenders}, rounds, warmup=2)
        for contender in contenders:
            own = times[contender.name]
            milliseconds = spread(own)
            rows[contender.name, setting] = {
                "role": contender.role, "engine": contender.engine,
                "width": setting.width, "height": setting.height, "batch": setting.batch,
                "threads": torch.get_num_threads(), "rounds": rounds,
                **measured("ms", milliseconds, "ms "), "pictures/s": 1000 * setting.batch / milliseconds.median,
                **times_as_fast(times.get(f"{TEACHER} in {contender.engine}", [float("nan")] * rounds), own, "ratio"),
                "ratio to published": ratio(times[f"{TEACHER} in {PUBLISHED}"], own).median,
            }
    return rows


def size_table(rows: list[Row]) -> list[Row]:
    """For the eye: what does not depend on the setting, a row for each detector and engine."""
    largest = max(row["height"] * row["width"] for row in rows)
    chosen = [row for row in rows if row["height"] * row["width"] == largest and row["batch"] == 1]
    return for_the_eye(
        chosen, "role", "model", "engine", "parameters", "multiply-adds", "file MB", "peak memory MB"
    )


def speed_table(rows: list[Row]) -> list[Row]:
    """For the eye: teacher and student side by side, a row for each engine and setting."""
    table: dict[tuple, Row] = {}
    engines = list(dict.fromkeys(row["engine"] for row in rows))
    for row in sorted(rows, key=lambda row: engines.index(row["engine"])):
        setting = Setting(row["batch"], row["height"], row["width"])
        line = table.setdefault((row["engine"], setting), {
            "engine": row["engine"], "picture": f"{setting.width}x{setting.height}", "batch": str(setting.batch),
        })
        line[f"{row['role']} ms"] = row["ms"]
        line[f"{row['role']} quartiles"] = quartiles(row, "ms ")
        if row["role"] == STUDENT:
            line["times as fast"] = row["ratio"]
            line["ratio quartiles"] = quartiles(row, "ratio ")
            line["against published"] = row["ratio to published"]
    return list(table.values())
