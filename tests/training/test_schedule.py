"""Learning rate, DropBlock and mixing over a run."""

import pytest

from training.schedule import dropblock_probability, learning_rate, mixes_pictures


def test_the_learning_rate_at_its_corners():
    rates = [learning_rate(step, 100, 10, 1.0) for step in range(100)]
    assert rates[0] == pytest.approx(0.1) and rates[9] == 1.0 and rates[10] == 1.0
    assert rates[99] == pytest.approx(0.01)
    assert all(earlier >= later for earlier, later in zip(rates[10:], rates[11:]))
    assert learning_rate(0, 1, 0, 1.0) == 1.0  # a run of one step
    assert learning_rate(2, 3, 5, 1.0) == pytest.approx(0.6)  # a run shorter than its warm-up


def test_dropblock_and_mixing_end_before_training_does():
    assert dropblock_probability(0, 0.1) == 0 and dropblock_probability(0.25, 0.1) == pytest.approx(0.05)
    assert dropblock_probability(0.7, 0.1) == 0.1 and dropblock_probability(0.9, 0.1) == 0
    assert [mixes_pictures(epoch, 20) for epoch in (0, 17, 18, 19)] == [True, True, False, False]
    assert not mixes_pictures(0, 1)
