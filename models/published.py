"""From the names in published checkpoints to the names in this repo, module by module.

The names are those of FeatherFace V1's published file, spelling included, and of the ImageNet backbone's.
A parameter keeps its last name (weight, bias, running_mean, ...) where its row names a module.
"""

from collections.abc import Mapping

from torch import Tensor

#: Last names left in checkpoints by a FLOP counter.
FLOP_COUNTER_NAMES = ("total_ops", "total_params")

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


def unwrap(checkpoint: Mapping) -> dict[str, Tensor]:
    """The parameters of a published checkpoint under their published names.

    Looks under `state_dict` or `model_state_dict`, drops the `module.` prefix of DataParallel and the FLOP
    counter's entries. Empty where there are no parameters.
    """
    state = checkpoint.get("state_dict", checkpoint.get("model_state_dict", checkpoint))
    if not isinstance(state, Mapping):
        return {}
    state = {name.removeprefix("module."): value for name, value in state.items()}
    return {name: value for name, value in state.items() if name.rpartition(".")[2] not in FLOP_COUNTER_NAMES}


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
