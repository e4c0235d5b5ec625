"""A run that goes on has its own flags, folder and data; those given again win, and are told."""

import shutil
from pathlib import Path
from unittest import mock

import pytest
import torch

from tests import tiny_training
from tests.tiny_training import are_same, contents, tiny_flags, train
from training.checkpoint import epochs_of, read_training_state
from training.flags import parse_args
from training.resuming import earlier_flags, flags_given_again
from utils.errors import UserError

BEST = "FeatherFaceV2_best.pth"


@pytest.fixture(scope="module")
def halfway(labels, tmp_path_factory):
    """The folder of a run of one epoch; a second one is to come."""
    folder = tmp_path_factory.mktemp("halfway") / "run with a space"
    train(tiny_flags(labels, folder, "--epochs", "1", "--crop_scales", "0.5", "1", "--seed", "3"))
    return folder


def copied(folder: Path, tmp_path: Path) -> Path:
    """The last checkpoint of a run, with its log, in another place."""
    for name in ("FeatherFaceV2_last.pth", "training_log.csv"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    return tmp_path / "FeatherFaceV2_last.pth"


def test_flags_folder_and_data_come_from_the_checkpoint(labels, halfway, tmp_path, capsys):
    source = copied(halfway, tmp_path)
    train(["--resume_net", str(source), "--epochs", "2"])
    told = capsys.readouterr().out
    assert "note: given again, --epochs 2 (was 1)\n" in told and told.count("given again") == 1
    options = read_training_state(tmp_path / "FeatherFaceV2_final.pth")["options"]
    assert options["training_dataset"] == [str(labels)] and options["crop_scales"] == [0.5, 1.0]
    assert options["seed"] == 3 and options["gpu"] == "cpu" and options["epochs"] == 2


def test_the_same_flags_again_change_nothing(labels, halfway, tmp_path, capsys):
    by_file, by_hand = tmp_path / "by_file", tmp_path / "by_hand"
    for folder in (by_file, by_hand):
        folder.mkdir()
        flags = [] if folder == by_file else tiny_flags(labels, folder, "--crop_scales", "0.5", "1", "--seed", "3")
        train([*flags, "--epochs", "2", "--resume_net", str(copied(halfway, folder))])
    assert capsys.readouterr().out.count("given again") == 2
    assert are_same(contents(by_file), contents(by_hand))


def test_a_folder_given_again_is_that_of_the_run(halfway, tmp_path):
    source = copied(halfway, tmp_path)
    train(["--resume_net", str(source), "--epochs", "2", "--save_folder", str(tmp_path / "other")])
    assert (tmp_path / "other" / "FeatherFaceV2_final.pth").exists()
    assert not (tmp_path / "FeatherFaceV2_final.pth").exists()


def test_another_runs_folder_is_not_gone_on_in(labels, halfway, tmp_path):
    source = copied(halfway, tmp_path)
    train(tiny_flags(labels, tmp_path / "other", "--epochs", "1"))
    with pytest.raises(UserError, match="is of an earlier run"):
        train(["--resume_net", str(source), "--epochs", "2", "--save_folder", str(tmp_path / "other")])


def test_every_flag_survives_a_checkpoint(halfway, tmp_path):
    """Numbers, lists, paths, switches and what was left open."""
    given = ["--tensorboard", "--compile", "off", "--training_dataset", "a/b.txt", "c d.txt",
             "--dataset_shares", "0.7", "0.3", "--precision", "bfloat16", "--val_dataset", "val", "--lr", "1e-05",
             "--clip_grad", "3"]
    options = parse_args(arguments=[*given, "--save_folder", str(tmp_path)])
    state = torch.load(halfway / "FeatherFaceV2_last.pth")
    unsaved = {"save_folder", "resume_net", "init_backbone", "init_weights"}
    state["options"] = {name: [str(part) for part in value] if name == "training_dataset" else
                        str(value) if isinstance(value, Path) else value
                        for name, value in vars(options).items() if name not in unsaved}
    torch.save(state, tmp_path / "state.pth")
    words = earlier_flags(tmp_path / "state.pth")
    assert vars(parse_args(arguments=words)) == vars(options)
    told = flags_given_again(words, parse_args(arguments=["--no-tensorboard"], earlier=words))
    assert told == ["--no-tensorboard (was True)"]


def test_a_float16_run_goes_on_bit_for_bit_and_in_another_precision(labels, tmp_path):
    whole, same, other = (tmp_path / name for name in ("whole", "same", "other"))
    train(tiny_flags(labels, whole, "--precision", "float16"))
    for folder, precision in (same, "float16"), (other, "float32"):
        folder.mkdir()
        source = folder / "FeatherFaceV2_last.pth"
        source.write_bytes((whole / "FeatherFaceV2_epoch_1.pth").read_bytes())
        assert read_training_state(source)["scaler"]["scale"] > 0
        train(["--resume_net", str(source), "--precision", precision])
    expected, found = (read_training_state(folder / "FeatherFaceV2_final.pth") for folder in (whole, same))
    assert are_same(expected, found)
    assert read_training_state(other / "FeatherFaceV2_final.pth")["scaler"] == {}
    train(["--resume_net", str(other / "FeatherFaceV2_last.pth"), "--precision", "float16", "--epochs", "3"])


def ap_by_epoch(*values: float):
    """Stands in for AP; an epoch on the pictures of `labels` is one step."""
    return mock.patch.object(tiny_training, "ap_after", (None, *values).__getitem__)


@pytest.fixture(scope="module")
def three_epochs(labels, tmp_path_factory):
    """The folder of a run of three epochs, of which the second is the best."""
    folder = tmp_path_factory.mktemp("three") / "run"
    with ap_by_epoch(0.5, 0.7, 0.6):
        train(tiny_flags(labels, folder, "--epochs", "3"))
    assert epochs_of(folder / BEST) == 2
    return folder


@pytest.mark.parametrize(("start", "best"), [("epoch_1", 1), ("epoch_2", 2), ("epoch_3", 2)])
@pytest.mark.parametrize("place", ["same", "other"])
def test_the_best_checkpoint_is_of_the_best_epoch_of_the_log(three_epochs, tmp_path, capsys, start, best, place):
    """Where a run goes on before, at and after it, and no later epoch is better."""
    run = tmp_path / "run"
    shutil.copytree(three_epochs, run)
    folder = run if place == "same" else tmp_path / "other"
    with ap_by_epoch(0.5, 0.5, 0.5, 0.5):
        train(["--resume_net", str(run / f"FeatherFaceV2_{start}.pth"), "--save_folder", str(folder), "--epochs", "4"])
    assert epochs_of(folder / BEST) == best
    assert f"best, after epoch {best}: {folder / BEST}" in capsys.readouterr().out


def test_a_best_checkpoint_that_is_lost_is_not_made_of_another_epoch(three_epochs, tmp_path, capsys):
    shutil.copytree(three_epochs, tmp_path / "run")
    (tmp_path / "run" / BEST).unlink()
    with ap_by_epoch(0.5, 0.5, 0.5, 0.5):
        train(["--resume_net", str(tmp_path / "run" / "FeatherFaceV2_last.pth"), "--epochs", "4"])
    assert not (tmp_path / "run" / BEST).exists() and BEST not in capsys.readouterr().out


def test_where_a_run_began_is_no_matter_when_it_goes_on(halfway, tmp_path, capsys):
    source = copied(halfway, tmp_path)
    train(["--resume_net", str(source), "--init_weights", "none.pth", "--init_backbone", "imagenet", "--epochs", "2"])
    assert "init_" not in capsys.readouterr().out


@pytest.mark.parametrize("wrong", [{"epochs": -1}, {"epochs": [1, 2]}, {"lr": "fast"}, {"cache": {"a": 1}},
                                   {"teacher_model": "--compile"}, {"gpu": None, "crop_scales": []}])
def test_flags_that_no_run_can_have_are_told_with_the_file(halfway, tmp_path, wrong):
    state = torch.load(halfway / "FeatherFaceV2_last.pth")
    state["options"] |= wrong
    torch.save(state, tmp_path / "state.pth")
    with pytest.raises(UserError, match="state.pth holds flags that no run can have") as told:
        earlier_flags(tmp_path / "state.pth")
    assert "\n" not in str(told.value)
