"""From picture files to detections in their pixels: scaling, padding, batching."""

import numpy as np
import pytest
import torch

from data.picture_files import read_picture, write_picture
from detection.face_detector import FaceDetector
from detection.inference import detect, detect_files, pad_picture
from detection.protocols import PROTOCOLS
from detection.suppression import DetectionSettings
from models import build_model
from tests.helpers import CPU, RedBoxes, red_picture

SETTINGS = DetectionSettings()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_boxes_come_back_in_the_pixels_of_the_file_whatever_the_protocol(tmp_path, protocol):
    paths, boxes = [], []
    for index, (height, width) in enumerate([(333, 501), (1201, 800), (64, 64), (501, 333), (333, 501)]):
        box = (width // 4, height // 4, width // 2, height // 2 + 3)
        paths.append(tmp_path / f"ünïcode {index}.png")
        write_picture(paths[-1], red_picture(height, width, box))
        boxes.append(box)
    found = dict(detect_files(FaceDetector(RedBoxes()), paths, protocol, SETTINGS, CPU))
    assert sorted(found) == list(range(len(paths)))
    for index, box in enumerate(boxes):
        height, width = read_picture(paths[index]).shape[:2]
        smallest = min(PROTOCOLS[protocol].factors(height, width))
        pixel = 0.01 if protocol == "original" else max(1.0, 1 / smallest)
        assert len(found[index].boxes) == 1
        assert np.abs(found[index].boxes[0] - box).max() <= pixel
        center = np.float32([(box[0] + box[2]) / 2, (box[1] + box[3]) / 2])
        assert np.abs(found[index].landmarks[0] - center).max() <= pixel


def test_a_picture_is_padded_right_and_below_with_the_mean():
    padded = pad_picture(np.zeros((33, 64, 3), np.uint8))
    assert padded.shape == (3, 64, 64) and not padded[:, :33].any()
    assert (padded[:, 33:] == torch.tensor([104, 117, 123])[:, None, None]).all()


@pytest.mark.parametrize("protocol", ["original", "vga"])
def test_one_pixel_and_an_enormous_strip(tmp_path, protocol):
    paths = [tmp_path / "one.png", tmp_path / "strip.png"]
    write_picture(paths[0], np.zeros((1, 1, 3), np.uint8))
    write_picture(paths[1], np.zeros((2, 4000, 3), np.uint8))
    for _, detections in detect_files(FaceDetector(build_model("v2")), paths, protocol, SETTINGS, CPU):
        assert np.isfinite(detections.boxes).all()


def test_a_picture_that_cannot_be_read_is_named_not_dropped(tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    paths = [tmp_path / "broken.jpg", tmp_path / "absent.jpg"]
    assert dict(detect_files(FaceDetector(RedBoxes()), paths, "vga", SETTINGS, CPU)) == {0: None, 1: None}


@pytest.mark.parametrize("waiting", [1 << 26, 20000])
def test_batches_give_what_single_pictures_give(tmp_path, monkeypatch, student, waiting):
    """Whether all pictures wait together or two at a time."""
    monkeypatch.setattr("detection.inference.WAITING_PIXELS", waiting)
    detector = FaceDetector(student)
    rng = np.random.default_rng(0)
    paths = [tmp_path / f"{index}.png" for index in range(5)]
    for index, path in enumerate(paths):
        write_picture(path, rng.integers(0, 256, (90 - index, 120, 3), dtype=np.uint8))
    together = dict(detect_files(detector, paths, "original", SETTINGS, CPU))
    for index, path in enumerate(paths):
        alone = detect(detector, read_picture(path), PROTOCOLS["original"], SETTINGS, CPU)
        assert len(alone.boxes) > 0
        np.testing.assert_allclose(together[index].scores, alone.scores, atol=1e-4)
