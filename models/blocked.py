"""A detector rewritten for ONNX Runtime on a CPU, with the same outputs; what PyTorch gains from is in models/fold.py.

ONNX Runtime keeps maps in blocks of channels: 16 where the CPU has AVX-512, 8 with AVX2. The first two maps of the
backbone have 8 channels at half the picture's sides. In blocks of 16 half of every vector is empty, and these two maps,
the largest of all, are twice as large as need be: more than the caches hold.
"""

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from data.config import MEAN_BGR, STRIDES
from layers.anchors import make_cells
from models.blocks import leaky_relu
from models.face_detector import Candidates, FaceDetector, normalize
from models.fold import convolution
from models.mobilenet import DepthwiseSeparable

#: Rows of the other half that each half of a picture is given: what Stem looks at beyond its own, and a multiple of its
#: stride of 4.
SHARED_ROWS = 8


class BlockedDetector(nn.Module):
    """A copy of a FaceDetector that takes two halves of a picture side by side, as channels, where maps are large."""

    def __init__(self, detector: FaceDetector):
        super().__init__()
        self.network = copy.deepcopy(detector.network)
        self.heads = detector.heads
        stage1 = self.network.backbone.stage1
        self.network.backbone.stage1 = nn.Sequential(Stem(*stage1[:3]), *stage1[3:])

    def forward(self, images: Tensor) -> Candidates:
        """As FaceDetector's."""
        # Padded and cut while they are bytes, a quarter of the memory.
        images = Pad.apply(images)
        rows = images.shape[2] // 2 + SHARED_ROWS
        halves = torch.cat([images[:, :, :rows], images[:, :, -rows:]], dim=1)
        levels, _ = self.network.describe(Normalize.apply(halves))
        return Candidates(*self.heads(levels, make_cells(images.shape[2], images.shape[3], images.device)))


class Stem(nn.Module):
    """The first layers of the backbone, down to a quarter of the sides, on two halves of a picture at once.

    [B, 2 * 3, H / 2 + SHARED_ROWS, W], the upper half in the first channels -> what the layers give for the whole
    picture, [B, 32, H / 4, W / 4]. The rows next to the cut see zeros where there is picture: they are among the shared
    ones, and are cut off.
    """

    def __init__(self, first: nn.Module, second: DepthwiseSeparable, third: DepthwiseSeparable):
        super().__init__()
        convs = first.conv, second.depthwise.conv, second.pointwise.conv, third.depthwise.conv
        self.halves = nn.Sequential(*(layer for conv in convs for layer in (_twice(conv), leaky_relu())))
        self.whole = third.pointwise

    def forward(self, halves: Tensor) -> Tensor:
        x = self.halves(halves)
        # Negative padding cuts channels and rows in one step.
        channels, rows = self.whole.conv.in_channels, SHARED_ROWS // 4
        upper, lower = F.pad(x, (0, 0, 0, -rows, 0, -channels)), F.pad(x, (0, 0, -rows, 0, -channels, 0))
        return self.whole(torch.cat([upper, lower], dim=2))


def _twice(conv: nn.Conv2d) -> nn.Conv2d:
    """The same convolution of two independent halves of the channels."""
    outputs, inputs = conv.weight.shape[:2]
    depthwise = conv.groups > 1
    weight = conv.weight.repeat(2, 1 if depthwise else 2, 1, 1)
    if not depthwise:
        weight[:outputs, inputs:] = weight[outputs:, :inputs] = 0
    return convolution(weight, conv.bias.repeat(2), 2 * outputs if depthwise else 1, conv.stride, conv.padding)


class Pad(torch.autograd.Function):
    """Pixels [B, 3, H, W] of any dtype with the mean on the right and below, to multiples of the largest stride.

    The ONNX nodes are written by hand: those of a trace are three times as many.
    """

    @staticmethod
    def forward(context, images: Tensor) -> Tensor:
        batch, channels, height, width = images.shape
        sides = height + -height % STRIDES[-1], width + -width % STRIDES[-1]
        mean = torch.tensor(MEAN_BGR, dtype=images.dtype, device=images.device).view(1, channels, 1, 1)
        padded = mean.repeat(batch, 1, *sides)
        padded[..., :height, :width] = images
        return padded

    @staticmethod
    def symbolic(graph, images):
        mean = _constant(graph, MEAN_BGR, images.type().dtype(), (1, 3, 1, 1))
        for axis in (2, 3):
            shape = graph.op("Shape", images)
            missing = graph.op("Mod", graph.op("Neg", shape), _constant(graph, [STRIDES[-1]]))
            is_axis = _constant(graph, [side == axis for side in range(4)])
            strip = graph.op("Expand", mean, graph.op("Where", is_axis, missing, shape))
            images = graph.op("Concat", images, strip, axis_i=axis)
        return images


class Normalize(torch.autograd.Function):
    """`normalize` of the two halves of a picture, [B, 2 * 3, H, W].

    In ONNX one node where pixels are uint8: 8-bit numbers of scale 1 whose zero is the mean.
    """

    @staticmethod
    def forward(context, halves: Tensor) -> Tensor:
        return torch.cat([normalize(half) for half in halves.chunk(2, dim=1)], dim=1)

    @staticmethod
    def symbolic(graph, halves):
        dtype, mean = halves.type().dtype(), 2 * MEAN_BGR
        if dtype != torch.uint8:
            return graph.op("Sub", halves, _constant(graph, mean, dtype, (1, 6, 1, 1)))
        scales = _constant(graph, [1.0] * len(mean))
        return graph.op("DequantizeLinear", halves, scales, _constant(graph, mean, dtype), axis_i=1)


def _constant(graph, values, dtype: torch.dtype | None = None, shape: tuple[int, ...] = (-1,)):
    return graph.op("Constant", value_t=torch.tensor(values, dtype=dtype).view(shape))
