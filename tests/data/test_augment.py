"""Augmentations: faces move with the pixels, and the visibility rule at its thresholds."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from data.augment import (
    ColourJitter,
    Cut,
    FaceMasks,
    HorizontalFlip,
    RandomCrop,
    Sample,
    augment,
    clip_faces,
    training_augmentations,
    visible_share,
)
from data.config import MEAN_BGR, MIN_FACE_PIXELS
from data.pictures import DecodedPicture
from data.pixels import blend, draw_mask, recolour


def make_sample(width, height, boxes=(), ignored=None):
    """Faces with landmarks well inside each."""
    boxes = np.array(boxes, dtype=np.float32).reshape(-1, 4)
    inner = np.array([[0.25, 0.375], [0.75, 0.375], [0.5, 0.625], [0.375, 0.75], [0.625, 0.75]], dtype=np.float32)
    landmarks = boxes[:, None, :2] + inner * (boxes[:, None, 2:] - boxes[:, None, :2])
    ignored = np.zeros(len(boxes), bool) if ignored is None else np.array(ignored, dtype=bool)
    return Sample(height, width, boxes, landmarks, ~ignored, ignored)


def make_canvas(side, boxes=()):
    """The whole of a square picture, as it is."""
    return replace(make_sample(side, side, boxes), cut=Cut(0, 0, side, side, 0, 0, side, side, side, 1))


def show(sample: Sample, picture: np.ndarray) -> np.ndarray:
    """The pixels of a sample that is cut out of a picture."""
    canvas = np.empty((sample.cut.side, sample.cut.side, 3), np.uint8)
    assert DecodedPicture(picture).show(sample.cut, canvas)
    return canvas


def assert_same(a: Sample, b: Sample):
    assert a.cut == b.cut
    for name in ("boxes", "landmarks", "has_landmarks", "ignored"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)


WINDOW = np.array([0, 0, 100, 100], dtype=np.float32)


@pytest.mark.parametrize(
    "left, faces, ignored",
    [
        (60.0, 1, False),  # all of 40 px visible
        (76.0, 1, False),  # exactly 60 %
        (76.5, 1, True),
        (90.0, 1, True),  # exactly 25 %
        (90.5, 0, None),
        (100.0, 0, None),
        (500.0, 0, None),
    ],
)
def test_visibility_rule(left, faces, ignored):
    sample = clip_faces(make_sample(200, 200, [[left, 10, left + 40, 50]]), WINDOW)
    assert len(sample.boxes) == faces
    if faces:
        assert bool(sample.ignored[0]) is ignored
        np.testing.assert_array_equal(sample.boxes[0], [left, 10, min(left + 40, 100), 50])


def test_landmark_outside_makes_all_invalid_and_moves_none():
    before = make_sample(200, 200, [[76, 10, 116, 50], [10, 10, 50, 50]])
    after = clip_faces(before, WINDOW)
    assert after.has_landmarks.tolist() == [False, True]
    np.testing.assert_array_equal(after.landmarks, before.landmarks)


@pytest.mark.parametrize("side, ignored", [(1.0, True), (MIN_FACE_PIXELS - 0.01, True), (MIN_FACE_PIXELS, False)])
def test_tiny_faces_are_ignored_never_dropped(side, ignored):
    sample = clip_faces(make_sample(200, 200, [[0, 0, side, 50]]), WINDOW)
    assert sample.ignored.tolist() == [ignored]
    assert sample.has_landmarks.tolist() == [not ignored]


def test_ignored_regions_are_kept_down_to_a_pixel():
    boxes = [[99, 0, 199, 100], [99.5, 0, 199, 100], [-500, -500, 900, 900]]
    sample = clip_faces(make_sample(200, 200, boxes, ignored=[True] * 3), WINDOW)
    assert sample.boxes.tolist() == [[99, 0, 100, 100], [0, 0, 100, 100]]
    assert sample.ignored.all()


def test_clip_leaves_its_input_alone():
    sample = make_sample(200, 200, [[76, 10, 116, 50]])
    boxes = sample.boxes.copy()
    clip_faces(sample, WINDOW)
    np.testing.assert_array_equal(sample.boxes, boxes)


def test_visible_share_of_boxes_without_area_is_zero():
    boxes = np.array([[5, 5, 5, 5], [0, 0, 10, 10]], dtype=np.float32)
    assert visible_share(boxes, WINDOW).tolist() == [0, 1]


@pytest.mark.parametrize("side", [64, 33, 1])
def test_flip_twice_is_identity(side):
    rng = np.random.default_rng(0)
    sample = make_canvas(side, [[0, 0, 1, 1], [0.25, 0, 0.75, 1]])
    picture = rng.integers(0, 256, (side, side, 3), dtype=np.uint8)
    flip = HorizontalFlip(probability=1.0)
    once = flip(sample, rng)
    np.testing.assert_array_equal(show(once, picture), picture[:, ::-1])
    assert_same(flip(once, rng), sample)


def test_flip_swaps_the_sides_of_the_landmarks():
    sample = make_canvas(100, [[10, 20, 30, 60]])
    picture = np.zeros((100, 100, 3), np.uint8)
    picture[20:60, 10:30] = 255
    flipped = HorizontalFlip(probability=1.0)(sample, np.random.default_rng(0))
    assert flipped.boxes.tolist() == [[70, 20, 90, 60]]
    image = show(flipped, picture)
    assert (image[20:60, 70:90] == 255).all() and (image == 255).sum() == 40 * 20 * 3
    left_eye, right_eye, nose, left_mouth, right_mouth = flipped.landmarks[0]
    assert left_eye[0] < nose[0] < right_eye[0] and left_mouth[0] < nose[0] < right_mouth[0]
    np.testing.assert_allclose(left_eye, [100 - sample.landmarks[0, 1, 0], sample.landmarks[0, 1, 1]])


def test_flip_happens_with_its_probability():
    sample = make_canvas(4)
    rng = np.random.default_rng(0)
    flip = HorizontalFlip(0.5)
    flips = sum(flip(sample, rng).cut.mirrored for _ in range(1000))
    assert 450 < flips < 550


@pytest.mark.parametrize("width, height", [(250, 180), (101, 253), (64, 64), (240, 31), (1, 1)])
def test_crop_moves_faces_exactly_with_the_pixels(width, height):
    """Blue holds x and green y of the source, so each pixel of the crop tells where it came from."""
    whole = make_sample(width, height, [[0, 0, width, height]], ignored=[True])
    picture = np.zeros((height, width, 3), np.uint8)
    picture[..., 0] = np.arange(width)
    picture[..., 1] = np.arange(height)[:, None]
    whole.landmarks[0] = [[0, 0], [width, height], [0, height], [width, 0], [width / 2, height / 2]]
    crop = RandomCrop(96)
    for seed in range(40):
        result = crop(whole, np.random.default_rng(seed))
        image = show(result, picture)
        assert (result.height, result.width) == (96, 96)
        left, top, right, bottom = result.boxes[0].round().astype(int)
        np.testing.assert_array_equal(result.boxes[0], [left, top, right, bottom])

        shown = np.zeros((96, 96), bool)
        shown[top:bottom, left:right] = True
        assert (image[~shown] == MEAN_BGR).all()
        assert (image[shown, 2] == 0).all()

        start, end = result.landmarks[0, 0], result.landmarks[0, 1]
        zoom = (end - start) / (width, height)
        source_x = (np.arange(left, right) + 0.5 - start[0]) / zoom[0] - 0.5
        source_y = (np.arange(top, bottom) + 0.5 - start[1]) / zoom[1] - 0.5
        # Rounding to a level, half a pixel more where resizing repeats the border, and on shrinking the part of the
        # filter that the border cuts off.
        for channel, source, step in ((0, source_x, 1 / zoom[0]), (1, source_y[:, None], 1 / zoom[1])):
            assert np.abs(image[top:bottom, left:right, channel] - source).max() < 1.02 + 0.25 * max(step - 1, 0)


@pytest.mark.parametrize("scale", [0.5, 1.0, 1.5])
def test_a_crop_has_the_side_asked_for(scale):
    sample = make_sample(300, 200, [[100, 60, 128, 80]])
    crops = [RandomCrop(120, scales=[scale])(sample, np.random.default_rng(seed)) for seed in range(20)]
    sides = np.concatenate([crop.boxes[:, 2:] - crop.boxes[:, :2] for crop in crops])
    # Some crops cut through the face; of the others it has the full size.
    np.testing.assert_allclose(sides.max(axis=0), np.array([28, 20]) * 120 / (200 * scale), rtol=0.02)


def test_cropped_face_lies_under_its_box():
    sample = make_sample(320, 240, [[100, 60, 160, 130]])
    picture = np.zeros((240, 320, 3), np.uint8)
    picture[60:130, 100:160] = 255
    crop = RandomCrop(160)
    widths = []
    for seed in range(60):
        result = crop(sample, np.random.default_rng(seed))
        image = show(result, picture)
        for left, top, right, bottom in result.boxes.astype(int):
            assert (image[top + 2 : bottom - 2, left + 2 : right - 2] == 255).all()
            image[max(top - 3, 0) : bottom + 3, max(left - 3, 0) : right + 3] = 0
            widths.append(right - left)
        assert image.max() < 255
    assert min(widths) < 40 and max(widths) > 100


def test_crops_prefer_windows_with_a_face_but_not_always():
    sample = make_sample(1024, 683, [[50, 50, 90, 90]])
    crop = RandomCrop(320)
    with_face = [len(crop(sample, np.random.default_rng(seed)).boxes) > 0 for seed in range(200)]
    assert 0.85 < np.mean(with_face) < 1


def test_close_up_is_never_cut_to_bare_skin():
    sample = make_sample(300, 300, [[30, 30, 270, 270]])
    crop = RandomCrop(160)
    assert all(len(crop(sample, np.random.default_rng(seed)).boxes) == 1 for seed in range(50))


def test_tiny_faces_are_not_zoomed_out_of_sight():
    sample = make_sample(640, 640, [[x, x, x + 8, x + 8] for x in range(0, 600, 10)])
    crop = RandomCrop(640)
    for seed in range(50):
        assert (~crop(sample, np.random.default_rng(seed)).ignored).any()


@pytest.mark.parametrize(
    "width, height, boxes",
    [
        (640, 480, []),
        (640, 480, [[i, i % 400, i + 9, i % 400 + 9] for i in range(500)]),
        (640, 480, [[100, 100, 101, 101]]),
        (4000, 3000, [[1000, 1000, 1400, 1500]]),
        (1, 1, [[0, 0, 1, 1]]),
        (1, 700, []),
        (37, 53, [[-5, -5, 20, 20], [500, 500, 600, 600]]),
    ],
    ids=["no face", "500 faces", "one pixel face", "huge", "one pixel picture", "a line", "boxes outside"],
)
def test_boundary_cases(width, height, boxes):
    augmentations = training_augmentations(64)
    picture = np.zeros((height, width, 3), np.uint8)
    for seed in range(8):
        sample = augment(make_sample(width, height, boxes), augmentations, np.random.default_rng(seed))
        cut = sample.cut
        assert (cut.x, cut.y) >= (0, 0) and cut.x + cut.width <= width and cut.y + cut.height <= height
        assert not any(number % cut.reduction for number in cut[:4]) and min(cut.width, cut.height) > 0
        show(sample, picture)
        rows = len(sample.boxes)
        assert sample.boxes.shape == (rows, 4) and sample.boxes.dtype == np.float32
        assert sample.landmarks.shape == (rows, 5, 2) and sample.landmarks.dtype == np.float32
        assert sample.has_landmarks.shape == sample.ignored.shape == (rows,)
        assert (sample.boxes >= 0).all() and (sample.boxes <= 64).all()
        assert (sample.boxes[:, 2:] > sample.boxes[:, :2]).all()
        faces = sample.boxes[~sample.ignored]
        assert ((faces[:, 2:] - faces[:, :2]) >= MIN_FACE_PIXELS).all()


def test_same_generator_same_sample():
    def draw():
        sample = make_sample(200, 150, [[20, 30, 80, 90]])
        return augment(sample, training_augmentations(64), np.random.default_rng(7))

    assert_same(draw(), draw())


def paint(sample: Sample, pixels: np.ndarray) -> np.ndarray:
    """The colours of a sample put on uint8 [H, W, 3]."""
    images = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    return recolour(images, torch.from_numpy(sample.colour)[None])[0].permute(1, 2, 0).numpy()


def test_masks_hide_the_mouth_and_nothing_beyond_the_face():
    face = make_canvas(100, [[20, 10, 80, 90]])
    for seed in range(50):
        [mask] = draw_masks(face, seed)
        images = torch.full((2, 3, 100, 100), 128, dtype=torch.uint8)
        blend(images, [draw_mask(1, mask)])
        assert (images[0] == 128).all()
        left_eye, right_eye, nose, *mouth = face.landmarks[0].astype(int)
        pixels = images[1].float()
        hidden = torch.lerp(torch.tensor(128.0), torch.from_numpy(mask.colour), mask.opacity)
        assert all((pixels[:, y, x] - hidden).abs().max() <= 1.5 for x, y in mouth)
        assert all((pixels[:, y, x] == 128).all() for x, y in (left_eye, right_eye))
        pixels[:, 10:90, 20:80] = 128
        assert (pixels == 128).all()


def draw_masks(sample, seed):
    """The masks of a sample, from the first seed on that draws any."""
    while not (masked := FaceMasks(1.0)(sample, np.random.default_rng(seed))).masks:
        seed += 1000
    assert_same(masked, sample)
    return masked.masks


def test_masks_are_for_faces_with_landmarks():
    boxes = [[i, 0, i + 9, 9] for i in range(300)]
    sample = make_sample(320, 10, boxes, ignored=[i % 3 == 0 for i in range(300)])
    sample.has_landmarks[1::3] = False
    drawn = [len(FaceMasks(0.3)(sample, np.random.default_rng(seed)).masks) for seed in range(200)]
    assert 0.2 < np.mean(np.array(drawn) > 0) < 0.4 and 50 < max(drawn) < 90  # 0.7 of the 100 that can have one
    lost = replace(sample, landmarks=sample.landmarks + 1000)  # beside their boxes: nothing can be drawn
    assert all(draw_mask(0, mask).opacity.numel() <= 9 for mask in draw_masks(lost, 0))


def test_colour_leaves_faces_alone_and_stays_near():
    sample = make_sample(20, 20, [[2, 2, 12, 12]])
    pixel = np.array([[[60, 120, 180]]], np.uint8)
    jitter = ColourJitter()
    rng = np.random.default_rng(0)
    colours = []
    for _ in range(200):
        result = jitter(sample, rng)
        np.testing.assert_array_equal(result.boxes, sample.boxes)
        colours.append(paint(result, pixel)[0, 0].astype(float))
    colours = np.array(colours)
    grey = (np.ptp(colours, axis=1) <= 1).mean()
    assert 0.01 < grey < 0.12
    assert np.abs(colours.mean(axis=0) - (60, 120, 180)).max() < 15
    assert colours.std(axis=0).min() > 10


def test_colour_keeps_grey_grey_under_saturation_and_hue():
    jitter = ColourJitter()
    jitter.brightness, jitter.contrast = 0.0, (1.0, 1.0)
    ramp = np.repeat(np.arange(256, dtype=np.uint8).reshape(16, 16, 1), 3, axis=2)
    sample = make_sample(16, 16)
    for seed in range(20):
        result = paint(jitter(sample, np.random.default_rng(seed)), ramp)
        assert np.abs(result.astype(int) - ramp).max() <= 1


def test_colour_saturates_instead_of_wrapping():
    jitter = ColourJitter()
    for value in (0, 255):
        pixel = np.full((1, 1, 3), value, np.uint8)
        for seed in range(50):
            matrix = jitter.plan_matrix(np.random.default_rng(seed)).astype(float)
            expected = np.clip(matrix @ [value, value, value, 1], 0, 255)
            result = paint(jitter(make_sample(4, 4), np.random.default_rng(seed)), pixel)[0, 0].astype(float)
            assert np.abs(result - expected).max() <= 1
