"""Checkpoints: all that resuming, testing, detecting and exporting need, in plain types."""

import io
from argparse import Namespace
from pathlib import Path

import torch
from torch.optim import Optimizer

from models.fitting import fill
from training.ema import WeightAverage
from training.optimizer import optimizer_state, restore_optimizer
from training.trainee import Trainee
from utils.errors import UserError
from utils.files import atomic_path
from utils.pth_files import named_tensors, read_checkpoint, shown

#: What a run that goes on does not take over: its folder is that of the checkpoint, and it has begun already.
OWN_FLAGS = {"save_folder", "resume_net", "devices", "init_backbone", "init_weights"}

#: Entries of a training state and their types.
ENTRIES = {
    "model_name": str, "model": dict, "ema": dict, "ema_updates": int, "projections": dict, "optimizer": dict,
    "epochs_done": int, "best_ap": int | float, "options": dict,
}


def save_training_state(
    path: str | Path, trainee: Trainee, optimizer: Optimizer, average: WeightAverage, epochs_done: int,
    best_ap: float, options: Namespace,
) -> None:
    """Write a checkpoint of train_v2.py: the network and its average, and all that going on needs."""
    state = {
        "model_name": trainee.network.name,
        "model": trainee.network.state_dict(),
        "ema": average.network.state_dict(),
        "ema_updates": average.updates,
        "projections": trainee.projections.state_dict(),
        "optimizer": optimizer_state(optimizer),
        "epochs_done": epochs_done,
        "best_ap": best_ap,
        "options": {name: plain(value) for name, value in vars(options).items() if name not in OWN_FLAGS},
    }
    content = io.BytesIO()  # by way of memory: the same state is the same bytes under any name
    torch.save(state, content)
    with atomic_path(path) as temporary:
        temporary.write_bytes(content.getbuffer())


def plain(value: object) -> object:
    """The value of a flag in types that a checkpoint may hold: paths as text."""
    if isinstance(value, list):
        return [plain(part) for part in value]
    return str(value) if isinstance(value, Path) else value


def load_training_state(
    path: str | Path, trainee: Trainee, optimizer: Optimizer, average: WeightAverage
) -> tuple[int, float]:
    """Put a run back to where `path` left it; returns the epochs done and the best AP.

    With no flag changed the continued run gives the weights of an unbroken one. Raises UserError where the file
    holds no training state or one that does not fit.
    """
    state = read_training_state(path)
    if state["model_name"] != trainee.network.name:
        name = shown(state["model_name"])
        raise UserError(f"{path} is of model {name}: pass --model {name}")
    if state["projections"].keys() != trainee.projections.state_dict().keys():
        raise UserError(f"{path} does not fit this run: one of them has a teacher, the other has none; "
                        "pass the same --teacher_model")
    for part, module in (("model", trainee.network), ("projections", trainee.projections), ("ema", average.network)):
        fill(module, named_tensors(state[part], f"{path}: '{part}'"), path)
    restore_optimizer(optimizer, state["optimizer"], path)
    average.updates = state["ema_updates"]
    return state["epochs_done"], float(state["best_ap"])


def read_training_state(path: str | Path) -> dict:
    """All ENTRIES of a checkpoint of train_v2.py; UserError unless they are there, of these types."""
    state = read_checkpoint(path)
    if "optimizer" not in state:
        raise UserError(f"{path} holds weights but no training state: resume from a checkpoint of train_v2.py")
    for name, kind in ENTRIES.items():
        value = state.get(name)
        if not isinstance(value, kind) or (kind is int and value < 0):
            told = "missing" if name not in state else f"a {type(value).__name__} with the value {shown(value)}"
            raise UserError(f"{path}: '{name}' is {told}: resume from a checkpoint of train_v2.py")
    return state
