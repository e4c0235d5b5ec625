"""The AP of a network on a validation folder."""

import shutil

import numpy as np
import pytest

from data.widerface import list_pictures
from detection.face_detector import FaceDetector
from detection.validation import measure_ap, open_validation_set, predict
from tests.helpers import CPU
from utils.errors import UserError
from widerface_evaluate.average_precision import evaluate
from widerface_evaluate.wider_files import load_ground_truth


def test_ap_while_training_is_that_of_the_same_detections(validation_set, student):
    truth = load_ground_truth(validation_set / "ground_truth")
    pictures = open_validation_set(validation_set)
    predictions = predict(FaceDetector(student), pictures, "vga", CPU, 0)
    assert set(predictions) == set(truth.pictures)
    expected = {f"ap_{name}": value for name, value in evaluate(predictions, truth).items()}
    expected["ap_mean"] = np.nanmean(list(expected.values()))
    assert measure_ap(student, pictures, "vga", CPU, 0) == pytest.approx(expected, nan_ok=True)


def test_pictures_the_ground_truth_does_not_have_are_told(tmp_path, validation_set):
    folder = shutil.copytree(validation_set, tmp_path / "val")
    with (folder / "wider_val.txt").open("a") as file:
        file.write("/0--Nowhere/a.jpg\n")
    pictures = open_validation_set(folder)
    assert any("0--Nowhere/a.jpg" in remark for remark in pictures.remarks)
    assert pictures.names == list_pictures(validation_set)
    (folder / "wider_val.txt").write_text("/0--Nowhere/a.jpg\n")
    with pytest.raises(UserError, match="Nowhere"):
        open_validation_set(folder)


def test_pictures_that_are_not_there_are_left_out_of_the_ap(tmp_path, validation_set):
    folder = shutil.copytree(validation_set, tmp_path / "val")
    first, *others = list_pictures(folder)
    (folder / "images" / first).unlink()
    pictures = open_validation_set(folder)
    assert pictures.names == others and len(pictures.truth.pictures) == len(others)
    assert pictures.extent.startswith(f"{len(others)} of {len(others) + 1} pictures")
    assert pictures.remarks[0].startswith("1 of 8 pictures") and first in pictures.remarks[0]
    shutil.rmtree(folder / "images")
    with pytest.raises(UserError, match="none of the 8 pictures"):
        open_validation_set(folder)


def test_a_shorter_list_is_a_smaller_set(tmp_path, validation_set):
    folder = shutil.copytree(validation_set, tmp_path / "val")
    names = list_pictures(folder)[:3]
    (folder / "wider_val.txt").write_text("".join(f"/{name}\n" for name in names))
    pictures = open_validation_set(folder)
    assert not pictures.remarks and pictures.extent.startswith("3 of 8 pictures")
    assert [f"{event}/{name}.jpg" for event, name in pictures.truth.pictures] == names
