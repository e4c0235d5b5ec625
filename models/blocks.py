"""The blocks both detectors are made of. Maps are [B, C, H, W]."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from layers.anchors import ANCHORS_PER_CELL, STRIDES

#: Slope of LeakyReLU below zero.
LEAK = 0.1

#: Face probability of every anchor in an untrained detector (Lin et al., "Focal loss", ICCV 2017, section 3.3).
FACE_PRIOR = 0.01


def leaky_relu() -> nn.Module:
    return nn.LeakyReLU(LEAK, inplace=True)


def relu() -> nn.Module:
    return nn.ReLU(inplace=True)


class StridedDepthwiseConv(nn.Conv2d):
    """Depthwise 3x3 convolution of stride 2 without bias: nn.Conv2d with a backward pass of its own for one case.

    In bfloat16 on a CPU, oneDNN's backward pass of strided depthwise convolutions is four times slower than that of the
    convolution of stride 1 whose even rows and columns it is (docs/performance.md).
    """

    def __init__(self, channels: int):
        super().__init__(channels, channels, 3, stride=2, padding=1, groups=channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        is_trained = torch.is_grad_enabled() and self.bias is None  # a folded BatchNorm has given it a bias
        if is_trained and x.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
            dtype = torch.get_autocast_dtype("cpu")
            return _StridedDepthwise.apply(x.to(dtype), self.weight.to(dtype))
        return super().forward(x)


class _StridedDepthwise(torch.autograd.Function):
    @staticmethod
    def forward(context, x: Tensor, weight: Tensor) -> Tensor:
        context.save_for_backward(x, weight)
        return F.conv2d(x, weight, stride=2, padding=1, groups=len(weight))

    @staticmethod
    def backward(context, gradient: Tensor) -> tuple[Tensor, Tensor]:
        x, weight = context.saved_tensors
        # Of the outputs at stride 1, those at stride 2 are the even ones; the others have no say.
        spread = torch.zeros_like(x)
        spread[:, :, ::2, ::2] = gradient
        of_x, of_weight, _ = torch.ops.aten.convolution_backward(
            spread, x, weight, None, [1, 1], [1, 1], [1, 1], False, [0, 0], len(weight), [True, True, False]
        )
        return of_x, of_weight


class ConvNorm(nn.Sequential):
    """Convolution without bias, BatchNorm, activation (or None); padded so that stride 1 keeps the size."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        groups: int = 1,
        activation: Callable[[], nn.Module] | None = leaky_relu,
    ):
        super().__init__()
        if (kernel_size, stride) == (3, 2) and groups == in_channels == out_channels:
            self.conv = StridedDepthwiseConv(in_channels)
        else:
            padding = kernel_size // 2
            self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(out_channels)
        if activation is not None:
            self.activation = activation()


def upsample_to(x: Tensor, target: Tensor) -> Tensor:
    """x at the height and width of target, nearest neighbour; x has half of each, rounded up.

    Twice the size, less the last row or column where that is too much: a factor that is always 2 is faster in ONNX
    Runtime than a size that depends on the picture, and sides that are multiples of the largest stride are never cut.
    """
    doubled = F.interpolate(x, scale_factor=2, mode="nearest")
    height, width = target.shape[-2:]
    return doubled if doubled.shape[-2:] == target.shape[-2:] else doubled[..., :height, :width]


def shuffle_channels(x: Tensor) -> Tensor:
    """Channels seen as [C/2, 2] and transposed: even ones first (ShuffleNet, Zhang et al., CVPR 2018)."""
    batch, channels, height, width = x.shape
    return x.view(batch, channels // 2, 2, height, width).transpose(1, 2).reshape(batch, channels, height, width)


class Heads(nn.Module):
    """1x1 convolutions from each pyramid level to the boxes, logits and landmarks of its anchors."""

    def __init__(self, channels: int):
        super().__init__()
        self.boxes = self._per_level(channels, 4)
        self.logits = self._per_level(channels, 2)
        self.landmarks = self._per_level(channels, 10)

    @staticmethod
    def _per_level(channels: int, values: int) -> nn.ModuleList:
        return nn.ModuleList(nn.Conv2d(channels, ANCHORS_PER_CELL * values, 1) for _ in STRIDES)

    def forward(self, levels: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """P3, P4, P5 -> boxes [B, A, 4], logits [B, A, 2], landmarks [B, A, 10] in the order of the anchors."""
        return tuple(self._predict(convs, levels) for convs in (self.boxes, self.logits, self.landmarks))

    @staticmethod
    def _predict(convs: nn.ModuleList, levels: Sequence[Tensor]) -> Tensor:
        values = convs[0].out_channels // ANCHORS_PER_CELL
        maps = (conv(x) for conv, x in zip(convs, levels))
        return torch.cat([x.permute(0, 2, 3, 1).reshape(x.shape[0], -1, values) for x in maps], dim=1)

    def start_rare(self) -> None:
        """Start with boxes on their anchors and with every anchor a face at FACE_PRIOR."""
        for conv in (*self.boxes, *self.logits, *self.landmarks):
            nn.init.normal_(conv.weight, std=0.01)
            nn.init.zeros_(conv.bias)
        background_and_face = torch.tensor([1 - FACE_PRIOR, FACE_PRIOR]).log()
        for conv in self.logits:
            with torch.no_grad():
                conv.bias.copy_(background_and_face.repeat(ANCHORS_PER_CELL))


def init_kaiming(module: nn.Module) -> None:
    """Kaiming weights and zero biases for one convolution or linear layer; for nn.Module.apply."""
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.kaiming_normal_(module.weight, a=LEAK)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
