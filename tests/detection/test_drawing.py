"""Boxes drawn into pictures, and faces blurred."""

import numpy as np
import pytest

from detection.drawing import blur_faces, draw_detections
from tests.helpers import detections_of


def test_a_score_is_drawn_where_the_box_touches_the_edge():
    picture = np.zeros((100, 100, 3), np.uint8)
    drawn = draw_detections(picture, detections_of((20, 0, 80, 60, 0.9)), 0.5)
    assert drawn[2:14, 22:50].any()


@pytest.mark.parametrize("side", [12, 40, 200])
def test_only_the_means_of_six_by_six_cells_survive_a_blur(side):
    """Pixels are shuffled within each cell of the enlarged box: the result is the same, whatever the face's size."""
    rng = np.random.default_rng(0)
    margin, cell = side // 4, side // 4
    whole = side + 2 * margin
    picture = rng.integers(0, 255, (whole + 20, whole + 20, 3), dtype=np.uint8)
    shuffled = picture.copy()
    for y in range(10, 10 + whole, cell):
        for x in range(10, 10 + whole, cell):
            pixels = rng.permutation(picture[y:y + cell, x:x + cell].reshape(-1, 3))
            shuffled[y:y + cell, x:x + cell] = pixels.reshape(cell, cell, 3)
    face = detections_of((10 + margin, 10 + margin, 10 + margin + side, 10 + margin + side, 0.9))
    assert whole == 6 * cell and not np.array_equal(picture, shuffled)
    region = (slice(10, 10 + whole), slice(10, 10 + whole))
    assert np.array_equal(blur_faces(picture, face)[region], blur_faces(shuffled, face)[region])


@pytest.mark.parametrize("box", [(-50, -50, 20, 20), (90, 90, 300, 300), (50, 50, 50, 50), (200, 10, 300, 20)])
def test_blur_copes_with_faces_at_and_beyond_the_edge(box):
    picture = np.random.default_rng(0).integers(0, 255, (100, 100, 3), dtype=np.uint8)
    before = picture.copy()
    blurred = blur_faces(picture, detections_of((*box, 0.9)))
    assert np.array_equal(picture, before) and blurred.shape == picture.shape
    inside = (slice(max(0, box[1]), max(0, box[3])), slice(max(0, box[0]), max(0, box[2])))
    if picture[inside].size:
        assert blurred[inside].std() < picture[inside].std() / 2
    else:
        assert np.array_equal(blurred, picture)
