"""The fixed boxes the detectors refine, in the order of their outputs."""

import torch
from torch import Tensor

#: Pixels per cell of the three pyramid levels P3, P4, P5.
STRIDES = (8, 16, 32)

#: Square anchor sides in pixels per level, the smaller first.
ANCHOR_SIZES = ((16, 32), (64, 128), (256, 512))

ANCHORS_PER_CELL = 2


def make_anchors(height: int, width: int, device: torch.device | str | None = None) -> Tensor:
    """Anchors of a picture of `height` x `width` pixels: float32 [A, 4], cxcywh in pixels.

    Levels come in the order of the strides 8, 16, 32; within a level the cells row by row, within a cell
    the smaller anchor first. A level has ceil(side / stride) cells along each side, so the last
    centres may lie outside the picture.
    """
    cells = make_cells(height, width, device).T
    centers, sides = cells[:, None, :2], 2 * cells[:, 2:, None]
    return torch.cat([centers.expand(-1, sides.shape[1], -1), sides.expand(-1, -1, 2)], dim=-1).reshape(-1, 4)


def make_cells(height: int, width: int, device: torch.device | str | None = None) -> Tensor:
    """The cells that make_anchors puts its anchors on, in the same order, in pixels: float32 [4, cells].

    Rows are x and y of the centre and half the sides of the smaller and the larger anchor.
    """
    axis_x, axis_y = torch.eye(4, device=device)[:2, :, None, None]
    levels = []
    for stride, sizes in zip(STRIDES, ANCHOR_SIZES):
        columns, rows = (
            torch.arange(stride / 2, side + stride / 2, stride, dtype=torch.float32, device=device)
            for side in (width, height)
        )
        half_sides = torch.tensor((0.0, 0.0, *sizes), device=device)[:, None, None] / 2
        levels.append((axis_x * columns + axis_y * rows[:, None] + half_sides).reshape(4, -1))
    return torch.cat(levels, dim=1)
