"""A detector rewritten for ONNX Runtime on a CPU, with the same outputs; detection/fold.py has what PyTorch gains from.

Why pictures are cut into halves: ONNX Runtime keeps maps in blocks of channels, 16 where the CPU has AVX-512, 8 with
AVX2. The first two maps of MobileNetV1 x0.25 have 8 channels at half the picture's sides. In blocks of 16 half of every
vector is empty, and these two maps, the largest of all, are twice as large as need be: more than the caches hold. Two
halves of the picture side by side, as channels, fill the blocks. Networks with another backbone are not cut.
"""

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from data.config import MEAN_BGR
from data.pixels import normalize
from detection.face_detector import Candidates, FaceDetector
from detection.fold import convolution
from layers.anchors import ANCHOR_SIZES, STRIDES, make_cells
from models.blocks import leaky_relu
from models.mobilenet import DepthwiseSeparable, MobileNetV1

#: Channels of a block with AVX-512. A convolution of 16 channels fills blocks of 8, too.
BLOCK = 16

#: The stride of Stem, and the rows of the other half that each half of a picture is given: a multiple of the stride,
#: and as many as Stem looks at beyond its own.
STEM_STRIDE, SHARED_ROWS = 8, 16


class BlockedDetector(nn.Module):
    """A copy of a FaceDetector that takes two halves of a picture side by side, as channels, where maps are large."""

    def __init__(self, detector: FaceDetector):
        super().__init__()
        self.network = copy.deepcopy(detector.network)
        self.heads = detector.heads
        backbone = self.network.backbone
        self.is_halved = isinstance(backbone, MobileNetV1)
        if self.is_halved:
            backbone.stage1 = nn.Sequential(Stem(*backbone.stage1[:5]), *backbone.stage1[5:])

    def forward(self, images: Tensor) -> Candidates:
        """As FaceDetector's."""
        # Padded and cut while they are bytes, a quarter of the memory.
        images = Pad.apply(images)
        pixels = Normalize.apply(Halve.apply(images), 2) if self.is_halved else Normalize.apply(images, 1)
        levels, _ = self.network.pyramid(pixels)
        return Candidates(*self.heads(levels, Cells.apply(images)))


class Stem(nn.Module):
    """The first layers of the backbone, down to an eighth of the sides, on two halves of a picture at once.

    [B, 3 * 2, H / 2 + SHARED_ROWS, W] of Halve -> what the layers give for the whole picture, [B, 64, H / 8, W / 8].
    The rows next to the cut see zeros where there is picture: they are among the shared ones, and are cut off. That
    happens before the last pointwise convolution, where the map is smallest.
    """

    def __init__(self, first: nn.Module, *blocks: DepthwiseSeparable):
        super().__init__()
        convs = [first.conv, *(layer.conv for block in blocks for layer in (block.depthwise, block.pointwise))]
        self.halves = nn.Sequential(*(layer for conv in convs[:-1] for layer in (_twice(conv), leaky_relu())))
        self.whole = blocks[-1].pointwise
        # Halve puts the halves of a colour side by side, not the colours of a half.
        pixels = self.halves[0]
        weight = pixels.weight.unflatten(1, (2, -1)).transpose(1, 2).flatten(1, 2)
        pixels.weight = nn.Parameter(weight, requires_grad=False)

    def forward(self, halves: Tensor) -> Tensor:
        x = self.halves(halves)
        # Negative padding cuts channels and rows in one step.
        channels, rows = self.whole.conv.in_channels, SHARED_ROWS // STEM_STRIDE
        lower, upper = F.pad(x, (0, 0, -rows, 0, 0, -channels)), F.pad(x, (0, 0, 0, -rows, -channels, 0))
        return self.whole(torch.cat([upper, lower], dim=2))


def _twice(conv: nn.Conv2d) -> nn.Conv2d:
    """The same convolution of two independent halves of the channels."""
    outputs, inputs = conv.weight.shape[:2]
    weight, groups = conv.weight.repeat(2, 1, 1, 1), 2 * conv.groups
    if conv.groups == 1 and inputs % BLOCK:
        # Groups would have to fill blocks, so each half has zeros for the other.
        weight, groups = weight.repeat(1, 2, 1, 1), 1
        weight[:outputs, inputs:] = weight[outputs:, :inputs] = 0
    return convolution(weight, conv.bias.repeat(2), groups, conv.stride, conv.padding)


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
        missing = graph.op("Mod", graph.op("Neg", graph.op("Shape", images)), _constant(graph, [STRIDES[-1]]))
        for axis in (2, 3):
            is_axis = _constant(graph, [side == axis for side in range(4)])
            strip = graph.op("Expand", mean, graph.op("Where", is_axis, missing, graph.op("Shape", images)))
            images = graph.op("Concat", images, strip, axis_i=axis)
        return images


class Halve(torch.autograd.Function):
    """The lower and the upper half of a picture, each with SHARED_ROWS of the other, side by side as channels.

    [B, 3, H, W] of any dtype, H even -> [B, 3 * 2, H / 2 + SHARED_ROWS, W]: blue of the lower and of the upper half,
    and so on. In ONNX one node copies pixels, on all threads.
    """

    @staticmethod
    def forward(context, images: Tensor) -> Tensor:
        rows = images.shape[2] // 2 + SHARED_ROWS
        return torch.stack([images[:, :, -rows:], images[:, :, :rows]], dim=2).flatten(1, 2)

    @staticmethod
    def symbolic(graph, images):
        one, two, shared_rows = (_constant(graph, value) for value in (1, 2, SHARED_ROWS))
        height = graph.op("Gather", graph.op("Shape", images), two, axis_i=0)
        rows = graph.op("Add", graph.op("Div", height, two), shared_rows)
        # Counted from the first row, the last of the picture before it. Not left to Gather: ONNX Runtime 1.32 takes a
        # range for a Slice, which reads it otherwise.
        taken = graph.op("Mod", graph.op("Range", graph.op("Neg", rows), rows, one), height)
        both = graph.op("Gather", images, taken, axis_i=2)
        return graph.op("Reshape", both, _constant(graph, [0, 2 * len(MEAN_BGR), -1, 0]))


class Normalize(torch.autograd.Function):
    """`normalize` of [B, 3 * parts, H, W], the parts of a colour side by side as Halve gives them.

    In ONNX one node where pixels are uint8: 8-bit numbers of scale 1 whose zero is the mean.
    """

    @staticmethod
    def forward(context, images: Tensor, parts: int) -> Tensor:
        return torch.stack([normalize(images[:, part::parts]) for part in range(parts)], dim=2).flatten(1, 2)

    @staticmethod
    def symbolic(graph, images, parts: int):
        dtype, mean = images.type().dtype(), [value for value in MEAN_BGR for _ in range(parts)]
        if dtype != torch.uint8:
            return graph.op("Sub", images, _constant(graph, mean, dtype, (1, len(mean), 1, 1)))
        scales = _constant(graph, [1.0] * len(mean))
        return graph.op("DequantizeLinear", images, scales, _constant(graph, mean, dtype), axis_i=1)


class Cells(torch.autograd.Function):
    """make_cells for pictures [B, 3, H, W], in half as many ONNX nodes as its trace has."""

    @staticmethod
    def forward(context, images: Tensor) -> Tensor:
        return make_cells(images.shape[2], images.shape[3], images.device)

    @staticmethod
    def symbolic(graph, images):
        finest = STRIDES[0]
        sides = graph.op("Div", graph.op("Shape", images, start_i=2), _constant(graph, [finest]))
        width = graph.op("ConstantOfShape", sides, value_t=torch.tensor([float(finest)]))
        # Right and lower edges of the finest cells, their width, and their width again; every second or fourth of them
        # is an edge of a cell of the other levels.
        edges = [graph.op("CumSum", width, _constant(graph, axis)) for axis in (1, 0)]
        corners = graph.op("Concat", *edges, width, width, axis_i=0)
        levels = []
        for stride, sizes in zip(STRIDES, ANCHOR_SIZES):
            step = stride // finest
            rows = corners
            if step > 1:
                first, last = _constant(graph, [0, 0]), _constant(graph, [torch.iinfo(torch.int64).max] * 2)
                rows = graph.op("Slice", corners, first, last, _constant(graph, [0, 1]), _constant(graph, [step] * 2))
            wanted = torch.tensor([stride / 2, stride / 2, *(size / 2 for size in sizes)])
            shift = _constant(graph, (wanted - finest).tolist(), shape=(4, 1))
            levels.append(graph.op("Add", graph.op("Reshape", rows, _constant(graph, [4, -1])), shift))
        return graph.op("Concat", *levels, axis_i=1)


def _constant(graph, values, dtype: torch.dtype | None = None, shape: tuple[int, ...] | None = None):
    values = torch.tensor(values, dtype=dtype)
    return graph.op("Constant", value_t=values if shape is None else values.view(shape))
