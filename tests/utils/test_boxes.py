"""Overlaps of boxes."""

import torch

from utils.boxes import overlap


def test_overlap_by_hand_and_at_its_corners():
    a = torch.tensor([[0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 1.0, 1.0]])
    b = torch.tensor([[1.0, 0.0, 3.0, 2.0], [0.0, 0.0, 1.0, 1.0], [3.0, 0.0, 4.0, 1.0]])
    # Overlap 2 of 6; equal; apart with a hull of 4 of which 2 are empty.
    torch.testing.assert_close(overlap(a, b).iou, torch.tensor([1 / 3, 1.0, 0.0]), atol=1e-5, rtol=0)
    torch.testing.assert_close(overlap(a, b).giou, torch.tensor([1 / 3, 1.0, -0.5]), atol=1e-5, rtol=0)
    empty = torch.zeros(1, 4, requires_grad=True)
    sum(overlap(empty, b[:1])).sum().backward()
    assert empty.grad.isfinite().all()
    assert overlap(empty, empty).iou == 0
