"""Task losses against hand-made numbers and finite differences."""

import math

import pytest
import torch

from layers.box_coder import decode_boxes, encode_boxes, encode_landmarks
from layers.multibox_loss import (
    MINIMUM_NEGATIVES,
    NEGATIVES_PER_POSITIVE,
    class_targets,
    hard_negatives,
    multibox_loss,
)
from layers.outputs import FaceOutputs
from tests.helpers import random_outputs
from utils.boxes import Overlap, overlap

ONE = torch.tensor(1.0)


def fit_of(outputs, assignment, anchors) -> Overlap:
    """Of the decoded boxes to those of the faces."""
    return overlap(decode_boxes(outputs.boxes, anchors), assignment.boxes)


def losses_of(outputs, assignment, anchors, normalizer) -> dict[str, torch.Tensor]:
    return multibox_loss(outputs, fit_of(outputs, assignment, anchors), assignment, anchors, normalizer)


def test_right_outputs_cost_nothing(anchors, assignment):
    logits = torch.where(assignment.positive[..., None], torch.tensor([-20.0, 20.0]), torch.tensor([20.0, -20.0]))
    outputs = FaceOutputs(
        encode_boxes(assignment.boxes, anchors), logits, encode_landmarks(assignment.landmarks, anchors), ()
    )
    losses = losses_of(outputs, assignment, anchors, ONE)
    assert max(float(value) for value in losses.values()) < 1e-4


def test_the_sums_are_those_over_anchors(anchors, assignment):
    outputs = random_outputs(0)
    losses = losses_of(outputs, assignment, anchors, torch.tensor(2.5))
    log_probabilities = torch.log_softmax(outputs.logits, dim=-1)
    targets = class_targets(fit_of(outputs, assignment, anchors).iou, assignment)[0, :3]
    assert 0 < targets.min() < 1
    cross_entropies = -(targets * log_probabilities[0, :3, 1] + (1 - targets) * log_probabilities[0, :3, 0])
    faces = (cross_entropies * assignment.weights[0, :3]).sum()
    first = (-log_probabilities[0, 5:, 0]).sort(descending=True).values[: 3 * NEGATIVES_PER_POSITIVE].sum()
    second = (-log_probabilities[1, :, 0]).sort(descending=True).values[:MINIMUM_NEGATIVES].sum()
    torch.testing.assert_close(losses["face"], faces / 2.5)
    torch.testing.assert_close(losses["background"], (first + second) / 2.5)
    difference = (outputs.landmarks[0, :2] - 2 / 2.4).abs()
    smooth = torch.where(difference < 1, difference**2 / 2, difference - 0.5)
    torch.testing.assert_close(losses["landmark"], smooth.sum() / 10 / 2.5)
    # Faces are anchors of 24 px moved by 1.5 px and grown to 25.
    code = torch.tensor([1.5 / 2.4, 1.5 / 2.4, math.log(25 / 24) / 0.2, math.log(25 / 24) / 0.2])
    difference = (outputs.boxes[0, :3] - code).abs()
    smooth = torch.where(difference < 1, difference**2 / 2, difference - 0.5).mean(dim=-1)
    torch.testing.assert_close(losses["code"], (smooth * assignment.weights[0, :3]).sum() / 2.5)


def test_class_targets_say_how_well_a_box_hits(anchors, assignment):
    """Boxes of the face's height, cut to a share of its width: that share is their IoU."""
    shares = torch.tensor([0.1, 0.2, 0.3, 0.5, 0.6, 1.0])
    positive = assignment._replace(weights=torch.ones_like(assignment.weights))
    boxes = assignment.boxes.clone()
    widths = boxes[0, :6, 2] - boxes[0, :6, 0]
    boxes[0, :6, 2] = boxes[0, :6, 0] + shares * widths
    targets = class_targets(overlap(boxes, assignment.boxes).iou, positive)
    torch.testing.assert_close(targets[0, :6], torch.tensor([0.0, 0.0, 0.25, 0.75, 1.0, 1.0]))
    assert not class_targets(torch.ones_like(assignment.weights), assignment)[~assignment.positive].any()


def test_boxes_inside_out_of_anchors_without_a_face_spoil_no_gradient(anchors, assignment):
    """Absent faces of a mixed batch may be such, and their numbers stand in rows that learn no face."""
    boxes = torch.where(assignment.positive[..., None], assignment.boxes, assignment.boxes.flip(-1))
    outputs = random_outputs(0, requires_grad=True)
    sum(losses_of(outputs, assignment._replace(boxes=boxes), anchors, ONE).values()).backward()
    assert outputs.boxes.grad.isfinite().all()


def test_hard_negatives_never_include_ignored_anchors(assignment):
    losses = torch.zeros_like(assignment.weights)
    losses[0, 3:5] = 100.0
    chosen = hard_negatives(losses, assignment)
    assert not chosen[0, :5].any()
    assert chosen[0].sum() == 3 * NEGATIVES_PER_POSITIVE and chosen[1].sum() == MINIMUM_NEGATIVES


def test_of_equal_losses_the_first_are_hard_negatives(assignment):
    losses = torch.zeros_like(assignment.weights)
    losses[1, 50:53] = 1.0
    chosen = hard_negatives(losses, assignment)
    assert chosen[1].nonzero().flatten().tolist() == [*range(MINIMUM_NEGATIVES - 3), 50, 51, 52]


def test_no_positive_anchor_in_the_batch(anchors, assignment):
    empty = assignment._replace(
        weights=torch.zeros_like(assignment.weights), has_landmarks=torch.zeros_like(assignment.has_landmarks)
    )
    outputs = random_outputs(0, requires_grad=True)
    losses = losses_of(outputs, empty, anchors, ONE)
    sum(losses.values()).backward()
    assert losses["box"] == losses["code"] == losses["face"] == losses["landmark"] == 0 and losses["background"] > 0
    assert outputs.boxes.grad.isfinite().all() and outputs.logits.grad.isfinite().all()


def test_task_losses_against_finite_differences(anchors, assignment):
    """In float64 through the same code: .float() is the identity there only if it keeps the type, so small steps do."""
    outputs = random_outputs(3, 0.3, requires_grad=True)
    fields = {"box": "boxes", "code": "boxes", "face": "logits", "background": "logits", "landmark": "landmarks"}
    for name, field in fields.items():
        tensor = getattr(outputs, field)
        gradient = torch.autograd.grad(losses_of(outputs, assignment, anchors, ONE)[name], tensor)[0]
        place = gradient.abs().flatten().argmax()
        step = 1e-2
        values = []
        for sign in (1, -1):
            moved = tensor.detach().clone()
            moved.view(-1)[place] += sign * step
            values.append(losses_of(outputs._replace(**{field: moved}), assignment, anchors, ONE)[name].item())
        assert (values[0] - values[1]) / (2 * step) == pytest.approx(gradient.flatten()[place].item(), rel=2e-2)
