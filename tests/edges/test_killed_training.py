"""Trainings that are killed, resumed, started twice, interrupted, and given folders and logs that do not fit."""

import errno
import os
import re
import signal
import subprocess
import sys
import time

import pytest
import torch

import train_v2
from tests.edges.running import interruptible
from tests.helpers import ROOT
from tests.kills import RENAMES
from tests.tiny_training import EPOCHS, are_same, contents, go_on, tiny_flags, train
from training.log import TrainingLog, read_log
from training.run_folder import LOCK
from utils.errors import UserError, exit_code
from utils.locks import folder_lock
from utils.pth_files import read_checkpoint


@pytest.fixture(scope="module")
def unbroken(labels, tmp_path_factory):
    """The folder of a run that nothing happened to."""
    folder = tmp_path_factory.mktemp("unbroken") / "run"
    train(tiny_flags(labels, folder))
    return folder


class KilledError(BaseException):
    """A kill, as far as one process can show it."""


def kill_at(monkeypatch, number: int, before: bool) -> None:
    """End the run at its rename of that number, counted from 0, just before or just after it."""
    rename, count = os.replace, iter(range(1000))

    def rename_and_die(*paths):
        due = next(count) == number
        if not (due and before):
            rename(*paths)
        if due:
            raise KilledError

    monkeypatch.setattr(os, "replace", rename_and_die)


@pytest.mark.parametrize("number", range(RENAMES))
def test_a_kill_before_any_rename_loses_nothing(labels, unbroken, tmp_path, number):
    flags = tiny_flags(labels, tmp_path / "run")
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KilledError):
        kill_at(patch, number, before=True)
        train(flags)
    go_on(flags)
    assert are_same(contents(unbroken), contents(tmp_path / "run"))


def test_the_last_rename_is_that_of_last(labels, unbroken, tmp_path):
    """So a kill after any rename is one before the next, and after this one nothing is missing."""
    flags = tiny_flags(labels, tmp_path / "run")
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KilledError):
        kill_at(patch, RENAMES - 1, before=False)
        train(flags)
    assert are_same(contents(unbroken), contents(tmp_path / "run"))
    with pytest.raises(UserError, match=f"has done {EPOCHS} epochs: raise --epochs"):
        go_on(flags)


@pytest.mark.parametrize("lost", [["final"], ["best"], ["epoch_2", "final"]])
def test_a_finished_run_writes_what_is_missing(labels, unbroken, tmp_path, lost, capsys):
    """As runs do that were killed when _last was still written first."""
    flags = tiny_flags(labels, tmp_path / "run")
    train(flags)
    for name in lost:
        (tmp_path / "run" / f"FeatherFaceV2_{name}.pth").unlink()
    go_on(flags)
    told = capsys.readouterr().out
    assert are_same(contents(unbroken), contents(tmp_path / "run"))
    assert all(f"_{name}.pth was missing" in told for name in lost)


def test_a_run_that_goes_on_in_another_folder_keeps_its_log(labels, unbroken, tmp_path):
    train(tiny_flags(labels, tmp_path / "new", "--resume_net", str(unbroken / "FeatherFaceV2_epoch_1.pth")))
    expected, found = contents(unbroken), contents(tmp_path / "new")
    assert are_same(expected["training_log.csv"], found["training_log.csv"])
    assert are_same(expected["FeatherFaceV2_final.pth"], found["FeatherFaceV2_final.pth"])


# Two runs in one folder


def test_a_folder_is_held_by_one_process(tmp_path):
    hold = ("import sys, time; from pathlib import Path; from utils.locks import folder_lock\n"
            "with folder_lock(Path(sys.argv[1]), '.lock'): print('held', flush=True); time.sleep(60)")
    holder = subprocess.Popen([sys.executable, "-c", hold, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(UserError, match=rf"another run \(process {holder.pid} .*: wait") as error:
            with folder_lock(tmp_path, ".lock"):
                raise AssertionError("entered")
        assert "\n" not in str(error.value)
    finally:
        holder.kill()
        holder.wait()
    assert (tmp_path / ".lock").exists()  # what a kill leaves does not block
    with folder_lock(tmp_path, ".lock"):
        assert f"process {os.getpid()} " in (tmp_path / ".lock").read_text()
    assert not (tmp_path / ".lock").exists()


def test_a_training_holds_its_folder(labels, tmp_path):
    with pytest.MonkeyPatch.context() as patch:
        seen = []
        patch.setattr("train_v2.train_epochs", lambda *_: seen.append((tmp_path / "run" / LOCK).exists()))
        train(tiny_flags(labels, tmp_path / "run"))
    assert seen == [True] and not list((tmp_path / "run").iterdir())


# Folders that cannot be written to


@pytest.mark.parametrize("name", ["x" * 300, "file", "file/run", "/proc/run"])
def test_a_folder_that_cannot_be_made_is_told_before_the_first_epoch(labels, tmp_path, name):
    (tmp_path / "file").write_text("")
    with pytest.MonkeyPatch.context() as patch, pytest.raises(UserError, match="cannot write") as error:
        patch.setattr("training.sets.read_labels", None)
        train(tiny_flags(labels, tmp_path / name))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["FeatherFaceV2_last.pth", "FeatherFaceV2_final.pth", "training_log.csv",
                                  "training_curves.png", "training_batch.jpg", LOCK])
def test_a_folder_in_the_place_of_a_file_is_told_before_the_first_epoch(labels, tmp_path, name):
    (tmp_path / "run" / name).mkdir(parents=True)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(UserError, match=re.escape(name)):
        patch.setattr("training.sets.read_labels", None)
        train(tiny_flags(labels, tmp_path / "run"))


def test_a_full_disk_is_told_in_one_line_and_loses_nothing(labels, unbroken, tmp_path, capsys):
    flags, rename = tiny_flags(labels, tmp_path / "run"), os.replace

    def rename_on_a_full_disk(source, target):
        if "_last" in str(target):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(source))
        rename(source, target)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "replace", rename_on_a_full_disk)
        assert exit_code(lambda: train(flags)) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert re.match("error: cannot write .*_last.pth .*make room", line)
    assert len(read_log(tmp_path / "run" / "training_log.csv")) == 1  # nothing of the epoch after it
    go_on(flags)
    assert are_same(contents(unbroken), contents(tmp_path / "run"))


# Ctrl-C


@pytest.mark.parametrize(("done", "words"), [
    (0, "no epoch was done, start it again"), (1, "--resume_net .*FeatherFaceV2_last.pth"),
])
def test_ctrl_c_says_how_to_go_on(labels, tmp_path, done, words):
    epoch_of, calls = train_v2.train_one_epoch, iter(range(10))

    def interrupted(*arguments):
        if next(calls) == done:
            raise KeyboardInterrupt
        return epoch_of(*arguments)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt, match=words):
        patch.setattr(train_v2, "train_one_epoch", interrupted)
        train(tiny_flags(labels, tmp_path / "run"))


@pytest.mark.skipif(os.name == "nt", reason="signals of Unix")
def test_ctrl_c_of_a_real_run_is_one_line_and_130(labels, tmp_path):
    command = [sys.executable, "train_v2.py", *tiny_flags(labels, tmp_path / "run", "--epochs", "500"), "--eval_every",
               "0"]
    run = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                           preexec_fn=interruptible)
    deadline = time.monotonic() + 120
    while not (tmp_path / "run" / "FeatherFaceV2_last.pth").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    run.send_signal(signal.SIGINT)
    told = run.communicate(timeout=60)[1]
    assert run.returncode == 130 and "Traceback" not in told
    assert re.fullmatch("stopped: go on with python train_v2.py --resume_net .*_last.pth", told.splitlines()[-1])


# Logs that other programs saved

ROWS = "epoch,total,ap_mean\n1,2.5,\n2,2.25,0.5\n"


@pytest.mark.parametrize("text", [
    ROWS.replace(",", ";"), ROWS.replace(".", ","), ROWS.replace("2.5", "two"), ROWS.replace("epoch", "Epoche"),
    ROWS.replace("2,2.25", "1,2.25"), ROWS.replace("2,2.25", "2.5,2.25"), ROWS.replace("\n2,", "\n2,7,7,7,"),
    ROWS.replace("2,2.25", "nan,1"), ROWS.replace("2.25", "\0"), "epoch\n" + "9" * 5000 + "\n",
    ROWS.encode("utf-16-le"), "Bücher\n".encode("latin-1"),
])
def test_a_log_of_another_program_is_set_aside(tmp_path, text):
    content = text if isinstance(text, bytes) else text.encode()
    path = tmp_path / "training_log.csv"
    path.write_bytes(content)
    log = TrainingLog(path, 2)
    assert log.rows == [] and "training_log_set_aside_1.csv" in log.note and "\n" not in log.note
    assert (tmp_path / "training_log_set_aside_1.csv").read_bytes() == content
    log.append({"epoch": 3, "total": 1.5})
    assert path.read_text() == "epoch,total\n3,1.5\n"


@pytest.mark.parametrize("content", [
    ROWS.encode("utf-8-sig"), ROWS.replace("\n", "\r\n").encode(), ROWS.encode("utf-16"),
    b"ap_mean,epoch,total\n,1,2.5\n0.5,2,2.25\n",
])
def test_a_log_that_is_still_whole_is_read(tmp_path, content):
    path = tmp_path / "training_log.csv"
    path.write_bytes(content)
    log = TrainingLog(path, 2)
    assert log.rows == [{"epoch": 1, "total": 2.5}, {"epoch": 2, "total": 2.25, "ap_mean": 0.5}] and not log.note
    log.append({"epoch": 3, "total": 1.5})
    assert [row["epoch"] for row in read_log(path)] == [1, 2, 3] and "1.0" not in path.read_text()


def test_a_run_goes_on_whatever_became_of_its_log(labels, unbroken, tmp_path, capsys):
    flags = tiny_flags(labels, tmp_path / "run")
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KilledError):
        kill_at(patch, 6, before=False)  # its picture, five files of the first epoch, the log of the second
        train(flags)
    log = tmp_path / "run" / "training_log.csv"
    log.write_text(log.read_text().replace(",", ";"))
    go_on(flags)
    assert "note: " in capsys.readouterr().out
    assert [row["epoch"] for row in read_log(log)] == [2]
    assert are_same(*(read_checkpoint(folder / "FeatherFaceV2_final.pth") for folder in (unbroken, tmp_path / "run")))


# Training states that do not fit


def change(path, *place, to) -> None:
    state = torch.load(path)
    part = state
    for name in place[:-1]:
        part = part[name]
    part[place[-1]] = to(part[place[-1]])
    torch.save(state, path)


@pytest.mark.parametrize(("place", "to", "words"), [
    (("epochs_done",), lambda old: "2", "'epochs_done' is a str"),
    (("epochs_done",), lambda old: -1, "'epochs_done' is a int with the value -1"),
    (("best_ap",), lambda old: None, "'best_ap' is a NoneType"),
    (("options",), lambda old: [1], "'options' is a list"),
    (("projections",), lambda old: {"0.weight": torch.ones(1)}, "--teacher_model"),
    (("model_name",), lambda old: "v1", "pass --model v1"),
    (("model_name",), lambda old: ["v2"], "'model_name' is a list"),
    (("ema", "heads.boxes.0.bias"), lambda old: old * torch.nan, "no usable numbers, heads.boxes.0.bias"),
    (("model", "heads.boxes.0.bias"), lambda old: old[:3], "heads.boxes.0.bias has the shape"),
    (("optimizer",), lambda old: {}, "state of the optimiser"),
    (("optimizer", "state"), lambda old: [1], "state of the optimiser"),
    (("optimizer", "state", 0), lambda old: {}, "state of the optimiser"),
    (("optimizer", "state", 0, "exp_avg"), lambda old: old[:1], "that of parameter 0"),
    (("optimizer", "state", 0, "exp_avg_sq"), lambda old: -1 - old, "that of parameter 0"),
    (("optimizer", "state", 0, "exp_avg_sq"), lambda old: old * torch.inf, "that of parameter 0"),
    (("optimizer", "state", 0, "step"), lambda old: torch.ones(3), "that of parameter 0"),
    (("optimizer", "state", 0, "step"), lambda old: "seven", "state of the optimiser"),
    (("optimizer", "state"), lambda old: {**old, 9999: old[0]}, "state of the optimiser"),
    (("optimizer", "param_groups"), lambda old: old[:1], "state of the optimiser"),
    (("optimizer", "param_groups", 0, "params"), lambda old: old[:-1], "state of the optimiser"),
    (("scaler",), lambda old: None, "state of the gradient scaler"),
    (("scaler",), lambda old: {"scale": 0.0}, "state of the gradient scaler"),
])
def test_a_training_state_is_checked_before_it_is_used(labels, unbroken, tmp_path, place, to, words):
    path = tmp_path / "state.pth"
    path.write_bytes((unbroken / "FeatherFaceV2_epoch_1.pth").read_bytes())
    change(path, *place, to=to)
    with pytest.raises(UserError, match=words) as error:
        train(tiny_flags(labels, tmp_path / "run", "--resume_net", str(path)))
    assert "state.pth" in str(error.value) and "\n" not in str(error.value)
