"""Graphs of 8 bits."""

import json

import onnx
import pytest
from torch import nn

from data.picture_files import write_picture
from deployment.quantization import float_convolutions, quantize
from detection.onnx_detector import OnnxDetector
from detection.validation import open_validation_set, predict
from tests.helpers import CPU, noise, picture_of_noise
from widerface_evaluate.average_precision import evaluate
from widerface_evaluate.wider_files import load_ground_truth


def test_eight_bits_run_and_say_what_they_cost(package, student, validation_set):
    path = package / "featherface_v2_deployment_int8.onnx"
    quantized, plain = OnnxDetector(path), OnnxDetector(package / "featherface_v2_deployment.onnx")
    assert path.stat().st_size < 0.7 * (package / "featherface_v2_deployment.onnx").stat().st_size
    images = noise(2, 97, 130)
    differences = (quantized(images).boxes - plain(images).boxes).abs()
    assert 0 < differences.median() < 2
    truth = load_ground_truth(validation_set / "ground_truth")
    for name, detector in (("ap_float32", plain), ("ap_int8", quantized)):
        expected = evaluate(predict(detector, open_validation_set(validation_set), "vga", CPU, 0), truth)
        told = {subset: float("nan") if value is None else value
                for subset, value in json.loads(quantized.metadata[name]).items()}
        assert told == pytest.approx(expected, abs=1e-6, nan_ok=True)
    assert (quantized.name, quantized.metadata["calibration_pictures"]) == ("v2", "2")


def test_pictures_of_any_size_set_the_ranges_and_nothing_is_printed(package, tmp_path, capsys):
    paths = [tmp_path / "a.png", tmp_path / "b.png", tmp_path / "c.png"]
    for path, size in zip(paths, ((40, 90), (90, 40))):
        write_picture(path, picture_of_noise(*size))
    assert quantize(package / "featherface_v2_deployment.onnx", tmp_path / "int8.onnx", paths) == 2
    assert capsys.readouterr().out == ""
    assert OnnxDetector(tmp_path / "int8.onnx")(noise(1, 33, 65)).boxes.isfinite().all()


def test_first_depthwise_and_last_convolutions_stay_float(package, student):
    names = float_convolutions(onnx.load(package / "featherface_v2_deployment.onnx"))
    assert names[0] == "/backbone/stage1/stage1.0/halves/halves.0/Conv"
    assert sum("/heads/" in name for name in names) == 3
    depthwise = sum(isinstance(module, nn.Conv2d) and module.groups > 1 for module in student.modules())
    assert len(names) == 4 + depthwise
