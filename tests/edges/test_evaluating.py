"""Ground truth, predictions and lists that others wrote: told in one line, or read."""

import shutil

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from data.widerface import list_pictures
from tests.helpers import write_ground_truth, write_predictions
from utils.errors import UserError
from widerface_evaluate.wider_files import (
    InputError,
    load_ground_truth,
    read_detections,
    read_picture_list,
    read_predictions,
)

ONE, TWO = ("0--A", "one"), ("1--B", "two")
FACE = [10, 20, 30, 40]


@pytest.fixture
def truth(tmp_path):
    write_ground_truth(tmp_path / "truth", {ONE: [FACE], TWO: [FACE, FACE]}, blur={ONE: [0], TWO: [1, 2]})
    return tmp_path / "truth"


def change(path, name, value) -> None:
    variables = {key: content for key, content in loadmat(path).items() if not key.startswith("__")}
    savemat(path, variables | {name: value})


def cell(*values) -> np.ndarray:
    cells = np.empty((len(values), 1), object)
    cells[:, 0] = values
    return cells


@pytest.mark.parametrize("name, value", [
    ("event_list", np.zeros((3, 3))), ("event_list", cell("..", "1--B")), ("event_list", cell("0--A/..", "1--B")),
    ("event_list", cell("0--A")), ("file_list", cell(cell("../one"), cell("two"))),
    ("file_list", cell(cell("C:one"), cell("two"))), ("file_list", np.arange(4)), ("face_bbx_list", np.zeros((2, 2))),
    ("face_bbx_list", cell(cell(np.zeros(3)), cell(np.zeros((1, 4))))), ("face_bbx_list", cell("text", "text")),
    ("face_bbx_list", cell(cell(np.full((1, 4), np.nan)), cell(np.zeros((2, 4))))), ("blur_label_list", np.zeros(0)),
    ("blur_label_list", cell(cell(np.zeros((1, 1))), cell(np.zeros((1, 1))))),
])
def test_ground_truth_of_another_structure_is_one_line(truth, name, value):
    change(truth / "wider_face_val.mat", name, value)
    with pytest.raises(InputError, match="wider_face_val.mat") as told:
        load_ground_truth(truth)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("value", [
    np.zeros((2, 2)), cell("a", "b"), cell(cell(np.array([[7]]))),
    cell(cell(np.array([[np.nan]])), cell(np.array([[1]]))),
])
def test_subsets_of_another_structure_are_one_line(truth, value):
    change(truth / "wider_hard_val.mat", "gt_list", value)
    with pytest.raises(InputError, match="wider_hard_val.mat"):
        load_ground_truth(truth)


@pytest.mark.parametrize("damage", [lambda data: data[:200], lambda data: b"", lambda data: b"text" * 100])
def test_damaged_ground_truth_is_one_line(truth, damage):
    path = truth / "wider_easy_val.mat"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(InputError, match="wider_easy_val.mat"):
        load_ground_truth(truth)


@pytest.mark.parametrize("count", ["9" * 5000, "-1", "1.0", "one", "0x1", ""])
def test_counts_that_are_none(tmp_path, count):
    (tmp_path / "one.txt").write_text(f"one\n{count}\n1 2 3 4 0.5\n")
    with pytest.raises(InputError, match="one.txt, line 2") as told:
        read_detections(tmp_path / "one.txt")
    assert len(str(told.value)) < 300
    (tmp_path / "one.txt").write_text("one\n0001\n1 2 3 4 0.5\n")
    assert read_detections(tmp_path / "one.txt").tolist() == [[1, 2, 3, 4, 0.5]]


def test_lists_in_other_encodings(truth, tmp_path):
    """UTF-16 as PowerShell writes it is read; Latin-1 is told with its line."""
    ground_truth = load_ground_truth(truth)
    path = tmp_path / "list.txt"
    path.write_bytes("/0--A/one.jpg\r\n".encode("utf-16"))
    assert read_picture_list(path, ground_truth).tolist() == [True, False]
    path.write_bytes(b"/0--A/one.jpg\n/1--B/caf\xe9.jpg\n")
    with pytest.raises(InputError, match=r"list.txt:2 is not UTF-8 \(byte E9\)"):
        read_picture_list(path, ground_truth)


def test_no_name_of_a_validation_list_leaves_its_folder(tmp_path):
    path = tmp_path / "wider_val.txt"
    for name in ("/../../victim/notes.jpg", "0--A/../../x.jpg", "C:/x/y.jpg", "..\\..\\x/y.jpg"):
        path.write_text(f"/0--A/one.jpg\n{name}\n")
        with pytest.raises(UserError, match="wider_val.txt:2: the name .* leaves its folder"):
            list_pictures(tmp_path)
    path.write_bytes("/0--A/é.jpg\r\n".encode("utf-16"))
    assert list_pictures(tmp_path) == ["0--A/é.jpg"]
    path.write_bytes(b"/0--A/one.jpg\n/0--A/caf\xe9.jpg\n")
    with pytest.raises(UserError, match="wider_val.txt:2 is not UTF-8"):
        list_pictures(tmp_path)


def test_a_folder_of_predictions_that_is_none(truth, tmp_path):
    write_predictions(tmp_path / "found", {ONE: [[*FACE, 0.5]], TWO: []})
    shutil.rmtree(tmp_path / "found" / "1--B")
    (tmp_path / "found" / "1--B").write_text("a file")
    with pytest.raises(InputError, match="1--B is missing"):
        read_predictions(tmp_path / "found", load_ground_truth(truth))
