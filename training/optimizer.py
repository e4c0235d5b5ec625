"""How the weights are moved."""

import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from utils.errors import UserError
from utils.pth_files import shown


def build_optimizer(module: nn.Module, learning_rate: float, weight_decay: float) -> torch.optim.Optimizer:
    """AdamW; only convolution weights decay (biases, norms and fusion weights have no scale to hold down)."""
    decaying = [parameter for parameter in module.parameters() if parameter.ndim == 4]
    others = [parameter for parameter in module.parameters() if parameter.ndim != 4]
    groups = [{"params": decaying, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
    device = decaying[0].device
    if device.type != "cuda":
        return torch.optim.AdamW(groups, lr=learning_rate, fused=True)
    # A CUDA graph would keep a plain number for ever; and every group has a tensor of its own, for set_learning_rate.
    for group in groups:
        group["lr"] = torch.tensor(learning_rate, device=device)
    # Not every step of a run is in a graph, of which PyTorch warns.
    warnings.filterwarnings("ignore", "This instance was constructed with capturable=True", UserWarning)
    return torch.optim.AdamW(groups, fused=True, capturable=True)


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Move by this rate from the next step on, without waiting for the device."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


def optimizer_state(optimizer: torch.optim.Optimizer) -> dict:
    """As its state_dict, in a form that does not depend on the device: learning rates are plain numbers."""
    state = optimizer.state_dict()
    groups = [group | {"lr": float(group["lr"])} for group in state["param_groups"]]
    return state | {"param_groups": groups}


def restore_optimizer(optimizer: torch.optim.Optimizer, state: dict, path: str | Path) -> None:
    """Give an optimiser of build_optimizer the moments that another one's state_dict holds; settings stay its own.

    UserError, with the path of their file, where they do not fit: PyTorch believes them, and would crash in its step.
    """
    settings = optimizer.state_dict()["param_groups"]
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    groups, moments = state.get("param_groups"), state.get("state")
    try:
        fits = [group["params"] for group in groups] == [group["params"] for group in settings]
        fits &= moments.keys() <= set(range(len(parameters)))
        wrong = [index for index, moment in moments.items() if not _is_moment(moment, parameters[index])]
    except (TypeError, KeyError, IndexError, AttributeError, RuntimeError):  # of another type somewhere
        fits, wrong = False, []
    if not fits or wrong:
        where = f", that of parameter {shown(wrong[0])}" if wrong else ""
        raise UserError(f"{path} has a state of the optimiser{where} that does not fit this network: resume from "
                        "another checkpoint, or start anew from its weights with --init_weights")
    optimizer.load_state_dict({"state": moments, "param_groups": settings})


def _is_moment(moment: dict[str, Tensor], parameter: Tensor) -> bool:
    """Whether AdamW can go on for a parameter from its step and its running means of gradient and squared gradient."""
    step, mean, square = (moment[name] for name in ("step", "exp_avg", "exp_avg_sq"))
    is_of_shape = len(moment) == 3 and step.numel() == 1 and mean.shape == square.shape == parameter.shape
    return is_of_shape and all(
        value.layout == torch.strided and value.is_floating_point() and bool(torch.isfinite(value.float()).all())
        for value in (step, mean, square)
    ) and bool(step >= 0) and bool((square >= 0).all())
