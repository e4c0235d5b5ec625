"""prune.py: the pruned checkpoint in every other script, and mistakes."""

import shutil

import numpy as np
import pytest
import torch

import prune
from deployment.onnx_graph import check_graph, export_graph, metadata_of, save_graph
from detection.face_detector import load_detector
from detection.finder import FaceFinder
from models import load_model
from tests.helpers import CPU, call, exit_code, picture_of_noise, save_checkpoint, trained_network
from tests.tiny_training import are_same, tiny_flags, train
from utils.pth_files import read_checkpoint


@pytest.fixture
def pruned(tmp_path, student_checkpoint):
    """Path of the student with three quarters of its channels."""
    path = tmp_path / "prüned" / "V2.pth"
    call(prune.main, "--trained_model", student_checkpoint, "--keep", "0.75", "--output", path)
    return path


def test_what_it_cost_is_told(pruned, student_checkpoint, capsys):
    again = pruned.with_name("again.pth")
    call(prune.main, "--trained_model", pruned, "--keep", "0.5", "--output", again)
    told = capsys.readouterr().out
    for path in (pruned, again):
        parameters = sum(parameter.numel() for parameter in load_model(path).parameters())
        [line] = [line for line in told.splitlines() if line.startswith(f"{path} ")]
        assert f"{parameters:,}" in line
    command = f"python train_v2.py --init_weights {again} --teacher_model {pruned} --save_folder {again.parent}"
    assert f"{command}/again_trained\n" in told


def test_it_detects_and_exports_as_any_other(pruned, tmp_path):
    detector = load_detector(pruned, CPU)
    assert (detector.name, detector.parameter_count) == ("v2", 149_720)
    save_graph(export_graph(detector, float_input=False), tmp_path / "v2.onnx", metadata_of(detector))
    check_graph(tmp_path / "v2.onnx", detector, [(1, 33, 65), (2, 64, 31)])
    pictures = [picture_of_noise(90, 130)]
    found, same = (FaceFinder(path, confidence_threshold=0.02)(pictures)[0] for path in (pruned, tmp_path / "v2.onnx"))
    assert len(found.boxes) and np.allclose(found.boxes, same.boxes, atol=1e-2)


def test_it_is_trained_further_and_goes_on_after_a_stop(pruned, student_checkpoint, drawn_set, tmp_path):
    """With the whole network as its teacher."""
    flags = tiny_flags(drawn_set(12, 12) / "train" / "label.txt", tmp_path / "run", "--init_weights", str(pruned),
                       "--teacher_model", str(student_checkpoint))
    train(flags)
    (tmp_path / "stopped").mkdir()
    stopped = shutil.copy(tmp_path / "run/FeatherFaceV2_epoch_1.pth", tmp_path / "stopped")
    train([*flags, "--save_folder", str(tmp_path / "stopped"), "--resume_net", stopped])
    unbroken, resumed = (read_checkpoint(tmp_path / run / "FeatherFaceV2_final.pth") for run in ("run", "stopped"))
    assert are_same(resumed["model"], unbroken["model"]) and are_same(resumed["ema"], unbroken["ema"])
    assert load_model(tmp_path / "run/FeatherFaceV2_final.pth").widths == load_model(pruned).widths


def test_a_learning_rate_of_0_leaves_the_pruned_weights(pruned, student_checkpoint, drawn_set, tmp_path):
    train(tiny_flags(drawn_set(12, 12) / "train" / "label.txt", tmp_path / "run", "--lr", "0",
                     "--init_weights", str(pruned), "--teacher_model", str(student_checkpoint)))
    start, end = (load_model(path).state_dict() for path in (pruned, tmp_path / "run/FeatherFaceV2_final.pth"))
    assert all(torch.equal(end[name], start[name]) for name in start if name.endswith(("weight", "bias")))


@pytest.mark.parametrize("keep", ["0", "-0.5", "1.01", "nan", "half", ""])
def test_a_share_that_cannot_be_kept_is_told(student_checkpoint, tmp_path, capsys, keep):
    mistaken(capsys, "--keep", "--trained_model", student_checkpoint, f"--keep={keep}", "--output", tmp_path / "a.pth")
    assert not (tmp_path / "a.pth").exists()


@pytest.mark.parametrize(("content", "words"), [
    (b"", "empty"), (b"no checkpoint", "a text file"), (None, "no checkpoint at"),
])
def test_what_is_no_checkpoint_is_told(tmp_path, capsys, content, words):
    if content is not None:
        (tmp_path / "wrong.pth").write_bytes(content)
    mistaken(capsys, words, "--trained_model", tmp_path / "wrong.pth", "--output", tmp_path / "a.pth")
    assert not (tmp_path / "a.pth").exists()


def test_a_v1_is_told(teacher_checkpoint, tmp_path, capsys):
    mistaken(capsys, "only v2", "--trained_model", teacher_checkpoint, "--output", tmp_path / "a.pth")
    assert not (tmp_path / "a.pth").exists()


def test_the_network_that_is_pruned_is_not_overwritten(tmp_path, capsys):
    path = save_checkpoint(tmp_path / "V2.pth", trained_network("v2"))
    before = path.read_bytes()
    mistaken(capsys, "overwrite", "--trained_model", path, "--output", tmp_path / "." / "V2.pth")
    assert path.read_bytes() == before


def mistaken(capsys, words: str, *arguments) -> None:
    assert exit_code(prune.main, *arguments) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and words in line
