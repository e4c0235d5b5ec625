"""Augmentations of one picture. Each is a callable (sample, rng) -> sample that moves the faces.

They see no pixels: they say which part of the picture the sample shows, how it lies on the canvas and what happens to
its colours, and data/pixels.py does that, so that no pixel is decoded or touched which the sample does not show.
Coordinates are continuous: pixel column i covers i .. i + 1, so a picture of width W spans 0 .. W. All randomness
comes from the numpy Generator handed in.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import cv2
import numpy as np

from data.config import MEAN_BGR, MIN_FACE_PIXELS, MIRRORED_LANDMARKS

#: A cut face is still a face from this visible share of its area on, a region to ignore from the second on, and nothing
#: below. So it is with what crops leave and with what CutMix pastes.
KEEP_VISIBLE = 0.6
IGNORE_VISIBLE = 0.25

#: An ignored region is kept while at least this many pixels of it are left on both axes.
MIN_REGION_PIXELS = 1.0

#: Sides of the crop over the short side of the picture, drawn with equal chance. This is the list of SCRFD (Guo et al.,
#: ICLR 2022), on which the gain of zooming out was measured. Against a uniform draw from 0.3 .. 2.0 it gives 40 rather
#: than 30 % of the draws to close-ups (up to 0.8), so that zooming out does not starve the large anchors.
CROP_SCALES = (0.3, 0.45, 0.6, 0.8, 1.0, 1.2, 1.4, 1.6, 1.8, 2.0)

#: Crop positions tried before one without a face is accepted. A face that only one position in 16 keeps (a small one,
#: at scale 0.3) is then missed in 14 % of the draws: those crops are negatives.
CROP_TRIES = 30

#: Divisors by which a JPEG can be decoded at reduced scale.
REDUCTIONS = (8, 4, 2)

#: Share of the faces of a picture that get a mask, where any does.
MASKED_FACES = 0.7

#: Colours of masks, BGR, and how often: light blue, white, black; the rest are of any colour.
MASK_COLOURS = np.array([(215, 190, 150), (235, 235, 235), (35, 35, 35)], np.float32)
MASK_COLOUR_SHARES = (0.45, 0.25, 0.2)

#: Rows B, G, R; luma weights of ITU-R BT.601.
LUMA_BGR = np.array([0.114, 0.587, 0.299])


class Cut(NamedTuple):
    """Which part of a picture a square sample shows, and where on its canvas; whole pixels of the one and the other."""

    x: int  #: of the picture; multiples of reduction, as are width and height
    y: int
    width: int
    height: int
    left: int  #: of the canvas; what the part does not cover is mean colour
    top: int
    shown_width: int
    shown_height: int
    side: int  #: of the canvas
    reduction: int  #: 1, 2, 4 or 8: the part is at least so many times as large as it is shown
    mirrored: bool = False  #: the whole canvas, in the end

    def margins(self) -> tuple[int, int, int, int]:
        """What is left of the canvas above, below, left and right of the part, mirrored where it is."""
        right = self.side - self.left - self.shown_width
        sides = (right, self.left) if self.mirrored else (self.left, right)
        return self.top, self.side - self.top - self.shown_height, *sides


class FaceMask(NamedTuple):
    """A mask drawn over nose and mouth."""

    outline: np.ndarray  #: float32 [8, 2], a convex polygon in pixels of the canvas
    colour: np.ndarray  #: float32 [3], BGR in 0..255
    opacity: float  #: 1 hides what is below


@dataclass
class Sample:
    """The faces of a picture, in its pixels or, once it is cut, in those of the canvas; what becomes of the pixels."""

    height: int  #: of the picture, or of the canvas once it is cut
    width: int
    boxes: np.ndarray  #: float32 [n, 4], xyxy
    landmarks: np.ndarray  #: float32 [n, 5, 2], (x, y): left eye, right eye, nose, left and right mouth corner as seen
    has_landmarks: np.ndarray  #: bool [n]
    ignored: np.ndarray  #: bool [n], regions that are neither face nor background
    cut: Cut | None = None
    #: float32 [3, 4]: new BGR = colour @ (B, G, R, 1), rounded and kept in 0..255.
    colour: np.ndarray = field(default_factory=lambda: np.eye(3, 4, dtype=np.float32))
    masks: list[FaceMask] = field(default_factory=list)  #: drawn before colours change


Augmentation = Callable[[Sample, np.random.Generator], Sample]


def visible_share(boxes: np.ndarray, window: np.ndarray) -> np.ndarray:
    """Share of each box's area that lies in the window, in 0 .. 1; boxes and windows [..., 4] xyxy, broadcast."""
    sides = np.minimum(boxes[..., 2:], window[..., 2:]) - np.maximum(boxes[..., :2], window[..., :2])
    area = (boxes[..., 2:] - boxes[..., :2]).prod(axis=-1)
    return sides.clip(min=0).prod(axis=-1) / np.maximum(area, np.finfo(np.float32).tiny)


def clip_faces(sample: Sample, window: np.ndarray) -> Sample:
    """Keep what the window (xyxy, in pixels of the sample) shows of the faces; the picture is left alone.

    A face stays, clipped, from KEEP_VISIBLE of its area on, is an ignored region from IGNORE_VISIBLE on, and is dropped
    below. What is left of it under MIN_FACE_PIXELS is ignored too. A landmark outside makes all five invalid; no point
    is moved. Ignored regions are kept, clipped, down to MIN_REGION_PIXELS.
    """
    share = visible_share(sample.boxes, window)
    boxes = sample.boxes.copy()
    boxes[:, :2] = np.maximum(boxes[:, :2], window[:2])
    boxes[:, 2:] = np.minimum(boxes[:, 2:], window[2:])
    short_side = (boxes[:, 2:] - boxes[:, :2]).min(axis=1)

    kept = np.where(sample.ignored, short_side >= MIN_REGION_PIXELS, share >= IGNORE_VISIBLE)
    ignored = sample.ignored | (share < KEEP_VISIBLE) | (short_side < MIN_FACE_PIXELS)
    inside = ((sample.landmarks >= window[:2]) & (sample.landmarks <= window[2:])).all(axis=(1, 2))
    has_landmarks = sample.has_landmarks & inside & ~ignored
    return replace(
        sample,
        boxes=boxes[kept],
        landmarks=sample.landmarks[kept],
        has_landmarks=has_landmarks[kept],
        ignored=ignored[kept],
    )


class RandomCrop:
    """Cut a square of one of `scales` times the short side, to be resized to image_size x image_size.

    What the square covers beyond the picture is filled with the mean colour. Positions that keep a face are preferred,
    and so are scales at which some face of the picture can be kept: a close-up cut out of one large face would teach
    that skin is background.
    """

    def __init__(self, image_size: int, scales: Sequence[float] = CROP_SCALES):
        self.image_size = image_size
        self.scales = np.array(scales)

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        faces = sample.boxes[~sample.ignored]
        side = self._plan_side(min(sample.height, sample.width), faces, rng)
        corner = self._plan_corner(sample.height, sample.width, side, faces, rng)
        return self._cut(sample, corner, side)

    def _plan_side(self, short_side: int, faces: np.ndarray, rng: np.random.Generator) -> int:
        sides = np.maximum(np.rint(self.scales * short_side), 1).astype(int)
        face_sides = faces[:, 2:] - faces[:, :2]
        fits = face_sides.max(axis=1) <= sides[:, None]
        large_enough = face_sides.min(axis=1) * self.image_size >= MIN_FACE_PIXELS * sides[:, None]
        useful = (fits & large_enough).any(axis=1)
        return int(rng.choice(sides[useful] if useful.any() else sides))

    @staticmethod
    def _plan_corner(height: int, width: int, side: int, faces: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Left and top of a square inside the picture or, on an axis where it is the larger, around the picture."""
        room = np.array([width - side, height - side])
        corners = rng.integers(np.minimum(room, 0), np.maximum(room, 0), size=(CROP_TRIES, 2), endpoint=True)
        windows = np.concatenate([corners, corners + side], axis=1)
        keeps_face = (visible_share(faces, windows[:, None]) >= KEEP_VISIBLE).any(axis=1)
        return corners[keeps_face.argmax() if keeps_face.any() else -1]

    def _cut(self, sample: Sample, corner: np.ndarray, side: int) -> Sample:
        """Move the faces to the canvas; corner: left and top of the square."""
        size = np.array([sample.width, sample.height])
        reduction = self._reduction(side, np.minimum(corner + side, size) - np.maximum(corner, 0))
        x, width, left, shown_width = self._place(int(corner[0]), side, sample.width, reduction)
        y, height, top, shown_height = self._place(int(corner[1]), side, sample.height, reduction)

        factor = np.array([shown_width / width, shown_height / height], np.float32)
        shift = ((left, top) - factor * (x, y)).astype(np.float32)
        moved = replace(
            sample,
            height=self.image_size,
            width=self.image_size,
            boxes=sample.boxes * factor[[0, 1, 0, 1]] + shift[[0, 1, 0, 1]],
            landmarks=sample.landmarks * factor + shift,
            cut=Cut(x, y, width, height, left, top, shown_width, shown_height, self.image_size, reduction),
        )
        return clip_faces(moved, np.array([left, top, left + shown_width, top + shown_height], np.float32))

    def _place(self, start: int, side: int, length: int, reduction: int) -> tuple[int, int, int, int]:
        """Along one axis of a picture of that length: start and size of the part, and of where it is shown."""
        # Whole pixels of the reduced picture, so that decoding at reduced scale shows exactly the same part.
        start -= start % reduction
        first, end = max(start, 0), min(start + side, length)
        part = end - end % reduction - first
        # Whole pixels on the canvas; the faces are moved by the factors that result, so they stay exact.
        shown = max(round(part * self.image_size / side), 1)
        return first, part, min(round((first - start) * self.image_size / side), self.image_size - shown), shown

    def _reduction(self, side: int, part: np.ndarray) -> int:
        """The largest by which nothing has to be enlarged afterwards, and which leaves something of the part."""
        for reduction in REDUCTIONS:
            if side >= reduction * self.image_size and part.min() >= 2 * reduction:
                return reduction
        return 1


class HorizontalFlip:
    """Mirror the canvas with the given probability; the left landmarks become the right ones."""

    def __init__(self, probability: float = 0.5):
        self.probability = probability

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        if rng.random() >= self.probability:
            return sample
        width = sample.width
        left, top, right, bottom = sample.boxes.T
        landmarks = sample.landmarks[:, MIRRORED_LANDMARKS]
        landmarks[..., 0] = width - landmarks[..., 0]
        return replace(
            sample,
            boxes=np.stack([width - right, top, width - left, bottom], axis=1),
            landmarks=landmarks,
            cut=sample.cut._replace(mirrored=not sample.cut.mirrored),
        )


class FaceMasks:
    """Draw masks over nose and mouth of most faces of a picture, with the given probability.

    Only faces with landmarks get one; boxes and landmarks stay. Labels drawn by a machine miss masked faces: a detector
    that is trained on them takes masks for background unless it sees some on faces that have a label.
    """

    def __init__(self, probability: float):
        self.probability = probability

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        if rng.random() >= self.probability:
            return sample
        masked = sample.has_landmarks & ~sample.ignored & (rng.random(len(sample.boxes)) < MASKED_FACES)
        faces = zip(sample.boxes[masked], sample.landmarks[masked])
        return replace(sample, masks=[self._plan(box, landmarks, rng) for box, landmarks in faces])

    def _plan(self, box: np.ndarray, landmarks: np.ndarray, rng: np.random.Generator) -> FaceMask:
        """From the bridge of the nose to below the chin and from cheek to cheek, within the box."""
        left_eye, right_eye, nose, left_mouth, right_mouth = landmarks
        eyes, mouth = (left_eye + right_eye) / 2, (left_mouth + right_mouth) / 2
        down, across = mouth - eyes, right_eye - left_eye
        bridge = eyes + rng.uniform(0.4, 0.8) * (nose - eyes)
        width, length = rng.uniform(0.75, 1.0), rng.uniform(0.6, 0.9)
        edge = eyes + rng.uniform(0.3, 0.6) * down
        jaw, corner = mouth + 0.1 * down, mouth + 0.8 * length * down
        outline = np.stack([
            bridge, edge + width * across, jaw + 0.9 * width * across, corner + 0.5 * width * across,
            mouth + length * down, corner - 0.5 * width * across, jaw - 0.9 * width * across, edge - width * across,
        ])
        return FaceMask(
            np.clip(outline, box[:2], box[2:]).astype(np.float32), self._plan_colour(rng), rng.uniform(0.8, 1.0)
        )

    @staticmethod
    def _plan_colour(rng: np.random.Generator) -> np.ndarray:
        kind = np.searchsorted(np.cumsum(MASK_COLOUR_SHARES), rng.random())
        if kind == len(MASK_COLOURS):
            return rng.uniform(0, 255, 3).astype(np.float32)
        shade = rng.uniform(-35, 20) + rng.uniform(-12, 12, 3)
        return (MASK_COLOURS[kind] + shade).clip(0, 255).astype(np.float32)


class ColourJitter:
    """Brightness, contrast, saturation and hue, each changed in half of the draws; now and then a grey picture.

    The four are affine in BGR, so they are one 3 x 4 matrix and one pass over the pixels. Ranges are those of SSD (Liu
    et al., ECCV 2016), hue halved; contrast is about the mean colour, so that it is no second brightness.
    """

    brightness = 32.0  #: largest shift, of 255
    contrast = (0.5, 1.5)
    saturation = (0.5, 1.5)
    hue = 18.0  #: largest turn, in degrees
    grey_probability = 0.05

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        return replace(sample, colour=self.plan_matrix(rng))

    def plan_matrix(self, rng: np.random.Generator) -> np.ndarray:
        """float32 [3, 4]: new BGR = matrix @ (B, G, R, 1)."""
        changed = rng.random(4) < 0.5
        shift = rng.uniform(-self.brightness, self.brightness) * changed[0]
        contrast = rng.uniform(*self.contrast) if changed[1] else 1.0
        saturation = rng.uniform(*self.saturation) if changed[2] else 1.0
        hue = np.deg2rad(rng.uniform(-self.hue, self.hue)) * changed[3]
        if rng.random() < self.grey_probability:
            saturation = 0.0

        grey = np.tile(LUMA_BGR, (3, 1))
        # Saturation scales the distance from grey, hue turns it about the grey axis (Rodrigues' formula).
        axis = np.full(3, 1 / np.sqrt(3.0))
        turn = cv2.Rodrigues(axis * hue)[0]
        linear = contrast * (grey + saturation * turn @ (np.eye(3) - grey))
        mean = np.array(MEAN_BGR, dtype=np.float64)
        offset = (1 - contrast) * mean + shift
        return np.column_stack([linear, offset]).astype(np.float32)


def training_augmentations(
    image_size: int, crop_scales: Sequence[float] = CROP_SCALES, mask_probability: float = 0.0
) -> list[Augmentation]:
    """What a training picture goes through, in order: cut before anything else."""
    masks = [FaceMasks(mask_probability)] if mask_probability else []
    return [RandomCrop(image_size, crop_scales), HorizontalFlip(), *masks, ColourJitter()]


def augment(sample: Sample, augmentations: list[Augmentation], rng: np.random.Generator) -> Sample:
    """Apply the augmentations one after the other."""
    for augmentation in augmentations:
        sample = augmentation(sample, rng)
    return sample
