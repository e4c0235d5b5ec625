"""benchmark.py: what it writes, what it says where something is wrong."""

import csv
import json

import pytest

import benchmark
from benchmarks import comparison, engines
from benchmarks.comparison import STUDENT, TEACHER, Setting
from models import build_model
from models.ledger import measure, total
from tests.helpers import call, exit_code, save_checkpoint, trained_network


@pytest.fixture(scope="module")
def pictures(drawn_set):
    """Two drawn pictures in WIDER FACE's layout."""
    return drawn_set(1, 2) / "val"


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """Two students: V1 takes its time."""
    folder = tmp_path_factory.mktemp("checkpoints")
    return {role: save_checkpoint(folder / f"{role}.pth", trained_network("v2", seed))
            for seed, role in enumerate((TEACHER, STUDENT))}


#: Of a comparison of detectors.
DETECTORS = ("--teacher_model", "v1.pth", "--trained_model", "v2.pth")


def run(*arguments):
    call(benchmark.main, *arguments, "--num_workers", "0", "--rounds", "2")


def test_the_script_compares_two_checkpoints(monkeypatch, capsys, tmp_path, pictures, checkpoints):
    setting = Setting(2, 64, 96)
    monkeypatch.setattr(comparison, "SETTINGS", [setting, Setting(1, 64, 96)])
    monkeypatch.setattr(comparison, "peak_memory", lambda engine, path, height, width: 64e6)
    run("--teacher_model", checkpoints[TEACHER], "--trained_model", checkpoints[STUDENT],
        "--dataset_folder", pictures, "--output_folder", tmp_path)
    printed = capsys.readouterr().out
    with (tmp_path / "performance_comparison.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {(row["role"], row["checkpoint"], row["engine"], row["batch"]) for row in rows} == {
        (role, str(path), engine, batch)
        for role, path in checkpoints.items()
        for engine in (engines.PUBLISHED, engines.PYTORCH, engines.ONNX_FLOAT, engines.ONNX_INT8)
        for batch in "12"
    }
    assert {"parameters", "multiply-adds", "file MB", "peak memory MB", "width", "height", "threads", "rounds", "ms",
            "ms lower quartile", "ms upper quartile", "pictures/s", "ratio", "ratio to published"} <= set(rows[0])
    student = next(row for row in rows if row["role"] == STUDENT)
    assert int(student["parameters"]) == 254112
    assert int(student["multiply-adds"]) == total(measure(build_model("v2").eval(), 64, 96)).multiply_adds
    assert float(student["peak memory MB"]) == 64
    assert all(float(row["ratio"]) == 1 for row in rows if row["role"] == TEACHER)
    assert all(float(row["ms lower quartile"]) <= float(row["ms"]) <= float(row["ms upper quartile"]) for row in rows)
    assert "medians and quartiles of 2 rounds in turn" in printed and "against published" in printed
    assert (tmp_path / "performance_comparison.png").stat().st_size > 1000
    assert (tmp_path / "confidence_histogram.png").stat().st_size > 1000
    told = json.loads((tmp_path / "consistency.json").read_text())
    assert (told["pictures"], told["threshold"], told["iou"], told["protocol"]) == (2, 0.5, 0.5, "original")
    assert told["matched"] <= min(told["teacher_faces"], told["student_faces"])


def test_the_script_compares_the_loops(capsys, tmp_path, pictures, checkpoints):
    run("--evaluation_loop", "--trained_model", checkpoints[STUDENT], "--dataset_folder", pictures,
        "--pictures", "1", "--output_folder", tmp_path)
    rows = json.loads((tmp_path / "evaluation_loop.json").read_text())
    assert [row["loop"] for row in rows] == ["usual", "ours, PyTorch", "ours, ONNX fp32"]
    assert rows[0]["times as fast"] == 1 and {row["pictures"] for row in rows} == {1}
    assert all(row["ratio lower quartile"] <= row["times as fast"] <= row["ratio upper quartile"] for row in rows)
    assert "usual loop's" in capsys.readouterr().out


@pytest.mark.parametrize(("wrong", "words"), [
    (["--teacher_model", "nowhere.pth"], "nowhere.pth"),
    (["--dataset_folder", "nowhere"], "no pictures in nowhere"),
    (["--evaluation_loop"], "--dataset_folder"),
    (["--gpu", "0"], "--evaluation_loop"),
    (["--rounds", "0"], "1 or more"),
    (["--table", "nowhere.json"], "nowhere.json"),
])
def test_mistakes_get_one_line(capsys, checkpoints, wrong, words):
    code = exit_code(benchmark.main, "--teacher_model", checkpoints[TEACHER], "--trained_model", checkpoints[STUDENT],
                     *wrong)
    told = capsys.readouterr().err
    assert code == 2 and words in told and told.count("\n") == 1


@pytest.mark.parametrize("flag", [["--teacher_model", "v1.pth"], ["--protocol", "vga"], ["--compile"],
                                  ["--face_threshold", "0.4"], ["--table", "table.json"]])
def test_flags_that_the_loop_does_not_take_are_told(capsys, flag):
    code = exit_code(benchmark.main, "--evaluation_loop", "--trained_model", "v2.pth", "--dataset_folder", "val", *flag)
    told = capsys.readouterr().err
    assert code == 2 and f"argument {flag[0]}: not of --evaluation_loop" in told and told.count("\n") == 1


@pytest.mark.parametrize(("arguments", "told"), [
    ([*DETECTORS, "--pictures", "3"], "argument --pictures: it goes with --dataset_folder"),
    ([*DETECTORS, "--protocol", "original"], "argument --protocol: it goes with --dataset_folder"),
    ([*DETECTORS, "--face-threshold=0.4"], "argument --face_threshold: it goes with --dataset_folder"),
    ([*DETECTORS, "--num_workers", "0"], "argument --num_workers: it goes with --dataset_folder"),
    (["--train", "--drawn", "--training_dataset", "label.txt"], "argument --training_dataset: --drawn measures"),
    (["--train", "--step_alone", "--workers", "0"], "argument --workers: --step_alone measures no loader"),
    (["--train", "--step_alone", "--caches", "ram"], "argument --caches: --step_alone measures no loader"),
    (["--train", "--save_folder", "out"], "argument --save_folder: not of --train"),
    (["--train", "--num-workers", "4"], "argument --num_workers: not of --train: give --workers"),
    (["--train", "--cache", "ram"], "argument --cache: not of --train: give --caches"),
    (["--train", "--dataset_shares", "1"], "argument --dataset_shares: not of --train"),
])
def test_flags_that_would_change_nothing_are_told(capsys, monkeypatch, tmp_path, arguments, told):
    monkeypatch.chdir(tmp_path)
    assert exit_code(benchmark.main, *arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {told}") and error.count("\n") == 1 and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [
    [*DETECTORS, "--dataset_folder", "val", "--pictures", "3", "--protocol", "vga", "--num_workers", "0"],
    ["--evaluation_loop", "--trained_model", "v2.pth", "--dataset_folder", "val", "--pictures", "3", "--num_workers",
     "0"],
])
def test_flags_that_are_of_use_are_taken(arguments):
    assert benchmark.parse_args(arguments).pictures == 3


def test_a_teacher_is_asked_for(capsys, checkpoints):
    with pytest.raises(SystemExit):
        benchmark.parse_args(["--trained_model", str(checkpoints[STUDENT])])
    assert "--teacher_model" in capsys.readouterr().err


@pytest.mark.parametrize(("arguments", "words"), [
    (["--help"], "--evaluation_loop"), (["--train", "--help"], "those of train_v2.py"),
    (["--rounds", "3", "--train", "--help"], "usage: benchmark.py --train"),
])
def test_help_is_of_what_is_to_be_measured(capsys, arguments, words):
    assert exit_code(benchmark.main, *arguments) == 0
    assert words in capsys.readouterr().out
