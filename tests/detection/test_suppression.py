"""Suppression and voting by hand and against a plain loop."""

import numpy as np
import torch

from detection.face_detector import Candidates
from detection.suppression import DetectionSettings, suppress, vote

SETTINGS = DetectionSettings()


def candidates_of(rows):
    """Rows x1 y1 x2 y2 score as Candidates, each with its landmarks at its top left corner."""
    rows = torch.tensor(rows, dtype=torch.float32).reshape(-1, 5)
    return Candidates(rows[:, :4], rows[:, 4], rows[:, None, :2].expand(-1, 5, 2))


def test_suppression_keeps_the_best_of_overlapping_boxes():
    """By hand, with the areas of continuous boxes: IoU 0.41 goes, 0.39 stays."""
    candidates = candidates_of([[0, 0, 100, 100, 0.9], [0, 61, 100, 100, 0.5], [0, 0, 100, 41, 0.7]])
    found = suppress(candidates, SETTINGS)
    np.testing.assert_allclose(found.boxes, candidates.boxes[[0, 1]].numpy())
    np.testing.assert_allclose(found.scores, [0.9, 0.5])
    assert len(suppress(candidates, DetectionSettings(keep_top_k=1)).boxes) == 1
    assert len(suppress(candidates, DetectionSettings(top_k=1)).boxes) == 1
    none = suppress(candidates, DetectionSettings(confidence_threshold=0.999))
    assert none.boxes.shape == (0, 4) and none.landmarks.shape == (0, 5, 2)


def test_suppression_is_greedy_without_the_lineages_plus_one():
    """Against a plain loop over boxes of whole pixels, where the "+1" would decide otherwise."""
    rng = np.random.default_rng(0)
    corners = rng.integers(0, 60, (400, 2))
    boxes = np.hstack([corners, corners + rng.integers(2, 20, (400, 2))]).astype(np.float64)
    scores = rng.permutation(400) / 400 * 0.9 + 0.05

    def greedy(one):
        area = (boxes[:, 2] - boxes[:, 0] + one) * (boxes[:, 3] - boxes[:, 1] + one)
        kept = []
        for index in np.argsort(-scores):
            sides = np.minimum(boxes[index, 2:], boxes[kept, 2:]) - np.maximum(boxes[index, :2], boxes[kept, :2]) + one
            shared = np.clip(sides, 0, None).prod(axis=1)
            if not (shared / (area[index] + area[kept] - shared) > 0.4123).any():
                kept.append(index)
        return scores[kept]

    # No ratio of small whole numbers is the threshold: rounding decides nothing.
    settings = DetectionSettings(nms_threshold=0.4123)
    found = suppress(candidates_of(np.column_stack([boxes, scores]).tolist()), settings)
    np.testing.assert_allclose(found.scores, greedy(0), rtol=1e-6)
    assert len(greedy(1)) != len(greedy(0))


def test_votes_are_means_weighed_by_score():
    """Two boxes that overlap join by hand; the third and one without area stand alone."""
    rows = [[0, 0, 100, 100, 0.6], [10, 0, 110, 100, 0.3], [500, 500, 520, 530, 0.5], [300, 300, 300, 300, 0.4]]
    found = vote(candidates_of(rows), SETTINGS)
    np.testing.assert_allclose(found.scores, [0.6, 0.5, 0.4])
    expected = [[10 / 3, 0, 310 / 3, 100], [500, 500, 520, 530], [300, 300, 300, 300]]
    np.testing.assert_allclose(found.boxes, expected, rtol=1e-5)
    np.testing.assert_allclose(found.landmarks[:, 3], np.array(expected)[:, :2], rtol=1e-5)
    none = vote(candidates_of([]), SETTINGS)
    assert none.boxes.shape == (0, 4) and none.landmarks.shape == (0, 5, 2)
