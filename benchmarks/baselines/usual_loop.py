"""The usual evaluation loop: a stand-in for test_widerface.py of RetinaFace's PyTorch port and its descendants.

As theirs it takes one picture at a time in the main process, with the network as it was trained, prior boxes made anew
for every picture by Python loops, and suppression in numpy.
"""

from itertools import product
from math import ceil
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from data.config import MEAN_BGR
from data.picture_files import read_picture
from detection.suppression import Detections, DetectionSettings
from layers.anchors import ANCHOR_SIZES, STRIDES
from layers.box_coder import VARIANCES
from utils.errors import UserError


def prior_boxes(height: int, width: int) -> Tensor:
    """What layers.anchors.make_anchors gives, as shares of the picture's sides: float32 [A, 4] cxcywh in 0..1."""
    priors = []
    for stride, sizes in zip(STRIDES, ANCHOR_SIZES):
        for row, column in product(range(ceil(height / stride)), range(ceil(width / stride))):
            for size in sizes:
                center_x = [(column + 0.5) * stride / width]
                center_y = [(row + 0.5) * stride / height]
                for y, x in product(center_y, center_x):
                    priors += [x, y, size / width, size / height]
    return torch.Tensor(priors).view(-1, 4)


def decode(offsets: Tensor, priors: Tensor) -> Tensor:
    """Offsets [A, 4] -> boxes [A, 4] xyxy, both as shares of the picture's sides."""
    boxes = torch.cat([
        priors[:, :2] + offsets[:, :2] * VARIANCES[0] * priors[:, 2:],
        priors[:, 2:] * torch.exp(offsets[:, 2:] * VARIANCES[1]),
    ], 1)
    boxes[:, :2] -= boxes[:, 2:] / 2
    boxes[:, 2:] += boxes[:, :2]
    return boxes


def decode_landmarks(offsets: Tensor, priors: Tensor) -> Tensor:
    """Offsets [A, 10] -> points [A, 10] as shares of the picture's sides."""
    points = [priors[:, :2] + offsets[:, point : point + 2] * VARIANCES[0] * priors[:, 2:] for point in range(0, 10, 2)]
    return torch.cat(points, dim=1)


def suppress(boxes: np.ndarray, scores: np.ndarray, threshold: float, pixel: float) -> list[int]:
    """Rows of boxes [n, 4] xyxy that stay. pixel: added to every side, 1 in the usual loop, 0 for continuous boxes."""
    x1, y1, x2, y2 = boxes.T
    areas = (x2 - x1 + pixel) * (y2 - y1 + pixel)
    order = scores.argsort()[::-1]
    kept = []
    while order.size > 0:
        best, others = order[0], order[1:]
        kept.append(best)
        width = np.maximum(0.0, np.minimum(x2[best], x2[others]) - np.maximum(x1[best], x1[others]) + pixel)
        height = np.maximum(0.0, np.minimum(y2[best], y2[others]) - np.maximum(y1[best], y1[others]) + pixel)
        shared = width * height
        overlap = shared / (areas[best] + areas[others] - shared)
        order = others[np.where(overlap <= threshold)[0]]
    return kept


@torch.no_grad()
def detect_file(
    network: nn.Module, path: Path, settings: DetectionSettings, device: torch.device, as_ours: bool = False
) -> Detections:
    """The faces of one file at its own size, by `network` from as_published on `device`.

    The usual loop suppresses with "+1" on every side, and its network sees the picture without padding. `as_ours`
    suppresses without "+1" and pads to multiples of the largest stride: the detections must then be ours. (What is
    padded shows in the global pooling of V1's channel gates, so it moves its scores a little.) UserError where it is
    no picture.
    """
    picture = read_picture(path)
    if picture is None:
        raise UserError(f"cannot read {path}: leave it out, the usual loop stops there")
    image = np.float32(picture)
    image -= MEAN_BGR
    if as_ours:
        pad_height, pad_width = (-side % STRIDES[-1] for side in image.shape[:2])
        image = cv2.copyMakeBorder(image, 0, pad_height, 0, pad_width, cv2.BORDER_CONSTANT, value=0)
    height, width = image.shape[:2]
    sides = torch.Tensor([width, height]).to(device)
    image = torch.from_numpy(image.transpose(2, 0, 1)).unsqueeze(0).to(device)

    outputs = network(image.contiguous())
    priors = prior_boxes(height, width).to(device)
    boxes = (decode(outputs.boxes[0], priors) * sides.repeat(2)).cpu().numpy()
    scores = torch.softmax(outputs.logits, dim=-1)[0].cpu().numpy()[:, 1]
    landmarks = (decode_landmarks(outputs.landmarks[0], priors) * sides.repeat(5)).cpu().numpy()

    likely = np.where(scores > settings.confidence_threshold)[0]
    best = likely[scores[likely].argsort()[::-1][: settings.top_k]]
    boxes, scores, landmarks = boxes[best], scores[best], landmarks[best]
    kept = suppress(boxes, scores, settings.nms_threshold, pixel=0 if as_ours else 1)[: settings.keep_top_k]
    return Detections(boxes[kept], scores[kept], landmarks[kept].reshape(-1, 5, 2))


def write_text(detections: Detections, path: Path) -> None:
    """The usual text file: whole pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        file.write(f"{path.stem}\n{len(detections.scores)}\n")
        for (left, top, right, bottom), score in zip(detections.boxes, detections.scores):
            file.write(f"{int(left)} {int(top)} {int(right) - int(left)} {int(bottom) - int(top)} {score}\n")


def usual_loop(
    network: nn.Module, paths: list[Path], folder: Path, device: torch.device, as_ours: bool = False
) -> list[Detections]:
    """All of it, text files included; `network` and `as_ours` as in detect_file."""
    found = []
    for path in paths:
        found.append(detect_file(network, path, DetectionSettings(), device, as_ours))
        write_text(found[-1], folder / path.parent.name / f"{path.stem}.txt")
    return found
