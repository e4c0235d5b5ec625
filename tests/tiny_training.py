"""A training of a second or two on drawn pictures, for tests that stop it, damage what it wrote, and go on."""

from collections.abc import Callable
from pathlib import Path
from unittest import mock

import torch

import train_v2
from data.drawn.demo_set import write_demo_set
from training.flags import parse_args
from training.log import read_log
from training.run_folder import newest_checkpoint
from utils.files import atomic_path
from utils.pth_files import read_checkpoint

EPOCHS = 2


def write_pictures(folder: Path) -> Path:
    """A drawn set of a few pictures; returns its training labels."""
    write_demo_set(folder, train_pictures=3, val_pictures=1)
    return folder / "train" / "label.txt"


def tiny_flags(labels: Path, folder: Path, *more: str) -> list[str]:
    return ["--training_dataset", str(labels), "--teacher_model", "none", "--save_folder", str(folder), "--gpu", "cpu",
            "--image_size", "64", "--batch_size", "2", "--epochs", str(EPOCHS), "--warmup_epochs", "1", "--num_workers",
            "0", "--eval_every", "1", "--save_every", "1", *more]


def ap_after(steps: int) -> float:
    """What stands in for the mean AP: it rises from epoch to epoch, so that each writes a _best."""
    return steps / 1000


def train(flags: list[str]) -> None:
    """train_v2.py with these flags, in this process; curves and AP, which take longest, are stood in for."""
    def given_ap(network: torch.nn.Module, *_) -> dict[str, float]:
        counts = [value for name, value in network.state_dict().items() if name.endswith("num_batches_tracked")]
        return {"ap_hard": 0.5, "ap_mean": ap_after(int(counts[0]))}

    def plain_curves(rows: list[dict], path: Path, terms: list[str]) -> None:
        with atomic_path(path) as temporary:
            temporary.write_text(f"{len(rows)} rows of {terms}")

    with mock.patch("train_v2.measure_ap", given_ap), mock.patch("train_v2.plot_training", plain_curves), \
            mock.patch("train_v2.parse_args", lambda _, earlier=None: parse_args(None, flags, earlier)), \
            mock.patch("os.fsync"):  # against power cuts, and slow; nothing here is one
        train_v2.main()


def go_on(flags: list[str]) -> None:
    """What a person does after a kill: start it again, from its newest checkpoint where there is one."""
    folder = Path(flags[flags.index("--save_folder") + 1])
    start = newest_checkpoint(folder)
    train([*flags, "--resume_net", str(start)] if start else flags)


def contents(folder: Path) -> dict[str, object]:
    """All that a run has left, by name of file, but for how fast it was."""
    readers: dict[str, Callable] = {".pth": read_checkpoint, ".csv": read_log, ".png": Path.read_text}
    found = {path.name: readers[path.suffix](path) for path in folder.iterdir() if path.suffix in readers}
    found |= {path.name: None for path in folder.iterdir() if path.suffix not in readers}
    for row in found.get("training_log.csv", ()):
        for timed in ("images_per_second", "device_wait"):
            row.pop(timed, None)
    return found


def are_same(one: object, other: object) -> bool:
    """Whether two contents are equal, tensors bit for bit."""
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(are_same(one[k], other[k]) for k in one)
    if isinstance(one, list | tuple):
        return type(one) is type(other) and len(one) == len(other) and all(map(are_same, one, other))
    return one == other
