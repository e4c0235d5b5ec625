"""Where anchors lie, and in which order."""

import torch

from layers.anchors import make_anchors


def test_anchors_of_a_picture_of_one_cell_per_level():
    sides = [(4, 16), (4, 32), (8, 64), (8, 128), (16, 256), (16, 512)]
    expected = [[center, center, side, side] for center, side in sides]
    assert make_anchors(8, 8).tolist() == expected


def test_anchors_run_row_by_row_over_rounded_up_cells():
    anchors = make_anchors(17, 33)
    assert anchors.dtype == torch.float32
    assert anchors.shape == (2 * (3 * 5 + 2 * 3 + 1 * 2), 4)
    assert anchors[:12:2, :2].tolist() == [[4, 4], [12, 4], [20, 4], [28, 4], [36, 4], [4, 12]]
    assert anchors[:2, 2].tolist() == [16, 32]
    assert len(make_anchors(640, 640)) == 16800
