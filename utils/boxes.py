"""Box geometry in torch. Boxes are xyxy unless a name says otherwise; any unit, the same for both operands."""

from typing import NamedTuple

import torch
from torch import Tensor


class Overlap(NamedTuple):
    """How far matching boxes agree, [...] each."""

    iou: Tensor  #: intersection over union, 0..1; 0 where both areas are 0
    giou: Tensor  #: generalised, (-1, 1]: Rezatofighi et al., CVPR 2019


def center_to_corner(boxes: Tensor) -> Tensor:
    """[..., 4] cxcywh -> xyxy."""
    centers, sizes = boxes[..., :2], boxes[..., 2:]
    return torch.cat([centers - sizes / 2, centers + sizes / 2], dim=-1)


def area(boxes: Tensor) -> Tensor:
    """[..., 4] -> [...]; a box turned inside out has no area."""
    return _rectangle(boxes[..., :2], boxes[..., 2:])


def intersection(a: Tensor, b: Tensor) -> Tensor:
    """Areas shared by matching rows, [..., 4] each -> [...]."""
    return _rectangle(torch.maximum(a[..., :2], b[..., :2]), torch.minimum(a[..., 2:], b[..., 2:]))


def intersection_matrix(a: Tensor, b: Tensor) -> Tensor:
    """Areas shared by every pair of [N, 4] and [M, 4] -> [N, M]."""
    # Side by side: an innermost axis of two corners would keep the CPU from vectorising.
    left_a, top_a, right_a, bottom_a = a[:, :, None].unbind(1)
    left_b, top_b, right_b, bottom_b = b.t().contiguous()
    width = (torch.minimum(right_a, right_b) - torch.maximum(left_a, left_b)).clamp_(min=0)
    height = (torch.minimum(bottom_a, bottom_b) - torch.maximum(top_a, top_b)).clamp_(min=0)
    return width * height


def iou_matrix(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union of every pair of [N, 4] and [M, 4] -> [N, M]; 0 where both areas are 0."""
    shared = intersection_matrix(a, b)
    union = area(a)[:, None] + area(b)[None] - shared
    return shared / union.clamp(min=torch.finfo(union.dtype).tiny)


def overlap(a: Tensor, b: Tensor) -> Overlap:
    """Of matching rows, [..., 4] each, in pixels: what keeps empty boxes from a division by 0 does not show there.

    Boxes turned inside out count as empty. Defined, with finite gradients, for empty boxes too.
    """
    epsilon = 1e-7
    shared = intersection(a, b)
    union = area(a) + area(b) - shared
    hull = _rectangle(torch.minimum(a[..., :2], b[..., :2]), torch.maximum(a[..., 2:], b[..., 2:]))
    iou = shared / (union + epsilon)
    return Overlap(iou, iou - (hull - union) / (hull + epsilon))


def _rectangle(low: Tensor, high: Tensor) -> Tensor:
    """Area between two corners, [..., 2] each -> [...], 0 where they are inside out."""
    # Not prod(-1): its backward pass counts zeros on the host, for which a GPU's queue has to run empty.
    width, height = (high - low).clamp(min=0).unbind(-1)
    return width * height
