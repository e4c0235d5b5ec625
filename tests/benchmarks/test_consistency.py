"""How far two detectors agree."""

import numpy as np
import pytest

from benchmarks.consistency import compare_faces, find_pictures, match
from data.picture_files import write_picture
from tests.helpers import detections_of
from utils.errors import UserError

faces = detections_of


def test_the_best_overlap_is_matched_first_and_each_box_once():
    first = np.float32([[0, 0, 10, 10], [0, 0, 10, 9]])
    second = np.float32([[0, 0, 10, 9.5], [50, 50, 60, 60], [0, 0, 10, 8]])
    pairs, overlaps = match(first, second)
    # IoU 9.5/10, 8/10 in the first row, 9/9.5, 8/9 in the second.
    assert pairs.tolist() == [[0, 0], [1, 2]]
    np.testing.assert_allclose(overlaps, [0.95, 8 / 9], rtol=1e-6)
    assert match(first[:1], np.float32([[0, 0, 10, 5]]))[0].tolist() == [[0, 0]]  # exactly one half
    assert match(first[:1], np.float32([[0, 0, 10, 4.9]]))[0].shape == (0, 2)
    assert match(first, np.zeros((0, 4), np.float32))[0].shape == (0, 2)


def test_agreement_by_hand():
    teacher = [faces([0, 0, 10, 10, 0.9], [20, 20, 30, 30, 0.7], [40, 40, 50, 50, 0.4]), faces([0, 0, 8, 8, 0.5]), None]
    student = [faces([0, 0, 10, 10, 0.8], [20, 20, 30, 28, 0.6], [40, 40, 50, 50, 0.9]), faces(), faces()]
    found = compare_faces(teacher, student, 0.5)
    assert (found["pictures"], found["teacher_faces"], found["student_faces"], found["matched"]) == (2, 3, 3, 2)
    assert found["agreement"] == 2 / 4
    assert found["recall_of_teacher"] == found["precision_against_teacher"] == 2 / 3
    assert found["mean_iou"] == pytest.approx(0.9)
    assert found["score_correlation"] == pytest.approx(1)
    lower = compare_faces(teacher, student, 0.3)
    scores = np.float32([[0.9, 0.7, 0.4], [0.8, 0.6, 0.9]])
    assert lower["score_correlation"] == pytest.approx(np.corrcoef(scores)[0, 1])


def test_what_is_not_defined_is_none_not_a_number():
    found = compare_faces([faces()], [faces()], 0.5)
    assert [found[name] for name in ("agreement", "recall_of_teacher", "mean_iou", "score_correlation")] == [None] * 4
    one = compare_faces([faces([0, 0, 9, 9, 0.9])], [faces([0, 0, 9, 9, 0.9])], 0.5)
    assert (one["agreement"], one["score_correlation"]) == (1, None)


def test_pictures_of_any_folder_are_found_and_evenly_thinned(tmp_path, validation_set):
    for index in range(10):
        write_picture(tmp_path / "ünïcode" / f"{index}.PNG".lower(), np.zeros((2, 2, 3), np.uint8))
    (tmp_path / "notes.txt").write_text("no picture")
    assert [path.stem for path in find_pictures(tmp_path)] == [str(index) for index in range(10)]
    assert [path.stem for path in find_pictures(tmp_path, 4)] == ["0", "2", "5", "7"]
    assert len(find_pictures(validation_set, 60)) == 8
    with pytest.raises(UserError, match="no pictures in"):
        find_pictures(tmp_path / "nowhere")
