"""What class distillation works on, by hand and on drawn pictures."""

import pytest
import torch

from benchmarks import class_distillation_shares
from benchmarks.class_distillation_shares import HEIGHTS, gradient_sizes, kinds_of_anchors, sums_by_height
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
