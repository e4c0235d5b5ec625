"""FeatherFace V1, the teacher.

Kim, Jung, Kim, "FeatherFace: Robust and Lightweight Face Detection via Optimal Feature Integration",
Electronics 2025, 14(3), 517. Built to give the numbers of the published checkpoint, so its odd details
(zero-padded pooling, biases before BatchNorm, the unused third weight of P5) are kept on purpose.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from layers.anchors import STRIDES
from models.blocks import (
    ConvNorm,
    Heads,
    init_kaiming,
    leaky_relu,
    relu,
    shuffle_channels,
    upsample_to,
)
from models.mobilenet import BACKBONE_CHANNELS, MobileNetV1
from models.network import FaceNetwork

#: BatchNorm as EfficientDet sets it, used throughout the neck.
NECK_NORM = {"eps": 1e-3, "momentum": 0.01}

NECK_LAYERS = 3

#: Channels of a gate's map over those of its hidden layer.
GATE_REDUCTION = 16


class ChannelGate(nn.Module):
    """Scales each channel by a weight in 0..1 found from its mean and its maximum over the map.

    CBAM, Woo et al., ECCV 2018. Cells that share a maximum share its gradient in equal parts; adaptive max pooling
    would give it to one of them, and is slow on a GPU where it pools a whole map into one cell.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.squeeze = nn.Linear(channels, channels // GATE_REDUCTION)
        self.expand = nn.Linear(channels // GATE_REDUCTION, channels)

    def forward(self, x: Tensor) -> Tensor:
        weights = self._weigh(F.adaptive_avg_pool2d(x, 1)) + self._weigh(x.amax((2, 3), keepdim=True))
        return x * weights.sigmoid()[:, :, None, None]

    def _weigh(self, pooled: Tensor) -> Tensor:
        return self.expand(F.relu(self.squeeze(pooled.flatten(1))))


class SpatialGate(nn.Module):
    """Scales each cell by a weight in 0..1 found from the maximum and the mean of its channels (CBAM)."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 1, 7, padding=3, bias=False)
        self.norm = nn.BatchNorm2d(1, momentum=0.01)

    def forward(self, x: Tensor) -> Tensor:
        summary = torch.cat([x.amax(1, keepdim=True), x.mean(1, keepdim=True)], dim=1)
        return x * self.norm(self.conv(summary)).sigmoid()


class Attention(nn.Module):
    """CBAM beside an identity path: ReLU(CBAM(x) + x)."""

    def __init__(self, channels: int):
        super().__init__()
        self.channel_gate = ChannelGate(channels)
        self.spatial_gate = SpatialGate()

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.spatial_gate(self.channel_gate(x)) + x)


class Projection(nn.Sequential):
    """One backbone level brought to the width of the neck."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 1)
        self.norm = nn.BatchNorm2d(out_channels, **NECK_NORM)


class SwishSeparable(nn.Module):
    """Swish, depthwise 3x3, pointwise 1x1, BatchNorm."""

    def __init__(self, channels: int):
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        self.pointwise = nn.Conv2d(channels, channels, 1)
        self.norm = nn.BatchNorm2d(channels, **NECK_NORM)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.pointwise(self.depthwise(F.silu(x))))


def fuse(weights: Tensor, *maps: Tensor) -> Tensor:
    """Weighted sum of maps, the weights clipped at 0 and divided by their sum (BiFPN's fast normalised fusion).

    Weights beyond the number of maps count in the sum only.
    """
    weights = F.relu(weights)
    weights = weights / (weights.sum() + 1e-4)
    first, *others = (weight * x for weight, x in zip(weights, maps))
    return sum(others, start=first)


def pool_same(x: Tensor) -> Tensor:
    """Max pooling 3x3 with stride 2 and TensorFlow's "same" padding, filled with zeros: sides become ceil(side / 2)."""

    def padding(side: int) -> tuple[int, int]:
        total = ((side + 1) // 2 - 1) * 2 - side + 3
        return total // 2, total - total // 2

    height, width = x.shape[-2:]
    return F.max_pool2d(F.pad(x, (*padding(width), *padding(height))), 3, stride=2)


class BiFPN(nn.Module):
    """One top-down and bottom-up pass over P3, P4, P5 (EfficientDet, Tan et al., CVPR 2020)."""

    def __init__(self, channels: int):
        super().__init__()
        self.p4_mid = SwishSeparable(channels)
        self.p3_out = SwishSeparable(channels)
        self.p4_out = SwishSeparable(channels)
        self.p5_out = SwishSeparable(channels)
        self.p4_mid_weights = nn.Parameter(torch.ones(2))
        self.p3_out_weights = nn.Parameter(torch.ones(2))
        self.p4_out_weights = nn.Parameter(torch.ones(3))
        # The third entry has no map, yet its share is in the sum: so the published network was trained.
        self.p5_out_weights = nn.Parameter(torch.ones(3))

    def forward(self, p3: Tensor, p4: Tensor, p5: Tensor, p4_skip: Tensor, p5_skip: Tensor) -> tuple[Tensor, ...]:
        """Inputs of the top-down path and of the bottom-up path's skips -> new P3, P4, P5."""
        p4_mid = self.p4_mid(fuse(self.p4_mid_weights, p4, upsample_to(p5, p4)))
        p3_out = self.p3_out(fuse(self.p3_out_weights, p3, upsample_to(p4_mid, p3)))
        p4_out = self.p4_out(fuse(self.p4_out_weights, p4_skip, p4_mid, pool_same(p3_out)))
        p5_out = self.p5_out(fuse(self.p5_out_weights, p5_skip, pool_same(p4_out)))
        return p3_out, p4_out, p5_out


class Neck(nn.Module):
    """Projections of the backbone levels, then three BiFPN layers.

    The first layer's skips are second projections of the same levels; later layers use their own inputs.
    """

    def __init__(self, channels: int):
        super().__init__()
        stride8, stride16, stride32 = BACKBONE_CHANNELS
        self.p3 = Projection(stride8, channels)
        self.p4 = Projection(stride16, channels)
        self.p5 = Projection(stride32, channels)
        self.p4_skip = Projection(stride16, channels)
        self.p5_skip = Projection(stride32, channels)
        self.layers = nn.ModuleList(BiFPN(channels) for _ in range(NECK_LAYERS))

    def forward(self, stride8: Tensor, stride16: Tensor, stride32: Tensor) -> tuple[Tensor, ...]:
        p3, p4, p5 = self.p3(stride8), self.p4(stride16), self.p5(stride32)
        p4_skip, p5_skip = self.p4_skip(stride16), self.p5_skip(stride32)
        for layer in self.layers:
            p3, p4, p5 = layer(p3, p4, p5, p4_skip, p5_skip)
            p4_skip, p5_skip = p4, p5
        return p3, p4, p5


class DeformableConv(nn.Module):
    """3x3 convolution whose taps move and fade with the input (v2, Zhu et al., CVPR 2019)."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.offsets = nn.Conv2d(in_channels, 2 * 9, 3, padding=1)
        self.modulation = nn.Conv2d(in_channels, 9, 3, padding=1)
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, 3, 3))
        nn.init.kaiming_normal_(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        return deformable_conv(x, self.offsets(x), 2 * self.modulation(x).sigmoid(), self.weight)

    def start_rigid(self) -> None:
        """Start as a plain convolution: no offsets, every mask 1."""
        for conv in (self.offsets, self.modulation):
            nn.init.zeros_(conv.weight)
            nn.init.zeros_(conv.bias)


def deformable_conv(x: Tensor, offsets: Tensor, mask: Tensor, weight: Tensor) -> Tensor:
    """What torchvision.ops.deform_conv2d gives for a 3x3 kernel, stride 1 and padding 1, by bilinear sampling.

    x [B, C, H, W]; offsets [B, 18, H, W], (dy, dx) in cells of the nine taps in row-major order; mask [B, 9, H, W];
    weight [O, C, 3, 3] -> [B, O, H, W]. Sampling is linear, so the weights of a tap come first: O channels are sampled
    per tap, not C, and here O is C / 2 or C / 4 in the widest layers. On the CPU torchvision's backward pass is several
    times slower.
    """
    batch, channels, height, width = x.shape
    # Sampled positions in cells need more digits than bfloat16 has.
    with torch.autocast(x.device.type, enabled=False):
        x, offsets, mask, weight = x.float(), offsets.float(), mask.float(), weight.float()
        dy, dx = offsets.view(batch, 3, 3, 2, height, width).unbind(3)
        # grid_sample takes -1 and 1 for the outer edges of the first and the last cell: a cell is 2 / width wide.
        tap = torch.arange(-2, 3, 2, device=x.device)[:, None]
        rows = (torch.arange(1 - height, height, 2, device=x.device) + tap) / height
        columns = (torch.arange(1 - width, width, 2, device=x.device) + tap) / width
        grid = torch.stack(
            [columns[:, None] + dx * (2 / width), rows[:, None, :, None] + dy * (2 / height)], dim=-1
        ).flatten(0, 2)
        taps = weight.permute(2, 3, 0, 1).reshape(-1, channels) @ x.flatten(2)
        taps = taps.view(batch * 9, -1, height, width)
        sampled = F.grid_sample(taps, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
        return (sampled.view(batch, 9, -1, height, width) * mask[:, :, None]).sum(dim=1)


class DeformableConvNorm(nn.Sequential):
    """Deformable convolution, BatchNorm, activation (or None)."""

    def __init__(self, in_channels: int, out_channels: int, activation: Callable[[], nn.Module] | None):
        super().__init__()
        self.conv = DeformableConv(in_channels, out_channels)
        self.norm = nn.BatchNorm2d(out_channels)
        if activation is not None:
            self.activation = activation()


class Context(nn.Module):
    """SSH's context module (Najibi et al., ICCV 2017): views of 3x3, 5x5 and 7x7 cells side by side."""

    def __init__(self, channels: int):
        super().__init__()
        half, quarter = channels // 2, channels // 4
        self.conv3x3 = DeformableConvNorm(channels, half, None)
        self.conv5x5_1 = DeformableConvNorm(channels, quarter, leaky_relu)
        self.conv5x5_2 = DeformableConvNorm(quarter, quarter, None)
        self.conv7x7_2 = DeformableConvNorm(quarter, quarter, leaky_relu)
        self.conv7x7_3 = DeformableConvNorm(quarter, quarter, None)

    def forward(self, x: Tensor) -> Tensor:
        shared = self.conv5x5_1(x)
        views = self.conv3x3(x), self.conv5x5_2(shared), self.conv7x7_3(self.conv7x7_2(shared))
        return F.relu(torch.cat(views, dim=1))


class ShuffleBottleneck(nn.Module):
    """Channel shuffle, then a bottleneck of half the width without activation inside."""

    def __init__(self, channels: int):
        super().__init__()
        half = channels // 2
        self.reduce = ConvNorm(channels, half, 1, activation=None)
        self.depthwise = ConvNorm(half, half, 3, groups=half, activation=None)
        self.expand = ConvNorm(half, channels, 1, activation=relu)

    def forward(self, x: Tensor) -> Tensor:
        return self.expand(self.depthwise(self.reduce(shuffle_channels(x))))


class FeatherFaceV1(FaceNetwork):
    """The teacher, 592,371 parameters."""

    name = "v1"
    neck_channels = 64

    def __init__(self):
        super().__init__()
        channels = self.neck_channels
        self.backbone = MobileNetV1()
        self.backbone_attention = nn.ModuleList(Attention(width) for width in BACKBONE_CHANNELS)
        self.neck = Neck(channels)
        self.neck_attention = nn.ModuleList(Attention(channels) for _ in STRIDES)
        self.context = nn.ModuleList(Context(channels) for _ in STRIDES)
        self.mix = nn.ModuleList(ShuffleBottleneck(channels) for _ in STRIDES)
        self.heads = Heads(channels)

        self.apply(init_kaiming)
        for module in self.modules():
            if isinstance(module, DeformableConv):
                module.start_rigid()
        self.heads.start_rare()

    def pyramid(self, images: Tensor) -> tuple[list[Tensor], tuple[Tensor, ...]]:
        """As FaceNetwork.pyramid."""
        levels = [attend(x) for attend, x in zip(self.backbone_attention, self.backbone(images))]
        features = self.neck(*levels)
        levels = [attend(x) for attend, x in zip(self.neck_attention, features)]
        levels = [context(x) for context, x in zip(self.context, levels)]
        levels = [mix(x) for mix, x in zip(self.mix, levels)]
        return levels, features
