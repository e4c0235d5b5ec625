"""The usual evaluation loop: anchors, suppression, text files."""

import numpy as np
import pytest
import torch

from benchmarks.baselines.published import as_published
from benchmarks.baselines.usual_loop import detect_file, prior_boxes, suppress, write_text
from data.picture_files import write_picture
from detection.suppression import DetectionSettings
from layers.anchors import make_anchors
from tests.helpers import CPU, detections_of
from utils.errors import UserError


@pytest.mark.parametrize(("height", "width"), [(1, 1), (33, 501), (96, 160), (257, 31)])
def test_the_usual_priors_are_our_anchors(height, width):
    pixels = prior_boxes(height, width) * torch.tensor([width, height] * 2)
    torch.testing.assert_close(pixels, make_anchors(height, width), rtol=1e-5, atol=1e-3)


def test_the_usual_plus_one_joins_boxes_that_ours_leaves():
    """IoU 16/48 of continuous boxes, 25/65 with the +1."""
    boxes, scores = np.float32([[0, 0, 4, 8], [0, 4, 4, 12]]), np.float32([0.5, 0.9])
    assert suppress(boxes, scores, 0.35, pixel=0) == [1, 0]
    assert suppress(boxes, scores, 0.35, pixel=1) == [1]
    assert suppress(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), 0.4, pixel=1) == []


def test_the_usual_text_file_is_whole_pixels(tmp_path):
    write_text(detections_of([10.7, 20.2, 30.9, 50.6, 0.75]), tmp_path / "event" / "a.txt")
    assert (tmp_path / "event" / "a.txt").read_text() == "a\n1\n10 20 20 30 0.75\n"


@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 200)])
def test_the_usual_loop_takes_any_size(tmp_path, student, height, width):
    write_picture(tmp_path / "small.png", np.full((height, width, 3), 90, np.uint8))
    found = detect_file(as_published(student), tmp_path / "small.png", DetectionSettings(), CPU)
    assert np.isfinite(found.boxes).all() and found.landmarks.shape[1:] == (5, 2)


def test_a_picture_the_usual_loop_stops_at_is_told(tmp_path, student):
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    with pytest.raises(UserError, match="broken.jpg"):
        detect_file(as_published(student), tmp_path / "broken.jpg", DetectionSettings(), CPU)
