"""Graphs against PyTorch at any size, what their metadata says, suppression inside."""

import json

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from data.config import MEAN_BGR
from deployment.onnx_graph import (
    add_suppression,
    check_graph,
    check_suppression,
    export_graph,
    faces_of,
    halve_weights,
    save_graph,
)
from detection.face_detector import Candidates, FaceDetector, load_detector
from detection.onnx_detector import OnnxDetector
from detection.suppression import DetectionSettings, suppress
from detection.validation import open_validation_set, predict
from layers.anchors import STRIDES
from tests.helpers import CPU, noise, trained_network
from utils.errors import UserError
from widerface_evaluate.average_precision import evaluate
from widerface_evaluate.ground_truth_files import ATTRIBUTES, AnnotatedPicture, write_ground_truth
from widerface_evaluate.wider_files import SUBSETS, load_ground_truth

SIZES = [(1, 1, 1), (3, 33, 65), (2, 97, 130), (1, 160, 31)]


def session_of(path):
    return onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("size", SIZES)
def test_the_graph_gives_the_numbers_of_pytorch_at_any_size(package, student, size):
    images = noise(*size)
    found = session_of(package / "featherface_v2_deployment.onnx").run(None, {"images": images.numpy()})
    with torch.inference_mode():
        expected = FaceDetector(student)(images)
    for field, reference, tolerance in zip(found, expected, (1e-3, 1e-4, 1e-3)):
        assert field.dtype == np.float32 and field.shape == reference.shape
        np.testing.assert_allclose(field, reference.numpy(), rtol=0, atol=tolerance)
    assert expected.scores.std() > 0.005 or size == (1, 1, 1)  # else agreement would say nothing


def test_v1_exports_at_the_same_opset():
    """Deformable convolution with real offsets, at sizes that are not those of the trace; pixels as float32."""
    network = trained_network("v1")
    for name, parameter in network.named_parameters():
        if "offsets" in name or "modulation" in name:
            nn.init.normal_(parameter, std=0.02)
    graph = export_graph(FaceDetector(network), float_input=True)
    assert [(entry.domain, entry.version) for entry in graph.opset_import] == [("", 17)]
    onnx.checker.check_model(graph, full_check=True)
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    for size in SIZES[:3]:
        images = noise(*size).float() + 0.25
        with torch.inference_mode():
            expected = FaceDetector(network)(images)
        for field, reference in zip(session.run(None, {"images": images.numpy()}), expected):
            np.testing.assert_allclose(field, reference.numpy(), rtol=0, atol=1e-3)


def test_one_file_says_what_it_is_and_takes(package):
    graph = onnx.load(package / "featherface_v2_deployment.onnx", load_external_data=False)
    onnx.checker.check_model(graph, full_check=True)
    assert not any(tensor.external_data for tensor in graph.graph.initializer)
    assert [(entry.domain, entry.version) for entry in graph.opset_import] == [("", 17)]
    told = {entry.key: json.loads(entry.value) for entry in graph.metadata_props
            if entry.key not in ("model", "channel_order", "sha256")}
    assert (told["mean"], told["strides"], told["parameters"], told["opset"]) == (
        list(MEAN_BGR), list(STRIDES), 254112, 17)
    [images] = graph.graph.input
    sides = [side.dim_param or side.dim_value for side in images.type.tensor_type.shape.dim]
    assert (images.name, images.type.tensor_type.elem_type) == ("images", onnx.TensorProto.UINT8)
    assert sides == ["batch", 3, "height", "width"]
    shapes = [[side.dim_param or side.dim_value for side in output.type.tensor_type.shape.dim]
              for output in graph.graph.output]
    assert shapes == [["batch", "anchors", 4], ["batch", "anchors"], ["batch", "anchors", 5, 2]]


def test_ap_of_the_graph_is_that_of_pytorch(package, student, validation_set, tmp_path):
    """Random weights find no drawn face, so every other detection of PyTorch is called a face."""
    pictures = open_validation_set(validation_set)
    expected = predict(FaceDetector(student), pictures, "vga", CPU, 0)
    found = predict(OnnxDetector(package / "featherface_v2_deployment.onnx"), pictures, "vga", CPU, 0)
    faces = {picture: rows[:200:2, :4] for picture, rows in sorted(expected.items())}
    write_ground_truth(tmp_path / "truth", [
        AnnotatedPicture(event, name, boxes, dict.fromkeys(SUBSETS, boxes[:, 3] >= 10),
                         dict.fromkeys(ATTRIBUTES, [0] * len(boxes)))
        for (event, name), boxes in faces.items()
    ])
    truth = load_ground_truth(tmp_path / "truth")
    precision = evaluate(expected, truth)
    assert 0.2 < precision["hard"] < 0.9
    assert evaluate(found, truth) == pytest.approx(precision, abs=1e-3)


@pytest.mark.parametrize("settings", [
    DetectionSettings(), DetectionSettings(0.2, nms_threshold=0.1, keep_top_k=3), DetectionSettings(0.9999),
])
def test_suppression_in_the_graph_is_that_outside(package, settings):
    graph = onnx.load(package / "featherface_v2_deployment.onnx")
    sessions = [onnxruntime.InferenceSession(one.SerializeToString(), providers=["CPUExecutionProvider"])
                for one in (graph, add_suppression(graph, settings))]
    images = noise(2, 97, 130)
    batch, [faces] = (session.run(None, {"images": images.numpy()}) for session in sessions)
    rows = []
    for picture in range(2):
        kept = suppress(Candidates(*(torch.from_numpy(field[picture]) for field in batch)), settings)
        rows += [[picture, *box, score, *points.ravel()] for box, score, points in zip(*kept)]
    assert faces.shape == (len(rows), 16)
    np.testing.assert_allclose(faces, np.array(rows, np.float32).reshape(-1, 16), rtol=0, atol=1e-3)
    assert (len(rows) == 0) == (settings.confidence_threshold > 0.9)
    assert settings.keep_top_k == 750 or len(rows) == 2 * settings.keep_top_k


def test_more_candidates_than_top_k_pass_the_check(package, tmp_path, monkeypatch):
    """The graph has no top_k, so that the check asks PyTorch for none either."""
    plain, suppressed = package / "featherface_v2_deployment.onnx", tmp_path / "nms.onnx"
    monkeypatch.setattr("deployment.onnx_graph.CHECKED_SIZES", ((1, 97, 130),))
    settings = DetectionSettings(0.0, top_k=50, nms_threshold=0.7, keep_top_k=10**5)
    save_graph(add_suppression(onnx.load(plain), settings), suppressed, {})
    check_suppression(suppressed, plain, settings)
    [faces] = session_of(suppressed).run(None, {"images": PICTURES})
    assert len(faces) > 2 * settings.top_k


@pytest.fixture
def without_faces(package):
    """A graph with suppression that lets no face pass; by itself, as a kind of node ends the process in OpenCV 5.0."""
    graph = add_suppression(onnx.load(package / "featherface_v2_deployment.onnx"), DetectionSettings(1.0))
    assert "GatherND" not in {node.op_type for node in graph.graph.node}
    return graph.SerializeToString()


PICTURES = noise(2, 97, 130).numpy()


def test_no_face_is_no_row_in_onnxruntime(without_faces):
    session = onnxruntime.InferenceSession(without_faces, providers=["CPUExecutionProvider"])
    assert session.run(None, {"images": PICTURES})[0].shape == (0, 16)


@pytest.mark.skipif(int(cv2.__version__.split(".")[0]) < 5, reason="OpenCV 4 reads no graph with suppression")
def test_no_face_is_nothing_in_opencv(without_faces):
    network = cv2.dnn.readNetFromONNX(np.frombuffer(without_faces, np.uint8))
    network.setInput(PICTURES)
    assert network.forward("faces") is None


def test_no_face_is_no_row_in_openvino(without_faces):
    openvino = pytest.importorskip("openvino", reason="needs openvino, which is not installed")
    network = openvino.Core().compile_model(openvino.Core().read_model(without_faces), "CPU")
    assert network(PICTURES)[0].shape == (0, 16)


@pytest.mark.skipif(int(cv2.__version__.split(".")[0]) < 5, reason="OpenCV 4 reads no graph with suppression")
def test_opencv_finds_the_faces_of_a_batch(package):
    """The first picture has none, so that the rows of the second are not where its anchors would be alone."""
    path = package / "featherface_v2_deployment_nms.onnx"
    images = np.concatenate([np.zeros_like(PICTURES[:1]), PICTURES[1:]])
    [expected] = session_of(path).run(None, {"images": images})
    network = cv2.dnn.readNetFromONNX(np.frombuffer(path.read_bytes(), np.uint8))
    network.setInput(images)
    assert len(expected) > 1 and expected[-1, 0] == 1
    np.testing.assert_allclose(network.forward("faces"), expected, rtol=0, atol=1e-3)


def test_half_weights_cost_little_and_give_float32(package):
    paths = [package / f"featherface_v2_deployment{end}.onnx" for end in ("", "_half")]
    assert paths[1].stat().st_size < 0.6 * paths[0].stat().st_size
    onnx.checker.check_model(onnx.load(paths[1]), full_check=True)
    expected, found = (session_of(path).run(None, {"images": PICTURES}) for path in paths)
    assert all(field.dtype == np.float32 for field in found)
    assert 0 < np.abs(found[1] - expected[1]).mean() < 0.01
    told = json.loads(OnnxDetector(paths[1]).metadata["ap_half"])
    assert set(told) == set(SUBSETS)


def test_weights_that_float16_cannot_hold_are_an_error(student):
    detector = FaceDetector(student)
    detector.heads.convs[0].weight.data[0, 0] = 7e4
    with pytest.raises(UserError, match="70000 are more than float16 holds"):
        halve_weights(export_graph(detector, float_input=False))


def test_faces_of_a_batch_are_numbered_by_picture():
    boxes = torch.tensor([[[0.0, 0, 10, 10]], [[5, 5, 9, 9]]])
    landmarks = torch.arange(20.0).reshape(2, 1, 5, 2)
    faces = faces_of(Candidates(boxes, torch.tensor([[0.1], [0.75]]), landmarks), DetectionSettings(0.5))
    assert faces.tolist() == [[1, 5, 5, 9, 9, 0.75, *range(10, 20)]]


def test_the_graph_with_suppression_stores_its_thresholds(package):
    graph = onnx.load(package / "featherface_v2_deployment_nms.onnx")
    told = {entry.key: entry.value for entry in graph.metadata_props}
    assert (told["confidence_threshold"], told["nms_threshold"], told["keep_top_k"]) == ("0.3", "0.4", "750")
    with pytest.raises(UserError, match="suppression inside"):
        load_detector(package / "featherface_v2_deployment_nms.onnx", CPU)


@pytest.mark.parametrize("limit", ["PIXEL_TOLERANCE", "SCORE_TOLERANCE"])
def test_a_difference_is_an_error(monkeypatch, package, student, limit):
    check_graph(package / "featherface_v2_deployment.onnx", FaceDetector(student))
    monkeypatch.setattr(f"deployment.onnx_graph.{limit}", -1)
    with pytest.raises(UserError, match="differs from PyTorch"):
        check_graph(package / "featherface_v2_deployment.onnx", FaceDetector(student))


def test_a_nan_is_a_difference(package, student):
    detector = FaceDetector(student)
    detector.heads.convs[0].bias.data[0] = float("nan")
    with pytest.raises(UserError, match="by nan px"):
        check_graph(package / "featherface_v2_deployment.onnx", detector)
