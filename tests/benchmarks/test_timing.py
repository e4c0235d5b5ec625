"""Ratios."""

import pytest

from benchmarks.timing import ratio


def test_a_ratio_says_how_many_times_faster_the_second_is():
    assert ratio([4, 6, 8], [1, 2, 4]) == pytest.approx((2.5, 3, 3.5))


def test_ratios_are_taken_round_by_round():
    """A machine that is slow for one round is slow for both: the ratio of the medians would be 10."""
    assert ratio([10, 100, 1000], [5, 50, 10]).median == 2
