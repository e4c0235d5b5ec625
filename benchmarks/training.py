"""Training measured: the loader alone, the step alone with its phases, both together; see benchmark.py --train."""

import tempfile
from argparse import Namespace
from functools import partial
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

import train_v2
from benchmarks.timing import spread, take_turns
from benchmarks.training_loader import choose_records, compare_loaders, loader_table, loader_verdict
from benchmarks.training_step import build_steps, compare_steps, phase_table, run_step, step_table, synchronize
from data.drawn.demo_set import write_demo_set
from data.loader import TrainingLoader
from data.widerface import Record
from training.flags import parse_args as parse_training_flags
from training.step import TrainingStep, choose_precision
from utils.arguments import ArgumentParser, number
from utils.distributed import parse_devices
from utils.files import atomic_path, check_folder_is_writable
from utils.tables import Row, print_table, write_table

#: Steps in the trace of --profile.
PROFILED_STEPS = 3


def parse_args(arguments: list[str]) -> tuple[Namespace, Namespace]:
    """Flags of this benchmark, and all others as those of train_v2.py."""
    parser = ArgumentParser(
        prog="benchmark.py --train", description=__doc__,
        epilog="All other flags are those of train_v2.py: --training_dataset, --batch_size, --image_size, --gpu, ...",
    )
    add = parser.add_argument
    add("--rounds", type=number(int, 1), default=7, help="of everything that is measured")
    add("--workers", type=number(int, 0), nargs="+", default=[0, 2], help="numbers of loader processes, each measured")
    add("--batches", type=number(int, 1), default=4, help="of one round of the loader, and of loader and step together")
    add("--longer_side", type=number(int, 64), help="scale the pictures to this and encode them anew")
    add("--drawn", action="store_true", help="measure on drawn pictures, for want of others")
    add("--profile", type=Path, metavar="FILE.json", help="write a trace of some steps, for Perfetto")
    add("--output_folder", type=Path, default="./results/v2/")
    own, others = parser.parse_known_args(arguments)
    training = parse_training_flags(arguments=others)
    training.save_folder = own.output_folder  # nothing is trained: a run in the usual folder is in nobody's way
    return own, training


def measure_training(arguments: list[str]) -> None:
    """Print and write the three tables. UserError as train_v2.py."""
    own, training = parse_args(arguments)
    for folder in (own.output_folder, own.profile and own.profile.parent):
        if folder is not None:
            check_folder_is_writable(folder)
    device = parse_devices(training.gpu)[0]
    with tempfile.TemporaryDirectory() as folder:
        pictures = own.batches * training.batch_size
        if own.drawn:
            write_demo_set(Path(folder) / "drawn", train_pictures=2 * pictures, val_pictures=12)
            training.training_dataset = Path(folder) / "drawn" / "train" / "label.txt"
        train_v2.settle(training)
        train_v2.check_files(training)
        records = choose_records(training.training_dataset, pictures, own.longer_side, Path(folder))
        loaders = compare_loaders(
            records, training.image_size, training.batch_size, own.workers, own.rounds, device
        )
        report("training_loader", loaders, [loader_table(loaders)], own)
        print(loader_verdict(loaders) + "\n")

        batch = next(iter(make_loader(records, training, 0, device)))
        steps = build_steps(training, device)
        measured = compare_steps(steps, batch, own.rounds, device)
        report("training_step", measured, [step_table(measured), phase_table(measured)], own)

        precision = choose_precision(training.precision, device)
        ours = steps[str(precision).removeprefix("torch.")]
        together = compare_together(records, ours, training, own.workers, own.rounds, device)
        report("training_together", together, [together], own)
        if own.profile:
            write_trace(ours, batch, own.profile, device)


def report(name: str, rows: list[Row], tables: list[list[Row]], own: Namespace) -> None:
    """Write all numbers, print those for the eye."""
    write_table(rows, own.output_folder / name)
    for table in tables:
        print_table(table)
        print()
    print(f"medians and quartiles of {own.rounds} rounds in turn, {torch.get_num_threads()} threads; "
          f"written: {own.output_folder / name}.csv and .json\n")


def make_loader(records: list[Record], training: Namespace, workers: int, device: torch.device) -> TrainingLoader:
    """As train_v2.py makes it, with that many processes."""
    return train_v2.build_loader(records, Namespace(**vars(training) | {"num_workers": workers}), device)[0]


def compare_together(
    records: list[Record], step: TrainingStep, training: Namespace, workers: list[int], rounds: int,
    device: torch.device,
) -> list[Row]:
    """A row for each number of loader processes: pictures a second from files to moved weights."""
    loaders = {f"{count} loader processes": make_loader(records, training, count, device) for count in workers}
    passes = {name: partial(train_pass, loader, step, device) for name, loader in loaders.items()}
    rows = []
    for name, milliseconds in take_turns(passes, rounds).items():
        pictures = len(records) // training.batch_size * training.batch_size
        speed = spread([1000 * pictures / passed for passed in milliseconds])
        rows.append({"loader and step": name, "pictures/s": speed.median, "lower quartile": speed.lower,
                     "upper quartile": speed.upper})
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
