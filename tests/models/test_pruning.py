"""Pruning: what stays the same, whatever the widths."""

import pytest
import torch
from torch import nn

from deployment.onnx_graph import check_graph, export_graph, metadata_of, save_graph
from detection.face_detector import FaceDetector
from models import build_model
from models.featherface_v2 import WHOLE, FeatherFaceV2, Widths
from models.pruning import groups, prune, share_of
from tests.helpers import noise, outputs_of, trained_network

#: No two alike where that can be, none a multiple of 8, some a single channel.
ODD = Widths((7, 13, 1, 31, 61, 5, 127, 3, 99, 101, 1, 77, 201, 33), 29, (15, 1, 7), (31, 3, 1))


def all_fields(outputs) -> list[torch.Tensor]:
    return [outputs.boxes, outputs.logits, outputs.landmarks]


def test_with_nothing_removed_it_is_the_same_network(student):
    images = torch.randn(2, 3, 64, 97) * 60
    whole = prune(student, student.widths)
    assert list(whole.state_dict()) == list(student.state_dict())
    for found, expected in zip(all_fields(outputs_of(whole, images)), all_fields(outputs_of(student, images))):
        assert torch.equal(found, expected)


@pytest.mark.parametrize("widths", [share_of(WHOLE, 0.75), share_of(WHOLE, 0.5), ODD], ids=["0.75", "0.5", "odd"])
def test_channels_without_scale_and_shift_have_no_say(widths):
    """All that is not to be kept is silenced in the whole network first, at places drawn by chance."""
    network = trained_network("v2", seed=3)
    generator = torch.Generator().manual_seed(0)
    modules = dict(network.named_modules())
    counts = [*widths.backbone, widths.neck, *widths.context, *widths.mix]
    for group, count in zip(groups(), counts, strict=True):
        norms = [modules[layer].norm for layer in group.outputs if hasattr(modules[layer], "norm")]
        silent = torch.randperm(len(norms[0].weight), generator=generator)[count:]
        for norm in norms:
            norm.weight.data[silent] = norm.bias.data[silent] = 0
    images = torch.randn(2, 3, 64, 97, generator=generator) * 60
    pruned = prune(network, widths)
    assert pruned.widths == widths and not pruned.training
    for found, expected in zip(all_fields(outputs_of(pruned, images)), all_fields(outputs_of(network, images))):
        assert expected.std() > 0
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_the_network_that_is_pruned_stays_as_it_was(student):
    before = {name: value.clone() for name, value in student.state_dict().items()}
    prune(student, share_of(WHOLE, 0.5))
    assert all(torch.equal(value, before[name]) for name, value in student.state_dict().items())


def test_every_channel_belongs_to_one_group():
    """Each BatchNorm is narrowed once, and each weight has the shape that the narrowed network wants."""
    norms = {name for name, module in FeatherFaceV2().named_modules() if isinstance(module, nn.BatchNorm2d)}
    outputs = [layer for group in groups() for layer in group.outputs]
    assert len(outputs) == len(set(outputs)) and norms <= {f"{layer}.norm" for layer in outputs}


@pytest.mark.parametrize("share", [0.1, 0.3, 0.75, 1])
def test_a_share_of_the_widths(share):
    widths = share_of(WHOLE, share)
    for found, whole in zip(widths.backbone, WHOLE.backbone):
        assert found % 8 == 0 and 8 <= found <= whole and abs(found - share * whole) <= max(4, 8 - share * whole)
    assert (widths == WHOLE) == (share == 1)
    assert share_of(ODD, 1) == ODD


@pytest.mark.parametrize("weights", [{}, {"neck.projections.0.norm.weight": torch.ones(())},
                                     {"neck.projections.0.norm.weight": torch.ones(10**6)},
                                     {"neck.projections.0.norm.weight": torch.ones(0)}])
def test_weights_that_tell_no_width_are_taken_for_those_of_a_whole_network(weights):
    assert build_model("v2", weights).widths == WHOLE


def test_odd_numbers_of_channels_fold_and_export(tmp_path):
    network = prune(trained_network("v2"), ODD)
    detector = FaceDetector(network)
    save_graph(export_graph(detector, float_input=False), tmp_path / "odd.onnx", metadata_of(detector))
    check_graph(tmp_path / "odd.onnx", detector, [(2, 33, 95)])
    images = noise(1, 64, 96)
    expected = outputs_of(network, images.float() - torch.tensor([104.0, 117.0, 123.0])[:, None, None])
    torch.testing.assert_close(detector(images).scores, expected.logits.softmax(-1)[..., 1], rtol=1e-4, atol=1e-5)


def test_odd_numbers_of_channels_train_in_bfloat16():
    network = FeatherFaceV2(ODD).train()
    with torch.autocast("cpu", torch.bfloat16):
        outputs = network(torch.randn(2, 3, 64, 64))
    sum(field.float().sum() for field in all_fields(outputs)).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name
