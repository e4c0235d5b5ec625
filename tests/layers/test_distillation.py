"""Distillation losses against hand-made numbers and finite differences: what they teach, and where they are silent."""

import pytest
import torch
from torch.autograd import gradcheck

from layers.box_coder import decode_boxes, encode_boxes
from layers.distillation import (
    box_distillation,
    class_distillation,
    face_probability,
    feature_distillation,
    landmark_distillation,
    standardize,
)
from tests.helpers import random_outputs
from utils.boxes import overlap

ONE = torch.tensor(1.0)


def test_class_distillation_is_zero_at_agreement_and_follows_the_formula():
    teacher, student = random_outputs(1).logits, random_outputs(2).logits
    assert class_distillation(teacher, teacher, 4.0, ONE).abs() < 1e-6
    p, q = torch.softmax(teacher / 4, -1), torch.softmax(student / 4, -1)
    apart = (torch.softmax(teacher, -1) - torch.softmax(student, -1))[..., 1] ** 2
    expected = 16 * (apart * (p * (p / q).log()).sum(-1)).sum() / 3
    torch.testing.assert_close(class_distillation(student, teacher, 4.0, torch.tensor(3.0)), expected)


def test_easy_background_does_not_drown_the_faces_in_class_distillation():
    """16,800 anchors both call background, the teacher with 1e-4 and the student with 1e-2; 70 faces half missed."""
    teacher = torch.tensor([4.6, -4.6]).repeat(1, 16800, 1)
    student = torch.tensor([2.3, -2.3]).repeat(1, 16800, 1)
    teacher[0, :70], student[0, :70] = torch.tensor([-2.0, 2.0]), torch.tensor([0.5, -0.5])
    student.requires_grad_()
    class_distillation(student, teacher, 4.0, ONE).backward()
    sizes = student.grad.abs().sum(dim=-1)[0]
    assert sizes[:70].sum() > 0.7 * sizes.sum()


def box_term(student, teacher, assignment, anchors):
    """Of two networks' outputs."""
    boxes, taught = (decode_boxes(outputs.boxes, anchors) for outputs in (student, teacher))
    confidence = face_probability(teacher.logits)
    return box_distillation(boxes, overlap(boxes, assignment.boxes).giou, taught, confidence, assignment, ONE)


def test_box_distillation_teaches_only_where_the_teacher_is_nearer(anchors, assignment):
    teacher = random_outputs(1, 0.01)
    teacher.logits[..., 1] = -9  # calls nothing a face
    teacher.logits[0, :2, 1] = 9
    truth = encode_boxes(assignment.boxes, anchors)
    teacher.boxes[0, 0] = truth[0, 0]
    student = random_outputs(2, 0.01)
    student.boxes[0, 1] = truth[0, 1]  # here the student is right already
    student.boxes.requires_grad_()
    box_term(student, teacher, assignment, anchors).backward()
    taught = student.boxes.grad.abs().sum(dim=-1) > 0
    assert taught[0, 0] and not taught[0, 1] and not taught[1].any()


def test_box_distillation_on_faces_without_a_label(anchors, assignment):
    teacher, student = random_outputs(1), random_outputs(2, requires_grad=True)
    teacher.logits[..., 1] = -9
    teacher.logits[1, 7] = torch.tensor([-9.0, 9.0])
    box_term(student, teacher, assignment, anchors).backward()
    taught = student.boxes.grad.abs().sum(dim=-1) > 0
    assert taught[1, 7] and taught[1].sum() == 1


def test_landmark_distillation_where_the_teacher_is_sure():
    teacher, student = random_outputs(1), random_outputs(2)
    teacher.logits[:] = torch.tensor([0.0, 0.5])  # 0.62: not sure
    teacher.logits[0, 4] = torch.tensor([0.0, 1.0])  # 0.73: sure
    difference = (teacher.landmarks - student.landmarks)[0, 4].abs()
    expected = torch.where(difference < 1, difference**2 / 2, difference - 0.5).mean() / 2
    found = landmark_distillation(
        student.landmarks, teacher.landmarks, face_probability(teacher.logits), torch.tensor(2.0)
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
    gradient = torch.autograd.grad(class_distillation(logits, teacher, 4.0, ONE), logits)[0]
    weight = (torch.softmax(teacher, -1)[..., 1] - 0.5) ** 2
    expected = 4 * weight[..., None] * (torch.softmax(logits / 4, -1) - torch.softmax(teacher / 4, -1))
    torch.testing.assert_close(gradient, expected.detach())
