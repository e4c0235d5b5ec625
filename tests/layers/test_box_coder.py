"""The box code and its inverse."""

import torch

from layers.box_coder import decode_boxes, decode_landmarks, encode_boxes, encode_landmarks


def test_the_box_code_and_its_inverse():
    anchors = torch.tensor([[10.0, 20.0, 16.0, 32.0]])
    boxes = torch.tensor([[3.0, 5.0, 19.0, 37.0]])
    # By hand: centre (11, 21) is 1/16 and 1/32 of an anchor away, the sizes are equal.
    torch.testing.assert_close(encode_boxes(boxes, anchors), torch.tensor([[0.625, 0.3125, 0.0, 0.0]]))
    torch.testing.assert_close(decode_boxes(encode_boxes(boxes, anchors), anchors), boxes)
    points = torch.rand(1, 5, 2) * 40
    torch.testing.assert_close(decode_landmarks(encode_landmarks(points, anchors), anchors), points)


def test_a_wild_size_offset_decodes_to_a_finite_box():
    anchors = torch.tensor([[10.0, 20.0, 16.0, 16.0]])
    offsets = torch.full((1, 4), 1e4, requires_grad=True)
    boxes = decode_boxes(offsets, anchors)
    boxes.sum().backward()
    assert boxes.isfinite().all() and offsets.grad.isfinite().all()
