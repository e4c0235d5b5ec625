"""Label sets that cannot be right: told before a run, not after its epochs."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data.picture_files import AS_STORED, orientation_of, picture_size_of
from data.widerface import CONVERTER, LabelReport, Record
from utils.errors import UserError
from utils.files import as_line

#: Share of the pictures with a face under which labels must be missing.
LEAST_WITH_FACES = 0.02

#: Pictures of a run whose headers are read: half a second at most.
LOOKED_AT = 500
#: Share of the faces whose centre may lie outside of their picture.
MOST_OUTSIDE = 0.1


def check_label_sets(reports: dict[Path, LabelReport]) -> None:
    """UserError, with the reason, where label sets that go together cannot be right."""
    for path, report in reports.items():
        if report.face_lines and not report.faces:
            told = str(report).partition("\n")[2].strip().replace("\n  ", "; ")
            raise UserError(f"none of the {report.face_lines:,} faces in {path} can be used ({told}): a face is a line "
                            "x y w h in pixels")
        if report.faces and report.largest <= 1:
            raise UserError(f"all {report.faces:,} boxes in {path} lie within 0 to 1: label.txt has them in pixels; "
                            f"{CONVERTER} takes YOLO's shares of the picture")
    pictures = sum(report.pictures for report in reports.values())
    with_faces = pictures - sum(report.pictures_without_faces for report in reports.values())
    if with_faces < LEAST_WITH_FACES * pictures:
        raise UserError(f"{with_faces:,} of {pictures:,} pictures in {', '.join(map(str, reports))} have a face: are "
                        "labels missing? Else leave most of the others out, there is next to nothing to learn")


def check_frames(place: Path, records: Sequence[Record], pictures: int = LOOKED_AT) -> list[str]:
    """Compare labels with the headers of some of their pictures, spread evenly; returns warnings, a line each.

    place: what is named as the set. Pictures that are missing or cannot be read are passed over: they are told
    elsewhere. UserError where too many faces have their centre outside of their picture.
    """
    with_faces = [record for record in records if not record.ignored.all()]
    chosen = np.linspace(0, len(with_faces) - 1, min(pictures, len(with_faces))).astype(int)
    faces, looked_at, outside, turned = 0, 0, [], []
    for record in (with_faces[index] for index in chosen):
        if (size := picture_size_of(record.path)) is None:
            continue
        boxes = record.boxes[~record.ignored]
        centres = (boxes[:, :2] + boxes[:, 2:]) / 2
        is_outside = ((centres < 0) | (centres > size[::-1])).any(axis=1)
        outside += [(record.path, size, box) for box in boxes[is_outside]]
        turned += [record.path] * (orientation_of(record.path) != AS_STORED)
        faces, looked_at = faces + len(boxes), looked_at + 1
    if len(outside) > MOST_OUTSIDE * faces:
        path, (height, width), (x1, y1, x2, y2) = outside[0]
        raise UserError(f"{len(outside):,} of {faces:,} faces looked at in {place} have their centre outside of their "
                        f"picture, such as x y w h {x1:g} {y1:g} {x2 - x1:g} {y2 - y1:g} in {path} of {width} x "
                        f"{height} pixels: are the labels of pictures of another size, corners x1 y1 x2 y2, or of "
                        f"pictures as EXIF turns them ({len(turned):,} of {looked_at:,} are turned)?")
    warnings = []
    if turned:
        warnings.append(f"{len(turned):,} of {looked_at:,} pictures with faces looked at in {place} are turned by "
                        f"EXIF, such as {as_line(turned[0])}: labels count in the picture as stored; where they are of "
                        f"the upright one, {CONVERTER} of the original labels writes pictures upright")
    return warnings + landmark_warnings(place, records)


def landmark_warnings(place: Path, records: Sequence[Record]) -> list[str]:
    """A line where landmarks lie farther outside of their box than its longer side, and where most are mirrored."""
    paths = [record.path for record in records for _ in range(record.has_landmarks.sum())]
    if not paths:
        return []
    boxes = np.concatenate([record.boxes[record.has_landmarks] for record in records])
    points = np.concatenate([record.landmarks[record.has_landmarks] for record in records])
    beyond = np.maximum(boxes[:, None, :2] - points, points - boxes[:, None, 2:]).max(axis=(1, 2))
    far = np.flatnonzero(beyond > (boxes[:, 2:] - boxes[:, :2]).max(axis=1))
    mirrored = int((points[:, 0, 0] > points[:, 1, 0]).sum())
    warnings = []
    if len(far):
        warnings.append(f"{len(far):,} of {len(paths):,} faces with landmarks in {place} have some far outside of "
                        f"their box, such as in {as_line(paths[far[0]])}: are they x y in pixels of the same picture?")
    if 2 * mirrored > len(paths):
        warnings.append(f"{mirrored:,} of {len(paths):,} faces with landmarks in {place} have their first eye right of "
                        "the second: the order is left eye, right eye, nose, left and right corner of the mouth, left "
                        "as seen in the picture")
    return warnings
