"""What every network of MODELS keeps: outputs at any size, gradients everywhere, a start without faces."""

import pytest
import torch

from layers.anchors import STRIDES, make_anchors
from models import MODELS, build_model
from models.blocks import FACE_PRIOR
from models.featherface_v1 import DeformableConv
from tests.helpers import count_parameters, outputs_of, untrained_network

SIZES = pytest.mark.parametrize("height, width", [(96, 160), (33, 47), (7, 5), (1, 1), (8, 200)])


def test_parameter_counts():
    assert count_parameters(build_model("v1")) == 592_371
    student = count_parameters(build_model("v2"))
    assert 254_000 <= student <= 256_156
    assert count_parameters(build_model("v2").backbone) == 213_072


@pytest.mark.parametrize("name", MODELS)
@SIZES
def test_outputs_fit_the_anchors_at_any_size(name, height, width):
    outputs = outputs_of(untrained_network(name), torch.randn(2, 3, height, width))
    anchors = len(make_anchors(height, width))
    assert outputs.boxes.shape == (2, anchors, 4)
    assert outputs.logits.shape == (2, anchors, 2)
    assert outputs.landmarks.shape == (2, anchors, 10)
    cells = [(-(-height // stride), -(-width // stride)) for stride in STRIDES]
    assert [tuple(x.shape) for x in outputs.features] == [(2, MODELS[name].neck_channels, *cell) for cell in cells]
    assert all(torch.isfinite(x).all() for x in (*outputs[:3], *outputs.features))


@pytest.mark.parametrize("name", MODELS)
def test_pictures_of_a_batch_do_not_touch_each_other(name):
    model = untrained_network(name)
    images = torch.randn(2, 3, 64, 96)
    together, alone = outputs_of(model, images), outputs_of(model, images[1:])
    assert torch.allclose(together.logits[1:], alone.logits, atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_untrained_model_starts_with_rare_faces_and_boxes_on_anchors(name):
    outputs = untrained_network(name)(50 * torch.randn(2, 3, 128, 128))
    assert outputs.logits.softmax(-1)[..., 1].mean().item() == pytest.approx(FACE_PRIOR, rel=0.1)
    assert outputs.boxes.abs().max() < 1


@pytest.mark.parametrize("name", MODELS)
def test_gradients_reach_every_parameter(name):
    model = untrained_network(name)
    if name == "v1":
        # The offsets start at zero, where bilinear sampling has a kink; a trained one is off it.
        for module in model.modules():
            if isinstance(module, DeformableConv):
                torch.nn.init.normal_(module.offsets.weight, std=0.05)
    outputs = model(50 * torch.randn(2, 3, 128, 128))
    sum(x.sin().sum() for x in outputs[:3]).backward()
    # A bias in front of a BatchNorm is cancelled by it, as in the published teacher's neck.
    dead = [key for key, p in model.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert dead == []
