"""Heights of faces in training and evaluation, on drawn pictures."""

import numpy as np
import pytest

from benchmarks import face_sizes
from benchmarks.face_sizes import HEIGHTS, evaluated_heights, share_row, training_heights
from data.widerface import read_labels
from detection.validation import open_validation_set
from tests.helpers import exit_code


def test_heights_are_shared_out_by_bin():
    row = share_row("some", np.array([5.0, 6.0, 7.9, 1000.0]), 2)
    assert row["a picture"] == 2
    assert [row[f"from {height} px"] for height in HEIGHTS] == [0.25, 0.5] + [0] * 7 + [0.25]


def test_a_crop_of_half_the_side_shows_faces_twice_as_high(drawn_set):
    records, _ = read_labels(drawn_set(12, 12) / "train" / "label.txt")
    near, far = (training_heights(records, 640, [scale]).max() for scale in (0.5, 1.0))
    assert 1.3 * far < near < 3 * far


def test_a_protocol_scales_the_faces(labels):
    """Six faces of 30 px, in pictures of 90 x 120."""
    found = evaluated_heights(open_validation_set(labels.parent), ("original", "vga"))
    assert found["original"].tolist() == [30] * 6
    assert found["vga"].tolist() == pytest.approx([30 * 640 / 120] * 6)


def test_the_script_prints_its_table_and_one_line_for_a_mistake(capsys, drawn_set):
    folder = drawn_set(12, 12)
    face_sizes.main([str(folder / "train" / "label.txt"), str(folder / "val"), "--image_size", "64"])
    assert "validation, vga" in capsys.readouterr().out
    assert exit_code(face_sizes.main, "nowhere.txt", str(folder / "val")) == 2
    assert capsys.readouterr().err.count("\n") == 1
