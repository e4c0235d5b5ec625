"""A detector as it is used: pictures in, decoded boxes out. Testing, detection and the exported graph share it."""

import copy
import functools
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from data.config import MEAN_BGR, STRIDES
from layers.anchors import make_cells
from models.fold import PixelHeads, fold_norms


class Candidates(NamedTuple):
    """What a detector says of every anchor of a batch, in pixels of the pictures as given."""

    boxes: Tensor  #: float32 [B, A, 4] xyxy
    scores: Tensor  #: float32 [B, A], probability of a face
    landmarks: Tensor  #: float32 [B, A, 5, 2]


def normalize(images: Tensor) -> Tensor:
    """BGR pixels 0..255, [B, 3, H, W] of any dtype -> float32 as the networks take them, channels last in memory."""
    # Moved while they are bytes, a quarter of the memory.
    return images.contiguous(memory_format=torch.channels_last).float() - mean_picture(images.device)


@functools.cache
def mean_picture(device: torch.device) -> Tensor:
    """MEAN_BGR as float32 [1, 3, 1, 1], sent to a device once: each time would wait for the device."""
    with torch.inference_mode(False):
        return torch.tensor(MEAN_BGR, dtype=torch.float32, device=device).view(1, 3, 1, 1)


class FaceDetector(nn.Module):
    """A trained network with everything between BGR pixels and decoded boxes, made for inference.

    It holds a copy of `network`, rewritten by models.fold to give the same outputs to rounding in fewer steps, with
    channels last in memory. `name` and `parameter_count` are the network's.
    """

    def __init__(self, network: nn.Module):
        super().__init__()
        self.name = network.name
        self.parameter_count = sum(parameter.numel() for parameter in network.parameters())
        self.network = fold_norms(copy.deepcopy(network).eval().requires_grad_(False))
        self.heads = PixelHeads(self.network.heads)
        del self.network.heads
        self.to(memory_format=torch.channels_last)
        self.eval()

    def forward(self, images: Tensor) -> Candidates:
        """BGR pixels 0..255, uint8 or float [B, 3, H, W] of any size."""
        height, width = images.shape[2], images.shape[3]
        images = normalize(images)
        # Zeros after the mean is gone: the padding looks like the canvas of training.
        images = F.pad(images, (0, -width % STRIDES[-1], 0, -height % STRIDES[-1]))
        levels, _ = self.network.describe(images)
        return Candidates(*self.heads(levels, make_cells(images.shape[2], images.shape[3], images.device)))
