"""A few anchors and what they learn, for the losses."""

import pytest
import torch

from layers.matcher import Assignment

PICTURES, ANCHORS = 2, 60


@pytest.fixture
def anchors():
    generator = torch.Generator().manual_seed(1)
    centers = torch.rand(ANCHORS, 2, generator=generator) * 100 + 30
    return torch.cat([centers, torch.full((ANCHORS, 2), 24.0)], dim=1)


@pytest.fixture
def assignment(anchors):
    """Three faces near their anchors in the first picture, none in the second; two anchors ignored."""
    weights = torch.zeros(PICTURES, ANCHORS)
    weights[0, :3] = torch.tensor([1.0, 1.0, 0.5])
    ignored = torch.zeros(PICTURES, ANCHORS, dtype=torch.bool)
    ignored[0, 3:5] = True
    boxes = torch.cat([anchors[:, :2] - 11, anchors[:, :2] + 14], dim=1).expand(PICTURES, -1, -1).clone()
    landmarks = anchors[None, :, None, :2].expand(PICTURES, -1, 5, -1) + 2.0
    has_landmarks = torch.zeros(PICTURES, ANCHORS, dtype=torch.bool)
    has_landmarks[0, :2] = True
    face = torch.arange(ANCHORS).expand(PICTURES, -1)
    return Assignment(weights, ignored, face, boxes, landmarks, has_landmarks)
