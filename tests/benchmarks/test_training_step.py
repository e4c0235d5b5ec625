"""The plain step that ours is measured against, and what is told of each."""

from argparse import Namespace
from collections.abc import Callable
from dataclasses import fields
from functools import partial, partialmethod

import pytest
import torch
from torch import nn

from benchmarks import training_step
from benchmarks.training_step import OperatorCounter, build_steps, compare_steps, fallen_back, step_builders
from data.loader import Batch
from tests.helpers import CPU, make_targets
from training import graphs
from training.flags import parse_args
from training.graphs import GraphedStep
from training.step import TrainingStep


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
    for name, build in step_builders(flags, CPU).items():
        step = build()
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


def test_on_a_gpu_steps_are_recorded_but_with_graphs_off(flags):
    flags.compile = "on"
    plainly = ["plain", "float32", "bfloat16", "bfloat16, compiled", "float16"]
    graphs = ["bfloat16, graphs", "bfloat16, compiled, graphs", "float16, graphs"]
    assert list(step_builders(flags, torch.device("cuda"))) == plainly + graphs
    flags.graphs = "off"
    assert list(step_builders(flags, torch.device("cuda"))) == plainly


def graphed(build: Callable[[], TrainingStep]) -> GraphedStep:
    """The same step as CUDA graphs."""
    step = build()
    return GraphedStep(**{field.name: getattr(step, field.name) for field in fields(step) if field.init})


def test_a_step_that_falls_back_has_no_row(some_batch, flags, fresh_compiler, monkeypatch, capsys):
    """One that cannot be compiled takes all others with it: what is compiled runs as it is then in the whole process.

    And one that cannot be recorded.
    """
    def fail(*_):
        raise RuntimeError("no such kernel")

    monkeypatch.setattr(nn.Module, "compile", partialmethod(nn.Module.compile, backend=fail))
    monkeypatch.setattr(graphs, "record", fail)
    flags.compile = "on"
    builders = step_builders(flags, CPU)
    builders["bfloat16, compiled, again"] = builders["bfloat16, compiled"]
    for name in ("bfloat16", "bfloat16, compiled"):
        builders[f"{name}, graphs"] = partial(graphed, builders[name])
    assert fallen_back({name: build() for name, build in builders.items()}) == {}
    rows = compare_steps(*build_steps(builders, some_batch, CPU), some_batch, 1, CPU)
    assert [row["step"] for row in rows] == ["plain", "float32", "bfloat16"]
    told = [line for line in capsys.readouterr().out.splitlines() if line.startswith("left out: ")]
    assert [line.split(", torch")[0].split(", CUDA")[0].removeprefix("left out: ") for line in told] == [
        "bfloat16, compiled", "bfloat16, compiled, again", "bfloat16, graphs", "bfloat16, compiled, graphs"]


def test_half_the_time_is_twice_as_fast(monkeypatch, some_batch):
    """The plain step takes 80 ms for two pictures, the other 40."""
    class Step:
        is_compiled, model = True, nn.Identity()

    for name in ("phase_times", "count_operators"):
        monkeypatch.setattr(training_step, name, lambda *_: {})
    monkeypatch.setattr(training_step, "take_turns", lambda runs, rounds: dict(
        zip(runs, ([80.0] * 3, [40.0] * 3), strict=True)))
    names = ["plain", "float32"]
    rows = compare_steps({name: Step() for name in names}, dict.fromkeys(names, 1.0), some_batch, 3, CPU)
    assert [(row["step"], row["pictures/s"], row["times as fast"]) for row in rows] == [
        ("plain", 25, 1), ("float32", 50, 2)]


def test_the_peak_memory_on_a_gpu_is_what_a_step_adds(some_batch, monkeypatch):
    """Over steps before it; its plain steps beside what recordings hold."""
    taken, made = [5_000_000], []
    fakes = {"empty_cache": lambda: None, "synchronize": lambda device: None,
             "reset_peak_memory_stats": lambda device: None, "memory_reserved": lambda device: taken[-1],
             "max_memory_reserved": lambda device: max(taken)}
    for name, fake in fakes.items():
        monkeypatch.setattr(torch.cuda, name, fake)

    class Step:
        model = nn.Identity()

        def __call__(self, batch, generator, mixes, measure_gradients):
            made.append(measure_gradients)
            taken.append(5_000_000 + 10_000_000 * (1 + measure_gradients))

    steps, peaks = build_steps({"one": Step}, some_batch, torch.device("cuda"))
    assert made == [False, False, False, True]
    assert peaks == {"one": 20.0} and list(steps) == ["one"]
