"""MobileNetV1 at a quarter of its width, the backbone of both detectors."""

from torch import Tensor, nn

from models.blocks import ConvNorm

#: Output channels of the stages at strides 8, 16, 32.
BACKBONE_CHANNELS = (64, 128, 256)


class DepthwiseSeparable(nn.Module):
    """Depthwise 3x3, then pointwise 1x1, each with BatchNorm and LeakyReLU (Howard et al., 2017)."""

    def __init__(self, in_channels: int, out_channels: int, stride: int):
        super().__init__()
        self.depthwise = ConvNorm(in_channels, in_channels, 3, stride, groups=in_channels)
        self.pointwise = ConvNorm(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.pointwise(self.depthwise(x))


class MobileNetV1(nn.Module):
    """MobileNetV1 x0.25 without its classifier, 213,072 parameters.

    Every side is halved five times, rounded up: a map of stride s has ceil(side / s) cells along a side.
    """

    def __init__(self):
        super().__init__()
        stride8, stride16, stride32 = BACKBONE_CHANNELS
        self.stage1 = nn.Sequential(
            ConvNorm(3, 8, 3, stride=2),
            DepthwiseSeparable(8, 16, stride=1),
            DepthwiseSeparable(16, 32, stride=2),
            DepthwiseSeparable(32, 32, stride=1),
            DepthwiseSeparable(32, stride8, stride=2),
            DepthwiseSeparable(stride8, stride8, stride=1),
        )
        self.stage2 = nn.Sequential(
            DepthwiseSeparable(stride8, stride16, stride=2),
            *(DepthwiseSeparable(stride16, stride16, stride=1) for _ in range(5)),
        )
        self.stage3 = nn.Sequential(
            DepthwiseSeparable(stride16, stride32, stride=2),
            DepthwiseSeparable(stride32, stride32, stride=1),
        )

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """[B, 3, H, W] -> maps of strides 8, 16 and 32 with 64, 128 and 256 channels."""
        stride8 = self.stage1(images)
        stride16 = self.stage2(stride8)
        return stride8, stride16, self.stage3(stride16)
