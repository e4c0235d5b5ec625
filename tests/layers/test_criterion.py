"""The weighted sum of all losses."""

import pytest
import torch

from layers.criterion import Criterion
from layers.outputs import FaceOutputs
from tests.helpers import random_outputs

ONE = torch.tensor(1.0)


def test_the_weights_of_the_sum_stand_in_one_place():
    criterion = Criterion(has_teacher=True, alpha=0.7, feature_weight=0.1, temperature=4.0)
    assert criterion.weights == pytest.approx({
        "box": 0.6, "code": 0.3, "face": 1.0, "background": 0.3, "landmark": 1.0,
        "kd_box": 1.4, "kd_code": 0.7, "kd_background": 0.7, "kd_landmark": 0.7, "feature": 0.1,
    })
    ones = {name: ONE for name in criterion.weights}
    assert criterion.total(ones).item() == pytest.approx(2.0 + 1.2 + 3.5 + 0.1)
    alone = Criterion(has_teacher=False, alpha=0.7, feature_weight=0.1, temperature=4.0)
    assert alone.weights == {"box": 2.0, "code": 1.0, "face": 1.0, "background": 1.0, "landmark": 1.0}


def test_parts_of_a_batch_add_up_to_the_whole(anchors, assignment):
    outputs, teacher = random_outputs(1), random_outputs(2)
    criterion = Criterion(True, 0.7, 0.0, 4.0)
    maps = (torch.randn(2, 3, 4, 4),)
    outputs, teacher = outputs._replace(features=maps), teacher._replace(features=maps)
    normalizer = assignment.weights.sum()
    whole = criterion.total(criterion(outputs, maps, teacher, assignment, anchors, normalizer))
    parts = 0
    for i in range(len(assignment.weights)):
        rows = slice(i, i + 1)
        one, taught = (FaceOutputs(o.boxes[rows], o.logits[rows], o.landmarks[rows], maps) for o in (outputs, teacher))
        losses = criterion(one, maps, taught, assignment.pictures(i, i + 1), anchors, normalizer, share=0.5)
        parts = parts + criterion.total(losses)
    torch.testing.assert_close(parts, whole)


def test_of_candidates_that_are_not_chosen_the_teacher_says_nothing(anchors, assignment):
    """The labels call them background, but for ignored ones."""
    candidates = assignment._replace(face=torch.zeros_like(assignment.face))
    student = random_outputs(1)._replace(features=(torch.randn(2, 3, 4, 4),))
    student.logits[0, :3] = torch.tensor([-2.0, 2.0])  # mistakes of background that none is worse than
    sure = torch.tensor([-9.0, 9.0]).expand(2, 60, 2)
    teacher = random_outputs(2)._replace(logits=sure, features=student.features)
    for name, heard in (("iou", True), ("simota", False)):
        outputs = FaceOutputs(*(values.clone().requires_grad_() for values in student[:3]), student.features)
        losses = Criterion(True, 0.7, 0.0, 4.0, name)(outputs, student.features, teacher, candidates, anchors, ONE)
        chosen = torch.autograd.grad(losses["box"], outputs.boxes, retain_graph=True)[0].any(dim=-1)[0, :3]
        assert chosen.all() if heard else chosen.sum() == 1
        for term, values in (("kd_landmark", outputs.landmarks), ("kd_code", outputs.boxes)):
            taught = torch.autograd.grad(losses[term], values, retain_graph=True)[0].any(dim=-1)
            assert not taught[0, :3][~chosen].any() and taught[1].all()
        taught = torch.autograd.grad(losses["kd_background"], outputs.logits, retain_graph=True)[0].any(dim=-1)
        assert not taught[0, :3].any() and taught[1].float().mean() > 0.3
        blamed = torch.autograd.grad(losses["background"], outputs.logits)[0].any(dim=-1)[0]
        assert not blamed[3:5].any() and torch.equal(blamed[:3], ~chosen)


def test_the_feature_term_of_a_part_counts_by_its_share(anchors, assignment):
    maps, taught = torch.randn(2, 2, 3, 4, 4)
    outputs, teacher = random_outputs(1)._replace(features=(maps,)), random_outputs(2)._replace(features=(taught,))
    criterion = Criterion(True, 0.7, 0.1, 4.0)
    whole, half = (criterion(outputs, (maps,), teacher, assignment, anchors, ONE, share=share)["feature"]
                   for share in (1.0, 0.5))
    assert whole > 0
    torch.testing.assert_close(half, whole / 2)


def test_outputs_in_bfloat16_cost_what_they_cost_in_float32(anchors, assignment):
    """The losses are computed in float32 whatever the networks computed in."""
    maps = (torch.randn(2, 3, 4, 4),)
    rounded, exact = [], []
    for seed in (1, 2):
        boxes, logits, landmarks, _ = random_outputs(seed)
        heads = [values.bfloat16() for values in (boxes, logits, landmarks)]
        rounded.append(FaceOutputs(*heads, maps))
        exact.append(FaceOutputs(*(values.float() for values in heads), maps))
    criterion = Criterion(True, 0.7, 0.1, 4.0)
    found, expected = (
        criterion(outputs, maps, teacher, assignment, anchors, ONE) for outputs, teacher in (rounded, exact)
    )
    assert found == expected and all(value.dtype == torch.float32 for value in found.values())
