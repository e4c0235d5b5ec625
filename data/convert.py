"""Writes face labels of other formats in the layout that is trained and measured here.

python -m data.convert photos/ --output my_faces                     # YOLO: text files beside pictures or in labels/
python -m data.convert voc/ --output my_faces --face_class face      # Pascal VOC: XML files
python -m data.convert faces.json --output my_faces                  # COCO
python -m data.convert wider_face_split/wider_face_train_bbx_gt.txt --images WIDER_train --output my_faces
python -m data.convert photos/train --val_source photos/valid --output my_faces

    OUTPUT/train/label.txt, ignore.txt, images/EVENT/NAME.jpg
    OUTPUT/val/ the same, with wider_val.txt and ground_truth/*.mat, which AP needs

OUTPUT appears whole or not at all. What cannot be used is counted, with file and line. Pictures are linked where the
disk can do that, else copied; those that EXIF turns are written upright. docs/own_pictures.md says more.
"""

import os
from argparse import Namespace
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from data.formats.annotations import LabelledPicture, files_below
from data.formats.coco import read_coco
from data.formats.recognise import COCO, VOC, WIDER, YOLO, first_lines, format_of, is_yolo_file
from data.formats.voc import read_voc
from data.formats.wider_text import read_wider_text
from data.formats.yolo import read_yolo
from data.label_checks import check_label_sets, landmark_warnings
from data.layout_files import Entry, new_name, write_set
from data.widerface import BOX_NUMBERS, LANDMARK_NUMBERS, LabelReport, Record, check_boxes, check_landmarks
from utils.arguments import ArgumentParser, number
from utils.errors import UserError, run_script

READERS: dict[str, Callable[[Path, Path | None, LabelReport], list[LabelledPicture]]] = {
    YOLO: read_yolo, VOC: read_voc, COCO: read_coco, WIDER: read_wider_text,
}

VALIDATION_FOLDERS = {"val", "valid", "validation"}

#: Class that is meant where a set has several.
FACE = "face"


# Reading


def find_labels(source: Path) -> tuple[Path, str]:
    """The file or folder that a reader takes, and its format; UserError where that cannot be told."""
    if not source.is_dir():
        if not source.is_file():
            raise UserError(f"no file or folder {source}: give one with labels")
        found = COCO if source.suffix.lower() == ".json" else format_of(first_lines(source))
        if found in (COCO, WIDER):
            return source, found
        raise UserError(f"{source} is " + (f"one file of the format {found}: give the folder that holds labels and "
                        "pictures" if found else "in no format that is known: YOLO, Pascal VOC, COCO, WIDER FACE"))
    files = files_below(source)
    found = {VOC} if any(path.suffix.lower() == ".xml" for path in files) else set()
    if any(is_yolo_file(path) for path in files):
        found.add(YOLO)
    documents = [path for path in files if path.suffix.lower() == ".json"]
    if len(found) > 1 or not found and len(documents) > 1:
        kinds = " and ".join(sorted(found)) or f"{len(documents)} JSON files"
        raise UserError(f"{source} holds labels of {kinds}: give the file or folder of one")
    if documents and not found:
        return documents[0], COCO
    return source, found.pop() if found else YOLO


def read_source(source: Path, images: Path | None, wanted: Sequence[str]) -> list[Entry]:
    """All pictures of a set that can be used, by the names of the new one; says what was read and what was not."""
    labels, kind = find_labels(source)
    report = LabelReport()
    pictures = READERS[kind](labels, images, report)
    keep_faces(pictures, wanted, labels, report)
    entries, used = [], set()
    for picture in sorted(pictures, key=lambda picture: picture.name):
        entries.append(Entry(new_name(picture.name, used), picture, record_of(picture, report)))
    report.count([entry.record for entry in entries])
    print(f"{labels} ({kind}): {report}")
    if not entries:
        raise UserError(f"no picture of {labels} can be used; the lines above say why")
    check_label_sets({labels: report})
    for warning in landmark_warnings(labels, [entry.record for entry in entries]):
        print(f"warning: {warning}")
    return entries


def keep_faces(pictures: list[LabelledPicture], wanted: Sequence[str], source: Path, report: LabelReport) -> None:
    """Take away what is no face: of the classes `wanted`, else of the only one, else of the one that is called face."""
    counts = Counter(annotation.kind for picture in pictures for annotation in picture.annotations)
    known = ", ".join(f"{kind[:40]} ({count:,})" for kind, count in counts.most_common(10)) or "none"
    chosen = set(wanted) or {kind for kind in counts if len(counts) == 1 or kind.lower() == FACE}
    absent = sorted(chosen - set(counts))
    if absent and len(absent) == len(chosen):
        raise UserError(f"argument --face_class: {source} has no class {absent[0]}, its classes are: {known}")
    for kind in absent:
        report.add("class of --face_class that is not there", kind)
    if counts and not chosen:
        raise UserError(f"{source} has the classes {known}: say with --face_class which are faces")
    for picture in pictures:
        for annotation in picture.annotations:
            if annotation.kind not in chosen:
                report.add("region of another class", f"{annotation.place}: {annotation.kind[:40]}")
                report.face_lines -= 1
        picture.annotations = [annotation for annotation in picture.annotations if annotation.kind in chosen]


def record_of(picture: LabelledPicture, report: LabelReport) -> Record:
    """The labels of a picture that can be used, the others go to the report."""
    places = [annotation.place for annotation in picture.annotations]
    table = np.array([annotation.numbers for annotation in picture.annotations]).reshape(-1, LANDMARK_NUMBERS).round(2)
    ignored = np.array([annotation.ignored for annotation in picture.annotations], bool)
    boxes, usable = check_boxes(table[:, :BOX_NUMBERS], places, report)
    inside = (boxes[:, :2] < (picture.width, picture.height)).all(axis=1) & (boxes[:, 2:] > 0).all(axis=1)
    for index in np.flatnonzero(usable & ~inside):
        report.add("box outside its picture", places[index])
    usable &= inside
    landmarks, has_landmarks = check_landmarks(table[:, BOX_NUMBERS:].reshape(-1, 5, 3), usable, places, report)
    return Record(str(picture.path), boxes[usable], landmarks[usable], has_landmarks[usable] & ~ignored[usable],
                  ignored[usable])


# Dividing


def check_parts(entries: list[Entry], source: Path) -> None:
    """UserError where a set holds a training and a validation part, which were divided for a reason."""
    folders = {folder.lower() for entry in entries for folder in Path(entry.picture.name).parts[:-1]}
    if "train" in folders and (found := folders & VALIDATION_FOLDERS):
        raise UserError(f"{source} holds train/ and {min(found)}/: give the labels of the first, and those "
                        "of the second as --val_source")


def check_apart(train: list[Entry], val: list[Entry]) -> None:
    """UserError where a picture is in both parts: AP would be measured on what was trained."""
    both = set.intersection(*({os.path.realpath(entry.picture.path) for entry in part} for part in (train, val)))
    if both:
        raise UserError(f"{len(both):,} pictures are for training and for validation, such as {min(both)}: give "
                        "folders that do not hold each other")


def split(entries: list[Entry], share: float, seed: int) -> tuple[list[Entry], list[Entry]]:
    """Training and validation part, by chance, each with its share of the pictures with faces and of those without.

    There is no validation part without a face.
    """
    rng = np.random.default_rng(seed)
    groups: dict[bool, list[int]] = {True: [], False: []}  # pictures with faces, and without
    for index, entry in enumerate(entries):
        groups[not entry.record.ignored.all()].append(index)
    count = min(len(groups[True]) - 1, max(1, round(share * len(groups[True])))) if share else 0
    if not count:
        return entries, []
    chosen = {*rng.permutation(groups[True])[:count].tolist(),
              *rng.permutation(groups[False])[: round(share * len(groups[False]))].tolist()}
    return ([entry for index, entry in enumerate(entries) if index not in chosen],
            [entry for index, entry in enumerate(entries) if index in chosen])


# The command


def parse_args() -> Namespace:
    parser = ArgumentParser(prog="python -m data.convert", description=__doc__)
    add = parser.add_argument
    add("source", type=Path, help="folder of YOLO or Pascal VOC, JSON file of COCO, or wider_face_*_bbx_gt.txt")
    add("--output", type=Path, required=True, help="folder to write, made whole or not at all")
    add("--val_source", type=Path, help="labels of the validation part, where a set has its own")
    add("--val_share", type=number(float, 0, 0.9), default=0.1, help="else: share of the pictures, drawn by chance")
    add("--seed", type=number(int, 0, 2**63 - 1), default=0, help="of that draw")
    add("--images", type=Path, help="folder that pictures are in or below (default: that of the labels, or beside it)")
    add("--face_class", nargs="+", default=[], metavar="CLASS",
        help="classes that are faces, of YOLO by number (default: the only one, else 'face')")
    options = parser.parse_args()
    if options.images and not options.images.is_dir():
        parser.error(f"argument --images: {options.images} is no folder")
    return options


def main() -> None:
    options = parse_args()
    output = options.output
    if output.exists() and not (output.is_dir() and not any(output.iterdir())):
        raise UserError(f"{output} is there already: give another --output, or move it away")
    train = read_source(options.source, options.images, options.face_class)
    check_parts(train, options.source)
    if options.val_source:
        val = read_source(options.val_source, options.images, options.face_class)
        check_apart(train, val)
    else:
        train, val = split(train, options.val_share, options.seed)
    faces, left_out = write_set(output, train, val)
    for path in left_out:
        print(f"warning: {path} is damaged and was left out")
    counted = ", ".join(f"{name} {count:,}" for name, count in faces.items())
    trained, measured = (sum(entry.picture.path not in left_out for entry in part) for part in (train, val))
    print(f"{output}: {trained:,} pictures to train on, {measured:,} to measure AP on" +
          (f" (faces that count: {counted})" if val else ""))
    print(f"go on: python train_v2.py --teacher_model none --training_dataset {output / 'train' / 'label.txt'} "
          "--save_folder weights/mine/; docs/own_pictures.md says more")


if __name__ == "__main__":
    run_script(main)
