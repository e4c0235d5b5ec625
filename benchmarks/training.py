"""Training measured: the loader alone, the step alone with its phases, both together; benchmark.py --train."""

import tempfile
from argparse import Namespace
from functools import partial
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

import train_v2
from benchmarks.rows import for_the_eye, in_turn, machine, pictures_per_second, show, write_tables
from benchmarks.timing import synchronize
from benchmarks.training_loader import choose_records, compare_loaders, loader_note, loader_table
from benchmarks.training_step import (
    build_steps,
    compare_steps,
    fallen_back,
    phase_table,
    run_step,
    step_builders,
    step_table,
)
from data.drawn.demo_set import write_demo_set
from data.loader import TrainingLoader
from data.widerface import Record
from training.checks import check_files
from training.sets import build_loader
from training.step import TrainingStep
from utils import distributed
from utils.files import atomic_path, check_folder_is_writable
from utils.tables import Row
from utils.turns import take_turns

#: Steps in the trace of --profile.
PROFILED_STEPS = 3

#: In --output_folder: machine, flags and all rows.
RESULT = "training.json"

#: Flags of train_v2.py that numbers depend on.
TRAINING_FLAGS = (
    "model", "training_dataset", "teacher_model", "batch_size", "accumulate", "image_size", "crop_scales",
    "face_mask_prob", "cutmix_prob", "mixup_alpha", "compile", "graphs", "seed",
)


def measure_training(own: Namespace, training: Namespace) -> None:
    """Print the tables of loader, step and both together, and write each once it is measured to one file, RESULT.

    own: flags of benchmark.py --train; training: those of train_v2.py. UserError as train_v2.py, and for several
    devices.
    """
    if own.profile:
        check_folder_is_writable(own.profile.parent)
    # Graphs are recorded on the GPU that is current, whichever the tensors lie on.
    device = distributed.join([distributed.choose_device(training.gpu)])
    tables: dict[str, list[Row]] = {}
    write = partial(write_tables, machine(device) | {"flags": flags_that_matter(own, training)}, tables,
                    own.output_folder / RESULT)
    with tempfile.TemporaryDirectory() as folder:
        records = find_records(own, training, Path(folder))
        if not own.step_alone:
            rows = tables["loader"] = compare_loaders(
                records, training.image_size, training.batch_size, own.workers, own.rounds, device
            )
            write()
            show([loader_table(rows)], f"{loader_note(rows)}\n")

        batch = next(iter(make_loader(records, training, 0, device)))
        steps, peaks = build_steps(step_builders(training, device), batch, device)
        rows = tables["step"] = compare_steps(steps, peaks, batch, own.rounds, device)
        chosen = fastest(rows)
        write()
        show([step_table(rows), phase_table(rows)], f"{in_turn(own.rounds)}; times as fast as the plain step\n")

        if not own.step_alone:
            rows = tables["together"] = compare_together(records, steps, chosen, own, training, device)
            write()
            if rows:
                table = for_the_eye(rows, "loader and step", "cache", "pictures/s", "quartiles")
                show([table], f"{in_turn(own.rounds)}; the step is {chosen}")
        print(f"written: {own.output_folder / RESULT}")
        if own.profile:
            write_trace(steps[chosen], batch, own.profile, device)


def flags_that_matter(own: Namespace, training: Namespace) -> dict:
    """Those of both that numbers depend on."""
    return {name: value for name, value in vars(own).items() if name not in ("output_folder", "profile")} | {
        name: getattr(training, name) for name in TRAINING_FLAGS
    }


def find_records(own: Namespace, training: Namespace, folder: Path) -> list[Record]:
    """The pictures that all is measured on, drawn ones and scaled ones in `folder`; UserError as train_v2.py."""
    pictures = own.batches * training.batch_size
    if own.drawn:
        write_demo_set(folder / "drawn", train_pictures=2 * pictures, val_pictures=12)
        training.training_dataset = [folder / "drawn" / "train" / "label.txt"]
    train_v2.settle(training)
    check_files(training)
    return choose_records(training.training_dataset, pictures, own.longer_side, folder)


def make_loader(records: list[Record], training: Namespace, workers: int, device: torch.device) -> TrainingLoader:
    """As train_v2.py makes it of one set, with that many processes."""
    chosen = Namespace(**vars(training) | {"num_workers": workers, "dataset_shares": None})
    return build_loader(records, [len(records)], chosen, device)[0]


def fastest(rows: list[Row]) -> str:
    """The step of most pictures a second."""
    return str(max(rows, key=lambda row: row["pictures/s"])["step"])


def compare_together(
    records: list[Record], steps: dict[str, TrainingStep], chosen: str, own: Namespace, training: Namespace,
    device: torch.device,
) -> list[Row]:
    """A row for each cache and number of loader processes: pictures a second from files or a cache to moved weights.

    None where the chosen step does not keep what its name says, which is printed.
    """
    pictures = max(1, len(records) // training.batch_size) * training.batch_size  # a small set is repeated to fill one
    rows = []
    for cache in own.caches:
        cached = Namespace(**vars(training) | {"cache": cache})
        loaders = {f"{count} loader processes": make_loader(records, cached, count, device) for count in own.workers}
        passes = {name: partial(train_pass, loader, steps[chosen], device) for name, loader in loaders.items()}
        times = take_turns(passes, own.rounds, warmup=2)  # a kind of step is recorded when it comes again
        rows += [
            {"loader and step": name, "cache": cache, "step": chosen, **pictures_per_second(milliseconds, pictures)}
            for name, milliseconds in times.items()
        ]
    if chosen in (failed := fallen_back(steps)):
        print(f"left out: loader and step with {chosen}, {failed[chosen]}")
        return []
    return rows


def train_pass(loader: TrainingLoader, step: TrainingStep, device: torch.device) -> None:
    """One epoch of the loader's pictures, and the wait for the last step."""
    step.model.train()
    generator = torch.Generator().manual_seed(0)
    for batch in loader:
        step(batch, generator, mixes=True)
    synchronize(device)


def write_trace(step: TrainingStep, batch, path: Path, device: torch.device) -> None:
    """A trace of PROFILED_STEPS steps with the names of their phases."""
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (device.type == "cuda")
    generator = torch.Generator().manual_seed(0)
    with profile(activities=activities) as trace:
        for _ in range(PROFILED_STEPS):
            run_step(step, batch, generator, device)
    with atomic_path(path) as temporary:
        trace.export_chrome_trace(str(temporary))
    print(f"written: {path}")
