"""The detectors by name, and everything that reads their weights."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn

from models.featherface_v1 import FeatherFaceV1
from models.featherface_v2 import FeatherFaceV2
from models.fitting import fill
from models.network import FaceNetwork
from models.published import IMAGENET_CLASSIFIER, imagenet_names, plain_names, teacher_names, translate, unwrap
from utils.errors import UserError
from utils.pth_files import named_tensors, read_checkpoint, shown

#: A new detector is a new file and a line here.
NETWORKS = (
    FeatherFaceV1,
    FeatherFaceV2,
)
MODELS = {network.name: network for network in NETWORKS}


def build_model(name: str, weights: Mapping[str, Tensor] | None = None) -> FaceNetwork:
    """An untrained detector in training mode; UserError where MODELS has no such name.

    With `weights`, parameters by name, it has as many channels as they: those of a pruned detector are fewer.
    """
    if name not in MODELS:
        raise UserError(f"there is no model '{name}'; choose one of {', '.join(MODELS)}")
    return MODELS[name]() if weights is None else MODELS[name].like(weights)


def load_model(path: str | Path, device: torch.device | str = "cpu") -> FaceNetwork:
    """The detector in a checkpoint of ours (its EMA weights where it has them), a bare state_dict, the teacher's.

    In eval mode, on `device`. UserError where the file is missing, damaged or no checkpoint, does not fit exactly, or
    has weights that are not finite.
    """
    name, state = read_weights(path)
    if name == "backbone":
        raise UserError(f"{path} holds only an ImageNet backbone; give the checkpoint of a whole detector")
    model = build_model(name, state)
    fill(model, state, path)
    return model.to(device).eval()


def load_weights(model: FaceNetwork, path: str | Path) -> None:
    """Copy the weights of a checkpoint of the same network into `model`; UserError as for load_model."""
    name, state = read_weights(path)
    if name != model.name:
        raise UserError(f"{path} is of model {name}, not {model.name}: give a checkpoint of the same network")
    fill(model, state, path)


def load_backbone(model: nn.Module, path: str | Path) -> None:
    """Copy backbone weights into `model` from a detector's checkpoint, ours or published, or the ImageNet file.

    UserError as for load_model.
    """
    _, state = read_weights(path)
    prefix = "backbone."
    backbone = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    fill(model.backbone, backbone, path)


def read_weights(path: str | Path) -> tuple[str, dict[str, Tensor]]:
    """What a file holds: the name of a network, or "backbone" (ImageNet), and its parameters under our names."""
    checkpoint = read_checkpoint(path)
    name = checkpoint.get("model_name")
    if isinstance(name, str) and name in MODELS and "model" in checkpoint:
        part = "model" if checkpoint.get("ema") is None else "ema"
        return name, plain_names(named_tensors(checkpoint[part], f"{path}: '{part}'"))
    state = named_tensors(unwrap(checkpoint), str(path))
    if own := recognise(state):
        return own, state
    try:
        if any(name.startswith("body.") for name in state):
            return "v1", translate(state, teacher_names())
        if any(name.startswith("stage1.") for name in state):
            backbone = {name: value for name, value in state.items() if not name.startswith(IMAGENET_CLASSIFIER)}
            return "backbone", translate(backbone, imagenet_names())
    except KeyError as error:
        raise UserError(f"{path} has parameters of another network, {shown(error.args[0])} for one; "
                        "give a matching file") from None
    raise UserError(
        f"{path} holds no weights this repo knows; "
        "give a checkpoint of train_v2.py, FeatherNetB_se.pth or mobilenetV1X0.25_pretrain.tar"
    )


def recognise(state: Mapping[str, Tensor]) -> str | None:
    """The network that parameters under our names are of, whole or nearly so; None where they are of none."""
    shares = {name: len(own & state.keys()) / len(own | state.keys()) for name, own in _parameter_names().items()}
    best = max(shares, key=shares.get)
    return best if shares[best] > 0.5 else None


@cache
def _parameter_names() -> dict[str, set[str]]:
    with torch.random.fork_rng(devices=[]):  # a run must not draw other numbers because a file was looked at
        return {name: set(network().state_dict()) for name, network in MODELS.items()}
