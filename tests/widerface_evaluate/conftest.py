"""A small set for the tests of the evaluation."""

import pytest

from tests.helpers import write_ground_truth, write_predictions

FACE = [10, 20, 30, 40]
FAR = [500, 500, 30, 40]


@pytest.fixture
def small(tmp_path):
    """A ground truth of two events and its predictions, as folders."""
    pictures = {("0--Fête", "naïve_1"): [FACE, FAR], ("1--B", "b.c_2"): [FACE]}
    predictions = {key: [[*FACE, 0.9], [*FAR, 0.25]] for key in pictures}
    write_ground_truth(tmp_path / "gt", pictures)
    return tmp_path / "gt", write_predictions(tmp_path / "predictions", predictions)
