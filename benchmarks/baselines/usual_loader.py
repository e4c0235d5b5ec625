"""The usual loader: a stand-in for the training loaders of RetinaFace's PyTorch port and its descendants.

As theirs it decodes the whole picture, changes its colours in float32, then crops, pads, mirrors and resizes in
float32, takes the mean off, and stacks.
"""

import random

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from data.config import MEAN_BGR
from data.picture_files import read_picture
from data.widerface import Record
from utils.errors import UserError

CROP_SCALES = (0.3, 0.45, 0.6, 0.8, 1.0)
CROP_TRIES = 250
MEAN = np.array(MEAN_BGR, np.float32)


def distort(image: np.ndarray) -> np.ndarray:
    """Brightness, contrast, saturation and hue of float32 [H, W, 3], each in half of the cases; SSD's, in place."""
    if random.randrange(2):
        image += random.uniform(-32, 32)
    if random.randrange(2):
        image *= random.uniform(0.5, 1.5)
    image = cv2.cvtColor(image, cv2.COLOR_BGR2HSV)
    if random.randrange(2):
        image[..., 1] *= random.uniform(0.5, 1.5)
    if random.randrange(2):
        hue = image[..., 0]
        hue += random.uniform(-18, 18)
        hue[hue > 360] -= 360
        hue[hue < 0] += 360
    return cv2.cvtColor(image, cv2.COLOR_HSV2BGR)


def crop(image: np.ndarray, boxes: np.ndarray, landmarks: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A square that holds a face whole and the centres of those it keeps; the picture as it is where none is found."""
    height, width = image.shape[:2]
    for _ in range(CROP_TRIES):
        side = int(random.choice(CROP_SCALES) * min(height, width))
        left, top = random.randint(0, width - side), random.randint(0, height - side)
        window = np.array([left, top, left + side, top + side])
        if not ((boxes >= window[[0, 1, 0, 1]]) & (boxes <= window[[2, 3, 2, 3]])).all(axis=1).any():
            continue
        centers = (boxes[:, :2] + boxes[:, 2:]) / 2
        kept = ((centers > window[:2]) & (centers < window[2:])).all(axis=1)
        corner = np.tile(window[:2], 2)
        cut = np.clip(boxes[kept] - corner, 0, side)
        return image[top : top + side, left : left + side], cut, landmarks[kept] - window[:2]
    return image, boxes, landmarks


class UsualDataset(Dataset):
    """float32 [3, S, S] without its mean, and float32 [n, 15]: box and landmarks as shares of the side, and a label."""

    def __init__(self, records: list[Record], image_size: int):
        self.records = records
        self.image_size = image_size

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> tuple[Tensor, np.ndarray]:
        record = self.records[index]
        image = read_picture(record.path)
        if image is None:
            raise UserError(f"cannot read {record.path}: leave it out, the lineage's loader stops there")
        image, boxes, landmarks = crop(distort(image.astype(np.float32)), record.boxes, record.landmarks)
        height, width = image.shape[:2]
        side = max(height, width)
        if height != width:
            square = np.empty((side, side, 3), np.float32)
            square[:] = MEAN
            square[:height, :width] = image
            image = square
        if random.randrange(2):
            image = image[:, ::-1]
            boxes = np.stack([side - boxes[:, 2], boxes[:, 1], side - boxes[:, 0], boxes[:, 3]], axis=1)
            landmarks = landmarks * (-1, 1) + (side, 0)
        image = cv2.resize(image, (self.image_size, self.image_size))
        image -= MEAN
        targets = np.concatenate([boxes / side, landmarks.reshape(-1, 10) / side, np.ones((len(boxes), 1))], axis=1)
        return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))), targets.astype(np.float32)


def collate(samples: list[tuple[Tensor, np.ndarray]]) -> tuple[Tensor, list[Tensor]]:
    """float32 [B, 3, S, S] and the faces of each picture."""
    images, targets = zip(*samples)
    return torch.stack(images), [torch.from_numpy(faces) for faces in targets]


def build_usual_loader(records: list[Record], image_size: int, batch_size: int, num_workers: int) -> DataLoader:
    """Its workers, too, are started once and kept from pass to pass."""
    return DataLoader(
        UsualDataset(records, image_size), batch_size, shuffle=True, num_workers=num_workers, collate_fn=collate,
        persistent_workers=num_workers > 0,
    )
