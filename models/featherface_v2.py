"""FeatherFace V2, the student."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from layers.dropblock import DropBlock
from models.blocks import ConvNorm, Heads, init_kaiming, upsample_to
from models.mobilenet import BLOCK_WIDTHS, STAGE_ENDS, MobileNetV1
from models.network import FaceNetwork

NECK_LAYERS = 2


class Widths(NamedTuple):
    """Channels of all maps, which pruning makes fewer; models/pruning.py says whose channels they are."""

    backbone: tuple[int, ...] = BLOCK_WIDTHS
    neck: int = 32  #: one number for all levels, whose maps are added up
    context: tuple[int, ...] = (16, 16, 16)  #: of one view, level by level
    mix: tuple[int, ...] = (32, 32, 32)


WHOLE = Widths()


class SeparableConv(nn.Module):
    """ReLU (LeakyReLU after a sum would cost ONNX Runtime its layout), depthwise 3x3, pointwise 1x1, BatchNorm."""

    def __init__(self, channels: int):
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        self.pointwise = ConvNorm(channels, channels, 1, activation=None)

    def forward(self, x: Tensor) -> Tensor:
        return self.pointwise(self.depthwise(F.relu(x)))


def pool(x: Tensor) -> Tensor:
    """Max pooling 3x3 with stride 2: sides become ceil(side / 2)."""
    return F.max_pool2d(x, 3, stride=2, padding=1)


class BiFPN(nn.Module):
    """One top-down and bottom-up pass over P3, P4, P5 (EfficientDet, Tan et al., CVPR 2020).

    Sums have no weights, unlike EfficientDet's: every map in them comes from a BatchNorm, whose scales say what a
    weight could.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.p4_mid = SeparableConv(channels)
        self.p3_out = SeparableConv(channels)
        self.p4_out = SeparableConv(channels)
        self.p5_out = SeparableConv(channels)

    def forward(self, p3: Tensor, p4: Tensor, p5: Tensor) -> tuple[Tensor, ...]:
        p4_mid = self.p4_mid(p4 + upsample_to(p5, p4))
        p3_out = self.p3_out(p3 + upsample_to(p4_mid, p3))
        p4_out = self.p4_out(p4 + p4_mid + pool(p3_out))
        p5_out = self.p5_out(p5 + pool(p4_out))
        return p3_out, p4_out, p5_out


class Neck(nn.Module):
    """Projections of the backbone levels, then two BiFPN layers."""

    def __init__(self, levels: Sequence[int], channels: int):
        super().__init__()
        self.projections = nn.ModuleList(ConvNorm(width, channels, 1, activation=None) for width in levels)
        self.layers = nn.ModuleList(BiFPN(channels) for _ in range(NECK_LAYERS))

    def forward(self, *levels: Tensor) -> tuple[Tensor, ...]:
        levels = [project(x) for project, x in zip(self.projections, levels)]
        for layer in self.layers:
            levels = layer(*levels)
        return levels


class Context(nn.Module):
    """SSH's views of 3x3, 5x5 and 7x7 cells, from one chain of depthwise convolutions at half the channels or so.

    [B, channels, H, W] -> [B, 3 * narrow, H, W].
    """

    def __init__(self, channels: int, narrow: int):
        super().__init__()
        self.reduce = ConvNorm(channels, narrow, 1)
        self.conv3x3 = ConvNorm(narrow, narrow, 3, groups=narrow)
        self.conv5x5 = ConvNorm(narrow, narrow, 3, groups=narrow)
        self.conv7x7 = ConvNorm(narrow, narrow, 3, groups=narrow)

    def forward(self, x: Tensor) -> Tensor:
        view3 = self.conv3x3(self.reduce(x))
        view5 = self.conv5x5(view3)
        return torch.cat([view3, view5, self.conv7x7(view5)], dim=1)


class Mix(nn.Module):
    """Mixes the three views back to full width, every channel with every other.

    [B, 3 * narrow, H, W] -> [B, channels, H, W], by way of `wide` channels.
    """

    def __init__(self, channels: int, narrow: int, wide: int):
        super().__init__()
        self.expand = ConvNorm(3 * narrow, wide, 1)
        self.depthwise = ConvNorm(wide, wide, 3, groups=wide)
        self.pointwise = ConvNorm(wide, channels, 1, activation=None)

    def forward(self, views: Tensor) -> Tensor:
        return self.pointwise(self.depthwise(self.expand(views)))


def backbone_layers() -> list[str]:
    """Names of the layers that make the channels of Widths.backbone."""
    blocks = [f"backbone.stage{stage + 1}.{block}" for stage, (start, end) in
              enumerate(zip((0, *STAGE_ENDS), STAGE_ENDS)) for block in range(end - start)]
    return [blocks[0], *(f"{block}.pointwise" for block in blocks[1:])]


class FeatherFaceV2(FaceNetwork):
    """The student: V1's backbone, a two-layer BiFPN of 32 channels, a residual SSH context, 1x1 heads.

    Of 254,112 parameters the backbone has 213,072, so that it can start from the teacher's. Where the rest goes:
    - Neck, 25,536: one 1x1 projection a level is more than half of it; V1's second projections of P4 and P5 would cost
      twelve thousand more. Two layers pass each level's view to every other twice.
    - Context and mix, 12,336: V1 spends 232,965 on deformable convolutions. A chain of depthwise convolutions on
      16 channels sees 3, 5 and 7 cells at a twentieth of that; full pointwise convolutions combine all views, which
      makes a channel shuffle between groups needless. The block is residual: what the neck found reaches the heads
      however narrow the context is.
    - Attention, none: V1's channel and spatial gates cost time, and V2 is better without
      (docs/experiments/2026-11-26-without-gates.md). A channel gate looks at the mean of the whole map, which in a
      crop of a picture is another than in the picture.
    Plain convolution, max pooling, nearest resizing: ONNX opset 17 has all of it. A BatchNorm always follows a
    convolution, so that inference folds it.

    widths: fewer channels than that, of a pruned network.
    """

    name = "v2"
    neck_channels = WHOLE.neck

    def __init__(self, widths: Widths = WHOLE):
        super().__init__()
        self.widths = widths
        self.neck_channels = channels = widths.neck
        self.backbone = MobileNetV1(widths.backbone)
        self.neck = Neck([widths.backbone[end - 1] for end in STAGE_ENDS], channels)
        self.dropblock = DropBlock()
        self.context = nn.ModuleList(Context(channels, narrow) for narrow in widths.context)
        self.mix = nn.ModuleList(Mix(channels, narrow, wide) for narrow, wide in zip(widths.context, widths.mix))
        self.heads = Heads(channels)

        self.apply(init_kaiming)
        self.heads.start_rare()

    @classmethod
    def like(cls, weights: Mapping[str, Tensor]) -> "FeatherFaceV2":
        """As FaceNetwork.like. What weights do not tell, or tell wider than this network, is as in an unpruned one."""
        def width(layer: str, most: int) -> int:
            scales = weights.get(f"{layer}.norm.weight", torch.empty(0))
            return len(scales) if scales.dim() == 1 and 0 < len(scales) < most else most

        return cls(Widths(
            tuple(width(layer, most) for layer, most in zip(backbone_layers(), WHOLE.backbone)),
            width("neck.projections.0", WHOLE.neck),
            tuple(width(f"context.{level}.reduce", most) for level, most in enumerate(WHOLE.context)),
            tuple(width(f"mix.{level}.expand", most) for level, most in enumerate(WHOLE.mix)),
        ))

    def pyramid(self, images: Tensor) -> tuple[list[Tensor], tuple[Tensor, ...]]:
        """As FaceNetwork.pyramid."""
        features = self.neck(*self.backbone(images))
        p3, p4, p5 = features
        # A 3x3 block at stride 8 would wipe out a face of 24 pixels, so P3 is spared.
        levels = p3, self.dropblock(p4), self.dropblock(p5)
        views = [context(x) for context, x in zip(self.context, levels)]
        levels = [F.relu(x + mix(view)) for x, mix, view in zip(levels, self.mix, views)]
        return levels, features
