"""The plain step that ours is measured against."""

import torch

from benchmarks.training_step import OperatorCounter, build_steps
from data.targets import FACE, Targets
from tests.helpers import CPU
from training.flags import parse_args


def test_the_plain_step_has_the_losses_of_ours(teacher_checkpoint):
    """What it is measured against computes the same."""
    options = parse_args(arguments=["--teacher_model", str(teacher_checkpoint), "--image_size", "64"])
    torch.manual_seed(0)
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    targets = Targets(torch.tensor([0]), torch.tensor([[10.0, 10.0, 40.0, 50.0]]), torch.zeros(1, 5, 2),
                      torch.tensor([False]), torch.tensor([FACE], dtype=torch.int8), torch.ones(1))
    options.init_backbone = "teacher"
    losses = {}
    for name, step in build_steps(options, CPU).items():
        step.model.train()
        losses[name] = step.backward(*step.prepare(images, targets, None))[0]
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
