"""A graph of ours is called like a network, any other file is told."""

import numpy as np
import onnx
import pytest
import torch

from data.picture_files import read_picture
from data.widerface import list_pictures
from detection.face_detector import Candidates, FaceDetector, load_detector
from detection.inference import detect
from detection.protocols import PROTOCOLS
from detection.suppression import DetectionSettings
from tests.helpers import CPU, noise
from utils.errors import UserError


def test_an_onnx_detector_is_called_as_a_face_detector(package, student, validation_set):
    detector = load_detector(package / "featherface_v2_deployment.onnx", CPU)
    reference = FaceDetector(student)
    assert (detector.name, detector.parameter_count) == ("v2", reference.parameter_count)
    found = detector(noise(2, 50, 70))
    assert isinstance(found, Candidates) and all(isinstance(field, torch.Tensor) for field in found)
    for field, other in zip(found, reference(noise(2, 50, 70))):
        torch.testing.assert_close(field, other, rtol=0, atol=1e-3)
    picture = read_picture(validation_set / "images" / list_pictures(validation_set)[0])
    faces, expected = (
        detect(one, picture, PROTOCOLS["original"], DetectionSettings(0.1), CPU) for one in (detector, reference)
    )
    assert len(faces.scores) == len(expected.scores) > 0
    np.testing.assert_allclose(faces.scores, expected.scores, atol=1e-4)  # boxes of one score may change places


def test_files_that_are_no_graphs_of_ours_are_told(tmp_path):
    path = tmp_path / "stray.onnx"
    with pytest.raises(UserError, match="no graph at"):
        load_detector(path, CPU)
    path.write_bytes(b"no graph")
    with pytest.raises(UserError, match="cannot run|can run"):
        load_detector(path, CPU)
    x = onnx.helper.make_tensor_value_info("images", onnx.TensorProto.FLOAT, [1])
    y = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])
    graph = onnx.helper.make_graph([onnx.helper.make_node("Identity", ["images"], ["y"])], "stray", [x], [y])
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8), path)
    with pytest.raises(UserError, match="no graph of export.py"):
        load_detector(path, CPU)


def test_a_gpu_onnxruntime_cannot_use_is_told(monkeypatch, package):
    monkeypatch.setattr("detection.onnx_detector.get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(UserError, match=r"on a GPU: give the device cpu \(--gpu cpu\), or"):
        load_detector(package / "featherface_v2_deployment.onnx", torch.device("cuda", 0))
