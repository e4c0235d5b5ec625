"""A run that goes on has its own flags, folder and data; those given again win, and are told."""

from pathlib import Path

import pytest
import torch

from tests.tiny_training import are_same, contents, tiny_flags, train
from training.checkpoint import read_training_state
from training.flags import parse_args
from training.resuming import earlier_flags, flags_given_again
from utils.errors import UserError


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


@pytest.mark.parametrize("wrong", [{"epochs": -1}, {"epochs": [1, 2]}, {"lr": "fast"}, {"cache": {"a": 1}},
                                   {"teacher_model": "--compile"}, {"gpu": None, "crop_scales": []}])
def test_flags_that_no_run_can_have_are_told_with_the_file(halfway, tmp_path, wrong):
    state = torch.load(halfway / "FeatherFaceV2_last.pth")
    state["options"] |= wrong
    torch.save(state, tmp_path / "state.pth")
    with pytest.raises(UserError, match="state.pth holds flags that no run can have") as told:
        earlier_flags(tmp_path / "state.pth")
    assert "\n" not in str(told.value)
