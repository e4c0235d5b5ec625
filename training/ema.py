"""The moving average of the weights: what is evaluated and shipped."""

import copy
from collections.abc import Iterable

import torch
from torch import Tensor, nn


class WeightAverage:
    """Exponential moving average of a network's parameters and BatchNorm statistics.

    The decay grows as (1 + t) / (10 + t) up to `decay`, so that a short run does not end on its random start.
    `network` is the averaged copy, in eval mode, of `source`, which must not move to another device any more.
    """

    def __init__(self, source: nn.Module, decay: float):
        self.decay = decay
        self.updates = 0
        self.network = copy.deepcopy(source).eval().requires_grad_(False)
        # Looked up once: several hundred tensors by name, at every step, would cost more than their average.
        pairs = [(average, current.detach()) for average, current in zip(_tensors(self.network), _tensors(source))]
        self.averaged = [pair for pair in pairs if pair[0].is_floating_point()]
        self.copied = [pair for pair in pairs if not pair[0].is_floating_point()]  # BatchNorm's counts of batches
        self._share = torch.zeros((), device=self.averaged[0][0].device)  # 1 - decay, where a CUDA graph reads it anew

    def count(self) -> None:
        """Let the decay grow: before each update, and never in a CUDA graph, as it is the host that counts."""
        self.updates += 1
        self._share.fill_(1 - min(self.decay, (1 + self.updates) / (10 + self.updates)))

    @torch.no_grad()
    def update(self) -> None:
        """Move the average towards the network as it is now."""
        averages, current = map(list, zip(*self.averaged))
        change = torch._foreach_sub(current, averages)
        torch._foreach_mul_(change, self._share)
        torch._foreach_add_(averages, change)
        if self.copied:
            torch._foreach_copy_(*map(list, zip(*self.copied)))


def _tensors(network: nn.Module) -> Iterable[Tensor]:
    """Those a checkpoint holds, in its order."""
    return network.state_dict(keep_vars=True).values()
