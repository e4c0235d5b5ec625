"""export.py: no file where something differs, the cost of 8 bits, mistakes."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import export
import test_widerface
from data.picture_files import read_picture
from data.widerface import list_pictures
from deployment.onnx_graph import add_suppression
from detection.face_detector import FaceDetector
from detection.onnx_detector import OnnxDetector
from detection.suppression import DetectionSettings
from detection.validation import open_validation_set
from models import load_model
from tests.helpers import SHARED, call, exit_code, needs_shared
from utils.errors import UserError


@pytest.fixture(scope="module", autouse=True)
def one_timed_run():
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(export, "TIMED_RUNS", 1)
        monkeypatch.setattr(export, "WARM_UP_RUNS", 0)
        yield


def test_a_loss_of_more_than_a_point_is_a_warning(monkeypatch, capsys, tmp_path, package, validation_set):
    plain = package / "featherface_v2_deployment.onnx"
    quantized = shutil.copy(plain, tmp_path / "int8.onnx")
    pictures = open_validation_set(validation_set)
    monkeypatch.setattr(export, "predict", lambda *_, **__: {})
    before = {"easy": 0.5, "medium": float("nan"), "hard": 0.4}
    for hard, warns in ((0.391, False), (0.388, True)):
        results = iter([before, {"easy": 0.52, "medium": 0.1, "hard": hard}])
        monkeypatch.setattr(export, "evaluate", lambda *_, results=results: next(results))
        export.compare_precision(plain, None, quantized, pictures)
        assert ("1.2 on hard" in capsys.readouterr().out) == warns
    assert json.loads(OnnxDetector(quantized).metadata["ap_float32"]) == {"easy": 0.5, "medium": None, "hard": 0.4}


def test_a_difference_leaves_no_file(monkeypatch, tmp_path, student_checkpoint):
    """Neither the first graph nor, where only the one with suppression is wrong, any other file."""
    arguments = ["--trained_model", student_checkpoint, "--output_folder", tmp_path / "out", "--nms",
                 "--confidence_threshold", "0.02"]
    monkeypatch.setattr(export, "add_suppression", lambda graph, _: add_suppression(graph, DetectionSettings(0.9)))
    with pytest.raises(UserError, match="keeps other faces"):
        call(export.main, *arguments)
    assert list((tmp_path / "out").iterdir()) == []
    monkeypatch.setattr("deployment.onnx_graph.PIXEL_TOLERANCE", 0)
    with pytest.raises(UserError, match="differs from PyTorch"):
        call(export.main, *arguments)
    assert list((tmp_path / "out").iterdir()) == []


def test_the_test_script_takes_a_graph(tmp_path, package, validation_set):
    folder = shutil.copytree(validation_set, tmp_path / "val")
    call(test_widerface.main, "--trained_model", package / "featherface_v2_deployment.onnx", "--dataset_folder", folder,
         "--save_folder", tmp_path / "out", "--protocol", "vga", "--cpu", "--num_workers", "0")
    [row] = json.loads((tmp_path / "out/table.json").read_text())
    assert (row["model"], row["parameters"]) == ("featherface_v2_deployment", 254112)


def test_differences_stand_beside_the_graph_that_they_are_of(monkeypatch, capsys, tmp_path, student_checkpoint):
    """Nothing is said of the graph with suppression, which is compared with the plain one."""
    monkeypatch.setattr(export, "write_graph", lambda path, *_: path.write_bytes(b"graph") and (1e-4, 2e-7))
    monkeypatch.setattr(export, "write_suppressed", lambda path, *_: path.write_bytes(b"graph"))
    monkeypatch.setattr(export, "write_half", lambda path, *_: path.write_bytes(b"graph") and (0.88, 3e-3))
    monkeypatch.setattr(export, "time_graphs", lambda graphs: dict.fromkeys(graphs, (9.5, "640 x 640")))
    call(export.main, "--trained_model", student_checkpoint, "--output_folder", tmp_path, "--nms", "--half")
    told = dict(re.findall(r"featherface_v2_deployment(\S+): .* at 640 x 640(.*)$", capsys.readouterr().out, re.M))
    assert told == {
        ".onnx": ", at most 0.0001 px and 2e-07 in score from PyTorch", "_nms.onnx": "",
        "_half.onnx": ", at most 0.9 px and 0.003 in score from PyTorch",
    }


def test_times_are_medians_at_the_size_that_a_graph_takes(monkeypatch, package):
    [fixed] = package.glob("*_*x*.onnx")
    size = fixed.stem.split("_")[-1].replace("x", " x ")

    def turns(runs, rounds, warmup):
        for run in runs.values():
            run()
        return dict(zip(runs, ([4.0, 100.0, 5.0], [3.0, 1.0, 2.0])))

    monkeypatch.setattr(export, "take_turns", turns)
    times = export.time_graphs({"graph": package / "featherface_v2_deployment.onnx", "fixed": fixed})
    assert times == {"graph": (5, "640 x 640"), "fixed": (2, size)}


@pytest.mark.parametrize(("wrong", "words"), [
    (["--trained_model", "nowhere.pth"], "nowhere.pth"),
    (["--trained_model", __file__], "no readable checkpoint"),
    (["--int8"], "--int8 needs --dataset_folder"),
    (["--dataset_folder", "."], "goes with --half or --int8"),
    (["--keep_top_k", "750"], "argument --keep_top_k: it goes with --nms"),
    (["--half", "--calibration-pictures=9"], "argument --calibration_pictures: it goes with --int8"),
    (["--image_size", "640"], "2 arguments"),
    (["--image_size", "640", "63"], "out of range"),
    (["--image_size", "640x480"], "2 arguments"),
    (["--int8", "--dataset_folder", "nowhere"], "nowhere"),
    (["--int8", "--calibration_pictures", "0"], "1 or more"),
    (["--confidence_threshold", "2"], "0 to 1"),
    (["--table", "nowhere.json"], "nowhere.json is no table.json"),
])
def test_mistakes_get_one_line(capsys, tmp_path, student_checkpoint, wrong, words):
    code = exit_code(export.main, "--trained_model", student_checkpoint, "--output_folder", tmp_path / "out", *wrong)
    told = capsys.readouterr().err
    assert code == 2 and words in told and "Traceback" not in told
    assert not (tmp_path / "out").exists()


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
