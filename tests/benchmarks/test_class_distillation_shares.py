"""What class distillation works on, by hand and on drawn pictures."""

import math
from types import SimpleNamespace

import pytest
import torch

from benchmarks import class_distillation_shares
from benchmarks.class_distillation_shares import (
    HEIGHTS,
    PICTURES,
    SIDE,
    gradient_sizes,
    kinds_of_anchors,
    sum_up,
    sums_by_height,
)
from layers.matcher import assign
from tests.helpers import exit_code, make_targets


@pytest.fixture
def assignment():
    """Of a face 14 px high and one of 60."""
    targets = make_targets((0, (10, 10, 24, 24)), (0, (60, 40, 120, 100)))
    return assign(targets, 1, 128, 128)


def test_every_anchor_is_of_one_kind(assignment):
    taught, learnt = torch.rand(2, *assignment.positive.shape)
    kinds = torch.stack(list(kinds_of_anchors(assignment, taught, learnt).values()))
    assert (kinds.sum(0) == 1).all()


def test_kinds_are_by_what_the_teacher_says(assignment):
    low, high = torch.full(assignment.positive.shape, 0.3), torch.full(assignment.positive.shape, 0.7)
    positive, background = assignment.positive, assignment.background
    none = torch.zeros_like(positive)
    for taught, learnt, face, other in ((high, low, "faces the teacher rates higher", "background, higher"),
                                        (low, high, "faces, lower", "background, lower")):
        kinds = kinds_of_anchors(assignment, taught, learnt)
        assert torch.equal(kinds.pop(face), positive) and torch.equal(kinds.pop(other), background)
        assert torch.equal(kinds.pop("ignored"), ~positive & ~background)
        assert all(torch.equal(mask, none) for mask in kinds.values()) and len(kinds) == 2


def test_anchors_are_weighted_by_the_difference_and_by_its_square():
    """The teacher says 3/4 everywhere, the student 1/2: weights of 1/4 and 1/16."""
    batch = SimpleNamespace(images=torch.zeros(PICTURES, 3, SIDE, SIDE, dtype=torch.uint8),
                            targets=make_targets((0, (10, 10, 24, 24))))
    anchors = assign(batch.targets, PICTURES, SIDE, SIDE).positive.shape

    def network(score):
        return lambda images: SimpleNamespace(logits=torch.tensor([0.0, score]).expand(*anchors, 2))

    gradients, _ = sum_up(network(math.log(3)), network(0.0), [batch])
    first, second = gradients["abs(p_t - p_s)"], gradients["its square"]
    assert first["background, higher"] > 0 and first["faces the teacher rates higher"] > 0
    assert second == pytest.approx({kind: size / 4 for kind, size in first.items()}, rel=1e-3)


def test_anchors_are_summed_by_the_height_of_their_face(assignment):
    count, half = sums_by_height(assignment, [torch.ones(assignment.positive.shape),
                                              torch.full(assignment.positive.shape, 0.5)])
    assert {height for height, found in zip(HEIGHTS, count) if found} == {12, 48}
    assert count.sum() == assignment.positive.sum() and torch.equal(half, count / 2)


def test_no_gradient_where_both_say_the_same():
    logits = torch.tensor([[[2.0, 0.0], [0.0, 3.0]]])
    sizes = gradient_sizes(logits, torch.tensor([[[2.0, 0.0], [1.0, 0.0]]]), torch.tensor([[1.0, 1.0]]))
    assert sizes[0, 0] < 1e-6 < sizes[0, 1]


def test_the_script_prints_both_tables(capsys, drawn_set, student_checkpoint):
    class_distillation_shares.main([str(drawn_set(12, 12) / "train" / "label.txt"), *[str(student_checkpoint)] * 2])
    printed = capsys.readouterr().out
    assert "its square" in printed and "from 48" in printed


def test_a_mistake_gets_one_line(capsys, student_checkpoint):
    assert exit_code(class_distillation_shares.main, "nowhere.txt", student_checkpoint, student_checkpoint) == 2
    told = capsys.readouterr().err
    assert "nowhere.txt" in told and told.count("\n") == 1
