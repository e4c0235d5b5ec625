"""The fixed boxes the detectors refine, in the order of their outputs."""

import torch
from torch import Tensor

from data.config import ANCHOR_SIZES, STRIDES


def make_anchors(height: int, width: int, device: torch.device | str | None = None) -> Tensor:
    """Anchors of a picture of `height` x `width` pixels: float32 [A, 4], cxcywh in pixels.

    Levels come in the order of the strides 8, 16, 32; within a level the cells row by row, within a cell
    the smaller anchor first. A level has ceil(side / stride) cells along each side, so the last
    centres may lie outside the picture.
    """
    levels = []
    for stride, sizes in zip(STRIDES, ANCHOR_SIZES):
        rows = (torch.arange((height + stride - 1) // stride, device=device) + 0.5) * stride
        columns = (torch.arange((width + stride - 1) // stride, device=device) + 0.5) * stride
        sides = torch.tensor(sizes, dtype=torch.float32, device=device)
        center_y, center_x, side = torch.meshgrid(rows, columns, sides, indexing="ij")
        levels.append(torch.stack([center_x, center_y, side, side], dim=-1).reshape(-1, 4))
    return torch.cat(levels)
