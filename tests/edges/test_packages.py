"""Packages, tables and stamps: what a kill between two names leaves, what a damaged file says."""

import json
import os
import re
import subprocess
import sys
from argparse import Namespace

import pytest
import torch

import benchmark
import export
from data import download
from deployment.weights_file import PRECISION_COLUMNS, known_precision
from detection.shipped import SHIPPED
from detection.suppression import Detections
from detection.text_files import STAMP, DetectionFolder, read_stamp
from tests.edges.running import held_by_another, run
from tests.helpers import ROOT
from utils import tables
from utils.errors import UserError
from utils.files import fingerprint
from widerface_evaluate import evaluation
from widerface_evaluate.wider_files import InputError

posix = pytest.mark.skipif(os.name == "nt", reason="Windows has no such files")

def names_in(folder):
    return {path.name for path in folder.iterdir()}


def is_whole(folder):
    """Whether the page speaks of exactly the files that are there."""
    page = (folder / export.PAGE).read_text(encoding="utf-8")
    told = dict(line.split()[::-1] for line in re.findall(r"^[0-9a-f]{64}  .*$", page, re.MULTILINE))
    return told == {name: fingerprint(folder / name) for name in names_in(folder) - {export.PAGE}}


class Killed(BaseException):
    """What ends a process between two renames: nothing catches it."""


def export_into(folder, renames, monkeypatch):
    """An export whose graph is quickly made, killed after a number of renames."""
    options = export.parse_args(["--trained_model", str(SHIPPED), "--output_folder", str(folder)])
    network, rename, left = export.load_model(SHIPPED), os.replace, [renames]

    def replace(source, target):
        if not left[0]:
            raise Killed
        rename(source, target)
        left[0] -= 1

    with monkeypatch.context() as patch:
        patch.setattr(export, "write_graph", lambda path, *_: path.write_bytes(os.urandom(99)) and (0.0, 0.0))
        patch.setattr(export, "time_graphs", lambda graphs: dict.fromkeys(graphs, (1.0, "640 x 640")))
        patch.setattr(export.torch, "save", lambda _, path: path.write_bytes(os.urandom(99)))
        patch.setattr(os, "replace", replace)
        export.write_package(network, [], None, options)


def test_a_kill_between_the_renames_leaves_no_mixed_package(tmp_path, monkeypatch):
    export_into(tmp_path, 99, monkeypatch)
    assert is_whole(tmp_path)
    for renames in range(3):
        with pytest.raises(Killed):
            export_into(tmp_path, renames, monkeypatch)
        assert names_in(tmp_path) == {"featherface_v2_deployment.onnx", "featherface_v2_deployment.pth"}
        export_into(tmp_path, 99, monkeypatch)
        assert is_whole(tmp_path) and export.PAGE in names_in(tmp_path)


def test_the_shipped_page_speaks_of_the_shipped_files():
    page = (SHIPPED.with_suffix(".md")).read_text(encoding="utf-8")
    for path in (SHIPPED, SHIPPED.with_suffix(".onnx")):
        assert f"{fingerprint(path)}  {path.name}\n" in page and "_deployment" not in page


def test_the_shipped_page_tells_inputs_and_outputs_as_a_new_one_does(package):
    """Every row of their table."""
    pages = [path.read_text(encoding="utf-8") for path in (SHIPPED.with_suffix(".md"), package / export.PAGE)]
    shipped, new = (set(re.findall(r"^\| `\w+` \| (?:uint8|float32) .*$", page, re.MULTILINE)) for page in pages)
    assert len(shipped) == 4 and shipped < new  # a package with suppression tells of its faces, too
    assert "a batch of 1 or more" in "".join(shipped)


@pytest.mark.parametrize("place", ["file", "file/x", "/proc/x/v2", "n" * 256])
def test_a_package_that_cannot_be_written_is_told_before_the_work(tmp_path, monkeypatch, place):
    (tmp_path / "file").touch()
    monkeypatch.setattr(export, "write_package", lambda *_: pytest.fail("the work began"))
    outcome = run(export.main, "--trained_model", SHIPPED, "--output_folder", tmp_path / place)
    assert outcome.code == 2 and outcome.err.startswith("error: cannot write ") and outcome.err.count("\n") == 1


@pytest.mark.parametrize("place", ["file", "file/x", "/proc/x/v2"])
def test_a_benchmark_that_cannot_be_written_is_told_before_the_work(tmp_path, monkeypatch, place):
    (tmp_path / "file").touch()
    monkeypatch.setattr("benchmarks.comparison.measure_performance", lambda *_: pytest.fail("the work began"))
    outcome = run(benchmark.main, "--trained_model", SHIPPED, "--teacher_model", SHIPPED, "--output_folder",
                  tmp_path / place)
    assert outcome.code == 2 and outcome.err.startswith("error: cannot write ") and outcome.err.count("\n") == 1


@pytest.mark.parametrize("flags", [[], ["--profile", "trace.json"]])
def test_a_benchmark_of_training_asks_for_its_folders_first(tmp_path, monkeypatch, flags):
    """With a trace and without: the next mistake is told only where its folder can be written to."""
    monkeypatch.chdir(tmp_path)
    outcome = run(benchmark.main, "--train", "--gpu", "x", "--output_folder", "out", *flags)
    assert outcome.code == 2 and outcome.err.startswith("error: --gpu x: ") and (tmp_path / "out").is_dir()
    outcome = run(benchmark.main, "--train", "--gpu", "x", "--output_folder", "/proc/x", *flags)
    assert outcome.code == 2 and outcome.err.startswith("error: cannot write /proc/x")


def test_a_page_that_no_export_wrote_is_not_replaced(tmp_path):
    (tmp_path / "README.md").write_text("# My project\n")
    outcome = run(export.main, "--trained_model", SHIPPED, "--output_folder", tmp_path)
    assert outcome.code == 2 and "README.md is of something else" in outcome.err
    assert names_in(tmp_path) == {"README.md"} and (tmp_path / "README.md").read_text() == "# My project\n"


def test_a_folder_in_place_of_a_file_leaves_the_package_as_it_is(tmp_path):
    (tmp_path / "featherface_v2_deployment.pth").mkdir()
    options = Namespace(output_folder=tmp_path, confidence_threshold=0.5, nms_threshold=0.4, keep_top_k=750,
                        float_input=False, nms=False, image_size=None, half=False, int8=False)
    (tmp_path / "README.md").write_text(f"old. {export.MADE_BY}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export, "write_graph", lambda path, *_: path.write_bytes(b"graph") and (0.0, 0.0))
        patch.setattr(export, "time_graphs", lambda *_: {})
        with pytest.raises(UserError, match="pth: a folder is there"):
            export.write_package(export.load_model(SHIPPED), [], None, options)
    assert names_in(tmp_path) == {"README.md", "featherface_v2_deployment.pth"}
    assert (tmp_path / "README.md").read_text().startswith("old")


ROW = {column: "x" for column in PRECISION_COLUMNS} | {"easy": 0.5, "medium": None, "hard": 1, "model": "m"}
DAMAGED = {
    "empty": b"", "text": b"hello", "cut": b'[{"model": "m', "binary": b"\xff\xfe\0", "number": b"7",
    "deep": b"[" * 99_999, "null": b"null", "rows of text": b'["easy"]', "rows of numbers": b"[1]",
    "no protocol": b'[{"easy": 1, "model": "m"}]',
    "words for AP": json.dumps([ROW | {"easy": "good"}]).encode(),
    "a list for a name": json.dumps([ROW | {"dataset": ["a"]}]).encode(),
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_table_is_one_line(tmp_path, content):
    table, checkpoint = tmp_path / "table.json", tmp_path / "m.pth"
    torch.save({"model": {}}, checkpoint)
    table.write_bytes(content)
    (tmp_path / "m_x").mkdir()
    (tmp_path / "m_x" / STAMP).write_text(json.dumps({"checkpoint": fingerprint(checkpoint)}))
    with pytest.raises(UserError, match="is no table.json of test_widerface.py") as told:
        known_precision(checkpoint, table)
    assert "\n" not in str(told.value) and len(str(told.value)) < 400 + len(str(tmp_path))


def test_a_good_table_is_read(tmp_path):
    table, checkpoint = tmp_path / "table.json", tmp_path / "m.pth"
    torch.save({"model": {}}, checkpoint)
    table.write_text(json.dumps([ROW]))
    (tmp_path / "m_x").mkdir()
    (tmp_path / "m_x" / STAMP).write_text(json.dumps({"checkpoint": fingerprint(checkpoint)}))
    assert known_precision(checkpoint, table) == [{column: ROW[column] for column in PRECISION_COLUMNS}]


@posix
def test_a_pipe_for_a_table_is_one_line(tmp_path):
    os.mkfifo(tmp_path / "table.json")
    torch.save({"model": {}}, tmp_path / "m.pth")
    with pytest.raises(UserError, match="is no table.json"):
        known_precision(tmp_path / "m.pth", tmp_path / "table.json")


STAMPS = {"empty": b"", "binary": b"\xff\xfe\0", "list": b"[1]", "cut": b'{"checkpoint": ', "deep": b"[" * 99_999,
          "other": b'{"checkpoint": {}}'}


@pytest.mark.parametrize("content", STAMPS.values(), ids=STAMPS)
def test_a_damaged_stamp_counts_as_another(tmp_path, content):
    """No AP of that folder for a package; its detections are made anew."""
    table, checkpoint, folder = tmp_path / "table.json", tmp_path / "m.pth", tmp_path / "m_x"
    torch.save({"model": {}}, checkpoint)
    table.write_text(json.dumps([ROW]))
    stamp = {"checkpoint": fingerprint(checkpoint), "threshold": 0.02}
    nothing = Detections(*(torch.zeros(shape).numpy() for shape in ((0, 4), (0,), (0, 5, 2))))
    DetectionFolder(folder, ["a/b.jpg"], stamp).write("a/b.jpg", nothing)
    DetectionFolder(folder, ["a/b.jpg"], stamp)
    assert (folder / "a" / "b.txt").exists() and read_stamp(folder) == stamp
    (folder / STAMP).write_bytes(content)
    assert known_precision(checkpoint, table) == []
    DetectionFolder(folder, ["a/b.jpg"], stamp)
    assert not (folder / "a" / "b.txt").exists() and read_stamp(folder) == stamp


@posix
def test_detections_and_tables_of_any_name_are_written(tmp_path):
    name = os.fsdecode(b"a/caf\xe9.jpg")
    folder = DetectionFolder(tmp_path / "m", [name], {})
    folder.write(name, None)
    assert (tmp_path / "m" / "a" / os.fsdecode(b"caf\xe9.txt")).read_bytes() == b"caf\xe9\n0\n"
    assert folder.unfinished() == [name] and folder.pack().is_file()
    rows = [{"dataset": os.fsdecode(b"caf\xe9")}]
    tables.write_table(rows, tmp_path / "t")
    assert (tmp_path / "t.csv").read_bytes() == b"dataset\r\ncaf\\udce9\r\n"
    assert json.loads((tmp_path / "t.json").read_text()) == rows


@posix
def test_the_evaluation_replaces_no_device(tmp_path):
    os.mkfifo(tmp_path / "pipe.json")
    with pytest.raises(InputError, match="no ordinary file"):
        evaluation.write_whole(tmp_path / "pipe.json", lambda path: path.write_text("x"))
    assert (tmp_path / "pipe.json").is_fifo()


@pytest.mark.parametrize("flags", [("--json", "file/x.json"), ("--plot", "file/x")])
def test_the_evaluation_tries_its_folders_before_the_work(tmp_path, flags):
    (tmp_path / "file").touch()
    command = [sys.executable, ROOT / "widerface_evaluate" / "evaluation.py", "-p", tmp_path, "-g", tmp_path / "truth"]
    done = subprocess.run([*command, flags[0], tmp_path / flags[1]], capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and str(tmp_path / "file") in done.stderr


@pytest.mark.parametrize(("main", "lock", "flags"), [
    (export.main, export.LOCK, ["--trained_model", SHIPPED, "--output_folder"]),
    (benchmark.main, benchmark.LOCK, ["--trained_model", SHIPPED, "--teacher_model", SHIPPED, "--output_folder"]),
    (benchmark.main, benchmark.LOCK, ["--train", "--output_folder"]),
    (download.main, download.LOCK, ["--folder", "set", "--archives"]),
])
def test_two_runs_do_not_write_into_one_folder(tmp_path, monkeypatch, main, lock, flags):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(download, "download", lambda *_: pytest.fail("the work began"))
    with held_by_another(tmp_path, lock):
        outcome = run(main, *flags, tmp_path)
    assert outcome.code == 2 and outcome.err.count("\n") == 1
    assert outcome.err.startswith(f"error: {tmp_path} is being written to by another run (process ")
