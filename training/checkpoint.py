"""Checkpoints: all that resuming, testing, detecting and exporting need, in plain types."""

from argparse import Namespace
from pathlib import Path

import torch
from torch import nn
from torch.optim import Optimizer

from training.ema import WeightAverage
from utils.errors import UserError
from utils.files import atomic_path
from utils.pth_files import read_checkpoint

#: Flags that may differ between a run and its continuation without changing its result.
FREE_FLAGS = {
    "save_folder", "resume_net", "num_workers", "gpu", "devices", "eval_every", "eval_protocol", "save_every",
    "print_freq", "training_dataset", "val_dataset", "teacher_model", "init_backbone", "init_weights",
}


def save_training_state(
    path: str | Path, trainee: nn.Module, optimizer: Optimizer, average: WeightAverage, epochs_done: int,
    best_ap: float, options: Namespace,
) -> None:
    """Write a checkpoint of train_v2.py: the network and its average, and all that going on needs."""
    state = {
        "model_name": trainee.network.name,
        "model": trainee.network.state_dict(),
        "ema": average.network.state_dict(),
        "ema_updates": average.updates,
        "projections": trainee.projections.state_dict(),
        "optimizer": optimizer.state_dict(),
        "epochs_done": epochs_done,
        "best_ap": best_ap,
        "options": {name: value for name, value in vars(options).items() if name not in FREE_FLAGS},
    }
    with atomic_path(path) as temporary:
        torch.save(state, temporary)


def load_training_state(
    path: str | Path, trainee: nn.Module, optimizer: Optimizer, average: WeightAverage, options: Namespace
) -> tuple[int, float, list[str]]:
    """Put a run back to where `path` left it; returns the epochs done, the best AP and flags that have changed.

    With no flag changed the continued run gives the weights of an unbroken one. Raises UserError where the file
    holds no training state or one that does not fit.
    """
    state = read_checkpoint(path)
    if "optimizer" not in state:
        raise UserError(f"{path} holds weights but no training state: resume from a checkpoint of train_v2.py")
    if state["model_name"] != trainee.network.name:
        raise UserError(f"{path} is of model {state['model_name']}: pass --model {state['model_name']}")
    try:
        trainee.network.load_state_dict(state["model"])
        trainee.projections.load_state_dict(state["projections"])
        average.network.load_state_dict(state["ema"])
        optimizer.load_state_dict(state["optimizer"])
    except (RuntimeError, ValueError) as error:
        raise UserError(f"{path} does not fit this run ({str(error).splitlines()[0][:120]}): was it trained with a "
                        "teacher, and this run without?") from None
    average.updates = state["ema_updates"]
    now = vars(options)
    changed = [f"--{name} {old}" for name, old in state["options"].items() if now.get(name) != old]
    return state["epochs_done"], state["best_ap"], changed
