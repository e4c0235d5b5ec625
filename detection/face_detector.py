"""A detector as it is used: pictures in, decoded boxes out. Testing, detection and the exported graph share it."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from data.pixels import normalize
from detection.fold import PixelHeads, fold_norms
from layers.anchors import STRIDES, make_cells
from models import load_model


class Candidates(NamedTuple):
    """What a detector says of every anchor of a batch, in pixels of the pictures as given."""

    boxes: Tensor  #: float32 [B, A, 4] xyxy
    scores: Tensor  #: float32 [B, A], probability of a face
    landmarks: Tensor  #: float32 [B, A, 5, 2]


class FaceDetector(nn.Module):
    """A trained network with everything between BGR pixels and decoded boxes, made for inference.

    It holds a copy of `network`, rewritten by detection.fold to give the same outputs to rounding in fewer steps, with
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
        levels, _ = self.network.pyramid(images)
        return Candidates(*self.heads(levels, make_cells(images.shape[2], images.shape[3], images.device)))


def load_detector(path: str | Path, device: torch.device) -> Callable[[Tensor], Candidates]:
    """A detector that maps uint8 BGR pictures [B, 3, H, W] on `device` to Candidates, of a checkpoint or .onnx.

    It has the `name` and the `parameter_count` of its network. UserError as load_model and OnnxDetector.
    """
    if Path(path).suffix.lower() == ".onnx":
        from detection.onnx_detector import OnnxDetector  # training runs where onnxruntime is not installed

        return OnnxDetector(path, device)
    return FaceDetector(load_model(path)).to(device)
