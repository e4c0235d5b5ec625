"""Which candidates of a face learn it."""

import math

import pytest
import torch
from torch import Tensor

from data.targets import FACE, IGNORED
from layers import selection
from layers.matcher import Assignment, assign
from layers.selection import CANDIDATES, IOU_COST, MOST_ANCHORS, USUAL_ANCHORS, choose_anchors, usual_weight
from tests.helpers import make_targets


def candidates_of(face: Tensor) -> Assignment:
    """[B, A] numbers of faces, -1 for anchors that are no candidates; every other candidate has landmarks."""
    boxes = torch.zeros(*face.shape, 4)
    has_landmarks = (face >= 0) & (torch.arange(face.shape[1]) % 2 == 0)
    return Assignment((face >= 0) * 0.5, face == 1, face.clamp(min=0).int(), boxes, boxes, has_landmarks)


def random_faces(faces: int, pictures: int, anchors: int, generator: torch.Generator) -> Tensor:
    """[B, A] numbers of so many faces in each picture, or -1."""
    face = torch.randint(faces, (pictures, anchors), generator=generator) + faces * torch.arange(pictures)[:, None]
    return torch.where(torch.rand(pictures, anchors, generator=generator) < 0.6, face, -1)


def choose_slowly(face: Tensor, iou: Tensor, confidence: Tensor) -> Tensor:
    """bool [B, A]: one face after the other."""
    chosen = torch.zeros_like(face, dtype=torch.bool)
    for number in set(face[face >= 0].tolist()):
        places = (face == number).nonzero().tolist()
        ious = [iou[picture, anchor].item() for picture, anchor in places]
        costs = [-math.log(confidence[picture, anchor]) - IOU_COST * math.log(fit)
                 for (picture, anchor), fit in zip(places, ious)]
        count = max(1, math.floor(sum(sorted(ious)[-MOST_ANCHORS:])))
        for _, (picture, anchor) in sorted(zip(costs, places))[:count]:
            chosen[picture, anchor] = True
    return chosen


@pytest.fixture(params=[True, False], ids=["on a CPU", "as on a GPU"])
def device_kind(request, monkeypatch):
    """Whether only candidates are looked at."""
    if not request.param:
        monkeypatch.setattr(selection, "may_choose", lambda is_candidate: False)


@pytest.mark.parametrize("faces", [1, 4, 40])
def test_the_cheapest_learn_as_many_as_the_best_ious_add_up_to(faces, device_kind):
    generator = torch.Generator().manual_seed(faces)
    for anchors in (1, 7, 300):
        face = random_faces(faces, 3, anchors, generator)
        iou, confidence = torch.rand(2, 3, anchors, generator=generator) * 0.98 + 0.01
        found = choose_anchors(candidates_of(face), iou, confidence)
        expected = choose_slowly(face, iou, confidence)
        assert torch.equal(found.positive, expected)
        assert torch.equal(found.weights, expected * 0.5)
        assert torch.equal(found.has_landmarks, candidates_of(face).has_landmarks & expected)


def test_a_face_gets_ten_anchors_at_most_and_one_at_least(device_kind):
    face = torch.zeros(1, 40, dtype=torch.long)
    good, bad = torch.ones(1, 40), torch.zeros(1, 40)
    assert choose_anchors(candidates_of(face), good, good).positive.sum() == MOST_ANCHORS
    for iou, confidence in ((bad, bad), (bad, good), (torch.full((1, 40), 0.04), good)):
        positive = choose_anchors(candidates_of(face), iou, confidence).positive
        assert positive[0].nonzero()[:, 0].tolist() == [0]  # of those that cost the same the first


def test_what_is_not_chosen_is_background_but_where_it_is_ignored(device_kind):
    face = torch.tensor([[0, 0, 0, 1, 1, -1]])
    candidates = candidates_of(face)._replace(ignored=torch.tensor([[False, False, True, False, True, False]]))
    chosen = choose_anchors(candidates, torch.tensor([[0.9, 0.4, 0.4, 0.9, 0.4, 0.0]]), torch.full((1, 6), 0.5))
    assert chosen.positive[0].tolist() == [True, False, False, True, False, False]
    assert chosen.background[0].tolist() == [False, True, False, False, False, True]


def test_a_batch_without_candidates(device_kind):
    nothing = choose_anchors(candidates_of(torch.full((2, 5), -1)), torch.zeros(2, 5), torch.zeros(2, 5))
    assert not nothing.positive.any() and not nothing.has_landmarks.any()


def test_every_face_that_has_a_candidate_is_learnt(device_kind):
    """By a network that knows nothing: five hundred faces in one picture, some the same."""
    corners = torch.rand(500, 2, generator=torch.Generator().manual_seed(0)) * 118
    rows = [(0, (x, y, x + 8, y + 9), FACE) for x, y in corners.round().tolist()]
    candidates = assign(make_targets(*rows), 1, 128, 128, CANDIDATES)
    iou = torch.full_like(candidates.weights, 0.01)
    chosen = choose_anchors(candidates, iou, confidence=iou)
    assert set(chosen.face[chosen.positive].tolist()) == set(candidates.face[candidates.positive].tolist())


def test_a_picture_is_chosen_for_like_its_batch(device_kind):
    generator = torch.Generator().manual_seed(0)
    face = random_faces(3, 4, 90, generator)
    iou, confidence = torch.rand(2, 4, 90, generator=generator)
    whole = choose_anchors(candidates_of(face), iou, confidence)
    for picture in range(4):
        part = slice(picture, picture + 1)
        alone = choose_anchors(candidates_of(face).pictures(picture, picture + 1), iou[part], confidence[part])
        assert torch.equal(alone.weights, whole.weights[part])


def test_the_usual_weight_is_that_of_labelled_faces():
    targets = make_targets((0, (0, 0, 9, 9), FACE), (1, (0, 0, 9, 9), IGNORED), (1, (5, 5, 9, 9), FACE))
    targets = targets._replace(weights=torch.tensor([0.3, 1.0, 1.0]))
    assert usual_weight(targets).item() == pytest.approx(USUAL_ANCHORS * 1.3)
    assert usual_weight(targets.absent(4)).item() == 0
