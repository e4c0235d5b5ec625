"""From pictures to faces: scale, pad, forward, decode, suppress. Testing, detection and export share it."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.ops import nms

from data.config import MEAN_BGR, STRIDES
from layers.anchors import make_anchors
from layers.box_coder import decode_boxes, decode_landmarks
from models.outputs import FaceOutputs
from utils.files import read_picture

#: How many pictures ahead of the detector are grouped by padded size.
GROUPING_WINDOW = 64


def keep_size(height: int, width: int) -> float:
    """The picture as it is."""
    return 1.0


def long_side_640(height: int, width: int) -> float:
    """The longer side becomes 640 px, up or down."""
    return 640 / max(height, width)


#: Name of a test protocol -> scale factor of a picture, from its height and width.
PROTOCOLS: dict[str, Callable[[int, int], float]] = {"original": keep_size, "vga": long_side_640}


@dataclass(frozen=True)
class DetectionSettings:
    """What of the raw outputs is kept; the lineage's numbers for measuring AP."""

    confidence_threshold: float = 0.02
    top_k: int = 5000
    nms_threshold: float = 0.4
    keep_top_k: int = 750


class Detections(NamedTuple):
    """Faces of one picture, best first, in pixels of the picture as given."""

    boxes: np.ndarray  #: float32 [n, 4] xyxy
    scores: np.ndarray  #: float32 [n] in 0..1
    landmarks: np.ndarray  #: float32 [n, 5, 2]

    def rescaled(self, scales: tuple[float, float]) -> "Detections":
        """From a picture that was scaled by (y, x) factors back to the pixels of the original."""
        factors = np.float32([1 / scales[1], 1 / scales[0]])
        return Detections(self.boxes * np.tile(factors, 2), self.scores, self.landmarks * factors)


def normalize(images: Tensor) -> Tensor:
    """BGR pixels 0..255, [B, 3, H, W] of any dtype -> float32 as the networks take them."""
    mean = torch.tensor(MEAN_BGR, dtype=torch.float32, device=images.device).view(1, 3, 1, 1)
    return images.float() - mean


def scale_and_pad(picture: np.ndarray, scale: float) -> np.ndarray:
    """Resize uint8 [H, W, 3] and pad it right and below with the mean colour to multiples of the largest stride."""
    height, width = picture.shape[:2]
    if scale != 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    pad_height = -picture.shape[0] % STRIDES[-1]
    pad_width = -picture.shape[1] % STRIDES[-1]
    return cv2.copyMakeBorder(picture, 0, pad_height, 0, pad_width, cv2.BORDER_CONSTANT, value=MEAN_BGR)


def to_tensor(picture: np.ndarray) -> Tensor:
    """uint8 [H, W, 3] -> uint8 [3, H, W]."""
    return torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1)))


@torch.no_grad()
def detect(network: nn.Module, images: Tensor, settings: DetectionSettings) -> list[Detections]:
    """Detect on pictures of one size, uint8 BGR [B, 3, H, W] on the network's device; pixels of these pictures."""
    outputs = network(normalize(images))
    anchors = make_anchors(images.shape[2], images.shape[3], images.device)
    return [
        select(FaceOutputs(outputs.boxes[i], outputs.logits[i], outputs.landmarks[i], ()), anchors, settings)
        for i in range(len(images))
    ]


def select(outputs: FaceOutputs, anchors: Tensor, settings: DetectionSettings) -> Detections:
    """Decode the rows of one picture ([A, 4], [A, 2], [A, 10]) above the threshold and suppress overlaps.

    Suppression is torchvision's: IoU of areas width * height, without the "+1" of the lineage's Python loop.
    """
    scores = torch.softmax(outputs.logits.float(), dim=-1)[:, 1]
    candidates = (scores > settings.confidence_threshold).nonzero()[:, 0]
    best = scores[candidates].argsort(descending=True, stable=True)[: settings.top_k]
    candidates = candidates[best]
    scores = scores[candidates]
    boxes = decode_boxes(outputs.boxes[candidates].float(), anchors[candidates])
    kept = nms(boxes, scores, settings.nms_threshold)[: settings.keep_top_k]
    landmarks = decode_landmarks(outputs.landmarks[candidates[kept]].float(), anchors[candidates[kept]])
    return Detections(boxes[kept].cpu().numpy(), scores[kept].cpu().numpy(), landmarks.cpu().numpy())


class PictureFolder(Dataset):
    """Pictures read, scaled by a protocol and padded: (index, uint8 [3, H, W] or None if unreadable, (y, x) scale)."""

    def __init__(self, paths: list[Path], protocol: str):
        self.paths = paths
        self.scale_of = PROTOCOLS[protocol]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[int, Tensor | None, tuple[float, float]]:
        picture = read_picture(self.paths[index])
        if picture is None:
            return index, None, (1.0, 1.0)
        height, width = picture.shape[:2]
        scale = self.scale_of(height, width)
        # The scale that rounding to whole pixels really gave, per axis.
        scales = (max(1, round(height * scale)) / height, max(1, round(width * scale)) / width)
        return index, to_tensor(scale_and_pad(picture, scale)), scales


def detect_files(
    network: nn.Module,
    paths: list[Path],
    protocol: str,
    settings: DetectionSettings,
    device: torch.device,
    workers: int = 0,
    batch_size: int = 8,
) -> Iterator[tuple[int, Detections | None]]:
    """Detections of every file as (index into paths, Detections in the pixels of the file, None if unreadable).

    Pictures of equal padded size within a window go through the network together, so the order is not that
    of `paths`.
    """
    loader = iter(DataLoader(PictureFolder(paths, protocol), batch_size=None, num_workers=workers))
    while window := list(islice(loader, GROUPING_WINDOW)):
        by_size: dict[tuple[int, ...], list] = {}
        for index, picture, scales in window:
            if picture is None:
                yield index, None
            else:
                by_size.setdefault(picture.shape, []).append((index, picture, scales))
        for group in by_size.values():
            for batch in batched(group, batch_size):
                images = torch.stack([picture for _, picture, _ in batch])
                found = detect(network, images.to(device), settings)
                for (index, _, scales), detections in zip(batch, found):
                    yield index, detections.rescaled(scales)


def batched(items: list, size: int) -> Iterable[list]:
    """Consecutive slices of at most `size` items."""
    return (items[start : start + size] for start in range(0, len(items), size))
