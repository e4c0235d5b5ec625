"""A training step as it is written down first: float32, channels first in memory, the teacher as published (BatchNorms
not folded, deformable convolutions by torchvision), AdamW by PyTorch's defaults.

Losses, assignment, mixing and the moving average are the same code as in ours.
"""

from argparse import Namespace

import torch
from torch import Tensor, nn

import train_v2
from benchmarks.baselines.published import as_published
from models import load_model
from training.ema import WeightAverage
from training.step import TrainingStep
from training.trainee import Trainee


class ChannelsFirst(nn.Module):
    """A network that gets its pictures with channels first in memory."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, images: Tensor):
        return self.network(images.contiguous())


def build_plain_step(trainee: Trainee, options: Namespace, device: torch.device) -> TrainingStep:
    """options: those of train_v2.py."""
    teacher = None
    if trainee.projections:
        teacher = as_published(load_model(options.teacher_model).requires_grad_(False))
    trainee.to(device)
    optimizer = torch.optim.AdamW(trainee.parameters(), lr=options.lr, weight_decay=options.weight_decay)
    average = WeightAverage(trainee.network, options.ema_decay)
    chosen = Namespace(**vars(options) | {"precision": "float32", "compile": "off", "graphs": "off"})
    step = train_v2.build_step(trainee, teacher, optimizer, average, device, chosen)
    step.model = ChannelsFirst(trainee.to(memory_format=torch.contiguous_format))
    if teacher is not None:
        step.teacher = ChannelsFirst(teacher.to(memory_format=torch.contiguous_format))
    return step
