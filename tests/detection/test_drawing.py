"""Boxes drawn into pictures, and faces blurred."""

import numpy as np
import pytest

from data.targets import FACE, IGNORED
from detection.drawing import FACE_COLOUR, IGNORED_COLOUR, LANDMARK_COLOURS, blur_faces, draw_detections, draw_targets
from detection.suppression import Detections
from tests.helpers import detections_of, make_targets


@pytest.mark.parametrize("box", [
    (20, 40, 80, 90), (20, 0, 80, 60), (20, 0, 60, 100), (50, 0, 100, 100), (-20, 30, 20, 80), (90, 10, 130, 60),
])
def test_a_score_covers_no_face(box):
    """Wherever the box lies, as long as there is room beside it; and it is there."""
    picture = np.zeros((100, 100, 3), np.uint8)
    faces = detections_of((*box, 0.9))
    drawn, without = (draw_detections(picture, Detections(faces.boxes, scores, faces.landmarks), 0.5)
                      for scores in (faces.scores, np.float32([0.71])))
    y, x = np.nonzero((drawn != without).any(axis=-1))  # another score: only letters differ
    assert len(x) > 4
    left, top, right, bottom = box
    assert not ((x >= left) & (x <= right) & (y >= top) & (y <= bottom)).any()


def test_scores_of_a_crowd_cover_no_neighbour():
    faces = detections_of(*[(60 * x + 5, 75 * y + 15, 60 * x + 55, 75 * y + 75, 0.91)
                            for x in range(5) for y in range(4)])
    drawn = draw_detections(np.zeros((310, 310, 3), np.uint8), faces, 0.5)
    for left, top, right, bottom in faces.boxes.astype(int):
        inner = drawn[top + 3:bottom - 2, left + 3:right - 2].copy()
        middle = (slice(20, 35), slice(15, 30))  # where the landmarks are
        inner[middle] = 0
        assert not inner.any()


@pytest.mark.parametrize(("height", "width"), [(100, 100), (24, 24), (8, 300)])
def test_a_face_that_fills_the_picture_has_its_score_inside(height, width):
    """Another score: other letters, and nothing else."""
    box = (-40, -40, width + 40, height + 40)
    drawn, other = (draw_detections(np.zeros((height, width, 3), np.uint8), detections_of((*box, score)), 0.5)
                    for score in (0.9, 0.71))
    assert (drawn != other).any(axis=-1).sum() > 4


def test_a_picture_of_one_pixel_is_drawn_into():
    drawn = draw_detections(np.zeros((1, 1, 3), np.uint8), detections_of((-40, -40, 41, 41, 0.9)), 0.5)
    assert drawn.shape == (1, 1, 3)


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


@pytest.mark.parametrize("side", [64, 96, 240])
def test_what_a_picture_teaches_is_drawn_where_it_is(side):
    """Faces with and without landmarks, and a region, at any scale; the picture without any stays as it is."""
    images = np.full((3, 64, 64, 3), 60, np.uint8)
    places = ((0.2, 0.3), (0.8, 0.3), (0.5, 0.5), (0.3, 0.8), (0.7, 0.8))
    targets = make_targets((0, (10, 20, 42, 52), FACE), (0, (0, 0, 64, 10), IGNORED), (2, (8, 8, 40, 40), FACE),
                           places=places)
    targets.has_landmarks[:] = targets.has_landmarks.new_tensor([True, False, False])
    drawn = draw_targets(images, targets, side)
    assert [picture.shape for picture in drawn] == [(side, side, 3)] * 3 and (images == 60).all()
    scale = side / 64

    def is_near(picture: int, x: float, y: float, colour: tuple) -> bool:
        left, top = int(x * scale) - 2, int(y * scale) - 2
        part = drawn[picture][max(0, top):top + 5, max(0, left):left + 5]
        return (part == colour).all(axis=2).any()

    assert is_near(0, 26, 20, FACE_COLOUR) and is_near(0, 10, 40, FACE_COLOUR) and is_near(0, 42, 36, FACE_COLOUR)
    assert is_near(0, 32, 5, IGNORED_COLOUR) and not is_near(0, 26, 36 - 10, FACE_COLOUR)
    for (x, y), colour in zip(places, LANDMARK_COLOURS):
        assert is_near(0, 10 + 32 * x, 20 + 32 * y, colour)
        assert not is_near(2, 8 + 32 * x, 8 + 32 * y, colour)
    assert (drawn[1] == 60).all()


def test_500_faces_of_a_pixel_are_drawn():
    boxes = [(0, (i % 64, i // 64, i % 64 + 1, i // 64 + 1)) for i in range(500)]
    [drawn] = draw_targets(np.zeros((1, 64, 64, 3), np.uint8), make_targets(*boxes), 64)
    assert drawn[:8].any() and not drawn[12:].any()
