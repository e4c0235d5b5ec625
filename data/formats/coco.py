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
from data.formats.keypoint_names import landmark_places
from data.widerface import LabelReport
from utils.errors import UserError

#: Of five keypoints without names: the order of label.txt.
AS_THEY_STAND = [0, 1, 2, 3, 4]
#: Of the numbers of an annotation, x y w h and five landmarks: those of the other side in their place.
SIDES_CHANGED = [0, 1, 2, 3, 7, 8, 9, 4, 5, 6, 10, 11, 12, 16, 17, 18, 13, 14, 15]


def read_coco(source: Path, images: Path | None, report: LabelReport) -> list[LabelledPicture]:
    """All pictures of a JSON file. What is a crowd is neither face nor background.

    Keypoints are landmarks: by their names where the category has some (COCO's left_eye is the person's, right in the
    picture; many sets of faces mean the one that is left in the picture: where the eyes of most faces lie tells which),
    else five in the order of label.txt. Where names are not understood there are none, and the report has how many.
    """
    document = read_document(source)
    categories = {entry.get("id"): entry for entry in entries_of(document, "categories", source, report)}
    places = {key: landmark_places(entry["keypoints"]) for key, entry in categories.items() if has_names(entry)}
    named: list[Annotation] = []
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
        category = entry.get("category_id")
        order = places.get(category, AS_THEY_STAND)
        points = len(categories[category]["keypoints"]) if category in places else len(AS_THEY_STAND)
        numbers = numbers_of(entry, points, order)
        if entry.get("image_id") not in pictures:
            report.add("annotation of no image", place)
        elif numbers is None:
            report.add("annotation without a bbox of 4 numbers", place)
        elif picture := pictures[entry["image_id"]]:
            kind = str(categories[category].get("name") if category in categories else category)
            picture.annotations.append(Annotation(kind, numbers, place, bool(entry.get("iscrowd"))))
            if order is None and has_keypoints(entry):
                report.add("face whose landmarks are left out, as the names of its keypoints are not understood", place)
            named += picture.annotations[-1:] * (category in places and order is not None)
    name_sides_as_seen(named)
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


def has_names(category: dict) -> bool:
    """Whether a category names its keypoints."""
    return isinstance(category.get("keypoints"), list) and bool(category["keypoints"])


def has_keypoints(entry: dict) -> bool:
    """Whether an annotation has a keypoint that is known, whichever."""
    points = entry.get("keypoints")
    return isinstance(points, list) and any(points[2::3])


def name_sides_as_seen(annotations: list[Annotation]) -> None:
    """Change the sides of all landmarks where most faces have their first eye right of the second."""
    eyes = [(face.numbers[4], face.numbers[7]) for face in annotations if -1 not in (face.numbers[6], face.numbers[9])]
    if 2 * sum(first > second for first, second in eyes) > len(eyes):
        for face in annotations:
            face.numbers = [face.numbers[place] for place in SIDES_CHANGED]


def numbers_of(entry: dict, count: int, order: list[int] | None) -> list[float] | None:
    """Box and landmarks of an annotation of `count` keypoints, five of them in an order; None where it has no box."""
    box, points = entry.get("bbox"), entry.get("keypoints")
    if not are_numbers(box, 4):
        return None
    if order is None or not are_numbers(points, 3 * count):
        return [*map(float, box), *NO_LANDMARKS]
    landmarks = []
    for x, y, visibility in (points[3 * place : 3 * place + 3] for place in order):
        landmarks += [float(x), float(y), 0.0] if visibility > 0 else [-1.0, -1.0, -1.0]
    return [*map(float, box), *landmarks]


def are_numbers(values: object, count: int) -> bool:
    """Whether something of a JSON file is a list of as many numbers that float holds."""
    return (isinstance(values, list) and len(values) == count
            and all(type(value) is float or type(value) is int and abs(value) < 10**300 for value in values))
