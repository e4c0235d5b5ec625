"""Validation pictures pasted into one, and what is found in it."""

import numpy as np
import pytest

from benchmarks.tiles import look, main, paste
from detection import finder
from detection.finder import FaceFinder
from detection.validation import open_validation_set
from tests.helpers import exit_code, red_crowd, red_squares


def test_faces_lie_where_their_pictures_were_pasted(validation_set):
    pictures = open_validation_set(validation_set)
    picture, faces = paste(pictures, (1500, 400), 200, seed=0)
    again, _ = paste(pictures, (1500, 400), 200, seed=0)
    assert picture.shape == (400, 1500, 3) and np.array_equal(picture, again)
    assert len(faces) > 5 and (faces >= -1).all() and (faces <= (1501, 401, 1501, 401)).all()
    drawn = (picture != (104, 117, 123)).any(axis=-1)
    centres = ((faces[:, :2] + faces[:, 2:]) / 2).astype(int)
    assert drawn[centres[:, 1], centres[:, 0]].mean() > 0.9


def test_found_faces_and_boxes_of_none_are_counted(monkeypatch):
    monkeypatch.setattr(finder, "load_detector", lambda path, device: red_squares)
    picture = red_crowd(100, 300, 20, [(10, 10), (60, 10), (200, 40)])
    faces = np.array([[10, 10, 30, 30], [60, 10, 80, 30], [100, 10, 120, 30], [5, 5, 9, 9]], float)
    row = look(FaceFinder(device="cpu"), "x", picture, faces, smallest=10)
    assert row == {"looked at": "x", "faces": 3, "found": 2, "boxes of no face": 1}


def test_the_table_and_its_conditions(validation_set, student_checkpoint, capsys):
    arguments = ["--dataset_folder", validation_set, "--trained_model", student_checkpoint, "--gpu", "cpu"]
    assert exit_code(main, *arguments, "--size", "1400", "100", "--row", "100", "--tile", "320") is None
    told = capsys.readouterr().out
    assert "as detect.py does" in told and "--tile 320" in told and "1400 x 100 pixels, faces of 10 px" in told
    assert exit_code(main, *arguments, "--size", "64", "64", "--row", "100") == 2


@pytest.mark.parametrize("size", [(64, 64), (1500, 199)])
def test_pictures_that_do_not_fit_are_not_pasted(validation_set, size):
    _, faces = paste(open_validation_set(validation_set), size, 200, seed=0)
    assert len(faces) == 0
