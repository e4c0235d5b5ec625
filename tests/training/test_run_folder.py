"""The folder of a run: that no run writes over another's files, nor over any that git tracks."""

import os
import subprocess
from argparse import Namespace
from pathlib import Path

import pytest

from detection.shipped import SHIPPED
from tests.helpers import ROOT
from training.flags import parse_args
from training.run_folder import CHECKPOINT, check_for_earlier_run, checkpoint_path, newest_checkpoint
from utils.errors import UserError


def test_a_new_or_foreign_folder_holds_no_earlier_run(tmp_path):
    check_for_earlier_run(tmp_path / "nowhere", None)
    check_for_earlier_run(tmp_path / ("x" * 300), None)
    for name in ("photo.jpg", "FeatherNetB_se.pth", "FeatherFaceV2.pth", "notes.csv", "FeatherFaceV2_mine.pth"):
        (tmp_path / name).touch()
    check_for_earlier_run(tmp_path, None)


@pytest.mark.parametrize("name", ["FeatherFaceV2_last.pth", "FeatherFaceV2_final.pth", "FeatherFaceV1_best.pth",
                                  "FeatherFaceV2_epoch_10.pth"])
def test_any_checkpoint_of_another_run_is_told_with_both_ways_on(tmp_path, name):
    (tmp_path / name).touch()
    with pytest.raises(UserError, match=rf"{name} .*--resume_net .*{name}, or choose another --save_folder") as told:
        check_for_earlier_run(tmp_path, None)
    assert "\n" not in str(told.value)
    with pytest.raises(UserError):
        check_for_earlier_run(tmp_path, tmp_path.parent / "other" / "FeatherFaceV2_last.pth")
    check_for_earlier_run(tmp_path, tmp_path / "FeatherFaceV2_last.pth")
    check_for_earlier_run(Path(os.path.relpath(tmp_path)), tmp_path / "x" / ".." / name)


def test_a_log_of_more_than_an_epoch_is_of_another_run(tmp_path):
    log = tmp_path / "training_log.csv"
    log.write_text("epoch,total\n1,2.5\n")  # what a kill in the first epoch can leave
    check_for_earlier_run(tmp_path, None)
    log.write_text("epoch,total\n1,2.5\n2,2.25\n")
    with pytest.raises(UserError, match="training_log.csv is of an earlier run"):
        check_for_earlier_run(tmp_path, None)


def test_a_run_goes_on_from_its_last_checkpoint_else_from_the_latest(tmp_path):
    assert newest_checkpoint(tmp_path) is None and newest_checkpoint(tmp_path / "nowhere") is None
    for age, name in enumerate(("last", "best", "epoch_10", "final")):
        path = tmp_path / f"FeatherFaceV2_{name}.pth"
        path.touch()
        os.utime(path, (age, age))
    assert newest_checkpoint(tmp_path).name == "FeatherFaceV2_last.pth"
    (tmp_path / "FeatherFaceV2_last.pth").unlink()
    assert newest_checkpoint(tmp_path).name == "FeatherFaceV2_final.pth"


@pytest.mark.parametrize("model", ["v1", "v2", "some_net"])
@pytest.mark.parametrize("name", ["last", "best", "final", "epoch_400"])
def test_what_a_run_writes_is_known_as_a_checkpoint(model, name):
    assert CHECKPOINT.fullmatch(checkpoint_path(Namespace(model=model, save_folder=Path(".")), name).name)


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="needs the repository")
def test_git_tracks_nothing_where_a_default_run_writes():
    folder = parse_args(arguments=[]).save_folder
    tracked = subprocess.run(["git", "ls-files", str(folder), "weights"], cwd=ROOT, capture_output=True, text=True,
                             check=True).stdout.split()
    assert f"weights/{SHIPPED.name}" in tracked and not [path for path in tracked if Path(folder) in Path(path).parents]
    ignored = subprocess.run(["git", "check-ignore", "-q", str(folder / "FeatherFaceV2_final.pth")], cwd=ROOT)
    assert ignored.returncode == 0
