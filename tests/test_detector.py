"""From pictures to detections and to AP: scaling, padding, batching, suppression, the test script."""

import re
import sys

import numpy as np
import pytest
import torch
from torch import nn

import test_widerface
from data.demo import write_demo_set
from layers.anchors import make_anchors
from layers.box_coder import encode_boxes, encode_landmarks
from layers.matcher import assign
from models import build_model
from models.outputs import FaceOutputs
from tests.test_assignment import make_targets
from utils.detector import DetectionSettings, PictureFolder, detect, detect_files, scale_and_pad, select
from utils.files import read_picture, write_picture
from utils.log import UserError
from utils.validation import average_precision, list_pictures, measure_ap, predict
from widerface_evaluate.evaluation import evaluate
from widerface_evaluate.wider_files import load_ground_truth, read_predictions

SETTINGS = DetectionSettings()
CPU = torch.device("cpu")


class RedBoxes(nn.Module):
    """A detector that finds the one red rectangle of a picture: its outputs are the code of its true box."""

    def forward(self, images):
        height, width = images.shape[2:]
        anchors = make_anchors(height, width)
        rows = []
        for picture, image in enumerate(images):
            red = (image[2] > 60) & (image[1] < -60)
            y, x = red.nonzero().unbind(1)
            rows.append((picture, (x.min(), y.min(), x.max() + 1, y.max() + 1), 1))
        result = assign(make_targets(rows), anchors, len(images))
        logits = torch.where(result.positive[..., None], torch.tensor([0.0, 4.0]), torch.tensor([9.0, 0.0]))
        boxes = encode_boxes(result.boxes, anchors)
        return FaceOutputs(boxes, logits, encode_landmarks(result.landmarks, anchors), ())


def red_picture(height, width, box):
    picture = np.full((height, width, 3), 90, np.uint8)
    left, top, right, bottom = box
    picture[top:bottom, left:right] = (0, 0, 255)
    return picture


def test_boxes_come_back_in_the_pixels_of_the_file_whatever_the_protocol(tmp_path):
    paths, boxes = [], []
    for index, (height, width) in enumerate([(333, 501), (1201, 800), (64, 64), (501, 333), (333, 501)]):
        box = (width // 4, height // 4, width // 2, height // 2 + 3)
        paths.append(tmp_path / f"ünïcode {index}.png")
        write_picture(paths[-1], red_picture(height, width, box))
        boxes.append(box)
    for protocol in ("original", "vga"):
        found = dict(detect_files(RedBoxes(), paths, protocol, SETTINGS, CPU, batch_size=2))
        assert sorted(found) == list(range(len(paths)))
        for index, box in enumerate(boxes):
            height, width = read_picture(paths[index]).shape[:2]
            pixel = max(1.0, max(height, width) / 640) if protocol == "vga" else 0.01
            assert len(found[index].boxes) == 1
            assert np.abs(found[index].boxes[0] - box).max() <= pixel
            center = np.float32([(box[0] + box[2]) / 2, (box[1] + box[3]) / 2])
            assert np.abs(found[index].landmarks[0] - center).max() <= pixel


def test_a_picture_is_padded_right_and_below_with_the_mean():
    padded = scale_and_pad(np.zeros((33, 64, 3), np.uint8), 1.0)
    assert padded.shape == (64, 64, 3) and (padded[33:] == (104, 117, 123)).all() and not padded[:33].any()


def test_one_pixel_and_an_enormous_strip(tmp_path):
    paths = [tmp_path / "one.png", tmp_path / "strip.png"]
    write_picture(paths[0], np.zeros((1, 1, 3), np.uint8))
    write_picture(paths[1], np.zeros((2, 4000, 3), np.uint8))
    network = build_model("v2").eval()
    for protocol in ("original", "vga"):
        for _, detections in detect_files(network, paths, protocol, SETTINGS, CPU):
            assert np.isfinite(detections.boxes).all()


def test_a_picture_that_cannot_be_read_is_named_not_dropped(tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    found = dict(detect_files(RedBoxes(), [tmp_path / "broken.jpg", tmp_path / "absent.jpg"], "vga", SETTINGS, CPU))
    assert found == {0: None, 1: None}


def test_batches_give_what_single_pictures_give(tmp_path):
    torch.manual_seed(0)
    network = build_model("v2").eval()
    nn.init.normal_(network.heads.logits[0].weight, std=1.0)
    rng = np.random.default_rng(0)
    paths = [tmp_path / f"{index}.png" for index in range(5)]
    for index, path in enumerate(paths):
        write_picture(path, rng.integers(0, 256, (90 - index, 120, 3), dtype=np.uint8))
    together = dict(detect_files(network, paths, "original", SETTINGS, CPU, batch_size=4))
    for index, path in enumerate(paths):
        _, picture, _ = PictureFolder([path], "original")[0]
        [alone] = detect(network, picture[None], SETTINGS)
        assert len(alone.boxes) > 0
        np.testing.assert_allclose(together[index].scores, alone.scores, atol=1e-4)


def test_suppression_keeps_the_best_of_overlapping_boxes():
    """By hand, with the areas of continuous boxes: IoU 0.41 goes, 0.39 stays."""
    anchors = torch.tensor([[50.0, 50.0, 32.0, 32.0]] * 3)
    boxes = torch.tensor([[0.0, 0.0, 100.0, 100.0], [0.0, 0.0, 100.0, 41.0], [0.0, 61.0, 100.0, 100.0]])
    logits = torch.tensor([[0.0, 3.0], [0.0, 2.0], [0.0, 1.0]])
    outputs = FaceOutputs(encode_boxes(boxes, anchors), logits, torch.zeros(3, 10), ())
    found = select(outputs, anchors, SETTINGS)
    np.testing.assert_allclose(found.boxes, boxes[[0, 2]].numpy(), atol=1e-3)
    assert found.scores[0] > found.scores[1]
    few = select(outputs, anchors, DetectionSettings(keep_top_k=1))
    assert len(few.boxes) == 1
    none = select(outputs, anchors, DetectionSettings(confidence_threshold=0.999))
    assert none.boxes.shape == (0, 4) and none.landmarks.shape == (0, 5, 2)


@pytest.fixture(scope="module")
def validation_set(tmp_path_factory):
    folder = tmp_path_factory.mktemp("validation") / "set"
    write_demo_set(folder, train_pictures=1, val_pictures=8)
    return folder / "val"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    torch.manual_seed(0)
    network = build_model("v2")
    nn.init.normal_(network.heads.logits[0].weight, std=1.0)
    path = tmp_path_factory.mktemp("checkpoint") / "Student.pth"
    torch.save({"model_name": "v2", "model": network.state_dict(), "ema": None}, path)
    return path


def test_the_script_writes_detections_and_the_ap_they_get(monkeypatch, capsys, validation_set, checkpoint, tmp_path):
    arguments = ["--trained_model", str(checkpoint), "--dataset_folder", str(validation_set), "--save_folder",
                 str(tmp_path), "--cpu", "--num_workers", "0", "--save_image"]
    monkeypatch.setattr(sys, "argv", ["test_widerface.py", *arguments])
    test_widerface.main()
    printed = capsys.readouterr().out
    truth = load_ground_truth(validation_set / "ground_truth")
    written = evaluate(read_predictions(tmp_path / "Student_original", truth), truth)
    shown = re.search(r"Student\s+\S+\s+(\S+)\s+(\S+)\s+(\S+)\s", printed).groups()
    assert [float(value) for value in shown] == pytest.approx(list(written.values()), abs=2e-3)
    assert (tmp_path / "Student_original.jpg").stat().st_size > 1000
    assert len(list(tmp_path.glob("Student_original/*/*.txt"))) == len(list_pictures(validation_set))


def test_ap_in_memory_is_that_of_the_same_detections(validation_set):
    truth = load_ground_truth(validation_set / "ground_truth")
    network = build_model("v2").eval()
    predictions, unreadable = predict(network, validation_set, "vga", SETTINGS, CPU)
    assert not unreadable and set(predictions) == set(truth.pictures)
    expected = {f"ap_{name}": value for name, value in evaluate(predictions, truth).items()}
    expected["ap_mean"] = np.nanmean(list(expected.values()))
    assert measure_ap(network, validation_set, "vga", CPU, 0) == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize(("wrong", "words"), [
    (["--network", "v1"], "holds v2, not v1"),
    (["--trained_model", "nowhere.pth"], "nowhere.pth"),
    (["--dataset_folder", "nowhere"], "wider_val.txt"),
    (["--nms_threshold", "2"], "0 to 1"),
])
def test_mistakes_get_one_line(monkeypatch, capsys, validation_set, checkpoint, wrong, words):
    arguments = ["--trained_model", str(checkpoint), "--dataset_folder", str(validation_set), "--cpu", *wrong]
    monkeypatch.setattr(sys, "argv", ["test_widerface.py", *arguments])
    with pytest.raises(SystemExit) as stop:
        test_widerface.run_script(test_widerface.main)
    told = capsys.readouterr().err
    assert stop.value.code == 2 and words in told and "Traceback" not in told


@pytest.mark.parametrize(("text", "words"), [("\n", "names no picture"), ("/EVENT/a.jpg\nb.jpg\n", "'b.jpg'")])
def test_a_broken_list_of_pictures_is_told(tmp_path, text, words):
    (tmp_path / "wider_val.txt").write_text(text)
    with pytest.raises(UserError, match=words):
        list_pictures(tmp_path)


def test_pictures_the_ground_truth_does_not_have_are_told(validation_set):
    truth = load_ground_truth(validation_set / "ground_truth")
    predictions = {picture: np.zeros((0, 5)) for picture in truth.pictures}
    predictions["0--Nowhere", "a"] = np.zeros((0, 5))
    with pytest.raises(UserError, match="Nowhere"):
        average_precision(predictions, truth)
