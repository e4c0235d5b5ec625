"""The plain step that ours is measured against, and what is told of each."""

from argparse import Namespace
from dataclasses import fields
from functools import partialmethod

import pytest
import torch
from torch import nn

from benchmarks.training_step import OperatorCounter, build_steps, compare_steps, fallen_back
from data.loader import Batch
from tests.helpers import CPU, make_targets
from training import graphs
from training.flags import parse_args
from training.graphs import GraphedStep


@pytest.fixture
def flags(teacher_checkpoint) -> Namespace:
    options = parse_args(arguments=["--teacher_model", str(teacher_checkpoint), "--image_size", "64"])
    options.init_backbone = "teacher"
    return options


@pytest.fixture
def some_batch() -> Batch:
    """Two pictures of noise and a face."""
    torch.manual_seed(0)
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    return Batch(images, make_targets((0, [10, 10, 40, 50])), [])


def test_the_plain_step_has_the_losses_of_ours(some_batch, flags):
    """What it is measured against computes the same."""
    losses = {}
    for name, step in build_steps(flags, CPU).items():
        step.model.train()
        losses[name] = step.backward(*step.prepare(some_batch.images, some_batch.targets, None))[0]
    for term, value in losses["plain"].items():
        torch.testing.assert_close(losses["float32"][term], value, rtol=1e-3, atol=1e-4)


def test_operators_are_counted_by_phase_without_views():
    counter = OperatorCounter()
    x = torch.ones(3, 2, requires_grad=True)
    with counter:
        with counter.phase("losses"):
            loss = (x.t()[:1] * 2).exp().sum()
        x.detach() + 1  # in no phase
        with counter.phase("backward"):
            loss.backward()
    assert counter.operators["losses"] == 3 and counter.operators["backward"] > 0
    assert sum(counter.operators.values()) == counter.operators["losses"] + counter.operators["backward"]


def test_a_step_that_falls_back_has_no_row(some_batch, flags, fresh_compiler, monkeypatch, capsys):
    """One that cannot be compiled takes all others with it: what is compiled runs as it is then in the whole process.

    And one that cannot be recorded.
    """
    def fail(*_):
        raise RuntimeError("no such kernel")

    monkeypatch.setattr(nn.Module, "compile", partialmethod(nn.Module.compile, backend=fail))
    monkeypatch.setattr(graphs, "record", fail)
    flags.compile = "on"
    steps = build_steps(flags, CPU)
    steps["bfloat16, compiled, again"] = build_steps(flags, CPU)["bfloat16, compiled"]
    for name in ("bfloat16", "bfloat16, compiled"):
        step = steps[name]
        steps[f"{name}, graphs"] = GraphedStep(**{field.name: getattr(step, field.name) for field in fields(step)})
    assert fallen_back(steps) == {}
    rows = compare_steps(steps, some_batch, 1, CPU)
    assert [row["step"] for row in rows] == ["plain", "float32", "bfloat16"]
    told = [line for line in capsys.readouterr().out.splitlines() if line.startswith("left out: ")]
    assert [line.split(", torch")[0].split(", CUDA")[0].removeprefix("left out: ") for line in told] == [
        "bfloat16, compiled", "bfloat16, compiled, again", "bfloat16, graphs", "bfloat16, compiled, graphs"]
