"""WIDER FACE's official wider_face_train_bbx_gt.txt and wider_face_val_bbx_gt.txt.

Format: readme.txt in wider_face_split.zip of http://shuoyang1213.me/WIDERFACE/.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from data.formats.annotations import (
    NO_LANDMARKS,
    Annotation,
    LabelledPicture,
    PictureIndex,
    index_pictures,
    open_labelled,
)
from data.widerface import LabelReport
from utils.errors import UserError
from utils.text_files import read_lines


class OfficialFace(NamedTuple):
    """A row x y w h blur expression illumination invalid occlusion pose."""

    box: tuple[int, int, int, int]  #: x y w h, pixels
    is_invalid: bool
    line: int


def parse_official_boxes(lines: list[str], source: object) -> Iterator[tuple[str, list[OfficialFace]]]:
    """Each picture's name and its rows, those of boxes without area too; UserError, with the line, for a bad entry.

    An entry is a path line, a count line and the rows. A count of 0 is followed by one row of zeros.
    """
    numbered = enumerate(lines, start=1)
    for line_number, name in numbered:
        if not name.strip() and not any(line.strip() for line in lines[line_number:]):
            return  # blank lines at the end
        try:
            if not name.strip().endswith(".jpg"):
                raise ValueError
            count = int(next(numbered)[1])
            faces = []
            for _ in range(max(count, 1)):
                row_number, row = next(numbered)
                numbers = [int(word) for word in row.split()]
                faces.append(OfficialFace(tuple(numbers[:4]), bool(numbers[7]), row_number))
        except (ValueError, IndexError, StopIteration):
            raise UserError(f"{source}, line {line_number}: malformed entry; is it the official file?") from None
        yield name.strip(), faces if count else []


def read_wider_text(source: Path, images: Path | None, report: LabelReport) -> list[LabelledPicture]:
    """All pictures that the file names, as stored. What is marked invalid is neither face nor background."""
    index: PictureIndex = index_pictures(source, images)
    pictures = []
    for name, faces in tqdm(list(parse_official_boxes(read_lines(source), source)), desc=str(source), unit="picture"):
        report.face_lines += len(faces)
        path = index.find(name, source.name, report)
        picture = path and open_labelled(path, name, source.name, report, as_stored=True)
        if picture:
            picture.annotations = [
                Annotation("face", [*map(float, face.box), *NO_LANDMARKS], f"{source.name}:{face.line}",
                           face.is_invalid) for face in faces]
            pictures.append(picture)
    return pictures
