"""Checkpoints that are written while the training goes on."""

import os
import threading
from argparse import Namespace
from pathlib import Path

import pytest
import torch

from layers.anchors import make_anchors
from layers.criterion import Criterion
from tests.helpers import untrained_network
from tests.tiny_training import are_same
from training.checkpoint import CheckpointWriter, load_training_state, training_state
from training.ema import WeightAverage
from training.optimizer import build_optimizer
from training.step import TrainingStep
from training.trainee import Trainee
from utils.errors import UserError

WORDS = {"model_name": "v2"}  #: stands for a state where its content is no matter


@pytest.fixture
def run():
    """The step of a run without a teacher."""
    network = untrained_network("v2")
    trainee = Trainee(network, None)
    optimizer, average = build_optimizer(trainee, 0.1, 0.05), WeightAverage(network, 0.9)
    return TrainingStep(trainee, None, Criterion(False, 0, 0, 1), optimizer, average, make_anchors(64, 64))


def move(run: TrainingStep) -> None:
    """A step with gradients of one, and all that a step changes in place."""
    for parameter in run.model.parameters():
        parameter.grad = torch.ones_like(parameter)
    for buffer in run.model.buffers():
        buffer += 1
    run.average.count()
    run.move(None)


@pytest.fixture
def gate(monkeypatch):
    """Files get their names only after gate.set()."""
    gate, rename = threading.Event(), os.replace

    def rename_behind_gate(*paths):
        assert gate.wait(20)
        rename(*paths)

    monkeypatch.setattr(os, "replace", rename_behind_gate)
    return gate


def test_later_steps_change_nothing_in_what_is_written(run, gate, tmp_path):
    move(run)
    paths = [tmp_path / "FeatherFaceV2_best.pth", tmp_path / "FeatherFaceV2_last.pth"]
    before = training_state(run, 1, 0.5, Namespace())
    with CheckpointWriter() as writer:
        writer.write(training_state(run, 1, 0.5, Namespace()), paths)
        move(run)
        gate.set()
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert not are_same(before, training_state(run, 2, 0.5, Namespace()))
    assert load_training_state(paths[1], run) == (1, 0.5)
    assert are_same(before, training_state(run, 1, 0.5, Namespace()))


@pytest.mark.parametrize("stop", [None, KeyboardInterrupt, UserError])
def test_whatever_ends_the_training_the_last_is_written(gate, tmp_path, stop):
    path, seen = tmp_path / "FeatherFaceV2_last.pth", []
    try:
        with CheckpointWriter() as writer:
            writer.write(WORDS, [path])
            seen.append(path.exists())
            threading.Timer(0.2, gate.set).start()
            if stop:
                raise stop
    except (KeyboardInterrupt, UserError):
        pass
    assert seen == [False] and path.is_file() and len(os.listdir(tmp_path)) == 1


@pytest.mark.parametrize("after", [
    lambda writer, path: writer.wait(), lambda writer, path: writer.write(WORDS, [path]), lambda writer, path: None,
])
def test_what_cannot_be_written_is_told_before_anything_else_is(tmp_path, after):
    good, bad, last = (tmp_path / name for name in ("epoch_1.pth", "best.pth", "last.pth"))
    bad.mkdir()
    with pytest.raises(UserError, match="cannot write .*best.pth"), CheckpointWriter() as writer:
        writer.write(WORDS, [good, bad, last])
        after(writer, tmp_path / "next.pth")
    assert sorted(Path(tmp_path).iterdir()) == [bad, good]
