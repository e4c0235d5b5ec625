"""The blocks that networks share."""

import pytest
import torch

from layers.anchors import make_anchors
from models import MODELS
from models.blocks import StridedDepthwiseConv, shuffle_channels
from tests.helpers import untrained_network


def test_shuffle_puts_even_channels_first():
    x = torch.arange(6.0).view(1, 6, 1, 1)
    assert shuffle_channels(x).flatten().tolist() == [0, 2, 4, 1, 3, 5]


@pytest.mark.parametrize("name", MODELS)
def test_each_anchor_reads_its_own_cell(name):
    """Only the outputs of one cell's two anchors change when the last map changes in that cell."""
    heads = untrained_network(name).heads
    levels = [torch.randn(1, MODELS[name].neck_channels, side, side + 1) for side in (4, 2, 1)]
    before = torch.cat(heads(levels), dim=2)
    levels[1][:, :, 1, 2] += 1
    changed = (torch.cat(heads(levels), dim=2) != before).any(2)[0].nonzero().flatten().tolist()
    anchors = make_anchors(4 * 8, 5 * 8)
    assert len(before[0]) == 2 * (4 * 5 + 2 * 3 + 1 * 2)
    first = 2 * (4 * 5) + 2 * (1 * 3 + 2)
    assert changed == [first, first + 1]
    assert anchors[first].tolist() == [40, 24, 64, 64]


@pytest.mark.parametrize("height, width", [(1, 1), (9, 8), (20, 20)])
def test_strided_depthwise_convolution_has_gradients_of_its_own_in_bfloat16(height, width):
    torch.manual_seed(0)
    conv = StridedDepthwiseConv(16)
    x = torch.randn(2, 16, height, width, requires_grad=True)
    expected = conv(x)
    direction = torch.randn_like(expected)
    expected_gradients = torch.autograd.grad(expected, (x, conv.weight), direction)
    with torch.autocast("cpu", torch.bfloat16):
        found = conv(x)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), expected, rtol=0.02, atol=0.02)
    gradients = torch.autograd.grad(found, (x, conv.weight), direction.bfloat16())
    for gradient, reference in zip(gradients, expected_gradients):
        assert gradient.dtype == torch.float32
        torch.testing.assert_close(gradient, reference, rtol=0.02, atol=0.01 * float(reference.abs().max()))
