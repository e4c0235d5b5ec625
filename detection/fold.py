"""What inference does not have to compute: a trained network rewritten to give the same numbers in fewer steps.

What helps PyTorch and ONNX Runtime alike; deployment/onnx_layout.py has what helps ONNX Runtime alone.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from layers.anchors import ANCHOR_SIZES, ANCHORS_PER_CELL
from layers.box_coder import MAX_LOG_SIZE, VARIANCES
from models.blocks import Heads


def fold_norms(network: nn.Module) -> nn.Module:
    """Fold each BatchNorm called `norm` into the convolution before it, in place, where that is a plain one."""
    for module in network.modules():
        children = dict(module.named_children())
        if not isinstance(children.get("norm"), nn.BatchNorm2d):
            continue
        name = "pointwise" if "pointwise" in children else "conv"
        if isinstance(children[name], nn.Conv2d):
            setattr(module, name, fuse_conv_bn_eval(children[name], children["norm"]))
            module.norm = nn.Identity()
    return network


class PixelHeads(nn.Module):
    """Heads and decoding in one: pyramid levels to boxes and landmarks in pixels and probabilities.

    - A channel of a head belongs to one anchor, so variances and anchor sizes go into its weights.
    - The softmax of two logits needs only their difference: one channel an anchor, not two.
    - What is left, 15 values an anchor, is one 1x1 convolution a level.
    - Arithmetic runs along the cells, and each output is transposed once, at the end: along the 2, 4 or 10 values of an
      anchor runtimes are several times slower.
    """

    def __init__(self, heads: Heads):
        super().__init__()
        self.convs = nn.ModuleList()
        for *convs, sizes in zip(heads.boxes, heads.logits, heads.landmarks, ANCHOR_SIZES):
            weight = _join([conv.weight.flatten(1) for conv in convs], sizes)
            bias = _join([conv.bias[:, None] for conv in convs], sizes)
            self.convs.append(convolution(weight[..., None, None], bias.squeeze(1)))

    def forward(self, levels: Sequence[Tensor], cells: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """P3, P4, P5 and the picture's make_cells -> boxes [B, A, 4] xyxy, scores [B, A], landmarks [B, A, 5, 2]."""
        maps = [conv(x).float() for conv, x in zip(self.convs, levels)]
        pairs = torch.cat([x.reshape(x.shape[0], 15, ANCHORS_PER_CELL, -1) for x in maps], dim=3)
        moves, log_sizes, points, log_odds = pairs.split([2, 2, 10, 1], dim=1)
        centers, half_sides = cells[:2], cells[2:, None]
        moved = moves + centers
        halves = log_sizes.clamp(max=MAX_LOG_SIZE).exp() * half_sides
        corners = torch.cat([moved - halves, moved + halves], dim=2)
        rows = (x.permute(0, 3, 1, 2) for x in (corners, log_odds, points + centers))
        boxes, log_odds, landmarks = (x.reshape(x.shape[0], -1, *shape) for x, shape in zip(rows, ((4,), (), (5, 2))))
        # Not sigmoid(): ONNX Runtime's is wrong in the last digits of scores near 1, and these sort the surest faces.
        return boxes, 1 / (1 + log_odds.exp()), landmarks


def _join(values: list[Tensor], sizes: tuple[int, ...]) -> Tensor:
    """Weights of a level's boxes, logits and landmarks, each [channels, inputs], in the pairs PixelHeads splits.

    Of the first anchor, then of the second: x and y by which the centre moves, in pixels; logarithms of width and
    height; x and y by which five points move, in pixels. Last the logarithms of the odds against a face of both.
    """
    boxes, logits, landmarks = (rows.unflatten(0, (ANCHORS_PER_CELL, -1)) for rows in values)
    pixels = VARIANCES[0] * torch.tensor(sizes, device=boxes.device)[:, None, None]
    moves, log_sizes = boxes[:, :2] * pixels, boxes[:, 2:] * VARIANCES[1]
    log_odds = logits[:, :1] - logits[:, 1:]
    return torch.cat([rows.flatten(0, 1) for rows in (moves, log_sizes, landmarks * pixels, log_odds)])


def convolution(
    weight: Tensor, bias: Tensor, groups: int = 1, stride: tuple[int, ...] = (1, 1), padding: tuple[int, ...] = (0, 0)
) -> nn.Conv2d:
    """A convolution with given weights [outputs, inputs / groups, rows, columns] and biases, not to be trained."""
    outputs, inputs, *kernel = weight.shape
    conv = nn.Conv2d(inputs * groups, outputs, kernel, stride, padding, groups=groups)
    conv.weight, conv.bias = (nn.Parameter(values, requires_grad=False) for values in (weight, bias))
    return conv
