"""Graphs of one size: the numbers of PyTorch, in tools that know no other."""

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from deployment.onnx_graph import export_fixed_graph
from detection.face_detector import FaceDetector
from detection.onnx_detector import OnnxDetector
from tests.helpers import noise, trained_network

#: (width, height): multiples of the largest stride, none, the smallest that export.py takes.
SIZES = [(96, 64), (131, 70), (64, 64)]

#: What a graph of V2 consists of; Pad is there where a side is no multiple of the largest stride.
PLAIN_NODES = {"Add", "Cast", "Clip", "Concat", "Constant", "Conv", "Exp", "Identity", "LeakyRelu", "MaxPool", "Mul",
               "Pad", "Reciprocal", "Relu", "Reshape", "Resize", "Slice", "Sub", "Transpose"}


@pytest.fixture(scope="module", params=SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def fixed(request, tmp_path_factory, student):
    """Path of a graph, a picture of its size (float32 [1, 3, H, W]) and what PyTorch gives for it."""
    width, height = request.param
    path = tmp_path_factory.mktemp("fixed") / "fixed.onnx"
    onnx.save(export_fixed_graph(FaceDetector(student), width, height), path)
    images = noise(1, height, width).float()
    with torch.inference_mode():
        return path, images.numpy(), [field.numpy() for field in FaceDetector(student)(images)]


def assert_alike(found, expected):
    for field, reference, tolerance in zip(found, expected, (1e-3, 1e-4, 1e-3), strict=True):
        assert field.dtype == np.float32
        np.testing.assert_allclose(field.reshape(reference.shape), reference, rtol=0, atol=tolerance)


def test_every_shape_is_a_number_and_every_node_a_plain_one(fixed):
    path, images, expected = fixed
    graph = onnx.load(path)
    onnx.checker.check_model(graph, full_check=True)
    shapes = [tuple(side.dim_value for side in value.type.tensor_type.shape.dim)
              for value in (*graph.graph.input, *graph.graph.output)]
    assert shapes == [images.shape, *(field.shape for field in expected)]
    assert {node.op_type for node in graph.graph.node} <= PLAIN_NODES


def test_onnxruntime_gives_the_numbers_of_pytorch(fixed):
    path, images, expected = fixed
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    assert_alike(session.run(None, {"images": images}), expected)


def test_opencv_4_reads_it(fixed):
    """By the importer of OpenCV 4, which OpenCV 5 has, too."""
    path, images, expected = fixed
    options = {"engine": cv2.dnn.ENGINE_CLASSIC} if hasattr(cv2.dnn, "ENGINE_CLASSIC") else {}
    network = cv2.dnn.readNetFromONNX(str(path), **options)
    network.setInput(images)
    assert_alike(network.forward(["boxes", "scores", "landmarks"]), expected)


def test_openvino_reads_it(fixed):
    openvino = pytest.importorskip("openvino", reason="needs openvino, which is not installed")
    path, images, expected = fixed
    network = openvino.Core().compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    assert_alike(network(images).values(), expected)


def test_onnxsim_keeps_numbers_and_metadata(fixed, tmp_path):
    onnxsim = pytest.importorskip("onnxsim", reason="needs onnxsim, which is not installed")
    path, images, expected = fixed
    graph = onnx.load(path)
    onnx.helper.set_model_props(graph, {"model": "v2", "parameters": "254112"})
    simplified, same = onnxsim.simplify(graph)
    assert same
    onnx.save(simplified, tmp_path / "simplified.onnx")
    graph = OnnxDetector(tmp_path / "simplified.onnx")
    assert_alike([field.numpy() for field in graph(torch.from_numpy(images).byte())], expected)


def test_v1_has_one_size_too_and_stays_as_it_was():
    detector = FaceDetector(trained_network("v1"))
    images = noise(1, 70, 131).float()
    with torch.inference_mode():
        expected = [field.numpy() for field in detector(images)]
    graph = export_fixed_graph(detector, 131, 70)
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    assert_alike(session.run(None, {"images": images.numpy()}), expected)
    with torch.inference_mode():
        assert_alike([field.numpy() for field in detector(images)], expected)
