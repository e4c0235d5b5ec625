"""The detectors by name, and everything that reads their weights."""

from pathlib import Path

import torch
from torch import Tensor, nn

from models.featherface_v1 import FeatherFaceV1
from models.featherface_v2 import FeatherFaceV2
from models.published import IMAGENET_CLASSIFIER, imagenet_names, teacher_names, translate, unwrap
from utils.errors import UserError
from utils.pth_files import read_checkpoint

#: A new detector is a new file and a line here.
NETWORKS = (
    FeatherFaceV1,
    FeatherFaceV2,
)
MODELS = {network.name: network for network in NETWORKS}


def build_model(name: str) -> nn.Module:
    """An untrained detector in training mode; UserError where MODELS has no such name."""
    if name not in MODELS:
        raise UserError(f"there is no model '{name}'; choose one of {', '.join(MODELS)}")
    return MODELS[name]()


def load_model(path: str | Path, device: torch.device | str = "cpu") -> nn.Module:
    """The detector a checkpoint of ours (its EMA weights where it has them) or the published teacher holds.

    In eval mode, on `device`. UserError where the file is missing, is no checkpoint, or does not fit exactly.
    """
    name, state = read_weights(path)
    if name == "backbone":
        raise UserError(f"{path} holds only an ImageNet backbone; give the checkpoint of a whole detector")
    model = build_model(name)
    _load_strictly(model, state, path)
    return model.to(device).eval()


def load_weights(model: nn.Module, path: str | Path) -> None:
    """Copy the weights of a checkpoint of the same network into `model`; UserError as for load_model."""
    _load_strictly(model, read_weights(path)[1], path)


def load_backbone(model: nn.Module, path: str | Path) -> None:
    """Copy backbone weights into `model` from a detector's checkpoint, ours or published, or the ImageNet file.

    UserError as for load_model.
    """
    _, state = read_weights(path)
    prefix = "backbone."
    backbone = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    _load_strictly(model.backbone, backbone, path)


def read_weights(path: str | Path) -> tuple[str, dict[str, Tensor]]:
    """What a weights file holds: "v1", "v2" or "backbone" (ImageNet), and its parameters under our names."""
    checkpoint = read_checkpoint(path)
    if checkpoint.get("model_name") in MODELS and "model" in checkpoint:
        return checkpoint["model_name"], checkpoint.get("ema") or checkpoint["model"]
    state = unwrap(checkpoint)
    try:
        if any(name.startswith("body.") for name in state):
            return "v1", translate(state, teacher_names())
        if any(name.startswith("stage1.") for name in state):
            backbone = {name: value for name, value in state.items() if not name.startswith(IMAGENET_CLASSIFIER)}
            return "backbone", translate(backbone, imagenet_names())
    except KeyError as error:
        raise UserError(f"{path} has parameters of another network, {error} for one; give a matching file") from None
    raise UserError(
        f"{path} holds no weights this repo knows; "
        "give a checkpoint of train_v2.py, FeatherNetB_se.pth or mobilenetV1X0.25_pretrain.tar"
    )


def _load_strictly(module: nn.Module, state: dict[str, Tensor], path: str | Path) -> None:
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        # torch's first line is a title; its second starts the list of keys, which may be hundreds.
        reason = str(error).splitlines()[1].strip()[:200]
        raise UserError(f"{path} does not fit {type(module).__name__}: {reason}; give a matching file") from None
