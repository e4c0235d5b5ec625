"""The teacher: the published checkpoint's numbers, its odd details, its deformable convolution."""

import numpy as np
import pytest
import torch
from torchvision.ops import deform_conv2d

from data.config import MEAN_BGR
from models import load_model
from models.featherface_v1 import BiFPN, ChannelGate, DeformableConv, deformable_conv, fuse, pool_same
from tests.helpers import SHARED, needs_shared, outputs_of, untrained_network

TEACHER = SHARED / "weights" / "FeatherNetB_se.pth"
REFERENCE = SHARED / "reference" / "v1_outputs.npz"


@needs_shared
@pytest.mark.parametrize("picture", ["photo", "noise"])
def test_published_teacher_gives_the_reference_outputs(picture):
    reference = np.load(REFERENCE)
    outputs = outputs_of(load_model(TEACHER), torch.from_numpy(reference[f"{picture}_input"]))
    assert np.abs(outputs.boxes.numpy() - reference[f"{picture}_loc"]).max() < 1e-4
    assert np.abs(outputs.logits.softmax(-1).numpy() - reference[f"{picture}_conf"]).max() < 1e-4
    assert np.abs(outputs.landmarks.numpy() - reference[f"{picture}_landm"]).max() < 1e-4


@needs_shared
def test_reference_input_is_the_picture_minus_our_means():
    reference = np.load(REFERENCE)
    expected = (reference["photo_bgr"].astype(np.float32) - MEAN_BGR).transpose(2, 0, 1)[None]
    assert np.abs(reference["photo_input"] - expected).max() < 1e-4


def test_fifth_levels_third_weight_counts_in_the_sum_only():
    maps = torch.full((1, 1, 1, 1), 4.0), torch.full((1, 1, 1, 1), 2.0)
    assert fuse(torch.tensor([1.0, 1.0, 2.0]), *maps).item() == pytest.approx(6 / 4.0001)
    assert fuse(torch.tensor([1.0, 1.0, -2.0]), *maps).item() == pytest.approx(6 / 2.0001)
    assert BiFPN(8).p5_out_weights.shape == (3,)


def test_fused_maps_keep_their_type_and_are_the_weighted_sum():
    generator = torch.Generator().manual_seed(0)
    maps, weights = torch.randn(3, 2, 4, 5, 6, generator=generator), torch.rand(3, generator=generator)
    expected = torch.einsum("m,mbchw->bchw", weights / (weights.sum() + 1e-4), maps)
    torch.testing.assert_close(fuse(weights, *maps), expected)
    rounded = fuse(weights, *maps.bfloat16())
    assert rounded.dtype == torch.bfloat16
    torch.testing.assert_close(rounded.float(), expected, rtol=0.02, atol=0.02)


def test_a_gate_weighs_by_mean_and_maximum_and_equal_maxima_share_the_gradient():
    torch.manual_seed(0)
    gate = ChannelGate(32)
    x = torch.randn(2, 32, 3, 4)
    x[:, :, 0, :2] = 5.0
    pooled = [x.flatten(2).mean(-1), x.flatten(2).max(-1).values]
    weights = sum(gate.expand(gate.squeeze(values).relu()) for values in pooled).sigmoid()
    torch.testing.assert_close(gate(x), x * weights[:, :, None, None])
    x.requires_grad_()
    gate(x).sum().backward()
    torch.testing.assert_close(x.grad[:, :, 0, 0], x.grad[:, :, 0, 1])


def pool_same_by_hand(x: np.ndarray) -> np.ndarray:
    """TensorFlow's rule: ceil(side / 2) windows of 3, zeros around, the odd cell of padding behind."""
    cells = [-(-side // 2) for side in x.shape]
    before = [max((cell - 1) * 2 + 3 - side, 0) // 2 for cell, side in zip(cells, x.shape)]
    padded = np.pad(x, [(amount, 3) for amount in before])
    return np.array(
        [[padded[2 * i : 2 * i + 3, 2 * j : 2 * j + 3].max() for j in range(cells[1])] for i in range(cells[0])]
    )


@pytest.mark.parametrize("height", [1, 2, 3, 6, 7])
@pytest.mark.parametrize("width", [1, 2, 5, 8])
def test_pooling_pads_with_zeros_as_tensorflow_does(height, width):
    # Negative values, so that a window that touches the padding shows as 0.
    x = -np.random.default_rng(0).uniform(1, 2, (height, width)).astype(np.float32)
    pooled = pool_same(torch.from_numpy(x)[None, None])[0, 0].numpy()
    assert np.array_equal(pooled, pool_same_by_hand(x))


def test_untrained_deformable_convolution_is_a_plain_one():
    conv = next(module for module in untrained_network("v1").modules() if isinstance(module, DeformableConv))
    x = torch.randn(1, conv.weight.shape[1], 9, 7)
    assert torch.allclose(conv(x), torch.nn.functional.conv2d(x, conv.weight, padding=1), atol=1e-4)


def test_deformable_convolution_is_that_of_torchvision():
    generator = torch.Generator().manual_seed(0)
    shapes = ((2, 5, 7, 9), (2, 18, 7, 9), (2, 9, 7, 9), (4, 5, 3, 3))  # taps far outside the map included
    x, offsets, mask, weight = (torch.randn(shape, generator=generator).requires_grad_() for shape in shapes)
    ours = deformable_conv(x, 3 * offsets, mask, weight)
    theirs = deform_conv2d(x, 3 * offsets, weight, padding=1, mask=mask)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    inputs = (x, offsets, mask, weight)
    for gradient, reference in zip(
        torch.autograd.grad(ours.square().sum(), inputs), torch.autograd.grad(theirs.square().sum(), inputs)
    ):
        torch.testing.assert_close(gradient, reference, rtol=1e-3, atol=1e-3)
