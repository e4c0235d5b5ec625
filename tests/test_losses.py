"""Task losses and distillation losses against hand-made numbers, finite differences and invariants."""

import pytest
import torch
from torch.autograd import gradcheck

from layers.criterion import Criterion
from layers.distillation import (
    box_distillation,
    class_distillation,
    feature_distillation,
    landmark_distillation,
    standardize,
)
from layers.matcher import Assignment
from layers.multibox_loss import MINIMUM_NEGATIVES, NEGATIVES_PER_POSITIVE, hard_negatives, multibox_loss
from layers.outputs import FaceOutputs

ONE = torch.tensor(1.0)
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
    background = weights == 0
    background[0, 3:5] = False
    boxes = torch.cat([anchors[:, :2] - 11, anchors[:, :2] + 14], dim=1).expand(PICTURES, -1, -1).clone()
    landmarks = anchors[None, :, None, :2].expand(PICTURES, -1, 5, -1) + 2.0
    has_landmarks = torch.zeros(PICTURES, ANCHORS, dtype=torch.bool)
    has_landmarks[0, :2] = True
    return Assignment(weights, background, boxes, landmarks, has_landmarks)


def random_outputs(seed: int, scale: float = 1.0, requires_grad: bool = False) -> FaceOutputs:
    generator = torch.Generator().manual_seed(seed)
    sizes = ((PICTURES, ANCHORS, 4), (PICTURES, ANCHORS, 2), (PICTURES, ANCHORS, 10))
    tensors = [(torch.randn(size, generator=generator) * scale).requires_grad_(requires_grad) for size in sizes]
    return FaceOutputs(*tensors, features=())


def test_right_outputs_cost_nothing(anchors, assignment):
    from layers.box_coder import encode_boxes, encode_landmarks

    logits = torch.where(assignment.positive[..., None], torch.tensor([-20.0, 20.0]), torch.tensor([20.0, -20.0]))
    outputs = FaceOutputs(
        encode_boxes(assignment.boxes, anchors), logits, encode_landmarks(assignment.landmarks, anchors), ()
    )
    losses = multibox_loss(outputs, assignment, anchors, ONE)
    assert max(float(value) for value in losses.values()) < 1e-4


def test_the_sums_are_those_over_anchors(anchors, assignment):
    outputs = random_outputs(0)
    losses = multibox_loss(outputs, assignment, anchors, torch.tensor(2.5))
    log_probabilities = torch.log_softmax(outputs.logits, dim=-1)
    faces = -(log_probabilities[0, :3, 1] * assignment.weights[0, :3]).sum()
    first = (-log_probabilities[0, 5:, 0]).sort(descending=True).values[: 3 * NEGATIVES_PER_POSITIVE].sum()
    second = (-log_probabilities[1, :, 0]).sort(descending=True).values[:MINIMUM_NEGATIVES].sum()
    torch.testing.assert_close(losses["class"], (faces + first + second) / 2.5)
    difference = (outputs.landmarks[0, :2] - 2 / 2.4).abs()
    smooth = torch.where(difference < 1, difference**2 / 2, difference - 0.5)
    torch.testing.assert_close(losses["landmark"], smooth.sum() / 10 / 2.5)


def test_hard_negatives_never_include_ignored_anchors(assignment):
    losses = torch.zeros(PICTURES, ANCHORS)
    losses[0, 3:5] = 100.0
    chosen = hard_negatives(losses, assignment)
    assert not chosen[0, :5].any()
    assert chosen[0].sum() == 3 * NEGATIVES_PER_POSITIVE and chosen[1].sum() == MINIMUM_NEGATIVES


def test_no_positive_anchor_in_the_batch(anchors, assignment):
    empty = assignment._replace(
        weights=torch.zeros_like(assignment.weights), has_landmarks=torch.zeros_like(assignment.has_landmarks)
    )
    outputs = random_outputs(0, requires_grad=True)
    losses = multibox_loss(outputs, empty, anchors, ONE)
    sum(losses.values()).backward()
    assert losses["box"] == 0 and losses["landmark"] == 0 and losses["class"] > 0
    assert outputs.boxes.grad.isfinite().all() and outputs.logits.grad.isfinite().all()


def test_task_losses_against_finite_differences(anchors, assignment):
    """In float64 through the same code: .float() is the identity there only if it keeps the type, so small steps do."""
    outputs = random_outputs(3, 0.3, requires_grad=True)
    for name, tensor in (("box", outputs.boxes), ("class", outputs.logits), ("landmark", outputs.landmarks)):
        gradient = torch.autograd.grad(multibox_loss(outputs, assignment, anchors, ONE)[name], tensor)[0]
        place = gradient.abs().flatten().argmax()
        step = 1e-2
        values = []
        for sign in (1, -1):
            moved = tensor.detach().clone()
            moved.view(-1)[place] += sign * step
            field = {"box": "boxes", "class": "logits", "landmark": "landmarks"}[name]
            values.append(multibox_loss(outputs._replace(**{field: moved}), assignment, anchors, ONE)[name].item())
        assert (values[0] - values[1]) / (2 * step) == pytest.approx(gradient.flatten()[place].item(), rel=2e-2)


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


def test_box_distillation_teaches_only_where_the_teacher_is_nearer(anchors, assignment):
    teacher = random_outputs(1, 0.01)
    teacher.logits[..., 1] = -9  # calls nothing a face
    teacher.logits[0, :2, 1] = 9
    from layers.box_coder import encode_boxes

    truth = encode_boxes(assignment.boxes, anchors)
    teacher.boxes[0, 0] = truth[0, 0]
    student = random_outputs(2, 0.01)
    student.boxes[0, 1] = truth[0, 1]  # here the student is right already
    student.boxes.requires_grad_()
    box_distillation(student, teacher, assignment, anchors, ONE).backward()
    taught = student.boxes.grad.abs().sum(dim=-1) > 0
    assert taught[0, 0] and not taught[0, 1] and not taught[1].any()


def test_box_distillation_on_faces_without_a_label(anchors, assignment):
    teacher, student = random_outputs(1), random_outputs(2, requires_grad=True)
    teacher.logits[..., 1] = -9
    teacher.logits[1, 7] = torch.tensor([-9.0, 9.0])
    box_distillation(student, teacher, assignment, anchors, ONE).backward()
    taught = student.boxes.grad.abs().sum(dim=-1) > 0
    assert taught[1, 7] and taught[1].sum() == 1


def test_landmark_distillation_where_the_teacher_is_sure():
    teacher, student = random_outputs(1), random_outputs(2)
    teacher.logits[:] = torch.tensor([0.0, 0.5])  # 0.62: not sure
    teacher.logits[0, 4] = torch.tensor([0.0, 1.0])  # 0.73: sure
    difference = (teacher.landmarks - student.landmarks)[0, 4].abs()
    expected = torch.where(difference < 1, difference**2 / 2, difference - 0.5).mean() / 2
    torch.testing.assert_close(landmark_distillation(student, teacher, torch.tensor(2.0)), expected)


def test_feature_distillation_sees_correlation_not_scale():
    generator = torch.Generator().manual_seed(0)
    teacher = [torch.randn(2, 3, 5, 7, generator=generator) for _ in range(3)]
    student = [5 * level + 3 for level in teacher]
    assert feature_distillation(student, teacher) < 1e-4
    opposite = feature_distillation([-level for level in teacher], teacher)
    assert opposite == pytest.approx(3 * 10 * 2, rel=1e-4)  # 1 - correlation = 2, times 10, three levels
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


def test_the_weights_of_the_sum_stand_in_one_place():
    criterion = Criterion(has_teacher=True, alpha=0.7, feature_weight=0.1, temperature=4.0)
    assert criterion.weights == pytest.approx({
        "box": 0.6, "class": 0.3, "landmark": 0.3, "kd_class": 0.7, "kd_box": 0.7, "kd_landmark": 0.7, "feature": 0.1,
    })
    ones = {name: ONE for name in criterion.weights}
    assert criterion.total(ones).item() == pytest.approx(1.2 + 2.1 + 0.1)
    alone = Criterion(has_teacher=False, alpha=0.7, feature_weight=0.1, temperature=4.0)
    assert alone.weights == {"box": 2.0, "class": 1.0, "landmark": 1.0}


def test_parts_of_a_batch_add_up_to_the_whole(anchors, assignment):
    outputs, teacher = random_outputs(1), random_outputs(2)
    criterion = Criterion(True, 0.7, 0.0, 4.0)
    maps = (torch.randn(2, 3, 4, 4),)
    outputs, teacher = outputs._replace(features=maps), teacher._replace(features=maps)
    normalizer = assignment.weights.sum()
    whole = criterion.total(criterion(outputs, maps, teacher, assignment, anchors, normalizer))
    parts = 0
    for i in range(PICTURES):
        rows = slice(i, i + 1)
        one, taught = (FaceOutputs(o.boxes[rows], o.logits[rows], o.landmarks[rows], maps) for o in (outputs, teacher))
        losses = criterion(one, maps, taught, assignment.pictures(i, i + 1), anchors, normalizer, share=0.5)
        parts = parts + criterion.total(losses)
    torch.testing.assert_close(parts, whole)
