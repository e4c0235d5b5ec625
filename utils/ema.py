"""The moving average of the weights: what is evaluated and shipped."""

import copy

import torch
from torch import nn


class WeightAverage:
    """Exponential moving average of a network's parameters and BatchNorm statistics.

    The decay grows as (1 + t) / (10 + t) up to `decay`, so that a short run does not end on its random start.
    `network` is the averaged copy, in eval mode.
    """

    def __init__(self, network: nn.Module, decay: float):
        self.decay = decay
        self.updates = 0
        self.network = copy.deepcopy(network).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Move the average towards `network`, which has the same structure."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        average, current = self.network.state_dict(), network.state_dict()
        floating = [name for name, tensor in average.items() if tensor.is_floating_point()]
        torch._foreach_lerp_([average[name] for name in floating], [current[name] for name in floating], 1 - decay)
        for name, tensor in average.items():
            if not tensor.is_floating_point():  # BatchNorm's count of batches
                tensor.copy_(current[name])
