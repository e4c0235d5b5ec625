"""YOLO: a text file a picture, a line a region: class, centre and size of the box as shares of the picture.

Landmarks may follow: five times x y, as yolov5-face writes them (negative where unknown), or five times x y visibility,
as YOLO's pose format has them (0: unknown). Format: https://docs.ultralytics.com/datasets/detect/.
"""

from pathlib import Path

from tqdm import tqdm

from data.formats.annotations import (
    NO_LANDMARKS,
    Annotation,
    LabelledPicture,
    files_below,
    label_root,
    open_labelled,
)
from data.formats.recognise import YOLO_NUMBERS, is_picture, is_yolo_file
from data.widerface import LabelReport
from utils.errors import UserError
from utils.text_files import read_lines

#: A share of the picture may be rounded above 1 by this much.
MOST = 1.01


def read_yolo(source: Path, images: Path | None, report: LabelReport) -> list[LabelledPicture]:
    """All pictures below a folder. A text file lies beside its picture, or under labels/ where that is under images/.

    A picture without a text file is all background, as in YOLO's own training. Pictures are as EXIF turns them, which
    is how YOLO's training shows them.
    """
    if images:
        raise UserError("argument --images: YOLO's labels lie beside their pictures or under labels/, leave it out")
    root = label_root(source)
    files = files_below(root)
    label_files = {path: label_file_of(path) for path in files if is_picture(path.name)}
    if not any(path.is_file() for path in label_files.values()):
        raise UserError(f"{source} has no text file NAME.txt beside a picture or under labels/: give the folder that "
                        "holds pictures and labels")
    pictures = []
    for path, label_file in tqdm(label_files.items(), desc=str(source), unit="picture"):
        name = path.relative_to(root).as_posix()
        picture = open_labelled(path, name, name, report)
        if picture is None:
            continue
        if not label_file.is_file():
            report.add("picture without a text file (taken as one without faces)", name)
        else:
            try:
                picture.annotations = read_annotations(label_file, picture, report)
            except UserError as error:  # another encoding: better no picture than one without its faces
                report.add("picture whose text file cannot be read", str(error))
                continue
        pictures.append(picture)
    used = set(label_files.values())
    for path in files:
        if path not in used and is_yolo_file(path):
            report.add("text file without a picture", path.relative_to(root).as_posix())
    return pictures


def label_file_of(picture: Path) -> Path:
    """Beside the picture; else where the last images/ of its path is labels/."""
    beside = picture.with_suffix(".txt")
    parts = list(beside.parts)
    places = [i for i, part in enumerate(parts[:-1]) if part == "images"]
    if places and not beside.is_file():
        parts[places[-1]] = "labels"
    return Path(*parts)


def read_annotations(path: Path, picture: LabelledPicture, report: LabelReport) -> list[Annotation]:
    """The lines of one text file, in pixels of the picture."""
    found = []
    for number, line in enumerate(read_lines(path), start=1):
        place = f"{path.parent.name}/{path.name}:{number}"
        if not line.strip():
            continue
        report.face_lines += 1
        try:
            numbers = [float(word) for word in line.split()]
        except ValueError:
            report.add("line with text in it", place)
            continue
        if len(numbers) not in YOLO_NUMBERS:
            report.add("line of not 5, 15 or 20 numbers", place)
        elif not all(0 <= value <= MOST for value in numbers[1:5]):
            report.add("box that is not in shares of the picture (0 to 1)", place)
        else:
            box = in_pixels(numbers[1:5], picture)
            found.append(Annotation(f"{numbers[0]:g}", box + landmarks_of(numbers[5:], picture), place))
    return found


def in_pixels(shares: list[float], picture: LabelledPicture) -> list[float]:
    """Centre and size in shares of the picture -> x y w h in pixels."""
    x, y, width, height = shares
    return [(x - width / 2) * picture.width, (y - height / 2) * picture.height,
            width * picture.width, height * picture.height]


def landmarks_of(shares: list[float], picture: LabelledPicture) -> list[float]:
    """Five times x y, or x y visibility, in shares of the picture -> x y flag in pixels."""
    if not shares:
        return NO_LANDMARKS
    step = len(shares) // 5
    points: list[float] = []
    for x, y, *visibility in (shares[i : i + step] for i in range(0, len(shares), step)):
        is_known = visibility[0] > 0 if visibility else x >= 0 and y >= 0
        points += [x * picture.width, y * picture.height, 0.0] if is_known else [-1.0, -1.0, -1.0]
    return points
