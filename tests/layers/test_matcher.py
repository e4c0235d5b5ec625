"""The assignment of faces to anchors."""

import pytest
import torch

from data.targets import ABSENT, FACE, IGNORED
from layers.anchors import make_anchors
from layers.matcher import ANCHORS_PER_FACE, POSITIVE_IOU, assign
from tests.helpers import make_targets
from utils.boxes import center_to_corner, iou_matrix


@pytest.fixture
def anchors():
    return make_anchors(128, 128)


def test_a_face_takes_its_overlapping_anchors_and_at_least_three(anchors):
    box = (40.0, 40.0, 72.0, 72.0)
    result = assign(make_targets((0, box, FACE)), anchors, 1)
    overlap = iou_matrix(torch.tensor([box]), center_to_corner(anchors))[0]
    positive = result.positive[0]
    assert positive[overlap >= POSITIVE_IOU].all()
    assert positive.sum() >= ANCHORS_PER_FACE
    assert overlap[positive].min() >= torch.topk(overlap, ANCHORS_PER_FACE).values.min() - 1e-6 or (
        overlap[positive] >= POSITIVE_IOU
    ).all()
    torch.testing.assert_close(result.boxes[0][positive], torch.tensor([box]).expand(int(positive.sum()), 4))
    assert (result.background[0] == ~positive).all()


@pytest.mark.parametrize("side", [1.0, 7.0, 700.0])
def test_no_face_is_too_small_or_too_large_to_be_learnt(anchors, side):
    box = (60.0 - side / 2, 61.0 - side / 2, 60.0 + side / 2, 61.0 + side / 2)
    positive = assign(make_targets((0, box, FACE)), anchors, 1).positive[0]
    assert positive.sum() >= ANCHORS_PER_FACE
    if side < 16:  # of the anchors that hold it whole, the nearest ones
        distances = (anchors[:, :2] - torch.tensor([60.0, 61.0])).abs().amax(dim=1)
        assert distances[positive].max() <= 12


def test_a_batch_is_matched_like_its_pictures_one_by_one(anchors):
    generator = torch.Generator().manual_seed(0)
    rows = []
    for picture in (0, 2, 2, 2, 3, 3):  # picture 1 has no face
        corner = torch.rand(2, generator=generator) * 80
        size = torch.rand(2, generator=generator) * 40 + 4
        rows.append((picture, (*corner.tolist(), *(corner + size).tolist()), FACE))
    together = assign(make_targets(*rows), anchors, 4)
    for picture in range(4):
        alone = assign(make_targets(*[(0, box, role) for p, box, role in rows if p == picture]), anchors, 1)
        assert (together.positive[picture] == alone.positive[0]).all()
        assert (together.background[picture] == alone.background[0]).all()
        positive = alone.positive[0]
        assert (together.boxes[picture][positive] == alone.boxes[0][positive]).all()


def test_an_anchor_goes_to_the_face_it_overlaps_more(anchors):
    near, far = (32.0, 32.0, 64.0, 64.0), (40.0, 32.0, 72.0, 64.0)
    result = assign(make_targets((0, far, FACE), (0, near, FACE)), anchors, 1)
    best = iou_matrix(torch.tensor([near]), center_to_corner(anchors))[0].argmax()
    assert tuple(result.boxes[0, best].tolist()) == near
    found = {tuple(box) for box in result.boxes[0][result.positive[0]].tolist()}
    assert found == {near, far}


def test_ignored_regions_are_neither_face_nor_background(anchors):
    region = (0.0, 0.0, 64.0, 64.0)
    result = assign(make_targets((0, region, IGNORED)), anchors, 1)
    assert not result.positive.any()
    inside = (anchors[:, :2] < 56).all(dim=1) & (anchors[:, 2] <= 16)
    assert not result.background[0][inside].any()
    outside = (anchors[:, :2] > 100).all(dim=1) & (anchors[:, 2] <= 32)
    assert result.background[0][outside].all()


def test_a_tiny_ignored_face_frees_the_anchors_it_would_have_taken(anchors):
    box = (60.0, 60.0, 63.0, 63.0)
    taken = assign(make_targets((0, box, FACE)), anchors, 1).positive[0]
    result = assign(make_targets((0, box, IGNORED)), anchors, 1)
    assert (~result.background[0] == taken).all()


def test_a_face_wins_over_an_ignored_region(anchors):
    box = (40.0, 40.0, 72.0, 72.0)
    alone = assign(make_targets((0, box, FACE)), anchors, 1)
    both = assign(make_targets((0, (0.0, 0.0, 128.0, 128.0), IGNORED), (0, box, FACE)), anchors, 1)
    assert (both.positive == alone.positive).all()


@pytest.mark.parametrize("rows", [[], [(0, (10.0, 10.0, 50.0, 50.0), ABSENT)]])
def test_without_faces_everything_is_background(anchors, rows):
    result = assign(make_targets(*rows), anchors, 2)
    assert result.background.all() and not result.positive.any() and not result.has_landmarks.any()


def test_five_hundred_faces_in_one_picture(anchors):
    corners = torch.rand(500, 2, generator=torch.Generator().manual_seed(0)) * 118
    rows = [(0, (x, y, x + 8, y + 9), FACE) for x, y in corners.tolist()]
    result = assign(make_targets(*rows), anchors, 1)
    assert result.positive.sum() > 100 and result.boxes.isfinite().all()


def test_weights_and_landmarks_follow_their_face(anchors):
    targets = make_targets((0, (10.0, 10.0, 42.0, 42.0), FACE), (0, (70.0, 70.0, 110.0, 110.0), FACE))
    targets = targets._replace(weights=torch.tensor([0.4, 1.0]), has_landmarks=torch.tensor([False, True]))
    result = assign(targets, anchors, 1)
    first = result.positive[0] & (result.boxes[0, :, 0] == 10)
    second = result.positive[0] & (result.boxes[0, :, 0] == 70)
    assert (result.weights[0][first] == 0.4).all() and not result.has_landmarks[0][first].any()
    assert (result.weights[0][second] == 1).all() and result.has_landmarks[0][second].all()
    assert (result.landmarks[0][second] == 90).all()


def test_matching_reads_nothing_from_the_device():
    """On tensors without data any value read on the host, and any shape that depends on one, is an error."""
    targets = make_targets((0, (10.0, 10.0, 50.0, 50.0), FACE), (1, (0.0, 0.0, 9.0, 9.0), IGNORED))
    result = assign(targets.to("meta"), make_anchors(128, 128).to("meta"), 2)
    assert result.weights.shape == (2, len(make_anchors(128, 128)))
