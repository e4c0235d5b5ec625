"""Ground truth of AP from any labels, by height."""

import numpy as np
import pytest

from data.ground_truth import write_ground_truth_of
from data.widerface import Record
from utils.errors import UserError
from widerface_evaluate.wider_files import load_ground_truth


def record(path, *xywh, ignored=()):
    boxes = np.array(xywh, np.float32).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    return Record(path, boxes, np.zeros((len(boxes), 5, 2), np.float32), np.zeros(len(boxes), bool),
                  np.array(ignored or [False] * len(boxes), bool))


def test_subsets_are_by_height_to_the_pixel(tmp_path):
    """Corners are float32: 10.1 + 24 - 10.1 is not 24 there."""
    faces = [(10.1, 10.1, 5, height) for height in (9.99, 10, 23.99, 24, 49.99, 50)]
    counts = write_ground_truth_of(tmp_path / "truth", [record("x/images/0--A/a.jpg", *faces),
                                                        record("0--A/none.jpg"), record("1--B ü/b.c.png", faces[-1])])
    truth = load_ground_truth(tmp_path / "truth")
    assert truth.pictures == [("0--A", "a"), ("0--A", "none"), ("1--B ü", "b.c")]
    assert {name: counted.astype(int).tolist() for name, counted in truth.subsets.items()} == {
        "easy": [0, 0, 0, 0, 0, 1, 0, 1], "medium": [0, 0, 0, 1, 1, 1, 0, 1], "hard": [0, 1, 1, 1, 1, 1, 0, 1]}
    assert counts == {"easy": 2, "medium": 4, "hard": 6}
    np.testing.assert_allclose(truth.boxes[:6], faces)


def test_ignored_regions_count_nowhere(tmp_path):
    picture = record("a/b.jpg", (0, 0, 90, 90), (0, 0, 80, 80), ignored=(True, False))
    write_ground_truth_of(tmp_path / "truth", [picture])
    truth = load_ground_truth(tmp_path / "truth")
    assert truth.labels["invalid"].tolist() == [1, 0]
    assert all(counted.tolist() == [False, True] for counted in truth.subsets.values())


def test_names_that_differ_in_their_suffix_alone_are_told(tmp_path):
    with pytest.raises(UserError, match="2 pictures are called a/b"):
        write_ground_truth_of(tmp_path / "truth", [record("a/b.jpg"), record("a/b.png"), record("a/c.jpg")])
    assert not (tmp_path / "truth").exists()


@pytest.mark.parametrize(("path", "words"), [
    ("ev/12:30.jpg", "no picture '12:30' .ev/12:30.: rename the picture"),
    ("a:b/c.jpg", "no folder 'a:b' .a:b/c.: rename the folder"),
    ("ev/a\\b.jpg", "rename the picture"),
])
def test_names_that_are_not_read_again_are_told(tmp_path, path, words):
    with pytest.raises(UserError, match=words):
        write_ground_truth_of(tmp_path / "truth", [record("a/b.jpg"), record(path)])
    assert not (tmp_path / "truth").exists()
