"""Structured pruning of FeatherFace V2: whole channels are taken out of its maps, the least important first.

Channels that can only go together are one group: outputs of layers, the depthwise convolutions that see each of them by
itself, and inputs of whatever reads them. The maps of the neck are added up from level to level and from layer to
layer, and to those of the mix: all of them are a single group.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from models.featherface_v2 import NECK_LAYERS, FeatherFaceV2, Widths, backbone_layers
from models.mobilenet import STAGE_ENDS

#: Runtimes keep maps in blocks of 8 or 16 channels: another number takes the time of the next multiple.
BLOCK = 8


class Group(NamedTuple):
    """Channels by the names of the layers that have them."""

    outputs: list[str]  #: ConvNorms and convolutions, depthwise ones among them
    inputs: list[str]  #: convolutions
    views: int = 1  #: how many maps with these channels lie one behind the other in what `inputs` read

    def importance(self, weights: dict[str, Tensor]) -> Tensor:
        """Of each channel the sum of its scales in all BatchNorms (Liu et al., "Network slimming", ICCV 2017)."""
        scales = (weights.get(f"{layer}.norm.weight") for layer in self.outputs)
        return torch.stack([scale.abs() for scale in scales if scale is not None]).sum(0)

    def narrow(self, weights: dict[str, Tensor], count: int) -> None:
        """Leave the `count` most important channels in the weights, in the order they have."""
        importance = self.importance(weights)
        kept = importance.argsort(descending=True, stable=True)[:count].sort().values
        for name, value in weights.items():
            if value.dim() and any(name.startswith(f"{layer}.") for layer in self.outputs):  # no count of batches
                weights[name] = value[kept]
        columns = torch.cat([kept + view * len(importance) for view in range(self.views)])
        for layer in self.inputs:
            weights[f"{layer}.weight"] = weights[f"{layer}.weight"][:, columns]


def prune(network: FeatherFaceV2, widths: Widths) -> FeatherFaceV2:
    """A copy in eval mode with so many of its channels; `widths` must not be more than those it has."""
    weights = dict(network.state_dict())
    for group, count in zip(groups(), (*widths.backbone, widths.neck, *widths.context, *widths.mix), strict=True):
        group.narrow(weights, count)
    pruned = FeatherFaceV2(widths)
    pruned.load_state_dict(weights)
    return pruned.eval()


def share_of(widths: Widths, share: float) -> Widths:
    """The share, 0..1, of each of the widths: the nearest multiple of BLOCK, one at least, and no more than before.

    Of a share of 1 they are the same, multiples or not.
    """
    def part(width: int) -> int:
        blocks = max(1, int(share * width / BLOCK + 0.5))
        return width if share == 1 else min(width, blocks * BLOCK)

    return Widths(
        tuple(map(part, widths.backbone)), part(widths.neck), tuple(map(part, widths.context)),
        tuple(map(part, widths.mix)),
    )


def groups() -> list[Group]:
    """All of V2, in the order of Widths."""
    levels = range(len(STAGE_ENDS))
    context = [Group(
        [f"context.{level}.{layer}" for layer in ("reduce", "conv3x3", "conv5x5", "conv7x7")],
        [f"mix.{level}.expand.conv"],
        views=3,
    ) for level in levels]
    mix = [Group([f"mix.{level}.expand", f"mix.{level}.depthwise"], [f"mix.{level}.pointwise.conv"])
           for level in levels]
    return [*_backbone_groups(), _neck_group(), *context, *mix]


def _backbone_groups() -> list[Group]:
    layers = backbone_layers()
    found = [Group([layer], []) for layer in layers]
    for group, following in zip(found, layers[1:]):
        group.outputs.append(following.replace("pointwise", "depthwise"))
        group.inputs.append(f"{following}.conv")
    for level, end in enumerate(STAGE_ENDS):
        found[end - 1].inputs.append(f"neck.projections.{level}.conv")
    return found


def _neck_group() -> Group:
    levels = range(len(STAGE_ENDS))
    nodes = [f"neck.layers.{layer}.{node}" for layer in range(NECK_LAYERS)
             for node in ("p4_mid", "p3_out", "p4_out", "p5_out")]
    return Group(
        outputs=[*(f"neck.projections.{level}" for level in levels), *(f"mix.{level}.pointwise" for level in levels),
                 *(f"{node}.{layer}" for node in nodes for layer in ("depthwise", "pointwise"))],
        inputs=[*(f"{node}.pointwise.conv" for node in nodes), *(f"context.{level}.reduce.conv" for level in levels),
                *(f"heads.{head}.{level}" for head in ("boxes", "logits", "landmarks") for level in levels)],
    )
