"""Weights out of files put into networks: all of them, of the right shapes, finite."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from utils.errors import UserError
from utils.pth_files import shown

#: Last name of BatchNorm's counts, which files of PyTorch before 0.4 do not have and nothing here reads.
BATCH_COUNT = "num_batches_tracked"


def fill(module: nn.Module, state: Mapping[str, Tensor], path: str | Path) -> None:
    """Copy tensors by name into a module; UserError, with the path of their file, where one of them cannot be used."""
    own = module.state_dict()
    if reason := misfit(own, state):
        raise UserError(f"{path} does not fit {type(module).__name__}: {reason}; give a matching file")
    for name, value in state.items():
        if not is_usable(name, value.to(own[name].dtype)):
            raise UserError(f"{path} has weights that are no usable numbers, {shown(name)} for one: the training that "
                            "wrote it diverged; give an earlier checkpoint")
    module.load_state_dict({**own, **state})


def misfit(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> str | None:
    """Why tensors cannot take the place of others by their names, kinds and shapes; None where they can."""
    missing = [name for name in own if name not in state and not name.endswith(BATCH_COUNT)]
    surplus = [name for name in state if name not in own]
    for names, what in ((missing, "it lacks"), (surplus, "nothing there is called")):
        if names:
            return f"{what} {shown(names[0])}" + (f" and {len(names) - 1} more" if len(names) > 1 else "")
    for name, value in state.items():
        if value.shape != own[name].shape:
            return f"{shown(name)} has the shape {tuple(value.shape)}, not {tuple(own[name].shape)}"
        if value.is_floating_point() != own[name].is_floating_point():
            return f"{shown(name)} is of {value.dtype}, not {own[name].dtype}"
    return None


def is_usable(name: str, value: Tensor) -> bool:
    """Whether a network can compute with a tensor: all finite, and no variance below zero."""
    return bool(torch.isfinite(value).all()) and not (name.endswith("running_var") and bool((value < 0).any()))
