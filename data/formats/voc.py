"""Pascal VOC: an XML file a picture, with its file name, its size and an <object> a region.

Format: the development kit of http://host.robots.ox.ac.uk/pascal/VOC/. xmin ymin xmax ymax are taken as the corners of
the box, as programs for labelling write them; the challenge itself counted pixels from 1.
"""

from pathlib import Path
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from tqdm import tqdm

from data.formats.annotations import (
    NO_LANDMARKS,
    Annotation,
    LabelledPicture,
    PictureIndex,
    files_below,
    index_pictures,
    open_labelled,
)
from data.widerface import LabelReport

CORNERS = ("xmin", "ymin", "xmax", "ymax")


def read_voc(source: Path, images: Path | None, report: LabelReport) -> list[LabelledPicture]:
    """The picture of each XML file below a folder. What is marked difficult is neither face nor background."""
    index = index_pictures(source, images)
    pictures = []
    for path in tqdm([path for path in files_below(source) if path.suffix.lower() == ".xml"], desc=str(source),
                     unit="picture"):
        if picture := read_file(path, index, report):
            picture.name = path.relative_to(source).with_name(picture.path.name).as_posix()
            pictures.append(picture)
    return pictures


def read_file(path: Path, index: PictureIndex, report: LabelReport) -> LabelledPicture | None:
    """The picture of one XML file, with its objects; None, and a word in the report, where there is none."""
    try:
        root, lines = parse(path.read_bytes())
    except expat.ExpatError as error:
        report.add("file that is no XML", f"{path.name}:{error.lineno}")
        return None
    picture_path = index.find_beside(path, text_of(root, "filename"), report)
    if picture_path is None:
        return None
    size = [number_of(root, f"size/{side}") for side in ("height", "width")]
    declared = (int(size[0]), int(size[1])) if all(side and 0 < side < 1e9 for side in size) else None
    picture = open_labelled(picture_path, picture_path.name, path.name, report, declared)
    for element in root.iter("object") if picture else ():
        place = f"{path.name}:{lines[element]}"
        report.face_lines += 1
        corners = [number_of(element, f"bndbox/{name}") for name in CORNERS]
        if None in corners:
            report.add("object without xmin, ymin, xmax and ymax", place)
            continue
        left, top, right, bottom = corners
        numbers = [left, top, right - left, bottom - top, *NO_LANDMARKS]
        is_ignored = text_of(element, "difficult") == "1"
        picture.annotations.append(Annotation(text_of(element, "name"), numbers, place, is_ignored))
    return picture


def parse(data: bytes) -> tuple[Element, dict[Element, int]]:
    """The root of an XML text and the line of each element in it; ExpatError where it is no XML."""
    builder, lines = TreeBuilder(), {}
    parser = expat.ParserCreate()

    def start(tag: str, attributes: dict[str, str]) -> None:
        lines[builder.start(tag, attributes)] = parser.CurrentLineNumber

    parser.StartElementHandler = start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    parser.Parse(data, True)
    return builder.close(), lines


def text_of(element: Element, path: str) -> str:
    return (element.findtext(path) or "").strip()


def number_of(element: Element, path: str) -> float | None:
    """The number at a path of elements; None where there is none."""
    try:
        return float(text_of(element, path))
    except ValueError:
        return None
