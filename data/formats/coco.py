"""COCO: one JSON file a set, with lists of images, categories and annotations.

Format: https://cocodataset.org/#format-data.
"""

import json
from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm

from data.formats.annotations import (
    NO_LANDMARKS,
    Annotation,
    LabelledPicture,
    index_pictures,
    open_labelled,
)
from data.widerface import LabelReport
from utils.errors import UserError

#: Numbers of five keypoints x y visibility.
KEYPOINT_NUMBERS = 15


def read_coco(source: Path, images: Path | None, report: LabelReport) -> list[LabelledPicture]:
    """All pictures of a JSON file. Five keypoints are landmarks; what is a crowd is neither face nor background."""
    document = read_document(source)
    names = {entry.get("id"): str(entry.get("name")) for entry in entries_of(document, "categories", source, report)}
    index = index_pictures(source, images)
    pictures: dict[object, LabelledPicture | None] = {}
    for entry in tqdm(list(entries_of(document, "images", source, report)), desc=str(source), unit="picture"):
        name, place = str(entry.get("file_name")), f"{source.name}, image {entry.get('id')}"
        path = index.find(name, place, report)
        size = entry.get("height"), entry.get("width")
        declared = size if all(type(side) is int and side > 0 for side in size) else None
        pictures[entry.get("id")] = path and open_labelled(path, name, place, report, declared)
    for entry in entries_of(document, "annotations", source, report):
        place = f"{source.name}, annotation {entry.get('id')}"
        report.face_lines += 1
        numbers = numbers_of(entry)
        if entry.get("image_id") not in pictures:
            report.add("annotation of no image", place)
        elif numbers is None:
            report.add("annotation without a bbox of 4 numbers", place)
        elif picture := pictures[entry["image_id"]]:
            kind = names.get(entry.get("category_id"), str(entry.get("category_id")))
            picture.annotations.append(Annotation(kind, numbers, place, bool(entry.get("iscrowd"))))
    return [picture for picture in pictures.values() if picture]


def read_document(path: Path) -> dict:
    """The object of a JSON file; UserError where it is none, or not one of COCO."""
    try:
        document = json.loads(path.read_bytes())
    except json.JSONDecodeError as error:
        raise UserError(f"{path}:{error.lineno} is no JSON ({error.msg}): write the file again") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is no JSON ({type(error).__name__}): write the file again") from None
    if not isinstance(document, dict) or not all(isinstance(document.get(k), list) for k in ("images", "annotations")):
        raise UserError(f"{path} is JSON but not COCO's: it has no lists 'images' and 'annotations'")
    return document


def entries_of(document: dict, key: str, source: Path, report: LabelReport) -> Iterator[dict]:
    """The objects of a list of the document whose ids are numbers or text."""
    values = document.get(key)
    for number, entry in enumerate(values if isinstance(values, list) else []):
        ids = [entry.get(name) for name in ("id", "image_id", "category_id")] if isinstance(entry, dict) else [[]]
        if all(value is None or isinstance(value, int | str) for value in ids):
            yield entry
        else:
            report.add(f"entry of '{key}' that is no object with ids", f"{source.name}, number {number}")


def numbers_of(entry: dict) -> list[float] | None:
    """Box and landmarks of an annotation; None where it has no box."""
    box, points = entry.get("bbox"), entry.get("keypoints")
    if not are_numbers(box, 4):
        return None
    if not are_numbers(points, KEYPOINT_NUMBERS):
        return [*map(float, box), *NO_LANDMARKS]
    landmarks = []
    for x, y, visibility in zip(points[::3], points[1::3], points[2::3]):
        landmarks += [float(x), float(y), 0.0] if visibility > 0 else [-1.0, -1.0, -1.0]
    return [*map(float, box), *landmarks]


def are_numbers(values: object, count: int) -> bool:
    """Whether something of a JSON file is a list of as many numbers that float holds."""
    return (isinstance(values, list) and len(values) == count
            and all(type(value) is float or type(value) is int and abs(value) < 10**300 for value in values))
