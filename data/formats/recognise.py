"""Which format of face labels a text is in, by its first lines."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from data.picture_files import PICTURE_SUFFIXES

YOLO, VOC, COCO, WIDER = "YOLO", "Pascal VOC", "COCO", "WIDER FACE's official text"

#: Numbers a line of YOLO holds: class and box, with five landmarks x y, with five keypoints x y visibility.
YOLO_NUMBERS = (5, 15, 20)


def format_of(lines: Sequence[str]) -> str | None:
    """YOLO, VOC, COCO, WIDER, or None where the lines are of none of these."""
    first, second = ([line.strip() for line in lines if line.strip()] + ["", ""])[:2]
    if first.startswith(("{", "[")):
        return COCO
    if first.startswith(("<?xml", "<annotation")):
        return VOC
    if is_picture(first):
        return WIDER if second.isdigit() else YOLO  # a list of pictures, as YOLO's train.txt
    if is_yolo_line(first) or any(line.startswith(("names:", "nc:")) for line in lines):  # or YOLO's data.yaml
        return YOLO
    return None


def is_picture(name: str) -> bool:
    """Whether a name ends as those of pictures do."""
    return not name.startswith("#") and any(name.lower().endswith(suffix) for suffix in PICTURE_SUFFIXES)


def is_yolo_line(line: str) -> bool:
    """Whether a line has as many numbers as a label of YOLO."""
    try:
        return len([float(word) for word in line.split()]) in YOLO_NUMBERS
    except ValueError:
        return False


def is_yolo_file(path: Path) -> bool:
    """Whether a file is a text file whose first line is a label of YOLO."""
    return path.suffix.lower() == ".txt" and is_yolo_line(next(filter(str.strip, first_lines(path)), ""))


def first_lines(path: Path) -> list[str]:
    """The beginning of a text file in any encoding; nothing where it cannot be read."""
    with suppress(OSError), open(path, encoding="utf-8-sig", errors="replace") as file:
        return file.read(10_000).splitlines()
    return []
