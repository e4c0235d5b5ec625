"""The usual loader."""

import random

import numpy as np
import torch

from benchmarks.baselines.usual_loader import MEAN, UsualDataset, distort
from benchmarks.training_loader import choose_records


def test_the_stand_in_moves_faces_with_the_pixels(labels, tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.baselines.usual_loader.distort", lambda image: image)
    dataset = UsualDataset(choose_records([labels], 6, None, tmp_path), 96)
    random.seed(0)
    for index in list(range(6)) * 5:
        image, targets = dataset[index]
        assert image.shape == (3, 96, 96) and image.dtype == torch.float32 and targets.shape == (1, 15)
        left, top, right, bottom = (targets[0, :4] * 96).round().astype(int)
        face = image[:, top + 2 : bottom - 2, left + 2 : right - 2].permute(1, 2, 0).numpy() + MEAN
        assert face.min() > 250


def test_the_stand_in_changes_colours_within_reason():
    random.seed(0)
    grey = np.full((4, 4, 3), 100, np.float32)
    results = np.stack([distort(grey.copy()) for _ in range(50)])
    assert results.min() >= 30 and results.max() <= 200 and results.std() > 5
    assert np.abs(results - results[..., :1]).max() < 1e-3  # grey stays grey
