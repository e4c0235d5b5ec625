"""FeatherFace V2, the student."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from data.config import BACKBONE_CHANNELS, NECK_CHANNELS, STRIDES
from layers.dropblock import DropBlock
from models.blocks import (
    LEAK,
    ChannelGate,
    ConvNorm,
    Heads,
    init_kaiming,
    shuffle_channels,
    summarise_channels,
    upsample_to,
)
from models.mobilenet import MobileNetV1
from models.outputs import FaceOutputs

NECK_LAYERS = 2


class SeparableConv(nn.Module):
    """LeakyReLU, depthwise 3x3, pointwise 1x1, BatchNorm."""

    def __init__(self, channels: int):
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        self.pointwise = ConvNorm(channels, channels, 1, activation=None)

    def forward(self, x: Tensor) -> Tensor:
        return self.pointwise(self.depthwise(F.leaky_relu(x, LEAK)))


def pool(x: Tensor) -> Tensor:
    """Max pooling 3x3 with stride 2: sides become ceil(side / 2)."""
    return F.max_pool2d(x, 3, stride=2, padding=1)


class BiFPN(nn.Module):
    """One top-down and bottom-up pass over P3, P4, P5 (EfficientDet, Tan et al., CVPR 2020).

    Each sum goes through a LeakyReLU, convolutions without bias and a BatchNorm: only the ratio of its weights
    matters. So the level's own map has weight 1, and the others carry a learned ratio, clipped at 0, that is
    applied at the coarser of the two resolutions.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.p4_mid = SeparableConv(channels)
        self.p3_out = SeparableConv(channels)
        self.p4_out = SeparableConv(channels)
        self.p5_out = SeparableConv(channels)
        self.p4_mid_ratio = nn.Parameter(torch.ones(()))
        self.p3_out_ratio = nn.Parameter(torch.ones(()))
        self.p4_out_ratios = nn.Parameter(torch.ones(2))
        self.p5_out_ratio = nn.Parameter(torch.ones(()))

    def forward(self, p3: Tensor, p4: Tensor, p5: Tensor) -> tuple[Tensor, ...]:
        p4_mid = self.p4_mid(p4 + upsample_to(F.relu(self.p4_mid_ratio) * p5, p4))
        p3_out = self.p3_out(p3 + upsample_to(F.relu(self.p3_out_ratio) * p4_mid, p3))
        from_mid, from_p3 = F.relu(self.p4_out_ratios)
        p4_out = self.p4_out(p4 + from_mid * p4_mid + from_p3 * pool(p3_out))
        p5_out = self.p5_out(p5 + F.relu(self.p5_out_ratio) * pool(p4_out))
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


class Attention(nn.Module):
    """CBAM with a channel gate for each level and one small spatial gate for all of them.

    The spatial gate has a bias in place of CBAM's BatchNorm, whose running statistics could fit one level only.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.channel_gates = nn.ModuleList(ChannelGate(channels, reduction=4) for _ in STRIDES)
        self.spatial_conv = nn.Conv2d(2, 1, 3, padding=1)

    def forward(self, *levels: Tensor) -> list[Tensor]:
        levels = [gate(x) for gate, x in zip(self.channel_gates, levels)]
        return [x * self.spatial_conv(summarise_channels(x)).sigmoid() for x in levels]


class Context(nn.Module):
    """SSH's views of 3x3, 5x5 and 7x7 cells from one chain of depthwise convolutions: [B, C, ...] -> [B, 3C, ...]."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv3x3 = ConvNorm(channels, channels, 3, groups=channels)
        self.conv5x5 = ConvNorm(channels, channels, 3, groups=channels)
        self.conv7x7 = ConvNorm(channels, channels, 3, groups=channels)

    def forward(self, x: Tensor) -> Tensor:
        view3 = self.conv3x3(x)
        view5 = self.conv5x5(view3)
        return torch.cat([view3, view5, self.conv7x7(view5)], dim=1)


class ShuffleBlock(nn.Module):
    """Mixes the three views: channel shuffle, pointwise convolution in two groups, then a separable convolution.

    The shuffle deals every other channel to each group, so both groups see all three views.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.mix = ConvNorm(3 * channels, channels, 1, groups=2)
        self.depthwise = ConvNorm(channels, channels, 3, groups=channels)
        self.pointwise = ConvNorm(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.pointwise(self.depthwise(self.mix(shuffle_channels(x))))


class FeatherFaceV2(nn.Module):
    """The student."""

    name = "v2"

    def __init__(self):
        super().__init__()
        channels = NECK_CHANNELS[self.name]
        self.backbone = MobileNetV1()
        self.neck = Neck(channels)
        self.neck_attention = Attention(channels)
        self.dropblock = DropBlock()
        self.context = nn.ModuleList(Context(channels) for _ in STRIDES)
        self.shuffle = nn.ModuleList(ShuffleBlock(channels) for _ in STRIDES)
        self.heads = Heads(channels)

        self.apply(init_kaiming)
        self.heads.start_rare()

    def set_dropblock(self, probability: float, block_size: int = 3) -> None:
        """Share of the stride-16 and stride-32 maps to drop while training, in squares of block_size cells."""
        self.dropblock.probability = probability
        self.dropblock.block_size = block_size

    def forward(self, images: Tensor) -> FaceOutputs:
        """[B, 3, H, W], BGR in 0..255 minus data.config.MEAN_BGR, any size -> outputs for every anchor."""
        features = self.neck(*self.backbone(images))
        p3, p4, p5 = self.neck_attention(*features)
        # A 3x3 block at stride 8 would wipe out a face of 24 pixels, so P3 is spared.
        levels = p3, self.dropblock(p4), self.dropblock(p5)
        levels = [context(x) for context, x in zip(self.context, levels)]
        levels = [shuffle(x) for shuffle, x in zip(self.shuffle, levels)]
        boxes, logits, landmarks = self.heads(levels)
        return FaceOutputs(boxes, logits, landmarks, features)
