"""Times of things that take turns, so that whatever else the machine does slows all of them alike."""

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


class Spread(NamedTuple):
    """The middle of some measurements, and the quartiles around it."""

    lower: float
    median: float
    upper: float


def take_turns(
    runs: dict[str, Callable[[], object]],
    rounds: int,
    warmup: int = 1,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Milliseconds of every run in every round; a round is each of `runs` once, in their order.

    Rounds of warm-up come first and are not measured.
    """
    times: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(warmup + rounds):
        for name, run in runs.items():
            start = clock()
            run()
            if turn >= warmup:
                times[name].append(1000 * (clock() - start))
    return times


def spread(values: Sequence[float]) -> Spread:
    return Spread(*(float(value) for value in np.percentile(values, [25, 50, 75])))


def ratio(slow: Sequence[float], fast: Sequence[float]) -> Spread:
    """How many times faster the second is: the spread of the ratios round by round."""
    return spread([one / other for one, other in zip(slow, fast, strict=True)])


def synchronize(device: torch.device) -> None:
    """Wait until a device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def random_pictures(batch: int, height: int, width: int) -> Tensor:
    """uint8 [B, 3, H, W], the same in every run, for what takes as long with any picture."""
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (batch, 3, height, width), np.uint8))
