"""The average precision of the WIDER FACE toolbox: detections to faces, faces to curves, curves to AP.

evaluation.py says what the conventions are.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array

# The script beside this file finds its neighbours by their short names only.
if __package__:
    from widerface_evaluate.wider_files import SUBSETS, GroundTruth, InputError, Predictions, in_order
else:
    from wider_files import SUBSETS, GroundTruth, InputError, Predictions, in_order

THRESHOLDS = 1 - np.arange(1, 1001) / 1000
MATCH_IOU = 0.5
SIZE_LIMITS = (0, 8, 16, 32, 96, math.inf)
SIZE_NAMES = ("under 8 px", "8-16 px", "16-32 px", "32-96 px", "over 96 px")
BOOTSTRAP_BLOCK = 250
LABEL_VALUES = {
    "blur": ("clear", "normal", "heavy"),
    "occlusion": ("none", "partial", "heavy"),
    "pose": ("typical", "atypical"),
}


@dataclass(frozen=True)
class Matches:
    """The fate of D detections in pictures with faces, before it is said which faces count."""

    picture: np.ndarray  # int64 [D]: index of the picture
    threshold: np.ndarray  # int64 [D]: index of the first of THRESHOLDS that admits the detection
    face: np.ndarray  # int64 [D]: index of the matched face, -1 without a match
    first: np.ndarray  # bool [D]: matched, and no earlier detection has that face
    growth: np.ndarray  # float64 [D]: square root of the detection's area over the best face's


@dataclass(frozen=True)
class Group:
    """What an AP is about: the faces that count, the others being ignored, and the pictures looked at."""

    faces: np.ndarray  # bool [F]
    pictures: np.ndarray  # bool [P]


@dataclass(frozen=True)
class Curve:
    """Precision and recall at THRESHOLDS, float64 [..., 1000], and AP, float64 [...]; NaN where no face counts."""

    precision: np.ndarray
    recall: np.ndarray
    ap: np.ndarray


def evaluate(predictions: Predictions, ground_truth: GroundTruth) -> dict[str, float]:
    """{"easy": AP, "medium": AP, "hard": AP} of predictions read from files or made in memory.

    Predictions maps each (event, picture name) of the ground truth to an array [n, 5] of x y w h score; n may be 0.
    Raises InputError where a picture is missing or unknown, or an array has not that shape or holds bad numbers.
    """
    matches = match_detections(predictions, ground_truth)
    groups = subset_groups(ground_truth)
    return {subset: float(precision_recall(matches, group, ground_truth).ap) for subset, group in groups.items()}


def match_detections(
    predictions: Predictions, ground_truth: GroundTruth, match_iou: float = MATCH_IOU
) -> Matches:
    """Give every detection its face: the part of the work that all groups of faces share."""
    detections = in_order(predictions, ground_truth)
    end_faces = np.searchsorted(ground_truth.picture, np.arange(len(detections)), side="right")
    pictures, scores, faces, growth = [np.empty(0, np.int64)], [np.empty(0)], [np.empty(0, np.int64)], [np.empty(0)]
    first_face = 0
    for picture, (rows, end_face) in enumerate(zip(detections, end_faces)):
        if len(rows) and first_face < end_face:
            rows = rows[np.argsort(-rows[:, 4], kind="stable")]
            boxes = ground_truth.boxes[first_face:end_face]
            overlaps = pixel_iou(rows[:, :4], boxes)
            best = overlaps.argmax(axis=1)
            matched = overlaps[np.arange(len(rows)), best] >= match_iou
            pictures.append(np.full(len(rows), picture))
            faces.append(np.where(matched, first_face + best, -1))
            growth.append(np.sqrt(rows[:, 2:4].prod(axis=1) / np.maximum(boxes[best, 2:].prod(axis=1), 1)))
            scores.append(rows[:, 4])
        first_face = end_face
    faces = np.concatenate(faces)
    first = np.zeros(len(faces), dtype=bool)
    first[np.unique(faces, return_index=True)[1]] = True
    thresholds = np.searchsorted(-THRESHOLDS, -normalise(np.concatenate(scores), detections))
    return Matches(np.concatenate(pictures), thresholds, faces, first & (faces >= 0), np.concatenate(growth))


def normalise(scores: np.ndarray, detections: list[np.ndarray]) -> np.ndarray:
    """Stretch scores to 0..1 by the range of all detections, also those in pictures without faces."""
    everything = np.concatenate([rows[:, 4] for rows in detections])
    lowest, highest = everything.min(initial=math.inf), everything.max(initial=0.0)
    return (scores - lowest) / (highest - lowest) if highest > lowest else np.ones_like(scores)


def pixel_iou(boxes: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """IoU [n, m] of boxes [n, 4] and [m, 4], x y w h, where both edge pixels belong to a box."""
    left, top = boxes[:, None, 0], boxes[:, None, 1]
    right, bottom = left + boxes[:, None, 2], top + boxes[:, None, 3]
    face_right, face_bottom = faces[:, 0] + faces[:, 2], faces[:, 1] + faces[:, 3]
    width = np.minimum(right, face_right) - np.maximum(left, faces[:, 0]) + 1
    height = np.minimum(bottom, face_bottom) - np.maximum(top, faces[:, 1]) + 1
    shared = np.maximum(width, 0) * np.maximum(height, 0)
    box_area = (right - left + 1) * (bottom - top + 1)
    face_area = (face_right - faces[:, 0] + 1) * (face_bottom - faces[:, 1] + 1)
    return shared / (box_area + face_area - shared)


def precision_recall(matches: Matches, group: Group, ground_truth: GroundTruth,
                     picture_weights: np.ndarray | None = None) -> Curve:
    """The curve of one group of faces; picture_weights [..., P] counts pictures several times or not at all."""
    pictures = len(ground_truth.pictures)
    weights = np.ones(pictures) if picture_weights is None else picture_weights

    def admitted(chosen: np.ndarray) -> np.ndarray:
        """The number of chosen detections at each threshold, [..., 1000]."""
        cells = matches.picture[chosen], matches.threshold[chosen]
        counts = csr_array((np.ones(len(cells[0])), cells), shape=(pictures, len(THRESHOLDS)))
        return np.cumsum(weights @ counts, axis=-1)

    looked_at = group.pictures[matches.picture]
    matched = matches.face >= 0
    counts = matched & group.faces[matches.face]
    hits = admitted(looked_at & counts & matches.first)
    reported = admitted(looked_at & (counts | ~matched))
    faces = weights @ np.bincount(ground_truth.picture[group.faces], minlength=pictures)
    with np.errstate(invalid="ignore"):
        recall = hits / np.asarray(faces)[..., None]
    precision = hits / np.maximum(reported, 1)
    envelope = np.maximum.accumulate(precision[..., ::-1], axis=-1)[..., ::-1]
    return Curve(precision, recall, (np.diff(recall, axis=-1, prepend=0) * envelope).sum(axis=-1))


def subset_groups(ground_truth: GroundTruth) -> dict[str, Group]:
    everywhere = np.ones(len(ground_truth.pictures), dtype=bool)
    return {subset: Group(ground_truth.subsets[subset], everywhere) for subset in SUBSETS}


def faces_of_height(low: float, high: float, ground_truth: GroundTruth) -> np.ndarray:
    """bool [F]: faces not marked invalid with low <= height < high, in pixels.

    A box without width or height is no face: one such stands for a picture without faces.
    """
    width, height = ground_truth.boxes[:, 2:].T
    valid = ground_truth.labels.get("invalid", np.zeros(len(height))) == 0
    return valid & (width > 0) & (height > 0) & (height >= low) & (height < high)


def groups_by(kind: str, faces: np.ndarray, ground_truth: GroundTruth) -> dict[str, Group]:
    """The groups of --by: valid faces by height in pixels; or `faces`, bool [F], by label or event by event."""
    everywhere = np.ones(len(ground_truth.pictures), dtype=bool)
    if kind == "size":
        return {name: Group(faces_of_height(low, high, ground_truth), everywhere)
                for name, low, high in zip(SIZE_NAMES, SIZE_LIMITS, SIZE_LIMITS[1:])}
    if kind == "event":
        events = np.array([event for event, _ in ground_truth.pictures])
        return {event: Group(faces & (events == event)[ground_truth.picture], events == event)
                for event in dict.fromkeys(events.tolist())}
    if kind not in ground_truth.labels:
        raise InputError(f"wider_face_val.mat has no {kind}_label_list, so --by {kind} is not possible")
    return {f"{kind} {name}": Group(faces & (ground_truth.labels[kind] == value), everywhere)
            for value, name in enumerate(LABEL_VALUES[kind])}


def bootstrap(matches: Matches, group: Group, ground_truth: GroundTruth, times: int) -> np.ndarray:
    """AP, float64 [times], over pictures drawn with replacement: the same draws for every model and group.

    Scores keep the scale of the whole set.
    """
    random = np.random.default_rng(0)
    pictures = len(ground_truth.pictures)
    aps = []
    for start in range(0, times, BOOTSTRAP_BLOCK):
        draws = random.multinomial(pictures, np.full(pictures, 1 / pictures), min(BOOTSTRAP_BLOCK, times - start))
        aps.append(precision_recall(matches, group, ground_truth, draws.astype(np.float64)).ap)
    return np.concatenate(aps)


def interval(samples: np.ndarray) -> list[float]:
    """The middle 95 % of the samples; draws without a face that counts are nan and left out."""
    return np.nanpercentile(samples, [2.5, 97.5]).tolist()
