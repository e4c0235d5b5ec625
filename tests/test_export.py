"""Packages: graphs against PyTorch, what the files hold, the page's own commands, 8 bits, mistakes."""

import json
import re
import shutil
import sys
from argparse import Namespace
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

import export
import test_widerface
from data.config import MEAN_BGR
from data.drawn.demo_set import write_demo_set
from data.picture_files import read_picture, write_picture
from data.widerface import list_pictures
from deployment.onnx_graph import add_suppression, check_graph, export_graph, faces_of
from deployment.quantization import float_convolutions
from deployment.weights_file import known_precision
from detection.face_detector import Candidates, FaceDetector, load_detector
from detection.inference import detect
from detection.onnx_detector import OnnxDetector
from detection.protocols import PROTOCOLS
from detection.suppression import DetectionSettings, suppress
from detection.validation import predict
from layers.anchors import STRIDES
from models import build_model, load_model
from tests.paths import SHARED, needs_shared
from utils.errors import UserError
from widerface_evaluate.evaluation import evaluate
from widerface_evaluate.ground_truth_files import ATTRIBUTES, AnnotatedPicture, write_ground_truth
from widerface_evaluate.wider_files import SUBSETS, load_ground_truth

CPU = torch.device("cpu")
SIZES = [(1, 1, 1), (3, 33, 65), (2, 97, 130), (1, 160, 31)]


def settled_network(name):
    """A network with running statistics of noise and random heads that call a share of the anchors faces."""
    torch.manual_seed(0)
    network = build_model(name)
    for norm in (module for module in network.modules() if isinstance(module, nn.BatchNorm2d)):
        norm.momentum = None  # the mean over all that is seen
    with torch.no_grad():
        network(torch.randn(2, 3, 160, 160) * 60)
        for conv in network.heads.logits:
            nn.init.normal_(conv.weight, std=0.2)
        for conv in (*network.heads.boxes, *network.heads.landmarks):
            nn.init.normal_(conv.weight, std=0.003)  # rounding grows in random layers, not in trained ones
    return network.eval()


def noise(count, height, width):
    generator = torch.Generator().manual_seed(height)
    return torch.randint(0, 256, (count, 3, height, width), generator=generator, dtype=torch.uint8)


def save_checkpoint(path, network):
    """As train_v2.py: the averaged weights beside the last ones, which here are useless."""
    zeros = {name: torch.zeros_like(value) for name, value in network.state_dict().items()}
    torch.save({"model_name": network.name, "model": zeros, "ema": network.state_dict()}, path)
    return path


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["export.py", *map(str, arguments)])
    export.main()


@pytest.fixture(scope="module", autouse=True)
def one_timed_run():
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(export, "TIMED_RUNS", 1)
        monkeypatch.setattr(export, "WARM_UP_RUNS", 0)
        yield


@pytest.fixture(scope="module")
def validation_set(tmp_path_factory):
    folder = tmp_path_factory.mktemp("validation") / "set"
    write_demo_set(folder, train_pictures=1, val_pictures=4)
    return folder / "val"


@pytest.fixture(scope="module")
def network():
    return settled_network("v2")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory, network):
    return save_checkpoint(tmp_path_factory.mktemp("checkpoint") / "Student.pth", network)


@pytest.fixture(scope="module")
def package(tmp_path_factory, checkpoint, validation_set):
    """A package with everything in it."""
    folder = tmp_path_factory.mktemp("package") / "v2 pökäl"
    with pytest.MonkeyPatch.context() as monkeypatch:
        run(monkeypatch, "--trained_model", checkpoint, "--output_folder", folder, "--nms", "--int8",
            "--dataset_folder", validation_set, "--calibration_pictures", "2", "--confidence_threshold", "0.3")
    return folder


def session_of(path):
    return onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("size", SIZES)
def test_the_graph_gives_the_numbers_of_pytorch_at_any_size(package, network, size):
    images = noise(*size)
    found = session_of(package / "featherface_v2_deployment.onnx").run(None, {"images": images.numpy()})
    with torch.inference_mode():
        expected = FaceDetector(network)(images)
    for field, reference, tolerance in zip(found, expected, (1e-3, 1e-4, 1e-3)):
        assert field.dtype == np.float32 and field.shape == reference.shape
        np.testing.assert_allclose(field, reference.numpy(), rtol=0, atol=tolerance)
    assert expected.scores.std() > 0.005 or size == (1, 1, 1)  # else agreement would say nothing


def test_v1_exports_at_the_same_opset():
    """Deformable convolution with real offsets, at sizes that are not those of the trace; pixels as float32."""
    network = settled_network("v1")
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
            if entry.key not in ("model", "channel_order")}
    assert (told["mean"], told["strides"], told["parameters"], told["opset"]) == (
        list(MEAN_BGR), list(STRIDES), 254112, 17)
    [images] = graph.graph.input
    sides = [side.dim_param or side.dim_value for side in images.type.tensor_type.shape.dim]
    assert (images.name, images.type.tensor_type.elem_type) == ("images", onnx.TensorProto.UINT8)
    assert sides == ["batch", 3, "height", "width"]
    shapes = [[side.dim_param or side.dim_value for side in output.type.tensor_type.shape.dim]
              for output in graph.graph.output]
    assert shapes == [["batch", "anchors", 4], ["batch", "anchors"], ["batch", "anchors", 5, 2]]


def test_an_onnx_detector_is_called_as_a_face_detector(package, network, validation_set):
    detector = load_detector(package / "featherface_v2_deployment.onnx", CPU)
    reference = FaceDetector(network)
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


def test_ap_of_the_graph_is_that_of_pytorch(package, network, validation_set, tmp_path):
    """Random weights find no drawn face, so every other detection of PyTorch is called a face."""
    expected = predict(FaceDetector(network), validation_set, "vga", CPU, 0)
    found = predict(OnnxDetector(package / "featherface_v2_deployment.onnx"), validation_set, "vga", CPU, 0)
    faces = {picture: rows[:200:2, :4] for picture, rows in sorted(expected.items())}
    write_ground_truth(tmp_path / "truth", [
        AnnotatedPicture(event, name, boxes, dict.fromkeys(SUBSETS, boxes[:, 3] >= 10), dict.fromkeys(ATTRIBUTES, [0] * len(boxes)))
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


def test_the_weights_load_without_running_code_and_say_what_they_are(package, network):
    path = package / "featherface_v2_deployment.pth"
    state = torch.load(path, weights_only=True)
    assert state["model_name"] == "v2" and state["parameter_count"] == 254112
    assert state["preprocessing"]["mean"] == MEAN_BGR and state["config"]["strides"] == STRIDES
    assert state["average_precision"] == [] and state["versions"]["torch"] == str(torch.__version__)
    assert "licence" in state
    loaded = load_model(path).state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in network.state_dict().items())


def test_the_page_holds_commands_that_run(package, monkeypatch, capsys, validation_set):
    """Each block by itself, in the package's folder; all find the same faces."""
    text = (package / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == 4
    if int(cv2.__version__.split(".")[0]) < 5:
        blocks = [block for block in blocks if "readNetFromONNX" not in block]
    picture = validation_set / "images" / list_pictures(validation_set)[0]
    write_picture(package / "picture.jpg", read_picture(picture))
    monkeypatch.chdir(package)
    printed = []
    for block in blocks:
        exec(compile(block, "README.md", "exec"), {})
        printed.append([float(line) for line in re.findall(r"-?\d+\.\d*(?:e[+-]?\d+)?", capsys.readouterr().out)])
    (package / "picture.jpg").unlink()
    # From left to right: rounding may swap two faces of nearly the same score.
    found = [sorted(np.reshape(numbers, (-1, 15)).tolist()) for numbers in printed]
    assert len(found[-1]) > 0
    for faces in found:
        np.testing.assert_allclose(faces, found[-1], rtol=1e-3, atol=0.01)


def test_the_page_names_every_file_and_no_other(package):
    text = (package / "README.md").read_text(encoding="utf-8")
    names = {path.name for path in package.iterdir()} - {"README.md"}
    assert set(re.findall(r"featherface_v2_deployment\w*\.\w+", text)) == names
    assert names == {f"featherface_v2_deployment{end}" for end in (".pth", ".onnx", "_nms.onnx", "_int8.onnx")}


def test_eight_bits_run_and_say_what_they_cost(package, network, validation_set):
    path = package / "featherface_v2_deployment_int8.onnx"
    quantized, plain = OnnxDetector(path), OnnxDetector(package / "featherface_v2_deployment.onnx")
    assert path.stat().st_size < 0.7 * (package / "featherface_v2_deployment.onnx").stat().st_size
    images = noise(2, 97, 130)
    differences = (quantized(images).boxes - plain(images).boxes).abs()
    assert 0 < differences.median() < 2
    truth = load_ground_truth(validation_set / "ground_truth")
    for name, detector in (("ap_float32", plain), ("ap_int8", quantized)):
        expected = evaluate(predict(detector, validation_set, "vga", CPU, 0), truth)
        told = {subset: float("nan") if value is None else value
                for subset, value in json.loads(quantized.metadata[name]).items()}
        assert told == pytest.approx(expected, abs=1e-6, nan_ok=True)
    assert (quantized.name, quantized.metadata["calibration_pictures"]) == ("v2", "2")


def test_first_depthwise_and_last_convolutions_stay_float(package, network):
    names = float_convolutions(onnx.load(package / "featherface_v2_deployment.onnx"))
    assert names[0] == "/backbone/stage1/stage1.0/halves/halves.0/Conv"
    assert sum("/heads/" in name for name in names) == 3
    depthwise = sum(isinstance(module, nn.Conv2d) and module.groups > 1 for module in network.modules())
    assert len(names) == 4 + depthwise


def test_a_loss_of_more_than_a_point_is_a_warning(monkeypatch, capsys, tmp_path, package, network, validation_set):
    plain, quantized = package / "featherface_v2_deployment.onnx", tmp_path / "int8.onnx"
    options = Namespace(dataset_folder=validation_set, calibration_pictures=1)
    monkeypatch.setattr(export, "quantize", lambda source, target, paths: shutil.copy(source, target) and len(paths))
    monkeypatch.setattr(export, "predict", lambda *_, **__: {})
    before = {"easy": 0.5, "medium": float("nan"), "hard": 0.4}
    for hard, warns in ((0.391, False), (0.388, True)):
        results = iter([before, {"easy": 0.52, "medium": 0.1, "hard": hard}])
        monkeypatch.setattr(export, "evaluate", lambda *_, results=results: next(results))
        export.write_quantized(quantized, plain, FaceDetector(network), options)
        assert ("1.2 on hard" in capsys.readouterr().out) == warns
    assert json.loads(OnnxDetector(quantized).metadata["ap_float32"]) == {"easy": 0.5, "medium": None, "hard": 0.4}


@pytest.mark.parametrize("limit", ["PIXEL_TOLERANCE", "SCORE_TOLERANCE"])
def test_a_difference_is_an_error(monkeypatch, package, network, limit):
    check_graph(package / "featherface_v2_deployment.onnx", FaceDetector(network))
    monkeypatch.setattr(f"deployment.onnx_graph.{limit}", -1)
    with pytest.raises(UserError, match="differs from PyTorch"):
        check_graph(package / "featherface_v2_deployment.onnx", FaceDetector(network))


def test_a_difference_leaves_no_file(monkeypatch, tmp_path, checkpoint):
    """Neither the first graph nor, where only the one with suppression is wrong, any other file."""
    arguments = ["--trained_model", checkpoint, "--output_folder", tmp_path / "out", "--nms", "--confidence_threshold",
                 "0.02"]
    monkeypatch.setattr(export, "add_suppression", lambda graph, _: add_suppression(graph, DetectionSettings(0.9)))
    with pytest.raises(UserError, match="keeps other faces"):
        run(monkeypatch, *arguments)
    assert list((tmp_path / "out").iterdir()) == []
    monkeypatch.setattr("deployment.onnx_graph.PIXEL_TOLERANCE", 0)
    with pytest.raises(UserError, match="differs from PyTorch"):
        run(monkeypatch, *arguments)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_nan_is_a_difference(package, network):
    detector = FaceDetector(network)
    detector.heads.convs[0].bias.data[0] = float("nan")
    with pytest.raises(UserError, match="by nan px"):
        check_graph(package / "featherface_v2_deployment.onnx", detector)


def test_the_ap_comes_from_the_table_of_this_very_checkpoint(monkeypatch, tmp_path, checkpoint, validation_set):
    monkeypatch.setattr(sys, "argv", ["test_widerface.py", "--trained_model", str(checkpoint), "--dataset_folder",
                                      str(validation_set), "--save_folder", str(tmp_path / "measured"), "--protocol",
                                      "vga", "--cpu", "--num_workers", "0"])
    test_widerface.main()
    table = tmp_path / "measured" / "table.json"
    [row] = json.loads(table.read_text())
    run(monkeypatch, "--trained_model", checkpoint, "--output_folder", tmp_path / "out", "--table", table)
    [told] = torch.load(tmp_path / "out/featherface_v2_deployment.pth", weights_only=True)["average_precision"]
    assert (told["dataset"], told["protocol"], told["hard"]) == (row["dataset"], "vga", row["hard"])
    assert f"{row['hard']:.4f}" in (tmp_path / "out/README.md").read_text(encoding="utf-8")

    changed = settled_network("v2")
    changed.heads.logits[0].bias.data += 0.5
    assert known_precision(save_checkpoint(tmp_path / checkpoint.name, changed), table) == []
    assert known_precision(tmp_path / "out/featherface_v2_deployment.pth", None) == [told]


def test_the_test_script_takes_a_graph(monkeypatch, tmp_path, package, validation_set):
    folder = shutil.copytree(validation_set, tmp_path / "val")
    monkeypatch.setattr(sys, "argv", ["test_widerface.py", "--trained_model",
                                      str(package / "featherface_v2_deployment.onnx"), "--dataset_folder", str(folder),
                                      "--save_folder", str(tmp_path / "out"), "--protocol", "vga", "--cpu",
                                      "--num_workers", "0"])
    test_widerface.main()
    [row] = json.loads((tmp_path / "out/table.json").read_text())
    assert (row["model"], row["parameters"]) == ("featherface_v2_deployment", 254112)


@pytest.mark.parametrize(("wrong", "words"), [
    (["--trained_model", "nowhere.pth"], "nowhere.pth"),
    (["--trained_model", __file__], "no readable checkpoint"),
    (["--int8"], "go together"),
    (["--dataset_folder", "."], "go together"),
    (["--int8", "--dataset_folder", "nowhere"], "nowhere"),
    (["--calibration_pictures", "0"], "1 or more"),
    (["--confidence_threshold", "2"], "0 to 1"),
    (["--table", "nowhere.json"], "nowhere.json is no table.json"),
])
def test_mistakes_get_one_line(monkeypatch, capsys, tmp_path, checkpoint, wrong, words):
    arguments = ["--trained_model", str(checkpoint), "--output_folder", str(tmp_path / "out"), *wrong]
    monkeypatch.setattr(sys, "argv", ["export.py", *arguments])
    with pytest.raises(SystemExit) as stop:
        export.run_script(export.main)
    told = capsys.readouterr().err
    assert stop.value.code == 2 and words in told and "Traceback" not in told
    assert not (tmp_path / "out").exists()


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
    with pytest.raises(UserError, match="no graph of export.py: it gives y in place of"):
        load_detector(path, CPU)


def test_a_gpu_onnxruntime_cannot_use_is_told(monkeypatch, package):
    monkeypatch.setattr("detection.onnx_detector.get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(UserError, match="on a GPU: pass --gpu cpu"):
        load_detector(package / "featherface_v2_deployment.onnx", torch.device("cuda", 0))


@needs_shared
def test_the_published_teacher_passes_the_check_on_a_photograph(tmp_path):
    """Its largest boxes reach 900 px, where float32 has steps of 6e-5."""
    network = load_model(SHARED / "weights" / "FeatherNetB_se.pth")
    folder = Path(SHARED / "data" / "people" / "val")
    picture = read_picture(folder / "images" / list_pictures(folder)[0])
    images = torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1)[None, :, :231, :333]))
    path = tmp_path / "teacher.onnx"
    assert max(export.write_graph(path, FaceDetector(network), False)) < 1e-3
    with torch.inference_mode():
        found, expected = OnnxDetector(path)(images), FaceDetector(network)(images)
    assert expected.scores.max() > 0.5
    for field, reference, tolerance in zip(found, expected, (1e-3, 1e-4, 1e-3)):
        torch.testing.assert_close(field, reference, rtol=0, atol=tolerance)
