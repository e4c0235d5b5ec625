"""Between boxes and landmarks in pixels and the offsets the heads predict.

The SSD code (Liu et al., ECCV 2016): centres and landmark points move
by delta * 0.1 * anchor size, sizes scale by exp(delta * 0.2). Anchors are cxcywh in pixels; the code is
the same in any other unit.
"""

import torch
from torch import Tensor

from utils.boxes import center_to_corner

#: Scales of the code: centre and landmark offsets, log sizes.
VARIANCES = (0.1, 0.2)

# A wild size offset early in training must not become inf: exp(4) is 55 times the anchor, and the largest
# anchor is 512 px.
MAX_LOG_SIZE = 4.0


def encode_boxes(boxes: Tensor, anchors: Tensor) -> Tensor:
    """Boxes [..., 4] xyxy and anchors [..., 4] cxcywh, same unit -> offsets [..., 4] (x, y, width, height)."""
    centers = (boxes[..., :2] + boxes[..., 2:]) / 2
    sizes = boxes[..., 2:] - boxes[..., :2]
    center_offsets = (centers - anchors[..., :2]) / (VARIANCES[0] * anchors[..., 2:])
    size_offsets = torch.log(sizes / anchors[..., 2:]) / VARIANCES[1]
    return torch.cat([center_offsets, size_offsets], dim=-1)


def decode_boxes(offsets: Tensor, anchors: Tensor) -> Tensor:
    """Inverse of encode_boxes: offsets [..., 4], anchors [..., 4] cxcywh -> boxes [..., 4] xyxy."""
    centers = anchors[..., :2] + offsets[..., :2] * VARIANCES[0] * anchors[..., 2:]
    sizes = anchors[..., 2:] * torch.exp((offsets[..., 2:] * VARIANCES[1]).clamp(max=MAX_LOG_SIZE))
    return center_to_corner(torch.cat([centers, sizes], dim=-1))


def encode_landmarks(landmarks: Tensor, anchors: Tensor) -> Tensor:
    """Points [..., 5, 2] (x, y) and anchors [..., 4] cxcywh -> offsets [..., 10]."""
    offsets = (landmarks - anchors[..., None, :2]) / (VARIANCES[0] * anchors[..., None, 2:])
    return offsets.flatten(start_dim=-2)


def decode_landmarks(offsets: Tensor, anchors: Tensor) -> Tensor:
    """Inverse of encode_landmarks: offsets [..., 10], anchors [..., 4] cxcywh -> points [..., 5, 2]."""
    points = offsets.unflatten(-1, (5, 2))
    return anchors[..., None, :2] + points * VARIANCES[0] * anchors[..., None, 2:]
