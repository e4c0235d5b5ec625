"""The assignment of faces to anchors."""

import pytest
import torch
from torch import Tensor

from data.targets import ABSENT, FACE, IGNORED, Targets
from layers import matcher
from layers.anchors import make_anchors
from layers.matcher import BY_IOU, INSIDE_IGNORED, Rule, assign
from layers.selection import CANDIDATES
from tests.helpers import make_targets
from utils.boxes import area, center_to_corner, intersection_matrix, iou_matrix

#: Of the pictures, in pixels.
SIDE = 128


@pytest.fixture
def anchors():
    return make_anchors(SIDE, SIDE)


def test_a_face_takes_its_overlapping_anchors_and_at_least_three(anchors):
    box = (40.0, 40.0, 72.0, 72.0)
    result = assign(make_targets((0, box, FACE)), 1, SIDE, SIDE)
    overlap = iou_matrix(torch.tensor([box]), center_to_corner(anchors))[0]
    positive = result.positive[0]
    assert positive[overlap >= BY_IOU.iou].all()
    assert positive.sum() >= BY_IOU.least
    assert overlap[positive].min() >= torch.topk(overlap, BY_IOU.least).values.min() - 1e-6 or (
        overlap[positive] >= BY_IOU.iou
    ).all()
    torch.testing.assert_close(result.boxes[0][positive], torch.tensor([box]).expand(int(positive.sum()), 4))
    assert (result.background[0] == ~positive).all()


@pytest.mark.parametrize("side", [1.0, 7.0, 700.0])
def test_no_face_is_too_small_or_too_large_to_be_learnt(anchors, side):
    box = (60.0 - side / 2, 61.0 - side / 2, 60.0 + side / 2, 61.0 + side / 2)
    positive = assign(make_targets((0, box, FACE)), 1, SIDE, SIDE).positive[0]
    assert positive.sum() >= BY_IOU.least
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
    together = assign(make_targets(*rows), 4, SIDE, SIDE)
    for picture in range(4):
        alone = assign(make_targets(*[(0, box, role) for p, box, role in rows if p == picture]), 1, SIDE, SIDE)
        assert (together.positive[picture] == alone.positive[0]).all()
        assert (together.background[picture] == alone.background[0]).all()
        positive = alone.positive[0]
        assert (together.boxes[picture][positive] == alone.boxes[0][positive]).all()


def test_an_anchor_goes_to_the_face_it_overlaps_more(anchors):
    near, far = (32.0, 32.0, 64.0, 64.0), (40.0, 32.0, 72.0, 64.0)
    result = assign(make_targets((0, far, FACE), (0, near, FACE)), 1, SIDE, SIDE)
    best = iou_matrix(torch.tensor([near]), center_to_corner(anchors))[0].argmax()
    assert tuple(result.boxes[0, best].tolist()) == near
    found = {tuple(box) for box in result.boxes[0][result.positive[0]].tolist()}
    assert found == {near, far}


def test_ignored_regions_are_neither_face_nor_background(anchors):
    region = (0.0, 0.0, 64.0, 64.0)
    result = assign(make_targets((0, region, IGNORED)), 1, SIDE, SIDE)
    assert not result.positive.any()
    inside = (anchors[:, :2] < 56).all(dim=1) & (anchors[:, 2] <= 16)
    assert not result.background[0][inside].any()
    outside = (anchors[:, :2] > 100).all(dim=1) & (anchors[:, 2] <= 32)
    assert result.background[0][outside].all()


def test_a_tiny_ignored_face_frees_the_anchors_it_would_have_taken(anchors):
    box = (60.0, 60.0, 63.0, 63.0)
    taken = assign(make_targets((0, box, FACE)), 1, SIDE, SIDE).positive[0]
    result = assign(make_targets((0, box, IGNORED)), 1, SIDE, SIDE)
    assert (~result.background[0] == taken).all()


def test_a_face_wins_over_an_ignored_region(anchors):
    box = (40.0, 40.0, 72.0, 72.0)
    alone = assign(make_targets((0, box, FACE)), 1, SIDE, SIDE)
    both = assign(make_targets((0, (0.0, 0.0, 128.0, 128.0), IGNORED), (0, box, FACE)), 1, SIDE, SIDE)
    assert (both.positive == alone.positive).all()


@pytest.mark.parametrize("rows", [[], [(0, (10.0, 10.0, 50.0, 50.0), ABSENT)]])
def test_without_faces_everything_is_background(anchors, rows):
    result = assign(make_targets(*rows), 2, SIDE, SIDE)
    assert result.background.all() and not result.positive.any() and not result.has_landmarks.any()


def test_five_hundred_faces_in_one_picture(anchors):
    corners = torch.rand(500, 2, generator=torch.Generator().manual_seed(0)) * 118
    rows = [(0, (x, y, x + 8, y + 9), FACE) for x, y in corners.tolist()]
    result = assign(make_targets(*rows), 1, SIDE, SIDE)
    assert result.positive.sum() > 100 and result.boxes.isfinite().all()


def test_weights_and_landmarks_follow_their_face(anchors):
    targets = make_targets((0, (10.0, 10.0, 42.0, 42.0), FACE), (0, (70.0, 70.0, 110.0, 110.0), FACE))
    targets = targets._replace(weights=torch.tensor([0.4, 1.0]), has_landmarks=torch.tensor([False, True]))
    result = assign(targets, 1, SIDE, SIDE)
    first = result.positive[0] & (result.boxes[0, :, 0] == 10)
    second = result.positive[0] & (result.boxes[0, :, 0] == 70)
    assert (result.weights[0][first] == 0.4).all() and not result.has_landmarks[0][first].any()
    assert (result.weights[0][second] == 1).all() and result.has_landmarks[0][second].all()
    assert (result.landmarks[0][second] == 90).all()


def test_matching_reads_nothing_from_the_device():
    """On tensors without data any value read on the host, and any shape that depends on one, is an error."""
    targets = make_targets((0, (10.0, 10.0, 50.0, 50.0), FACE), (1, (0.0, 0.0, 9.0, 9.0), IGNORED))
    result = assign(targets.to("meta"), 2, SIDE, SIDE)
    assert result.weights.shape == (2, len(make_anchors(SIDE, SIDE)))


def random_targets(boxes: int, batch_size: int, height: int, width: int, generator: torch.Generator) -> Targets:
    """Boxes of 1 to 700 px of all shapes, some beyond the picture, of all roles."""
    shapes = 0.8 * torch.randn(boxes, 2, generator=generator)
    sizes = torch.exp(6.5 * torch.rand(boxes, 1, generator=generator) + shapes)
    centers = torch.rand(boxes, 2, generator=generator) * torch.tensor([width, height])
    roles = torch.randint(ABSENT, FACE + 1, (boxes,), generator=generator).tolist()
    pictures = torch.randint(batch_size, (boxes,), generator=generator).tolist()
    corners = torch.cat([centers - sizes / 2, centers + sizes / 2], dim=1).tolist()
    return make_targets(*zip(pictures, corners, roles))


def assign_slowly(targets: Targets, batch_size: int, anchors: Tensor, rule: Rule) -> tuple[Tensor, Tensor]:
    """For each anchor of each picture the row that it learns, or -1; and whether it is background. Every row meets
    every anchor."""
    row, best = torch.full((2, batch_size, len(anchors)), -1.0)
    background = torch.ones(batch_size, len(anchors), dtype=torch.bool)
    corners, areas = center_to_corner(anchors), anchors[:, 2] * anchors[:, 3]
    for index, (picture, box, role) in enumerate(zip(targets.picture, targets.boxes, targets.role)):
        shared = intersection_matrix(box[None], corners)[0]
        iou = shared / (area(box) + areas - shared)
        x, y = (box[:2] + box[2:]) / 2
        distance = ((anchors[:, 0] - x).abs() + (anchors[:, 1] - y).abs()) / anchors[:, 2]
        scores = torch.add(iou, distance, alpha=-1e-3).tolist()
        wish = torch.where(iou >= rule.iou, iou, 0.0)
        order = sorted(range(len(anchors)), key=lambda anchor: (-scores[anchor], anchors[anchor, 2].item()))
        wish[order[: rule.least]] = 1 + iou[order[: rule.least]]
        if role == FACE:
            wins = (wish > 0) & (wish > best[picture])
            best[picture] = torch.where(wins, wish, best[picture])
            row[picture] = torch.where(wins, index, row[picture])
        elif role == IGNORED:
            background[picture] &= (wish == 0) & (shared < INSIDE_IGNORED * areas)
    return row.long(), background & (row < 0)


@pytest.mark.parametrize("rule", [BY_IOU, CANDIDATES, Rule(iou=0.9, least=8)], ids=str)
@pytest.mark.parametrize("height, width", [(64, 64), (96, 160), (33, 320), (8, 320), (32, 32), (320, 320)])
def test_only_anchors_near_a_box_have_to_be_looked_at(height, width, rule):
    """The assignment, bit for bit, is that of a slow twin; boxes that meet no anchor, one or all are among these."""
    generator = torch.Generator().manual_seed(height + width)
    for boxes in (0, 1, 5, 60):
        targets = random_targets(boxes, 3, height, width, generator)
        found = assign(targets, 3, height, width, rule)
        row, background = assign_slowly(targets, 3, make_anchors(height, width), rule)
        positive = row >= 0
        assert (found.background == background).all() and (found.positive == positive).all()
        assert (found.boxes[positive] == targets.boxes[row[positive]]).all()
        faces = targets.rows(targets.role != ABSENT)
        assert (faces.boxes[found.face[positive]] == found.boxes[positive]).all()


def test_of_anchors_that_a_face_wants_alike_the_first_ones_count():
    """A face of a pixel in the middle of four cells: each holds it, at the same distance."""
    positive = assign(make_targets((0, (31.5, 31.5, 32.5, 32.5))), 1, 64, 64).positive[0]
    assert positive.nonzero()[:, 0].tolist() == [2 * (3 * 8 + 3), 2 * (3 * 8 + 4), 2 * (4 * 8 + 3)]


def with_absent(targets: Targets, rows: int) -> Targets:
    """The targets and so many rows that no picture has."""
    return Targets(*(torch.cat(fields) for fields in zip(targets, targets.absent(rows))))


def test_absent_rows_change_nothing(monkeypatch):
    """On a GPU they stay: leaving them out would wait for it."""
    targets = random_targets(40, 3, 96, 160, torch.Generator().manual_seed(0))
    expected = assign(targets, 3, 96, 160)
    monkeypatch.setattr(matcher, "_rows_to_match", lambda targets: targets)
    found = assign(with_absent(targets, 9), 3, 96, 160)
    for name in ("weights", "ignored", "has_landmarks"):
        assert torch.equal(getattr(found, name), getattr(expected, name))
    assert torch.equal(found.boxes[found.positive], expected.boxes[expected.positive])


#: Ignored regions from their corners [F, 2, 2] in pixels, made of numbers from 0 to 1.
REGIONS = {
    "of all sizes, some beyond the picture": lambda corners: 400 * corners - 150,
    "of a pixel": lambda corners: 130 * corners[:, :1] + torch.tensor([0.0, 1.0])[:, None],
    "exactly half inside, or just not": lambda corners: 4 * (40 * corners).round() - 1e-5 * (corners > 0.7),
    "far away, or as large": lambda corners: (corners - 0.5) * 1e7,
    "of no width": lambda corners: 130 * corners * torch.tensor([0.0, 1.0]),
}


@pytest.mark.parametrize("chooses", [True, False], ids=["on a CPU", "as on a GPU"])
@pytest.mark.parametrize("height, width", [(64, 96), (33, 131), (1, 1)])
@pytest.mark.parametrize("kind", REGIONS)
def test_half_inside_an_ignored_region_is_the_same_to_the_last_bit(kind, height, width, chooses, monkeypatch):
    """As if every region met every anchor; the last of the pictures has none."""
    monkeypatch.setattr(matcher, "may_choose", lambda rows: chooses)
    generator = torch.Generator().manual_seed(height)
    corners = center_to_corner(make_anchors(height, width))
    for count in (0, 1, 30, 500):
        boxes = REGIONS[kind](torch.rand(count, 2, 2, generator=generator)).sort(dim=1).values.flatten(1)
        pictures = torch.randint(3, (count,), generator=generator)
        roles = torch.randint(ABSENT, FACE + 1, (count,), generator=generator)
        targets = make_targets(*zip(pictures.tolist(), boxes.tolist(), roles.tolist()))
        found = matcher._inside_ignored(with_absent(targets, 5), 4, height, width)
        inside = (roles == IGNORED)[:, None] & (intersection_matrix(boxes, corners) >= INSIDE_IGNORED * area(corners))
        assert torch.equal(found, torch.stack([inside[pictures == picture].any(dim=0) for picture in range(4)]))
