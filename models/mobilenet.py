"""MobileNetV1 at a quarter of its width, the backbone of both detectors."""

from collections.abc import Sequence

from torch import Tensor, nn

from models.blocks import ConvNorm

#: Output channels of the first convolution and of the 13 depthwise separable ones, and the strides of these.
BLOCK_WIDTHS = (8, 16, 32, 32, 64, 64, *[128] * 6, 256, 256)
BLOCK_STRIDES = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1)

#: Where the stages end, of strides 8, 16, 32, and their output channels.
STAGE_ENDS = (6, 12, 14)
BACKBONE_CHANNELS = tuple(BLOCK_WIDTHS[end - 1] for end in STAGE_ENDS)


class DepthwiseSeparable(nn.Module):
    """Depthwise 3x3, then pointwise 1x1, each with BatchNorm and LeakyReLU (Howard et al., 2017)."""

    def __init__(self, in_channels: int, out_channels: int, stride: int):
        super().__init__()
        self.depthwise = ConvNorm(in_channels, in_channels, 3, stride, groups=in_channels)
        self.pointwise = ConvNorm(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.pointwise(self.depthwise(x))


class MobileNetV1(nn.Module):
    """MobileNetV1 x0.25 without its classifier, 213,072 parameters; fewer where it is pruned.

    widths: as BLOCK_WIDTHS. Every side is halved five times, rounded up: a map of stride s has ceil(side / s) cells
    along a side.
    """

    def __init__(self, widths: Sequence[int] = BLOCK_WIDTHS):
        super().__init__()
        blocks = [ConvNorm(3, widths[0], 3, stride=2)]
        for inputs, outputs, stride in zip(widths[:-1], widths[1:], BLOCK_STRIDES, strict=True):
            blocks.append(DepthwiseSeparable(inputs, outputs, stride))
        self.stage1, self.stage2, self.stage3 = (
            nn.Sequential(*blocks[start:end]) for start, end in zip((0, *STAGE_ENDS), STAGE_ENDS)
        )

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """[B, 3, H, W] -> maps of strides 8, 16 and 32, by default with 64, 128 and 256 channels."""
        stride8 = self.stage1(images)
        stride16 = self.stage2(stride8)
        return stride8, stride16, self.stage3(stride16)
