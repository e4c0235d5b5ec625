"""From the names in published checkpoints to the names in this repo, module by module.

The names are those of FeatherFace V1's published file, spelling included, and of the ImageNet backbone's.
A parameter keeps its last name (weight, bias, running_mean, ...) where its row names a module.
"""

from collections.abc import Mapping

from torch import Tensor

#: Last names left in checkpoints by a FLOP counter, and by PyTorch's averaged models.
COUNTER_NAMES = ("total_ops", "total_params", "n_averaged")

#: Where scripts keep the parameters of a network, an average first: it is what they test.
WRAPPERS = ("ema", "model_ema", "ema_state_dict", "model", "state_dict", "model_state_dict", "net", "network")

#: What DataParallel and the scripts around a network put before the names of its parameters.
PREFIXES = ("module.", "model.", "net.", "network.")

#: Prefix of the classifier in the ImageNet backbone's file, which no detector needs.
IMAGENET_CLASSIFIER = "fc."


def imagenet_names() -> dict[str, str]:
    """Modules of the ImageNet backbone's file -> ours; IMAGENET_CLASSIFIER has no row."""
    return _backbone_names("", "backbone.")


def teacher_names() -> dict[str, str]:
    """Modules of the published teacher, and its parameters that belong to no module, -> those of FeatherFaceV1."""
    names = _backbone_names("body.", "backbone.") | _projection_names("bifpn.0", "neck")
    for level in range(3):
        names |= _attention_names(f"bacbkbone_{level}_cbam", f"backbone_attention.{level}")
        names |= _bifpn_names(f"bifpn.{level}", f"neck.layers.{level}")
        names |= _attention_names(f"bif_cbam_{level}", f"neck_attention.{level}")
        names |= _context_names(f"ssh{level + 1}", f"context.{level}")
        names |= _shuffle_names(f"ssh{level + 1}_cs", f"mix.{level}")
        names[f"BboxHead.{level}.conv1x1"] = f"heads.boxes.{level}"
        names[f"ClassHead.{level}.conv1x1"] = f"heads.logits.{level}"
        names[f"LandmarkHead.{level}.conv1x1"] = f"heads.landmarks.{level}"
    return names


def _backbone_names(theirs: str, ours: str) -> dict[str, str]:
    names = {f"{theirs}stage1.0.0": f"{ours}stage1.0.conv", f"{theirs}stage1.0.1": f"{ours}stage1.0.norm"}
    separable = {0: "depthwise.conv", 1: "depthwise.norm", 3: "pointwise.conv", 4: "pointwise.norm"}
    for stage, blocks in {"stage1": range(1, 6), "stage2": range(6), "stage3": range(2)}.items():
        for block in blocks:
            for index, part in separable.items():
                names[f"{theirs}{stage}.{block}.{index}"] = f"{ours}{stage}.{block}.{part}"
    return names


def _projection_names(theirs: str, ours: str) -> dict[str, str]:
    projections = {
        "p3_down_channel": "p3",
        "p4_down_channel": "p4",
        "p5_down_channel": "p5",
        "p4_down_channel_2": "p4_skip",
        "p5_down_channel_2": "p5_skip",
    }
    names = {}
    for projection, part in projections.items():
        names[f"{theirs}.{projection}.0.conv"] = f"{ours}.{part}.conv"
        names[f"{theirs}.{projection}.1"] = f"{ours}.{part}.norm"
    return names


def _attention_names(theirs: str, ours: str) -> dict[str, str]:
    return {
        f"{theirs}.ChannelGate.mlp.1": f"{ours}.channel_gate.squeeze",
        f"{theirs}.ChannelGate.mlp.3": f"{ours}.channel_gate.expand",
        f"{theirs}.SpatialGate.spatial.conv": f"{ours}.spatial_gate.conv",
        f"{theirs}.SpatialGate.spatial.bn": f"{ours}.spatial_gate.norm",
    }


def _bifpn_names(theirs: str, ours: str) -> dict[str, str]:
    nodes = {
        ("conv4_up", "p4_w1"): "p4_mid",
        ("conv3_up", "p3_w1"): "p3_out",
        ("conv4_down", "p4_w2"): "p4_out",
        ("conv5_down", "p5_w2"): "p5_out",
    }
    names = {}
    for (conv, weights), node in nodes.items():
        names[f"{theirs}.{weights}"] = f"{ours}.{node}_weights"
        names[f"{theirs}.{conv}.depthwise_conv.conv"] = f"{ours}.{node}.depthwise"
        names[f"{theirs}.{conv}.pointwise_conv.conv"] = f"{ours}.{node}.pointwise"
        names[f"{theirs}.{conv}.bn"] = f"{ours}.{node}.norm"
    return names


def _context_names(theirs: str, ours: str) -> dict[str, str]:
    names = {}
    for conv in ("conv3X3", "conv5X5_1", "conv5X5_2", "conv7X7_2", "conv7x7_3"):
        block = f"{ours}.{conv.lower()}"
        names[f"{theirs}.{conv}.0.offset_conv"] = f"{block}.conv.offsets"
        names[f"{theirs}.{conv}.0.modulator_conv"] = f"{block}.conv.modulation"
        names[f"{theirs}.{conv}.0.regular_conv"] = f"{block}.conv"
        names[f"{theirs}.{conv}.1"] = f"{block}.norm"
    return names


def _shuffle_names(theirs: str, ours: str) -> dict[str, str]:
    names = {}
    for index, conv in ((1, "reduce"), (3, "depthwise"), (5, "expand")):
        names[f"{theirs}.{index}"] = f"{ours}.{conv}.conv"
        names[f"{theirs}.{index + 1}"] = f"{ours}.{conv}.norm"
    return names


def unwrap(checkpoint: Mapping, depth: int = 3) -> dict[str, object]:
    """The parameters in a checkpoint of whatever script, under their published names; empty where there are none.

    They are looked for under WRAPPERS, then under its other entries, `depth` deep, then in the checkpoint itself, where
    an epoch or the like may stand beside them. What DataParallel, torch.compile and a FLOP counter put into or before
    the names is dropped.
    """
    known = [name for name in WRAPPERS if name in checkpoint]
    for name in [*known, *(name for name in checkpoint if name not in known)] if depth else []:
        part = checkpoint[name]
        if isinstance(part, Mapping) and all(isinstance(key, str) for key in part):
            if state := unwrap(part, depth - 1):
                return state
    if not any(isinstance(value, Tensor) for value in checkpoint.values()):
        return {}
    return plain_names({name: part for name, part in checkpoint.items() if not isinstance(part, int | float | str)})


def plain_names(state: Mapping[str, object]) -> dict[str, object]:
    """Parameters under the names they have in the network itself, those of a counter left out."""
    plain = {}
    for name, value in state.items():
        name = name.replace("_orig_mod.", "")
        while name.startswith(PREFIXES):
            name = name.partition(".")[2]
        if name.rpartition(".")[2] not in COUNTER_NAMES:
            plain[name] = value
    return plain


def translate(state: Mapping[str, Tensor], names: Mapping[str, str]) -> dict[str, Tensor]:
    """Parameters under this repo's names; KeyError with the published name that has no row in `names`."""
    translated = {}
    for name, value in state.items():
        module, _, last = name.rpartition(".")
        if name in names:
            translated[names[name]] = value
        elif module in names:
            translated[f"{names[module]}.{last}"] = value
        else:
            raise KeyError(name)
    return translated
