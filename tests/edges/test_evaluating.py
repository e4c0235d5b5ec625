"""Ground truth, predictions and lists that others wrote: told in one line, or read."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from scipy.io import loadmat, savemat

import test_widerface
from data.widerface import list_pictures
from detection.shipped import SHIPPED
from tests.edges.running import run
from tests.helpers import ROOT, write_ground_truth, write_predictions
from utils.errors import UserError
from widerface_evaluate.wider_files import (
    InputError,
    load_ground_truth,
    read_detections,
    read_picture_list,
    read_predictions,
)

posix = pytest.mark.skipif(os.name == "nt", reason="Windows has no such files and names")

EVALUATION = ROOT / "widerface_evaluate" / "evaluation.py"

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


@pytest.mark.parametrize("data", [b"", b"\r\n \n", b"\xef\xbb\xbf"])
def test_a_list_without_a_picture_is_told(truth, tmp_path, data):
    (tmp_path / "list.txt").write_bytes(data)
    with pytest.raises(InputError, match="list.txt names no picture"):
        read_picture_list(tmp_path / "list.txt", load_ground_truth(truth))


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


@pytest.fixture
def judge(truth, tmp_path):
    """Runs evaluation.py, as a user does, on two pictures with good predictions and on what else it is given."""
    write_predictions(tmp_path / "found", {ONE: [[*FACE, 0.5]], TWO: [[*FACE, 0.5]]})

    def run(*arguments):
        command = [sys.executable, EVALUATION, "-g", truth, *arguments]
        return subprocess.run(list(map(str, command)), cwd=tmp_path, capture_output=True, encoding="utf-8",
                              errors="backslashreplace", env=os.environ | {"LC_ALL": "C.UTF-8"}, timeout=60)

    return run


def test_numbers_of_the_evaluation_have_bounds(judge):
    wrong = [f"--min_height={text}" for text in ("nan", "inf", "-5", "x", "1e999", "", "9" * 5000)]
    wrong += [f"--bootstrap={text}" for text in ("nan", "-1", "1.5", "inf", "", "99999999999", "9" * 5000)]
    for flag in wrong:
        done = judge("-p", "found", flag)
        assert done.returncode == 2 and not done.stdout, flag
        assert done.stderr.startswith(f"error: argument {flag.partition('=')[0]}: ") and len(done.stderr) < 200
        assert done.stderr.count("\n") == 1
    assert judge("-p", "found", "--min_height=0", "--bootstrap=0").returncode == 0


def test_the_evaluation_leaves_nothing_of_a_killed_run(judge, tmp_path):
    """Killed while it writes, started again: only what it was to write is there."""
    results = ["-p", "found", "--json", "out/ap.json", "--plot", "out"]
    kill = "import os, sys, runpy\nfrom pathlib import Path\nsys.path[0] = os.path.dirname(sys.argv[1])\n" \
           "Path.replace = lambda *_: os._exit(9)\nsys.argv = sys.argv[1:]\nrunpy.run_path(sys.argv[0], {}, '__main__')"
    command = [sys.executable, "-c", kill, EVALUATION, "-g", tmp_path / "truth", *results]
    for _ in range(2):
        assert subprocess.run(list(map(str, command)), cwd=tmp_path, capture_output=True).returncode == 9
        assert len(list((tmp_path / "out").iterdir())) == 1
    assert judge(*results).returncode == 0
    curves = {f"precision_recall_{subset}.png" for subset in ("easy", "medium", "hard")}
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"ap.json", *curves}


def test_the_evaluation_takes_the_longest_names_and_tells_of_longer_ones_before_the_work(judge, tmp_path):
    longest = "n" * 250 + ".json"
    assert judge("-p", "found", "--json", longest).returncode == 0 and (tmp_path / longest).is_file()
    for place in ("n" * 251 + ".json", "out", "truth/wider_face_val.mat/x.json"):
        (tmp_path / "out").mkdir(exist_ok=True)
        done = judge("-p", "found", "--json", place)
        assert (done.returncode, done.stdout) == (2, "") and done.stderr.count("\n") == 1
        assert done.stderr.startswith("error: ")


@posix
def test_predictions_of_any_name_are_judged(judge, tmp_path):
    """Printed, drawn and written; one with a line break is told in one line."""
    names = [os.fsdecode(b"caf\xe9"), "$\\bad$", "a\nb", "人脸"]
    for name in names:
        shutil.copytree(tmp_path / "found", tmp_path / name)
    flags = [text for name in names for text in ("-p", name)]
    done = judge("-p", "found", *flags, "--json", "ap.json", "--plot", "out", "--bootstrap", "2")
    assert done.returncode == 0 and "Traceback" not in done.stderr and "\na?b, all 2 pictures" in done.stdout
    assert list(json.loads((tmp_path / "ap.json").read_text(encoding="utf-8"))) == ["found", *names]
    done = judge("-p", "no\nfolder")
    assert done.returncode == 2 and done.stderr.startswith("error: no?folder is no folder")
    assert done.stderr.count("\n") == 1


@posix
def test_the_evaluation_waits_for_no_pipe_and_reads_no_device(judge, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for place in ("pipe", "/dev/zero", "nothing.txt", "found"):
        done = judge("-p", "found", "--pictures", place)
        assert done.returncode == 2 and done.stderr == (
            f"error: {place} is no file; give a text file with a picture a line\n")
    os.mkfifo(tmp_path / "found" / "scales.csv")
    done = judge("-p", "found", "--by", "size")
    assert done.returncode == 2 and "scales.csv is no file" in done.stderr


@pytest.mark.parametrize("scale", ["1e999", "nan", "0", "-1"])
def test_a_scale_that_is_none_is_one_line(judge, tmp_path, scale):
    (tmp_path / "found" / "scales.csv").write_text(f"0--A/one,1\n\n1--B/two,{scale}\n")
    done = judge("-p", "found", "--by", "size")
    assert done.returncode == 2 and "scales.csv has no scale of 1--B/two" in done.stderr


@pytest.mark.parametrize("kind", ["text", pytest.param("pipe", marks=posix)])
def test_where_no_picture_can_be_read_nothing_is_drawn(tmp_path, kind):
    """The pictures are there and no pictures: each is named, none is waited for, and no sheet is written."""
    write_ground_truth(tmp_path / "val" / "ground_truth", {ONE: [FACE], TWO: [FACE]})
    for event, name in (ONE, TWO):
        (tmp_path / "val" / "images" / event).mkdir(parents=True)
        path = tmp_path / "val" / "images" / event / f"{name}.jpg"
        path.write_bytes(b"none") if kind == "text" else os.mkfifo(path)
    (tmp_path / "val" / "wider_val.txt").write_text("0--A/one.jpg\n1--B/two.jpg\n")
    outcome = run(test_widerface.main, "--trained_model", SHIPPED,
                  "--dataset_folder", tmp_path / "val", "--save_folder", tmp_path / "out", "--save_image", "--cpu",
                  "--num_workers", "0")
    assert outcome.code is None and outcome.out.count("warning: cannot read") == 2
    assert "no picture could be read to be drawn" in outcome.out and not list((tmp_path / "out").glob("*.jpg"))
