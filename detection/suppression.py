"""From candidates to faces: threshold, suppression of overlaps, voting between looks."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torchvision.ops import box_iou, nms

from data.config import MIRRORED_LANDMARKS
from detection.face_detector import Candidates
from detection.tiles import Tile

#: A part of a face: how much of it the whole face covers, and its longer side as a share of that of the whole.
PART_COVERED, PART_SIZES = 0.6, (1 / 5, 4 / 5)


@dataclass(frozen=True)
class DetectionSettings:
    """What of the candidates is kept; the numbers of RetinaFace's PyTorch code for measuring AP."""

    confidence_threshold: float = 0.02
    top_k: int = 5000
    nms_threshold: float = 0.4
    keep_top_k: int = 750


class Detections(NamedTuple):
    """Faces of one picture, best first, in pixels of the picture as given."""

    boxes: np.ndarray  #: float32 [n, 4] xyxy
    scores: np.ndarray  #: float32 [n] in 0..1
    landmarks: np.ndarray  #: float32 [n, 5, 2]


def above_threshold(candidates: Candidates, settings: DetectionSettings) -> Candidates:
    """The best top_k candidates of one picture ([A, 4], [A], [A, 5, 2]) scored above the threshold, best first."""
    kept = (candidates.scores > settings.confidence_threshold).nonzero()[:, 0]
    best = candidates.scores[kept].argsort(descending=True, stable=True)[: settings.top_k]
    return Candidates(*(field[kept[best]] for field in candidates))


def without_overlaps(candidates: Candidates, settings: DetectionSettings) -> torch.Tensor:
    """Places of the candidates that no better one overlaps by more than the threshold, best first: int64 [n]."""
    # torchvision compares a float32 IoU with a float64 threshold on the CPU: 0.4, rounded to float32, is over 0.4.
    threshold = float(np.float32(settings.nms_threshold))
    return nms(candidates.boxes, candidates.scores, threshold)[: settings.keep_top_k]


def suppress(candidates: Candidates, settings: DetectionSettings) -> Detections:
    """The faces among the candidates of one picture ([A, 4], [A], [A, 5, 2]).

    Suppression is torchvision's: a box goes where a better one that stays overlaps it by more than the threshold,
    IoU of areas width * height, without the "+1" of the Python loops of older detectors.
    """
    candidates = above_threshold(candidates, settings)
    kept = without_overlaps(candidates, settings)
    return Detections(*(field[kept].cpu().numpy() for field in candidates))


def vote(candidates: Candidates, settings: DetectionSettings) -> Detections:
    """The faces among the candidates of several looks at one picture, in its pixels.

    As `suppress`; then each face's box and landmarks become the mean of the candidates that overlap it by more than
    the threshold, weighed by their scores (box voting, Gidaris and Komodakis, ICCV 2015). Its score stays the best.
    """
    candidates = above_threshold(candidates, settings)
    kept = without_overlaps(candidates, settings)
    near = box_iou(candidates.boxes[kept], candidates.boxes) > settings.nms_threshold
    near[torch.arange(len(kept), device=kept.device), kept] = True  # a box without area overlaps nothing, not itself
    weights = near * candidates.scores
    weights = weights / weights.sum(dim=1, keepdim=True)
    boxes = weights @ candidates.boxes
    landmarks = (weights @ candidates.landmarks.flatten(1)).unflatten(1, (5, 2))
    return Detections(boxes.cpu().numpy(), candidates.scores[kept].cpu().numpy(), landmarks.cpu().numpy())


def rescale(candidates: Candidates, scales: tuple[float, float]) -> Candidates:
    """Candidates found on a picture scaled by (y, x) factors, in the pixels of the picture itself."""
    factors = candidates.boxes.new_tensor([1 / scales[1], 1 / scales[0]])
    return Candidates(candidates.boxes * factors.repeat(2), candidates.scores, candidates.landmarks * factors)


def mirror(candidates: Candidates, width: int) -> Candidates:
    """Candidates found on a mirrored picture of `width` px, as they lie in the picture itself."""
    x1, y1, x2, y2 = candidates.boxes.unbind(-1)
    boxes = torch.stack([width - x2, y1, width - x1, y2], dim=-1)
    x, y = candidates.landmarks[..., MIRRORED_LANDMARKS, :].unbind(-1)
    return Candidates(boxes, candidates.scores, torch.stack([width - x, y], dim=-1))


def from_tile(candidates: Candidates, tile: Tile) -> Candidates:
    """Candidates of one tile ([n, 4], [n], [n, 5, 2], its pixels) that it answers for, in the picture's pixels."""
    boxes = candidates.boxes + candidates.boxes.new_tensor([tile.x.start, tile.y.start] * 2)
    landmarks = candidates.landmarks + candidates.boxes.new_tensor([tile.x.start, tile.y.start])
    x, y = ((boxes[:, :2] + boxes[:, 2:]) / 2).unbind(1)
    kept = (x >= tile.x.core_start) & (x < tile.x.core_end) & (y >= tile.y.core_start) & (y < tile.y.core_end)
    kept = kept.nonzero()[:, 0]
    return Candidates(boxes[kept], candidates.scores[kept], landmarks[kept])


def without_parts(faces: Detections, largest: float) -> Detections:
    """Faces without those that are parts of one whose longer side is over `largest` px.

    Such a face fits into no tile's overlap: it is found on the look at the whole picture, and a tile may take half of
    it for a face. A small face in a corner of a large one's box is no part.
    """
    boxes = faces.boxes.astype(float)
    longer = (boxes[:, 2:] - boxes[:, :2]).max(axis=1, initial=0)
    large = longer > largest
    wholes = boxes[large]
    sides = np.minimum(boxes[:, None, 2:], wholes[:, 2:]) - np.maximum(boxes[:, None, :2], wholes[:, :2])
    shares = sides.clip(0).prod(axis=2) / (boxes[:, 2:] - boxes[:, :2]).prod(axis=1).clip(1e-9)[:, None]
    ratios = longer[:, None] / longer[large]
    is_part = ((shares > PART_COVERED) & (ratios > PART_SIZES[0]) & (ratios < PART_SIZES[1])).any(axis=1)
    return Detections(*(field[~is_part] for field in faces))
