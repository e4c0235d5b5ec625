"""train_v2.py: its files, exact resuming, several processes, mistakes."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import train_v2
from data.picture_files import write_picture
from layers.criterion import RULES
from models import MODELS, load_model
from models.featherface_v2 import FeatherFaceV2
from tests.helpers import CPU, ROOT, call, exit_code
from training.checkpoint import CheckpointWriter
from training.checks import check_files, remarks
from training.flags import parse_args
from training.log import read_log
from training.sets import build_loader, read_training_sets
from training.trainee import Trainee
from utils import distributed
from utils.errors import UserError
from utils.pth_files import read_checkpoint


@pytest.fixture
def flags(drawn_set, teacher_checkpoint, tmp_path):
    """A run of seconds with everything on."""
    return ["--training_dataset", str(drawn_set(12, 12) / "train" / "label.txt"),
            "--teacher_model", str(teacher_checkpoint), "--save_folder", str(tmp_path / "run"),
            "--image_size", "64", "--batch_size", "4", "--epochs", "4", "--warmup_epochs", "1",
            "--num_workers", "0", "--gpu", "cpu", "--eval_every", "2", "--save_every", "2"]


def weights_of(path: Path) -> dict[str, torch.Tensor]:
    state = read_checkpoint(path)
    return {**state["model"], **{f"ema.{name}": tensor for name, tensor in state["ema"].items()}}


def test_a_run_leaves_the_promised_files(flags, tmp_path, capsys):
    call(train_v2.main, *flags)
    told = capsys.readouterr().out
    assert told.count("MixUp brought no AP") == 1 and told.count("float32 on the CPU, not compiled: 12 steps\n") == 1
    folder = tmp_path / "run"
    names = {path.name for path in folder.iterdir()}
    assert names == {f"FeatherFaceV2_{name}.pth" for name in ("epoch_2", "epoch_4", "last", "best", "final")} | {
        "training_log.csv", "training_curves.png", "training_batch.jpg"}
    rows = read_log(folder / "training_log.csv")
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4]
    for name in ("total", "box", "face", "background", "kd_background", "kd_box", "kd_landmark", "feature",
                 "learning_rate", "images_per_second", "task_gradient", "distillation_gradient"):
        assert all(name in row for row in rows)
    assert [("ap_hard" in row) for row in rows] == [False, True, False, True]
    final = read_checkpoint(folder / "FeatherFaceV2_final.pth")
    network = load_model(folder / "FeatherFaceV2_final.pth")
    assert not network.training and network.name == "v2"
    assert all((tensor == final["ema"][name]).all() for name, tensor in network.state_dict().items())
    with pytest.raises(UserError, match="--resume_net"):
        call(train_v2.main, *flags)  # an earlier run is never overwritten


@pytest.mark.parametrize("stop_after, loading", [
    (1, []), (3, ["--num_workers", "1"]), (1, ["--cache", "ram"]), (3, ["--cache", "device"]),
])
def test_a_resumed_run_equals_the_unbroken_one_bit_for_bit(monkeypatch, flags, tmp_path, stop_after, loading):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    flags += [*loading, "--eval_every", "0"] if loading else []
    call(train_v2.main, *flags, "--save_folder", str(whole))

    write = CheckpointWriter.write

    def write_and_die(self, state, paths):
        write(self, state, paths)
        if state["epochs_done"] == stop_after:
            raise KeyboardInterrupt

    monkeypatch.setattr(CheckpointWriter, "write", write_and_die)
    with pytest.raises(KeyboardInterrupt):
        call(train_v2.main, *flags, "--save_folder", str(broken))
    monkeypatch.setattr(CheckpointWriter, "write", write)
    call(train_v2.main, *flags, "--save_folder", str(broken), "--resume_net", str(broken / "FeatherFaceV2_last.pth"))

    expected, found = (weights_of(folder / "FeatherFaceV2_final.pth") for folder in (whole, broken))
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    logs = [read_log(folder / "training_log.csv") for folder in (whole, broken)]
    for row in logs[0] + logs[1]:
        del row["images_per_second"], row["device_wait"]
    assert logs[0] == logs[1]


def write_striped_set(folder: Path, pictures: int, is_upright: bool) -> Path:
    """Pictures of stripes with a face each; returns their labels. Neither crops nor colours turn stripes."""
    wave = np.broadcast_to(np.where(np.arange(96) // 8 % 2, 200, 50).astype(np.uint8), (96, 96))
    picture = np.repeat((wave if is_upright else wave.T)[..., None], 3, axis=2)
    for number in range(pictures):
        write_picture(folder / "images" / "event" / f"{number}.png", picture)
    labels = folder / "label.txt"
    labels.write_text("".join(f"# event/{number}.png\n30 30 40 40\n" for number in range(pictures)))
    return labels


def has_upright_stripes(image: torch.Tensor) -> bool:
    """Whether a picture, uint8 [3, S, S], changes from column to column."""
    image = image.float()
    return bool(image.diff(dim=2).abs().sum() > image.diff(dim=1).abs().sum())


def test_two_sets_are_shuffled_together_in_their_shares(tmp_path, capsys):
    """Twelve samples of four pictures and four of twelve, in every epoch."""
    upright, lying = write_striped_set(tmp_path / "a", 4, True), write_striped_set(tmp_path / "b", 12, False)
    options = parse_args(arguments=["--training_dataset", str(upright), str(lying), "--dataset_shares", "0.75", "0.25",
                                    "--image_size", "64", "--batch_size", "4", "--num_workers", "0"])
    loader, sampler = build_loader(*read_training_sets(options.training_dataset), options, CPU)
    said = capsys.readouterr().out
    assert f"{upright}: 4 pictures" in said and f"{lying}: 12 pictures" in said
    assert f"{upright}: 12 samples an epoch, each picture 3 times" in said
    assert f"{lying}: 4 samples an epoch, each picture 0.33 times" in said
    epochs = []
    for epoch in range(2):
        sampler.set_epoch(epoch)
        epochs.append([has_upright_stripes(image) for batch in loader for image in batch.images])
        assert len(epochs[-1]) == 16 and sum(epochs[-1]) == 12
        changes = sum(shown != before for before, shown in zip(epochs[-1], epochs[-1][1:]))
        assert changes > 2  # not one set after the other
    assert epochs[0] != epochs[1]


class FrozenStatistics(FeatherFaceV2):
    """V2 whose BatchNorm layers keep their statistics: they are those of a process, everything else of the batch."""

    def train(self, mode: bool = True):
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self


def train_frozen(options) -> None:
    """By plain gradient descent: Adam divides by the size of the gradient, and would blow rounding up."""
    torch.set_num_threads(1)
    MODELS["v2"] = FrozenStatistics
    torch.optim.AdamW = torch.optim.SGD
    train_v2.train(options)


def weights_before_training(flags: list[str]) -> dict[str, torch.Tensor]:
    options = parse_args(arguments=flags)
    options.init_backbone = "teacher"
    torch.manual_seed(options.seed)
    return train_v2.build_networks(options)[0].state_dict()


def test_two_processes_end_with_the_weights_of_one(flags, tmp_path):
    off = ["--mixup_alpha", "0", "--cutmix_prob", "0", "--dropblock_prob", "0", "--feature_weight", "0",
           "--epochs", "2", "--eval_every", "0", "--clip_grad", "1"]
    results = []
    for gpu in ("cpu", "cpu,cpu"):
        folder = tmp_path / gpu
        options = parse_args(arguments=[*flags, *off, "--save_folder", str(folder)])
        train_v2.settle(options)
        check_files(options)
        options.devices = distributed.parse_devices(gpu)
        distributed.launch(train_frozen, options, len(options.devices))
        results.append(read_checkpoint(folder / "FeatherFaceV2_final.pth")["model"])
    start = weights_before_training(flags)
    moved = max(float((tensor - start[name]).abs().max()) for name, tensor in results[0].items())
    apart = max(float((tensor - results[1][name]).abs().max()) for name, tensor in results[0].items())
    # Measured: 3e-5 of the way with two OpenMP threads, 2e-3 with OMP_NUM_THREADS=1.
    assert moved > 1e-4 and apart < 5e-3 * moved


@pytest.mark.parametrize(("wrong", "words"), [
    (["--alpha", "1.5"], "alpha.*1.5.*0 to 1"),
    (["--batch-size", "many"], "batch_size.*'many' is no whole number"),
    (["--image_size", "100"], "multiple of 32"),
    (["--cache", "disk"], "cache.*'disk'.*none.*ram.*device"),
    (["--no_such_flag", "1"], "no_such_flag"),
    (["--gpu", "77"], "GPU 77 is not there"),
    (["--gpu", "0,0"], "twice"),
    (["--accumulate", "3"], "multiple of 3"),
    (["--training_dataset", "nowhere/label.txt"], "nowhere/label.txt\n.*images/EVENT/NAME.jpg"),
    (["--training_dataset", "nowhere/label.txt", "--teacher_model", "nowhere.pth", "--gpu", "77"],
     r"(?s)nowhere/label.txt.*sources:.*no teacher at nowhere.pth"),
    (["--teacher_model", "nowhere.pth"], "no teacher at nowhere.pth"),
    (["--init_weights", "nowhere.pth"], "no checkpoint at nowhere.pth"),
    (["--teacher_model", "none", "--init_backbone", "teacher"], "needs a teacher"),
    (["--resume_net", "nowhere.pth"], "no checkpoint at nowhere.pth"),
])
def test_wrong_flags_get_one_clear_line(capsys, flags, wrong, words):
    code = exit_code(train_v2.main, *flags, *wrong)
    told = capsys.readouterr().err
    assert code == 2 and re.search(words, told) and "Traceback" not in told


def test_labels_of_the_validation_pictures_are_enough_for_ap(flags, drawn_set, tmp_path, capsys):
    folder = shutil.copytree(drawn_set(12, 12) / "val", tmp_path / "val")
    shutil.rmtree(folder / "ground_truth")
    (folder / "wider_val.txt").unlink()
    call(train_v2.main, *flags, "--val_dataset", str(folder), "--epochs", "1", "--teacher_model", "none")
    told = capsys.readouterr().out
    assert "ground_truth was made from" in told and "MixUp" not in told  # one epoch mixes nothing
    assert "ap_hard" in read_log(tmp_path / "run" / "training_log.csv")[0]
    assert len(list((folder / "ground_truth").glob("*.mat"))) == 4


@pytest.mark.parametrize(("rows", "words"), [("0.1 0.2 0.3 0.4", "lie within 0 to 1"), ("", "have a face")])
def test_labels_that_cannot_be_right_stop_the_run(flags, drawn_set, tmp_path, capsys, rows, words):
    folder = shutil.copytree(drawn_set(12, 12) / "train", tmp_path / "train")
    names = [line for line in (folder / "label.txt").read_text().splitlines() if line.startswith("#")]
    (folder / "label.txt").write_text("\n".join(f"{name}\n{rows}" for name in names))
    assert exit_code(train_v2.main, *flags, "--training_dataset", str(folder / "label.txt")) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and words in line


@pytest.mark.parametrize(("name", "text"), [("folder", None), ("a.txt", "0 0.5 0.5 0.1 0.1"),
                                           ("a.json", '{"images": []}')])
def test_labels_of_other_formats_name_the_converter(flags, tmp_path, capsys, name, text):
    if text is None:
        (tmp_path / name).mkdir()
    else:
        (tmp_path / name).write_text(text)
    assert exit_code(train_v2.main, *flags, "--training_dataset", str(tmp_path / name)) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and "python -m data.convert" in line


def test_a_checkpoint_is_trained_further(flags, teacher_checkpoint, tmp_path):
    """With a learning rate of 0 the weights stay those of --init_weights, whatever the seed."""
    own = ["--model", "v1", "--teacher_model", "none", "--init_weights", teacher_checkpoint, "--lr", "0",
           "--seed", "3", "--epochs", "1", "--eval_every", "0"]
    call(train_v2.main, *flags, *own)
    start = read_checkpoint(teacher_checkpoint)["ema"]
    trained = read_checkpoint(tmp_path / "run" / "FeatherFaceV1_final.pth")["model"]
    assert all(torch.equal(trained[name], start[name]) for name in start if name.endswith(("weight", "bias")))


def test_the_script_runs_under_torchrun(flags, tmp_path):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "train_v2.py",
               *flags, "--epochs", "1", "--eval_every", "0"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=None)
    assert done.returncode == 0, done.stderr[-2000:]
    assert load_model(tmp_path / "run" / "FeatherFaceV2_final.pth").name == "v2"


@pytest.mark.parametrize(("given", "expected"), [
    (["--epochs", "3"], ["MixUp brought no AP", "5 epochs of warm-up and 3 in all: the learning rate only rises, to"]),
    (["--epochs", "5", "--mixup_alpha", "0"], ["only rises, to 0.001"]),
    (["--epochs", "6", "--model", "v1"], []),
    (["--epochs", "1", "--warmup_epochs", "0"], []),
    (["--mixup_alpha", "0", "--assignment", "simota"], []),
    (["--mixup_alpha", "0", "--assignment", "simota", "--init_weights", "a.pth"], ["lose their large faces"]),
    (["--mixup_alpha", "0", "--assignment", "iou", "--init_weights", "a.pth"], []),
])
def test_flags_that_do_less_than_one_expects_are_told(given, expected):
    told = remarks(parse_args(arguments=given))
    assert len(told) == len(expected) and all(part in remark for part, remark in zip(expected, told))


@pytest.mark.parametrize("rule", RULES)
def test_anchors_are_assigned_as_asked(rule):
    options = parse_args(arguments=["--assignment", rule, "--teacher_model", "none", "--image_size", "64"])
    train_v2.settle(options)
    network, _ = train_v2.build_networks(options)
    step = train_v2.build_step(Trainee(network, None), None, None, None, CPU, options)
    assert step.criterion.rule is RULES[rule] and step.criterion.chooses == (rule == "simota")


@pytest.mark.parametrize("given", [["--alpha", "0", "--feature_weight", "0", "--init_backbone", "none"],
                                   ["--alpha", "0", "--feature_weight", "0", "--init_weights", "START"]])
def test_a_teacher_that_says_nothing_need_not_be_there(drawn_set, student_checkpoint, tmp_path, given):
    given = [str(student_checkpoint) if word == "START" else word for word in given]
    options = parse_args(arguments=["--training_dataset", str(drawn_set(12, 12) / "train" / "label.txt"),
                                    "--teacher_model", str(tmp_path / "none.pth"), "--save_folder",
                                    str(tmp_path / "run"), *given])
    train_v2.settle(options)
    check_files(options)
    assert train_v2.build_networks(options)[1] is None
    options.alpha = 0.5
    with pytest.raises(UserError, match="no teacher at"):
        check_files(options)
