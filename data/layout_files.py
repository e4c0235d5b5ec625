"""Writes pictures and labels, wherever they come from, in the layout that is trained and measured here."""

import hashlib
import os
import shutil
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from data.formats.annotations import LabelledPicture
from data.ground_truth import write_ground_truth_from
from data.picture_files import upright_bytes
from data.widerface import Record, list_pictures, read_labels
from utils.files import as_line, atomic_folder
from utils.text_files import write_lines

#: Folders that say nothing of what a picture shows; other folders become its EVENT.
GENERIC_FOLDERS = {"images", "labels", "jpegimages", "annotations", "train", "val", "valid", "validation", "test"}


#: Most bytes of an EVENT or NAME: disks take 255, and files made of a picture add to its name.
LONGEST_NAME = 200


class Entry(NamedTuple):
    """A picture of the new set."""

    name: str  #: EVENT/NAME.jpg
    picture: LabelledPicture
    record: Record  #: its path is that of the source


def new_name(name: str, used: set[tuple[str, str]]) -> str:
    """EVENT/NAME.jpg for a picture, by its folders and name; no two differ in case or suffix alone.

    The ground truth of AP knows names without suffixes, and signs that no file system has trouble with.
    """
    *folders, file = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".", "..")] or ["_"]
    shown = [clean(folder) for folder in folders if folder.lower() not in GENERIC_FOLDERS]
    event = shortened("--".join(shown)) or "pictures"
    stem, suffix = shortened(clean(Path(file).stem)), clean(Path(file).suffix[1:])
    unique, copies = stem, 1
    while (event.casefold(), unique.casefold()) in used:
        copies += 1
        unique = f"{stem}_{copies}"
    used.add((event.casefold(), unique.casefold()))
    return f"{event}/{unique}.{suffix}"


def clean(name: str) -> str:
    """A part of a path without what a label file, MATLAB's files or Windows cannot hold."""
    return "".join("_" if sign in '<>:"/\\|?*' else sign for sign in as_line(name)).strip(" .") or "_"


def shortened(name: str) -> str:
    """A name of at most LONGEST_NAME bytes: a longer one keeps its start, and a hash keeps it apart from others."""
    data = name.encode()
    if len(data) <= LONGEST_NAME:
        return name
    digest = hashlib.sha256(data).hexdigest()[:16]
    return f"{data[: LONGEST_NAME - len(digest) - 1].decode(errors='ignore')}_{digest}"


def write_set(output: Path, train: list[Entry], val: list[Entry]) -> tuple[Counter[str], list[Path]]:
    """Write a whole set, or nothing: how many validation faces are easy, medium and hard, and what was left out.

    Left out are pictures that cannot be turned, as they are damaged. UserError where nothing can be written.
    """
    with atomic_folder(output) as partial:
        left_out = write_part(partial / "train", train)
        if not val:
            return Counter(), left_out
        folder = partial / "val"
        left_out += write_part(folder, val)
        records, _ = read_labels(folder / "label.txt")
        write_lines(folder / "wider_val.txt", [f"/{name}" for name in list_pictures(folder)])
        return write_ground_truth_from(folder / "label.txt", folder / "ground_truth", records), left_out


def write_part(folder: Path, entries: list[Entry]) -> list[Path]:
    """Pictures, label.txt, and ignore.txt where there is something to ignore; returns the pictures left out."""
    labels, regions, left_out = [], [], []
    for name, picture, record in tqdm(entries, desc=folder.name, unit="picture"):
        target = folder / "images" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if not place_picture(picture, target):
            left_out.append(picture.path)
            continue
        rows = [label_line(*row) for row in zip(record.boxes, record.landmarks, record.has_landmarks)]
        labels += [f"# {name}", *(row for row, is_ignored in zip(rows, record.ignored) if not is_ignored)]
        if record.ignored.any():
            regions += [f"# {name}", *(row for row, is_ignored in zip(rows, record.ignored) if is_ignored)]
    write_lines(folder / "label.txt", labels)
    if regions:
        write_lines(folder / "ignore.txt", regions)
    return left_out


def place_picture(picture: LabelledPicture, target: Path) -> bool:
    """Link or copy a picture, or write it upright; False where that fails for the picture's own fault."""
    if picture.turn:
        data = upright_bytes(picture.path)
        if data is not None:
            target.write_bytes(data)
        return data is not None
    source = os.path.realpath(picture.path)
    with suppress(OSError):  # another disk, or one without links
        os.link(source, target)
        return True
    shutil.copyfile(source, target)
    return True


def label_line(box: np.ndarray, landmarks: np.ndarray, has_landmarks: bool) -> str:
    """x y w h of a box xyxy, and landmarks x y 0 where it has some, to 1/100 pixel."""
    numbers = [*box[:2], *(box[2:] - box[:2])]
    if has_landmarks:
        numbers += [value for x, y in landmarks for value in (x, y, 0)]
    return " ".join(f"{round(float(value), 2) + 0.0:.2f}".rstrip("0").rstrip(".") for value in numbers)  # no -0
