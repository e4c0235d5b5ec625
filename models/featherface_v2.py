"""FeatherFace V2, the student."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from layers.anchors import STRIDES
from layers.dropblock import DropBlock
from models.blocks import ConvNorm, Heads, init_kaiming, upsample_to
from models.mobilenet import BACKBONE_CHANNELS, MobileNetV1
from models.network import FaceNetwork

NECK_LAYERS = 2


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

    def __init__(self, channels: int):
        super().__init__()
        self.projections = nn.ModuleList(ConvNorm(width, channels, 1, activation=None) for width in BACKBONE_CHANNELS)
        self.layers = nn.ModuleList(BiFPN(channels) for _ in range(NECK_LAYERS))

    def forward(self, *levels: Tensor) -> tuple[Tensor, ...]:
        levels = [project(x) for project, x in zip(self.projections, levels)]
        for layer in self.layers:
            levels = layer(*levels)
        return levels


class Context(nn.Module):
    """SSH's views of 3x3, 5x5 and 7x7 cells, from one chain of depthwise convolutions at half the channels.

    [B, C, H, W] -> [B, 3C / 2, H, W].
    """

    def __init__(self, channels: int):
        super().__init__()
        narrow = channels // 2
        self.reduce = ConvNorm(channels, narrow, 1)
        self.conv3x3 = ConvNorm(narrow, narrow, 3, groups=narrow)
        self.conv5x5 = ConvNorm(narrow, narrow, 3, groups=narrow)
        self.conv7x7 = ConvNorm(narrow, narrow, 3, groups=narrow)

    def forward(self, x: Tensor) -> Tensor:
        view3 = self.conv3x3(self.reduce(x))
        view5 = self.conv5x5(view3)
        return torch.cat([view3, view5, self.conv7x7(view5)], dim=1)


class Mix(nn.Module):
    """Mixes the three views back to full width, every channel with every other."""

    def __init__(self, channels: int):
        super().__init__()
        self.expand = ConvNorm(3 * (channels // 2), channels, 1)
        self.depthwise = ConvNorm(channels, channels, 3, groups=channels)
        self.pointwise = ConvNorm(channels, channels, 1, activation=None)

    def forward(self, views: Tensor) -> Tensor:
        return self.pointwise(self.depthwise(self.expand(views)))


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
    """

    name = "v2"
    neck_channels = 32

    def __init__(self):
        super().__init__()
        channels = self.neck_channels
        self.backbone = MobileNetV1()
        self.neck = Neck(channels)
        self.dropblock = DropBlock()
        self.context = nn.ModuleList(Context(channels) for _ in STRIDES)
        self.mix = nn.ModuleList(Mix(channels) for _ in STRIDES)
        self.heads = Heads(channels)

        self.apply(init_kaiming)
        self.heads.start_rare()

    def pyramid(self, images: Tensor) -> tuple[list[Tensor], tuple[Tensor, ...]]:
        """As FaceNetwork.pyramid."""
        features = self.neck(*self.backbone(images))
        p3, p4, p5 = features
        # A 3x3 block at stride 8 would wipe out a face of 24 pixels, so P3 is spared.
        levels = p3, self.dropblock(p4), self.dropblock(p5)
        views = [context(x) for context, x in zip(self.context, levels)]
        levels = [F.relu(x + mix(view)) for x, mix, view in zip(levels, self.mix, views)]
        return levels, features
