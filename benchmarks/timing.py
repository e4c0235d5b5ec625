"""What is made of times, and what they are measured with."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


class Spread(NamedTuple):
    """The middle of some measurements, and the quartiles around it."""

    lower: float
    median: float
    upper: float


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
