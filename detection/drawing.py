"""Pictures with what was found in them, or what they teach: boxes drawn, faces blurred, many pictures on one sheet."""

import math
from pathlib import Path

import cv2
import numpy as np

from data.picture_files import OPAQUE, write_picture
from data.targets import FACE, Targets
from detection.suppression import Detections

FACE_COLOUR = (80, 220, 80)
IGNORED_COLOUR = (0, 140, 255)
LANDMARK_COLOURS = ((0, 0, 255), (0, 255, 255), (255, 0, 255), (0, 255, 0), (255, 0, 0))

#: Cells across a blurred region.
BLUR_CELLS = 6


def draw_detections(picture: np.ndarray, detections: Detections, threshold: float) -> np.ndarray:
    """A copy of a uint8 BGR picture with boxes, scores and landmarks of the faces scored at least `threshold`.

    Lines and letters grow with the picture, but not beyond what fits a face; under 24 px a face gets its box only.
    Scores stand where they cover no face, or little of one.
    """
    drawn = picture.copy()
    widest = max(1, round(max(picture.shape[:2]) / 500))
    shown = detections.scores >= threshold
    boxes = detections.boxes[shown].astype(float)
    for box, score, landmarks in zip(boxes, detections.scores[shown], detections.landmarks[shown]):
        left, top, right, bottom = (int(round(side)) for side in box)
        line = min(widest, max(1, (bottom - top) // 24))
        cv2.rectangle(drawn, (left, top), (right, bottom), FACE_COLOUR, line)
        if bottom - top >= 24:
            write_score(drawn, f"{score:.2f}", box, boxes, line)
            for (x, y), color in zip(landmarks, LANDMARK_COLOURS):
                cv2.circle(drawn, (int(round(float(x))), int(round(float(y)))), line, color, -1)
    return drawn


def write_score(drawn: np.ndarray, text: str, box: np.ndarray, boxes: np.ndarray, line: int) -> None:
    """Write a text beside a box, xyxy, into a picture: above, below, right or left of it, else inside, at an edge.

    Of the places that lie in the picture it takes the one that covers least of all `boxes`.
    """
    font, scale, gap = cv2.FONT_HERSHEY_SIMPLEX, 0.35 * line, 2 * line
    (width, height), _ = cv2.getTextSize(text, font, scale, line)
    limits = np.array([max(0, drawn.shape[1] - width), max(0, drawn.shape[0] - height)])
    left, top, right, bottom = box
    places = np.array([
        (left, top - gap - height), (left, bottom + gap), (right + gap, top), (left - gap - width, top),
        (left + gap, top + gap), (left + gap, bottom - gap - height),
    ])
    places[:2, 0] = places[:2, 0].clip(0, limits[0])
    places[2:4, 1] = places[2:4, 1].clip(0, limits[1])
    places[4:] = places[4:].clip(0, limits)
    inside = ((places >= 0) & (places <= limits)).all(axis=1)
    starts, ends = places[:, None], places[:, None] + (width, height)
    covered = (np.minimum(ends, boxes[:, 2:]) - np.maximum(starts, boxes[:, :2])).clip(0).prod(axis=2).sum(axis=1)
    x, y = places[np.where(inside, covered, np.inf).argmin()]
    cv2.putText(drawn, text, (round(x), round(y) + height), font, scale, FACE_COLOUR, line, cv2.LINE_AA)


def blur_faces(picture: np.ndarray, detections: Detections) -> np.ndarray:
    """A copy of a uint8 BGR picture in which no face is recognisable.

    Each box, enlarged by a quarter of its sides all round, is averaged down to BLUR_CELLS cells a side, whatever its
    size, and filled from these alone: a face itself keeps some four cells across.
    """
    blurred = picture.copy()
    height, width = picture.shape[:2]
    for left, top, right, bottom in detections.boxes.astype(float):
        margin_x, margin_y = (right - left) / 4, (bottom - top) / 4
        x1, x2 = max(0, math.floor(left - margin_x)), min(width, math.ceil(right + margin_x))
        y1, y2 = max(0, math.floor(top - margin_y)), min(height, math.ceil(bottom + margin_y))
        if x1 >= x2 or y1 >= y2:  # wholly beyond the edge
            continue
        region = blurred[y1:y2, x1:x2]
        cells = (min(BLUR_CELLS, x2 - x1), min(BLUR_CELLS, y2 - y1))
        coarse = cv2.resize(region, cells, interpolation=cv2.INTER_AREA)
        blurred[y1:y2, x1:x2] = cv2.resize(coarse, (x2 - x1, y2 - y1), interpolation=cv2.INTER_LINEAR)
    return blurred


def opaque_where_drawn(alpha: np.ndarray, drawn: np.ndarray, picture: np.ndarray) -> np.ndarray:
    """The opacity of a picture, uint8 [H, W], for a drawn copy of it: what was drawn is seen."""
    return np.where((drawn != picture).any(axis=2), np.uint8(OPAQUE), alpha)


def draw_targets(images: np.ndarray, targets: Targets, side: int) -> list[np.ndarray]:
    """Pictures of a training batch, enlarged or shrunk to side x side, with what they teach.

    images: uint8 BGR [B, S, S, 3]; targets in their pixels, on the CPU. Faces are green, with their landmarks where
    they have some; regions that are neither face nor background are orange and crossed out.
    """
    scale = side / images.shape[1]
    drawn = [cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA) for image in images]
    # OpenCV counts from the centre of a pixel.
    boxes = np.rint(targets.boxes.numpy() * scale - 0.5).astype(int).tolist()
    landmarks = np.rint(targets.landmarks.numpy() * scale - 0.5).astype(int).tolist()
    rows = zip(targets.picture.tolist(), boxes, landmarks, targets.has_landmarks.tolist(), targets.role.tolist())
    for picture, (left, top, right, bottom), points, has_landmarks, role in rows:
        colour = FACE_COLOUR if role == FACE else IGNORED_COLOUR
        line = 1 if bottom - top < 80 else 2
        cv2.rectangle(drawn[picture], (left, top), (right, bottom), colour, line)
        if role != FACE:
            cv2.line(drawn[picture], (left, top), (right, bottom), colour)
            cv2.line(drawn[picture], (left, bottom), (right, top), colour)
        if has_landmarks:
            for point, point_colour in zip(points, LANDMARK_COLOURS):
                cv2.circle(drawn[picture], point, line, point_colour, -1)
    return drawn


def contact_sheet(pictures: list[np.ndarray], path: str | Path, columns: int = 3, side: int = 420) -> None:
    """Write uint8 BGR pictures, at least one, as one, each fitted into a square of `side` pixels, row by row."""
    tiles = []
    for picture in pictures:
        scale = side / max(picture.shape[:2])
        size = (max(1, int(picture.shape[1] * scale)), max(1, int(picture.shape[0] * scale)))
        tile = np.zeros((side, side, 3), np.uint8)
        tile[: size[1], : size[0]] = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        tiles.append(tile)
    tiles += [np.zeros((side, side, 3), np.uint8)] * (-len(tiles) % columns)
    rows = [np.hstack(tiles[start : start + columns]) for start in range(0, len(tiles), columns)]
    write_picture(path, np.vstack(rows))
