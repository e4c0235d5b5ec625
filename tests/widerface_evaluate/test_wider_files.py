"""Files of detections and of the ground truth: what is legal, and how what is not is named."""

import numpy as np
import pytest

from tests.helpers import arrays, write_ground_truth, write_predictions
from widerface_evaluate.average_precision import evaluate
from widerface_evaluate.wider_files import InputError, load_ground_truth, read_predictions, remarks

FACE = [10, 20, 30, 40]
FAR = [500, 500, 30, 40]
ONE = ("0--A", "one")
TWO = ("0--A", "two")


@pytest.mark.parametrize("text", [
    "naïve_1\r\n2\r\n10 20 30 40 0.9\r\n500 500 30 40 0.25\r\n",
    "\ufeffnaïve_1\n2\n10 20 30 40 0.9 \n500 500 30 40 0.25",
    "0--Fête/naïve_1.jpg\n2\n10\t20 30.0 4e1  0.9\n500 500 30 40 0.25\n\n",
    "0--Fête\\naïve_1\n2\n10 20 30 40 0.9\n500 500 30 40 0.25\n",
], ids=["windows line ends", "byte order mark", "path and blanks", "windows path"])
def test_the_same_detections_written_differently(small, text):
    ground_truth, folder = load_ground_truth(small[0]), small[1]
    (folder / "0--Fête" / "naïve_1.txt").write_bytes(text.encode())
    detections = read_predictions(folder, ground_truth)["0--Fête", "naïve_1"]
    assert detections.tolist() == [[10, 20, 30, 40, 0.9], [500, 500, 30, 40, 0.25]]


@pytest.mark.parametrize("text", ["", "\n", "naïve_1\n0\n"])
def test_a_file_without_detections_is_legal_and_reported(small, text):
    ground_truth, folder = load_ground_truth(small[0]), small[1]
    (folder / "0--Fête" / "naïve_1.txt").write_bytes(text.encode())
    predictions = read_predictions(folder, ground_truth)
    assert predictions["0--Fête", "naïve_1"].shape == (0, 5)
    assert evaluate(predictions, ground_truth)["hard"] == pytest.approx(1 / 3)
    assert remarks(folder, predictions, ground_truth) == ["1 of 2 pictures have no detections"]


def test_files_of_other_pictures_are_left_out_and_reported(small):
    ground_truth, folder = load_ground_truth(small[0]), small[1]
    before = evaluate(read_predictions(folder, ground_truth), ground_truth)
    write_predictions(folder, {("1--B", "other"): [[*FAR, 9.0]], ("2--C", "other"): []})
    predictions = read_predictions(folder, ground_truth)
    assert evaluate(predictions, ground_truth) == before
    [line] = remarks(folder, predictions, ground_truth)
    assert line.startswith("left out 2 files") and "other.txt" in line


GOOD = "10 20 30 40 0.9"


@pytest.mark.parametrize("text, line, word", [
    (f"other\n1\n{GOOD}\n", 1, "other"),
    (f"{GOOD}\n", 1, GOOD),
    ("b.c_2\n", 2, "number of detections"),
    (f"b.c_2\n{GOOD}\n", 2, "number of detections"),
    (f"b.c_2\n3\n{GOOD}\n{GOOD}\n", 2, "2 follow"),
    (f"b.c_2\n1\n{GOOD}\n{GOOD}\n", 2, "2 follow"),
    (f"b.c_2\n2\n{GOOD}\n10 20 30\n", 4, "five"),
    (f"b.c_2\n2\n10 20 30 40\n{GOOD} 7\n", 3, "five"),
    (f"b.c_2\n2\n{GOOD}\n10 20 thirty 40 0.5\n", 4, "five"),
    (f"b.c_2\n2\n{GOOD}\n10 20 nan 40 0.5\n", 4, "NaN"),
    (f"b.c_2\n2\n{GOOD}\n10 20 30 40 inf\n", 4, "infinite"),
    (f"b.c_2\n2\n10 20 30 -1 0.9\n{GOOD}\n", 3, "negative"),
])
def test_bad_file_is_named_with_its_line(small, text, line, word):
    (small[1] / "1--B" / "b.c_2.txt").write_bytes(text.encode())
    with pytest.raises(InputError, match="^[^\n]*b.c_2.txt, line [^\n]*$") as caught:
        read_predictions(small[1], load_ground_truth(small[0]))
    assert f"line {line}:" in str(caught.value) and word in str(caught.value)


def test_missing_files_are_named(small):
    ground_truth, folder = load_ground_truth(small[0]), small[1]
    (folder / "1--B" / "b.c_2.txt").unlink()
    with pytest.raises(InputError, match=r"b\.c_2\.txt is missing \(1 of 2 files\)"):
        read_predictions(folder, ground_truth)
    (folder / "1--B").rmdir()
    with pytest.raises(InputError, match=r"1--B is missing \(1 of 2 events\)"):
        read_predictions(folder, ground_truth)
    with pytest.raises(InputError, match="nowhere"):
        read_predictions(folder / "nowhere", ground_truth)


def test_bad_ground_truth_is_named(small, tmp_path):
    folder, _ = small
    other = tmp_path / "other"
    write_ground_truth(other, {ONE: [FACE] * 9})
    (folder / "wider_easy_val.mat").write_bytes((other / "wider_easy_val.mat").read_bytes())
    with pytest.raises(InputError, match="wider_easy_val.mat lists"):
        load_ground_truth(folder)
    (folder / "wider_easy_val.mat").write_bytes(b"no matrix")
    with pytest.raises(InputError, match="wider_easy_val.mat cannot be read"):
        load_ground_truth(folder)
    (folder / "wider_easy_val.mat").unlink()
    with pytest.raises(InputError, match="wider_easy_val.mat is missing"):
        load_ground_truth(folder)
    (folder / "wider_face_val.mat").write_bytes((folder / "wider_hard_val.mat").read_bytes())
    with pytest.raises(InputError, match="no variable event_list"):
        load_ground_truth(folder)


@pytest.mark.parametrize("change, word", [
    ({TWO: np.empty((0, 5))}, "0--A/two"),
    ({ONE: np.empty((3, 4))}, r"\[3, 4\]"),
    ({ONE: np.array([[1, 1, 1, 1, 0.5], [1, 1, 1, 1, np.nan]])}, "0--A/one, row 1: NaN"),
    ({ONE: np.array([[1, 1, -1, 1, 0.5]])}, "negative"),
])
def test_bad_arrays_are_named(tmp_path, change, word):
    ground_truth = write_ground_truth(tmp_path, {ONE: [FACE]})
    with pytest.raises(InputError, match=word):
        evaluate(arrays({ONE: []}) | change, ground_truth)
    with pytest.raises(InputError, match="no predictions for 0--A/one"):
        evaluate({}, ground_truth)


@pytest.mark.parametrize("name", ["a b ", " a b", "a. "])
@pytest.mark.parametrize("suffix", ["", ".jpg"])
def test_names_may_begin_and_end_with_blanks(tmp_path, name, suffix):
    truth = write_ground_truth(tmp_path / "gt", {("e v", name): [FACE]})
    folder = write_predictions(tmp_path / "found", {("e v", name): [[*FACE, 0.9]]})
    path = folder / "e v" / f"{name}.txt"
    path.write_text(path.read_text().replace(name, name + suffix, 1))
    assert read_predictions(folder, truth)["e v", name].tolist() == [[*FACE, 0.9]]
    path.write_text(path.read_text().replace(name, "other", 1))
    with pytest.raises(InputError, match="line 1: the picture is called 'other"):
        read_predictions(folder, truth)
