"""The student: where DropBlock acts, and which ONNX it needs."""

import warnings

import numpy as np
import pytest
import torch

from layers.dropblock import set_dropblock
from tests.helpers import outputs_of, untrained_network


def test_dropblock_spares_the_features_and_the_finest_level():
    model = untrained_network("v2").train()
    images = torch.randn(2, 3, 128, 128)
    plain = model(images)
    set_dropblock(model, 0.5, block_size=3)
    dropped = model(images)
    finest = 2 * 16 * 16
    assert all(torch.equal(a, b) for a, b in zip(plain.features, dropped.features))
    assert torch.equal(plain.logits[:, :finest], dropped.logits[:, :finest])
    assert not torch.equal(plain.logits[:, finest:], dropped.logits[:, finest:])
    set_dropblock(model, 0.0, block_size=3)
    assert torch.equal(plain.logits, model(images).logits)


def test_student_needs_only_plain_onnx_at_opset_17(tmp_path):
    onnx = pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    model, path = untrained_network("v2").eval(), tmp_path / "student.onnx"
    images = torch.randn(1, 3, 96, 160)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracing exporter is the one that writes opset 17
        torch.onnx.export(model, (images,), path, opset_version=17, input_names=["images"], dynamo=False)
    graph = onnx.load(path)
    assert [(opset.domain, opset.version) for opset in graph.opset_import] == [("", 17)]
    assert {node.domain for node in graph.graph.node} == {""}
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    expected = outputs_of(model, images)
    for got, want in zip(session.run(None, {"images": images.numpy()}), expected[:3]):
        assert np.abs(got - want.numpy()).max() < 1e-4
