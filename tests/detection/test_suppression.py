"""Suppression and voting by hand and against a plain loop."""

import math

import numpy as np
import pytest
import torch

from detection.face_detector import Candidates
from detection.suppression import DetectionSettings, from_tile, suppress, vote, without_parts
from detection.tiles import Span, Tile
from tests.helpers import detections_of

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


@pytest.mark.parametrize("threshold", [0.3, 0.4, 0.5, 0.7])
@pytest.mark.parametrize("choose", [suppress, vote])
def test_an_iou_of_exactly_the_threshold_is_not_more_than_it(choose, threshold):
    """As ONNX NonMaxSuppression and OpenCV's NMSBoxes have it; some of these are larger as float32, some smaller."""
    settings = DetectionSettings(nms_threshold=threshold)
    for width, count in ((10 * threshold, 2), (10 * threshold + 0.01, 1)):
        found = choose(candidates_of([[0, 0, 10, 10, 0.9], [0, 0, width, 10, 0.8]]), settings)
        assert len(found.scores) == count


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


def test_a_part_of_a_large_face_is_none_and_a_small_face_in_its_corner_is_one():
    large, half, corner = (0, 0, 400, 500, 0.8), (90, 60, 300, 250, 0.95), (350, 10, 390, 60, 0.7)
    beside, crossing = (410, 0, 600, 200, 0.9), (300, 300, 560, 600, 0.9)
    faces = detections_of(half, crossing, beside, large, corner)
    assert without_parts(faces, 160).scores.tolist() == faces.scores[1:].tolist()
    assert len(without_parts(faces, 500).scores) == 5  # no face is too large for a tile
    for rows in ([], [large], [(5, 5, 5, 5, 0.9), large]):
        assert len(without_parts(detections_of(*rows), 160).scores) == len(rows)


def test_a_tile_answers_for_the_faces_whose_centre_is_in_its_core():
    boxes = torch.tensor([[0.0, 0, 10, 10], [90, 0, 110, 10], [0, 0, 400, 10], [150, 0, 190, 10]])
    candidates = Candidates(boxes, torch.arange(4) / 4, boxes[:, None, :2].repeat(1, 5, 1))
    tile = Tile(Span(50, 200, -math.inf, math.inf), Span(1000, 1200, 1050.0, 1150.0))
    kept = from_tile(candidates, tile)
    assert kept.scores.tolist() == [0.25] and kept.boxes.tolist() == [[1090, 50, 1110, 60]]
    assert kept.landmarks.tolist() == [[[1090, 50]] * 5]
