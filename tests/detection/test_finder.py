"""Faces in a few lines of Python."""

from pathlib import Path

import numpy as np
import pytest
import torch

from data.picture_files import write_picture
from detection import finder
from detection.face_detector import FaceDetector
from detection.finder import FaceFinder
from detection.inference import detect
from detection.protocols import FITTED
from detection.suppression import DetectionSettings
from tests.helpers import CPU, picture_of_noise, red_crowd, red_squares
from utils.errors import UserError


@pytest.fixture
def find_red(monkeypatch):
    """A finder of red squares, with settings."""
    monkeypatch.setattr(finder, "load_detector", lambda path, device: red_squares)
    return lambda **settings: FaceFinder(device="cpu", **settings)


def boxes_of(faces):
    return sorted(map(tuple, faces.boxes.round().astype(int).tolist()))


def squares(side, places):
    return sorted((x, y, x + side, y + side) for x, y in places)


def test_the_default_is_the_checkpoint_beside_the_code(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    find = FaceFinder(device="cpu")
    assert find.detector.name == "v2" and len(find(np.zeros((1, 1, 3), np.uint8)).scores) == 0


def test_it_gives_what_the_detector_gives(student, student_checkpoint, tmp_path):
    picture = picture_of_noise()
    write_picture(tmp_path / "ä.png", picture)
    expected = detect(FaceDetector(student), picture, FITTED, DetectionSettings(0.5), CPU)
    assert len(expected.scores) > 1
    find = FaceFinder(student_checkpoint, device=CPU)
    for faces in (find(picture), find(tmp_path / "ä.png"), find(str(tmp_path / "ä.png")), *find([picture])):
        for field, other in zip(faces, expected):
            np.testing.assert_array_equal(field, other)
            assert field.dtype == np.float32
        assert faces.landmarks.shape == (len(faces.scores), 5, 2)


def test_a_graph_gives_what_its_checkpoint_gives(package, student_checkpoint):
    picture = picture_of_noise()
    expected, found = (FaceFinder(path, "cpu", confidence_threshold=0.1)(picture)
                       for path in (student_checkpoint, package / "featherface_v2_deployment.onnx"))
    assert len(found.scores) == len(expected.scores) > 0
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-4)


def test_several_pictures_keep_their_order_and_go_in_batches(find_red, monkeypatch, tmp_path):
    batches = []
    monkeypatch.setattr(finder, "load_detector",
                        lambda path, device: lambda images: batches.append(len(images)) or red_squares(images))
    places = [[(8 * index, 20)] for index in range(7)]
    pictures = [red_crowd(64 if index % 2 else 96, 96, 16, place) for index, place in enumerate(places)]
    write_picture(tmp_path / "last.png", pictures[-1])
    given = [*pictures[:-1], tmp_path / "last.png"]
    for one in (given, tuple(given), iter(given)):
        assert [boxes_of(faces) for faces in find_red()(one)] == [squares(16, place) for place in places]
    assert batches == [4, 3] * 3
    assert find_red()([]) == []


@pytest.mark.parametrize(("height", "width"), [(200, 12_000), (12_000, 200)])
def test_every_face_of_a_panorama_is_found_once(find_red, height, width):
    """Faces of 14 px, which fitted into 1280 px would have 1.5."""
    along = [8 + 153 * index for index in range(78)]
    places = [(place, 40 + place % 100) if width > height else (40 + place % 100, place) for place in along]
    assert boxes_of(find_red()(red_crowd(height, width, 14, places))) == squares(14, places)


@pytest.mark.parametrize("side", [1, 2, 30, 100, 199])
def test_a_face_anywhere_in_a_panorama_is_found_whole(find_red, side):
    find = find_red()
    for x in range(1050, 1320, 9):  # over the first seam
        assert boxes_of(find(red_crowd(200, 3000, side, [(x, 0)]))) == [(x, 0, x + side, side)]


def test_tiles_find_tiny_faces_and_the_whole_picture_a_near_one(find_red):
    tiny = [(40 + 97 * index, 30 + 53 * (index % 17)) for index in range(38)]
    picture = red_crowd(3000, 4000, 8, tiny)
    picture[1000:2200, 1500:2700] = (0, 0, 255)
    found = find_red(tile=320)(picture).boxes
    for box in (*squares(8, tiny), (1500, 1000, 2700, 2200)):
        assert (np.abs(found - box).max(axis=1) < 3).sum() == 1
    sides = (found[:, 2:] - found[:, :2]).max(axis=1)
    assert not ((sides > 1200 / 5) & (sides < 1190)).any()  # no part of the near one passes for a face


def test_five_thousand_faces_are_five_thousand(find_red):
    places = [(4 + 20 * x, 4 + 20 * y) for x in range(60) for y in range(60)]
    assert boxes_of(find_red()(red_crowd(1208, 1208, 10, places))) == squares(10, places)


@pytest.mark.parametrize(("picture", "words"), [
    (np.zeros((4, 4, 3), np.float32), "float32 [4, 4, 3]"), (np.zeros((4, 4), np.uint8), "uint8 [4, 4]"),
    (np.zeros((4, 4, 4), np.uint8), "uint8 [4, 4, 4]"), (np.zeros((0, 4, 3), np.uint8), "uint8 [0, 4, 3]"),
    ("nowhere.jpg", "cannot read nowhere.jpg: there is no such file"), (Path("."), "a folder"),
    ([3], "a int is no picture"), ([torch.zeros(3, 4, 4)], "a Tensor is no picture"),
])
def test_what_is_no_picture_is_told(find_red, monkeypatch, tmp_path, picture, words):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as told:
        find_red()(picture)
    assert words in str(told.value)


@pytest.mark.parametrize(("settings", "words"), [
    ({"device": "cuda:99"}, "device cuda:99 cannot be used"), ({"device": "no"}, "device no cannot be used"),
    ({"device": "cpu", "protocol": "none"}, "choose one of fitted, vga"),
    ({"device": "cpu", "weights": "nowhere.pth"}, "nowhere.pth"),
    *[({"device": "cpu", name: value}, f"{name} {value} is out of range, it must be 0 to 1")
      for name in ("confidence_threshold", "nms_threshold") for value in (30, -0.01, float("nan"), float("inf"))],
    *[({"device": "cpu", "tile": tile}, f"tile {tile} must be a whole number of pixels, 64 or more")
      for tile in (0, 1, 63, -5, 64.5, 128.0, True)],
])
def test_what_it_cannot_work_with_is_told(settings, words):
    with pytest.raises(UserError) as told:
        FaceFinder(**settings)
    assert words in str(told.value) and "\n" not in str(told.value)


@pytest.mark.parametrize("settings", [
    {"confidence_threshold": 0, "nms_threshold": 1}, {"confidence_threshold": 1, "nms_threshold": np.float32(0)},
    {"tile": 64}, {"tile": np.int64(2048)},
])
def test_bounds_are_allowed(find_red, settings):
    find_red(**settings)(red_crowd(100, 100, 16, [(8, 8)]))
