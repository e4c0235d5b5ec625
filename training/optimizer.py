"""How the weights are moved."""

import torch
from torch import nn


def build_optimizer(module: nn.Module, learning_rate: float, weight_decay: float) -> torch.optim.Optimizer:
    """AdamW; only convolution weights decay (biases, norms and fusion weights have no scale to hold down)."""
    decaying = [parameter for parameter in module.parameters() if parameter.ndim == 4]
    others = [parameter for parameter in module.parameters() if parameter.ndim != 4]
    groups = [{"params": decaying, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=learning_rate, fused=True)
