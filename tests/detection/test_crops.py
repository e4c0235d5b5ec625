"""Faces cut out, and aligned for recognisers."""

from pathlib import Path

import numpy as np
import pytest

from data.picture_files import read_picture
from detection.crops import ALIGNED_SIDE, TEMPLATE, align_face, crop_face, earlier_faces, similarity, write_faces
from detection.sources import find_sources
from tests.helpers import detections_of, picture_of_noise


@pytest.mark.parametrize("degrees", [0, 30, 90, 180, 271])
@pytest.mark.parametrize("scale", [0.05, 1, 7])
def test_a_turned_scaled_and_moved_face_comes_to_lie_on_the_template(degrees, scale):
    turn = np.radians(degrees)
    rotation = scale * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    found = (TEMPLATE @ rotation.T + (300, -20)).astype(np.float32)
    matrix = similarity(found, TEMPLATE)
    np.testing.assert_allclose(found @ matrix[:, :2].T + matrix[:, 2], TEMPLATE, atol=1e-3)


def test_landmarks_that_do_not_fit_are_brought_as_near_as_they_can_be():
    """By least squares, without mirroring: no small change of the four numbers comes nearer."""
    rng = np.random.default_rng(0)
    points = rng.uniform(0, 200, (5, 2))
    best = similarity(points, TEMPLATE)

    def error(matrix):
        return ((points @ matrix[:, :2].T + matrix[:, 2] - TEMPLATE) ** 2).sum()

    for turn, stretch, x, y in rng.normal(0, 1e-3, (50, 4)):
        changed = best + np.array([[turn, -stretch, 100 * x], [stretch, turn, 100 * y]])
        assert error(changed) >= error(best)


def test_pixels_go_where_the_landmarks_say():
    picture = np.zeros((400, 400, 3), np.uint8)
    landmarks = (2 * TEMPLATE + (80, 60)).round()
    for index, (x, y) in enumerate(landmarks.astype(int)):
        picture[y - 4:y + 5, x - 4:x + 5] = 50 * (index + 1)
    aligned = align_face(picture, landmarks)
    assert aligned.shape == (ALIGNED_SIDE, ALIGNED_SIDE, 3) and aligned.dtype == np.uint8
    assert [int(aligned[round(y), round(x), 0]) for x, y in TEMPLATE] == [50, 100, 150, 200, 250]


def test_one_pixel_and_landmarks_on_one_point_are_no_error():
    assert align_face(np.zeros((1, 1, 3), np.uint8), np.zeros((5, 2))).shape == (112, 112, 3)


@pytest.mark.parametrize(("box", "shape"), [
    ((10.2, 20.7, 30.1, 40), (20, 21)), ((-50, -50, 20, 30), (30, 20)), ((190, 140, 900, 900), (10, 10)),
    ((5, 5, 5.2, 5.2), (1, 1)), ((-20, 0, 0, 10), None), ((200, 0, 210, 10), None), ((30, 30, 20, 20), None),
])
def test_a_crop_is_the_box_as_far_as_it_lies_in_the_picture(box, shape):
    crop = crop_face(picture_of_noise(150, 200), np.float32(box))
    assert shape == (None if crop is None else crop.shape[:2])


def test_faces_are_numbered_as_their_records_under_names_that_stay_apart(tmp_path):
    for name in ("a.jpg", "a.png", "süd/a.jpg"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).touch()
    picture = picture_of_noise()
    faces = detections_of((10, 10, 40, 50, 0.9), (300, 10, 340, 50, 0.8))  # the second beyond the edge
    for source in find_sources([str(tmp_path / "in")]):
        write_faces(tmp_path / "out", source, None, picture, faces)
    write_faces(tmp_path / "out", source, 12, picture, faces)
    written = sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.png"))
    stems = ["a.jpg", "a.png", "süd/a.jpg", "süd/a.jpg_000012"]
    expected = [f"{folder}/{stem}_{number}.png" for stem in stems
                for folder, numbers in (("crops", (0,)), ("aligned", (0, 1))) for number in numbers]
    assert written == sorted(expected)
    assert np.array_equal(read_picture(tmp_path / "out/crops/a.jpg_0.png"), picture[10:50, 10:40])


def test_faces_of_earlier_runs_are_told_apart_by_their_source(tmp_path):
    """By names that look alike; what is none of them belongs to no source."""
    owners = {
        "a.jpg_0.png": [("a.jpg", False)], "a.jpg_12.png": [("a.jpg", False)],
        "süd/a.jpg_0.png": [("süd/a.jpg", False)],
        "a.jpg_0_0.png": [("a.jpg_0", False)], "a.mp4_000012_3.png": [("a.mp4", True), ("a.mp4_000012", False)],
        "a.mp4_1000000_0.png": [("a.mp4", True), ("a.mp4_1000000", False)],
        "a.jpg.png": [], "a.jpg_x.png": [], "a.jpg_0.jpg": [], "_0.png": [],
    }
    for name in owners:
        for part in ("crops", "aligned"):
            (tmp_path / part / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / part / name).touch()
    (tmp_path / "a.jpg_0.png").touch()  # beside the folders
    expected = {}
    for name, keys in owners.items():
        for owner, is_video in keys:
            expected.setdefault((Path(owner), is_video), set()).update(tmp_path / part / name
                                                                       for part in ("crops", "aligned"))
    found = earlier_faces(tmp_path)
    assert {key: set(paths) for key, paths in found.items()} == expected
    assert earlier_faces(tmp_path / "nowhere") == {}
