"""Graphs that other tools have changed: they work, or one line says what does not fit."""

import copy
import hashlib

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

import detect as script
from detection.onnx_detector import OnnxDetector, open_session
from detection.shipped import SHIPPED
from tests.edges.running import run
from tests.helpers import ROOT
from utils.errors import UserError
from utils.onnx_files import check_whole, with_checksum

GRAPH = SHIPPED.with_suffix(".onnx")


@pytest.fixture(scope="module")
def shipped():
    return onnx.load(GRAPH)


@pytest.fixture(scope="module")
def detector():
    return OnnxDetector(GRAPH)


def save(path, graph):
    onnx.save(graph, path)
    return path


def fixed(graph, path, batch=None, height=None, width=None):
    """As onnxruntime's make_dynamic_shape_fixed and onnxsim write it."""
    graph = copy.deepcopy(graph)
    sides = graph.graph.input[0].type.tensor_type.shape.dim
    for place, value in {0: batch, 2: height, 3: width}.items():
        if value:
            sides[place].dim_value = value
    return save(path, graph)


def pictures(count, height, width):
    return torch.randint(0, 256, (count, 3, height, width), generator=torch.Generator().manual_seed(0),
                         dtype=torch.uint8)


def test_a_fixed_size_pads_smaller_pictures_and_changes_nothing(shipped, detector, tmp_path):
    """More padding moves no score by much: V2 has no global pooling. The anchors of the picture are the same."""
    graph = OnnxDetector(fixed(shipped, tmp_path / "f.onnx", height=128, width=192))
    images = pictures(2, 128, 192)
    for found, expected in zip(graph(images), detector(images)):
        torch.testing.assert_close(found, expected)
    canvas = torch.tensor([104, 117, 123], dtype=torch.uint8).view(1, 3, 1, 1).repeat(2, 1, 128, 192)
    canvas[:, :, :96, :64] = images[:, :, :96, :64]
    for found, expected in zip(graph(images[:, :, :96, :64]), detector(canvas)):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(("height", "width"), [(256, 384), (64, 384), (511, 100), (127, 999)])
def test_a_fixed_size_reduces_larger_pictures_and_scales_boxes_back(shipped, tmp_path, height, width):
    graph = OnnxDetector(fixed(shipped, tmp_path / "f.onnx", 1, 128, 192))
    scale = min(128 / height, 192 / width)
    sides = [max(1, round(side * scale)) for side in (height, width)]
    images = pictures(1, height, width)
    reduced = torch.nn.functional.interpolate(images, sides, mode="bilinear", antialias=True)
    found, expected = graph(images), graph(reduced)
    x, y = width / sides[1], height / sides[0]
    torch.testing.assert_close(found.boxes, expected.boxes * torch.tensor([x, y, x, y]))
    torch.testing.assert_close(found.landmarks, expected.landmarks * torch.tensor([x, y]))
    torch.testing.assert_close(found.scores, expected.scores)


@pytest.mark.parametrize("batch", [1, 2, 4])
def test_a_fixed_number_takes_any_number(shipped, detector, tmp_path, batch):
    graph, images = OnnxDetector(fixed(shipped, tmp_path / "f.onnx", batch)), pictures(3, 64, 96)
    for found, expected in zip(graph(images), detector(images)):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-3)


def test_the_order_of_the_outputs_and_the_name_of_the_input_are_free(shipped, detector, tmp_path):
    graph = copy.deepcopy(shipped)
    outputs = list(graph.graph.output)[::-1]
    del graph.graph.output[:]
    graph.graph.output.extend(outputs)
    for node in graph.graph.node:
        for place, name in enumerate(node.input):
            node.input[place] = "x" if name == "images" else name
    graph.graph.input[0].name = "x"
    images = pictures(1, 64, 96)
    for found, expected in zip(OnnxDetector(save(tmp_path / "g.onnx", graph))(images), detector(images)):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("kind", [TensorProto.FLOAT, TensorProto.FLOAT16])
def test_pixels_may_be_floats(shipped, detector, tmp_path, kind):
    graph = copy.deepcopy(shipped)
    graph.graph.input[0].name = "floats"
    graph.graph.input[0].type.tensor_type.elem_type = kind
    graph.graph.node.insert(0, helper.make_node("Cast", ["floats"], ["images"], to=TensorProto.UINT8))
    images = pictures(1, 64, 96)
    for found, expected in zip(OnnxDetector(save(tmp_path / "g.onnx", graph))(images), detector(images)):
        torch.testing.assert_close(found, expected)


def small_graph(path, shapes, kind=TensorProto.FLOAT, names=("boxes", "scores", "landmarks"), metadata=None, value=0.5,
                image=("b", 3, "h", "w"), inputs=1):
    """A graph whose outputs are constants."""
    constants = [numpy_helper.from_array(np.full(shape, value, helper.tensor_dtype_to_np_dtype(kind)), f"c{place}")
                 for place, shape in enumerate(shapes)]
    graph = helper.make_graph(
        [helper.make_node("Identity", [f"c{place}"], [name]) for place, name in enumerate(names)], "g",
        [helper.make_tensor_value_info(f"images{place}", TensorProto.UINT8, image) for place in range(inputs)],
        [helper.make_tensor_value_info(name, kind, None) for name in names], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {"model": "v2", "parameters": "1"} if metadata is None else metadata)
    return save(path, model)


GOOD = [(1, 9, 4), (1, 9), (1, 9, 5, 2)]


def test_the_small_graph_is_one(tmp_path):
    assert OnnxDetector(small_graph(tmp_path / "g.onnx", GOOD))(pictures(1, 64, 64)).scores.shape == (1, 9)


@pytest.mark.parametrize(("settings", "words"), [
    ({"metadata": {}}, "lacks model and parameters in its metadata"),
    ({"metadata": {"model": "v2"}}, "lacks parameters in its metadata"),
    ({"metadata": {"model": "v2", "parameters": "many"}}, "parameters 'many', no number"),
    ({"metadata": {"model": "v2", "parameters": "9" * 5000}}, "no number"),
    ({"names": ("boxes", "scores", "points")}, "it gives boxes, scores, points in place of boxes, scores, landmarks"),
    ({"names": ("boxes", "scores")}, "it gives boxes, scores in place of"),
    ({"names": ("faces",)}, "has suppression inside"),
    ({"image": ("b", 1, "h", "w")}, "not one batch of pictures"),
    ({"image": ("b", 3)}, "not one batch of pictures"),
    ({"inputs": 2}, "not one batch of pictures"),
    ({"inputs": 0}, "it takes nothing"),
])
def test_a_graph_that_does_not_fit_is_one_line(tmp_path, settings, words):
    path = small_graph(tmp_path / "g.onnx", GOOD, **settings)
    with pytest.raises(UserError) as told:
        OnnxDetector(path)
    assert words in str(told.value) and str(path) in str(told.value) and "\n" not in str(told.value)


@pytest.mark.parametrize(("shapes", "value", "words"), [
    ([(1, 9, 5), (1, 9), (1, 9, 5, 2)], 0.5, r"boxes \[1, 9, 5\], scores"),
    ([(1, 9, 4), (1, 8), (1, 9, 5, 2)], 0.5, r"scores \[1, 8\]"),
    ([(1, 9, 4), (9,), (1, 9, 5, 2)], 0.5, r"scores \[9\]"),
    ([(1, 9, 4), (1, 9), (1, 9, 10)], 0.5, r"landmarks \[1, 9, 10\]"),
    ([(2, 9, 4), (2, 9), (2, 9, 5, 2)], 0.5, "for 1 pictures it gives"),
    ([(), (), ()], 0.5, r"boxes \[\]"),
    (GOOD, np.nan, "scores that are no numbers"),
])
def test_outputs_that_do_not_fit_are_one_line(tmp_path, shapes, value, words):
    graph = OnnxDetector(small_graph(tmp_path / "g.onnx", shapes, value=value))
    with pytest.raises(UserError, match=words):
        graph(pictures(1, 64, 64))


def test_a_graph_that_fails_on_a_picture_is_one_line(shipped, tmp_path):
    graph = copy.deepcopy(shipped)
    graph.graph.node.insert(0, helper.make_node("Reshape", ["images", "fixed/shape"], ["fixed/images"]))
    graph.graph.initializer.append(numpy_helper.from_array(np.int64([1, 3, 64, 64]), "fixed/shape"))
    for node in list(graph.graph.node)[1:]:
        for place, name in enumerate(node.input):
            node.input[place] = "fixed/images" if name == "images" else name
    outcome = run(script.main, ROOT / "docs" / "detections.jpg", "--cpu", "--trained_model",
                  save(tmp_path / "g.onnx", graph))
    assert outcome.code == 2 and outcome.err.startswith("error: the graph fails on 1 x ")
    assert outcome.err.count("\n") == 1


def test_a_fixed_graph_finds_the_faces_of_the_free_one(shipped, tmp_path):
    path = fixed(shipped, tmp_path / "f.onnx", 1, 480, 640)
    outcome = run(script.main, ROOT / "docs" / "detections.jpg", "--cpu", "--trained_model", path)
    assert outcome.code == 0 and "2 faces in 1 picture" in outcome.out


def test_a_flipped_bit_is_told_wherever_it_is(tmp_path):
    """Before ONNX Runtime sees it: in weights it would change the faces, elsewhere it can end the process."""
    data, path = GRAPH.read_bytes(), tmp_path / "g.onnx"
    content = len(data) - 150  # behind it only the checksum
    for place in np.random.default_rng(0).integers(0, content, 50):
        damaged = bytearray(data)
        damaged[place] ^= 1 << int(place % 8)
        path.write_bytes(damaged)
        with pytest.raises(UserError, match="g.onnx is damaged, its checksum does not fit"):
            open_session(path, torch.device("cpu"))


def test_every_graph_that_is_written_has_a_checksum_that_others_can_read(package):
    for path in package.glob("*.onnx"):
        check_whole(path.read_bytes(), path)
        told = {entry.key: entry.value for entry in onnx.load(path).metadata_props}["sha256"]
        content = path.read_bytes()[: int(told.split()[4])]
        assert told.split()[0] == hashlib.sha256(content).hexdigest() and path.read_bytes() == with_checksum(content)
        with pytest.raises(UserError, match="is damaged"):
            check_whole(b"\0" + path.read_bytes()[1:], path)


def test_a_graph_without_a_checksum_and_one_changed_by_another_tool_are_used(shipped, detector, tmp_path):
    images, plain = pictures(1, 64, 96), copy.deepcopy(shipped)
    helper.set_model_props(plain, {"model": "v2", "parameters": "254112"})
    saved = save(tmp_path / "p.onnx", plain), save(tmp_path / "s.onnx", shipped)
    for path in (*saved, fixed(shipped, tmp_path / "f.onnx", 1)):
        for found, expected in zip(OnnxDetector(path)(images), detector(images)):
            torch.testing.assert_close(found, expected)
