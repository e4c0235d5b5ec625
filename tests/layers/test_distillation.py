"""Distillation losses against hand-made numbers and finite differences: what they teach, and where they are silent."""

import pytest
import torch
from torch.autograd import gradcheck

from layers.box_coder import decode_boxes, encode_boxes
from layers.criterion import Criterion
from layers.distillation import (
    box_distillation,
    class_distillation,
    face_probability,
    feature_distillation,
    landmark_distillation,
    standardize,
    trusted_boxes,
    wanted_scores,
)
from tests.helpers import random_outputs
from utils.boxes import overlap

ONE = torch.tensor(1.0)
EVERYWHERE = torch.tensor(True)


def test_class_distillation_is_zero_at_agreement_and_follows_the_formula():
    teacher, student = random_outputs(1).logits, random_outputs(2).logits
    wanted = face_probability(teacher)
    assert class_distillation(teacher, wanted, EVERYWHERE, 4.0, ONE).abs() < 1e-6
    p, q = torch.softmax(teacher / 4, -1), torch.softmax(student / 4, -1)
    apart = (wanted - face_probability(student)) ** 2
    expected = 16 * (apart * (p * (p / q).log()).sum(-1)).sum() / 3
    torch.testing.assert_close(class_distillation(student, wanted, EVERYWHERE, 4.0, torch.tensor(3.0)), expected)


def test_class_distillation_of_certainty_is_finite():
    student = torch.tensor([[[-200.0, 200.0], [200.0, -200.0], [0.0, 0.0]]], requires_grad=True)
    for wanted in (0.0, 1.0):
        loss = class_distillation(student, torch.full((1, 3), wanted), EVERYWHERE, 4.0, ONE)
        [gradient] = torch.autograd.grad(loss, student)
        assert loss.isfinite() and gradient.isfinite().all() and (gradient[0, 2] != 0).all()


def test_no_labelled_face_gets_its_score_from_the_teacher(anchors, assignment):
    maps = (torch.randn(2, 3, 4, 4),)
    student, teacher = (random_outputs(seed, requires_grad=seed == 2)._replace(features=maps) for seed in (2, 1))
    losses = Criterion(True, 0.7, 0.1, 4.0)(student, maps, teacher, assignment, anchors, ONE)
    [gradient] = torch.autograd.grad(losses["kd_background"], student.logits)
    taught = gradient.abs().sum(dim=-1) > 0
    assert not taught[assignment.positive].any() and taught[~assignment.positive].float().mean() > 0.3


def test_easy_background_does_not_drown_the_faces_in_class_distillation():
    """16,800 anchors both call background, the teacher with 1e-4 and the student with 1e-2; 70 faces half missed."""
    wanted = torch.full((1, 16800), 1e-4)
    student = torch.tensor([2.3, -2.3]).repeat(1, 16800, 1)
    wanted[0, :70], student[0, :70] = 0.98, torch.tensor([0.5, -0.5])
    student.requires_grad_()
    class_distillation(student, wanted, EVERYWHERE, 4.0, ONE).backward()
    sizes = student.grad.abs().sum(dim=-1)[0]
    assert sizes[:70].sum() > 0.7 * sizes.sum()


def test_a_score_is_wanted_as_far_as_the_own_box_hits_that_of_the_teacher():
    found = wanted_scores(torch.full((1, 5), 0.9), torch.tensor([[0.0, 0.2, 0.4, 0.6, 1.0]]))
    torch.testing.assert_close(found, torch.tensor([[0.0, 0.0, 0.45, 0.9, 0.9]]))


def taught_boxes(student, teacher, assignment, anchors):
    """bool [B, A]: the student's boxes that a gradient of the teacher's reaches, the same ones by either term."""
    boxes, theirs = (decode_boxes(outputs.boxes, anchors) for outputs in (student, teacher))
    trusted = trusted_boxes(
        face_probability(teacher.logits), overlap(boxes, assignment.boxes).giou,
        overlap(theirs, assignment.boxes).giou, assignment,
    )
    terms = box_distillation(overlap(boxes, theirs), student.boxes, teacher.boxes, trusted, ONE)
    by_box, by_code = (
        torch.autograd.grad(term, student.boxes, retain_graph=True)[0].abs().sum(dim=-1) > 0 for term in terms
    )
    assert torch.equal(by_box, by_code)
    return by_box


def test_box_distillation_teaches_only_where_the_teacher_is_nearer(anchors, assignment):
    teacher = random_outputs(1, 0.01)
    teacher.logits[..., 1] = -9  # calls nothing a face
    teacher.logits[0, :2, 1] = 9
    truth = encode_boxes(assignment.boxes, anchors)
    teacher.boxes[0, 0] = truth[0, 0]
    student = random_outputs(2, 0.01)
    student.boxes[0, 1] = truth[0, 1]  # here the student is right already
    student.boxes.requires_grad_()
    taught = taught_boxes(student, teacher, assignment, anchors)
    assert taught[0, 0] and not taught[0, 1] and not taught[1].any()


def test_box_distillation_on_faces_without_a_label(anchors, assignment):
    teacher, student = random_outputs(1), random_outputs(2, requires_grad=True)
    teacher.logits[..., 1] = -9
    teacher.logits[1, 7] = torch.tensor([-9.0, 9.0])
    taught = taught_boxes(student, teacher, assignment, anchors)
    assert taught[1, 7] and taught[1].sum() == 1


def test_a_teacher_that_is_the_label_teaches_boxes_as_the_label_does(anchors, assignment):
    """Sure of each face and exact: its box terms are those of the labels, with the same weights in the sum."""
    codes = encode_boxes(torch.where(assignment.positive[..., None], assignment.boxes, decode_boxes(
        torch.zeros(4), anchors)), anchors)
    teacher = random_outputs(1)._replace(
        boxes=codes, logits=torch.where(assignment.positive[..., None], torch.tensor([-50.0, 50.0]),
                                        torch.tensor([50.0, -50.0])))
    maps = (torch.randn(2, 3, 4, 4),)
    criterion = Criterion(True, 0.7, 0.0, 4.0)
    even = assignment._replace(weights=assignment.positive.float())
    losses = criterion(random_outputs(2)._replace(features=maps), maps, teacher._replace(features=maps), even, anchors,
                       ONE)
    for name in ("box", "code"):
        torch.testing.assert_close(losses[f"kd_{name}"], losses[name])
        assert criterion.weights[f"kd_{name}"] / criterion.weights[name] == pytest.approx(0.7 / 0.3)


def test_landmark_distillation_where_the_teacher_is_sure_and_no_label_has_landmarks():
    teacher, student = random_outputs(1), random_outputs(2)
    teacher.logits[:] = torch.tensor([0.0, 0.5])  # 0.62: not sure
    teacher.logits[0, 4:6] = torch.tensor([0.0, 1.0])  # 0.73: sure
    taught = torch.ones(teacher.logits.shape[:2], dtype=torch.bool)
    taught[0, 5] = False
    difference = (teacher.landmarks - student.landmarks)[0, 4].abs()
    expected = torch.where(difference < 1, difference**2 / 2, difference - 0.5).mean() / 2
    found = landmark_distillation(
        student.landmarks, teacher.landmarks, face_probability(teacher.logits), taught, torch.tensor(2.0)
    )
    torch.testing.assert_close(found, expected)


def test_feature_distillation_sees_correlation_not_scale():
    generator = torch.Generator().manual_seed(0)
    teacher = [torch.randn(2, 3, 5, 7, generator=generator) for _ in range(3)]
    student = [5 * level + 3 for level in teacher]
    assert feature_distillation(student, teacher) < 1e-4
    opposite = feature_distillation([-level for level in teacher], teacher)
    assert opposite == pytest.approx(3 * 2, rel=1e-4)  # 1 - correlation = 2, three levels
    level = standardize(student[0])
    assert level.mean(dim=(0, 2, 3)).abs().max() < 1e-5
    assert level.var(dim=(0, 2, 3), correction=0) == pytest.approx(torch.ones(3), rel=1e-3)


@pytest.mark.filterwarnings("ignore:Input #0")  # the losses compute in float32 whatever they are given
def test_distillation_gradients_against_finite_differences():
    teacher = torch.randn(1, 4, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).float()
    student = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(1)).requires_grad_()
    reference = (torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(2)),)
    assert gradcheck(lambda maps: feature_distillation((maps,), reference), student, eps=1e-2, atol=2e-3, rtol=2e-2)
    # The weight carries no gradient: the derivative is that of the divergence alone.
    logits = torch.zeros(1, 4, 2, requires_grad=True)
    loss = class_distillation(logits, face_probability(teacher), EVERYWHERE, 4.0, ONE)
    [gradient] = torch.autograd.grad(loss, logits)
    weight = (torch.softmax(teacher, -1)[..., 1] - 0.5) ** 2
    expected = 4 * weight[..., None] * (torch.softmax(logits / 4, -1) - torch.softmax(teacher / 4, -1))
    torch.testing.assert_close(gradient, expected.detach())
