"""What the readers of all formats give: pictures with the regions labelled in them, and how a picture is found."""

import os
import re
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from data.formats.recognise import is_picture
from data.picture_files import AS_STORED, SIDEWAYS, orientation_of, picture_size_of
from data.widerface import LANDMARK_NUMBERS, LabelReport
from utils.errors import UserError
from utils.files import paths_below

#: Folders of label files that stand beside the folder of the pictures.
LABEL_FOLDERS = {"annotation", "annotations", "labels", "wider_face_split", "xml", "xmls"}

NO_LANDMARKS = [-1.0] * 15


@dataclass
class Annotation:
    """One region of a picture as a label file has it."""

    kind: str  #: its class: a name, of YOLO a number
    numbers: list[float]  #: x y w h in pixels, then five landmarks x y flag (-1: unknown), as in a line of label.txt
    place: str  #: file and line
    ignored: bool = False  #: neither face nor background

    def __post_init__(self):
        assert len(self.numbers) == LANDMARK_NUMBERS


@dataclass
class LabelledPicture:
    """A picture of a set of any format."""

    path: Path
    name: str  #: in its set, folders divided by /
    height: int  #: of the picture that the labels refer to
    width: int
    turn: bool  #: the labels refer to the picture as EXIF turns it, not as it is stored
    annotations: list[Annotation] = field(default_factory=list)


def open_labelled(
    path: Path, name: str, place: str, report: LabelReport, declared: tuple[int, int] | None = None,
    as_stored: bool = False,
) -> LabelledPicture | None:
    """A picture without annotations; None, and a word in the report, where it cannot be read or has another size.

    declared: height and width in the label file, where it has them. They tell whether labels refer to the picture as
    EXIF turns it, as programs for labelling show it, or as it is stored; without them it is the first.
    """
    stored = picture_size_of(path)
    if stored is None:
        report.add("picture that cannot be read", f"{place}: {path}")
        return None
    orientation = orientation_of(path)
    upright = stored[::-1] if orientation in SIDEWAYS else stored
    turn = orientation != AS_STORED and not as_stored and declared in (None, upright)
    height, width = upright if turn else stored
    if declared not in (None, (height, width)):
        report.add("picture of another size than its labels say", f"{place}: {path}")
        return None
    return LabelledPicture(path, name, height, width, turn)


class PictureIndex:
    """All pictures below a folder, found by the names that label files give them."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._by_name: dict[str, list[Path]] = defaultdict(list)
        self._by_stem: dict[str, list[Path]] = defaultdict(list)
        for path in files_below(folder):
            if is_picture(path.name):
                self._by_name[path.name].append(path)
                self._by_stem[path.stem].append(path)

    def __bool__(self) -> bool:
        return bool(self._by_name)

    def find(self, name: str, place: str, report: LabelReport) -> Path | None:
        """The one picture whose path ends with `name`; None, and a word in the report, where there is none or more.

        A name with a place on another machine (/home/..., C:\\..., ../...) is found by what follows the last slash.
        """
        parts = [part for part in re.split(r"[/\\]", name) if part not in ("", ".")]
        if name.startswith(("/", "\\")) or ".." in parts or re.match("[A-Za-z]:", name):
            parts = parts[-1:]
        named = self._by_name.get(parts[-1], []) if parts else []
        return self._only([path for path in named if list(path.parts[-len(parts):]) == parts], name, place, report)

    def find_beside(self, label: Path, name: str, report: LabelReport) -> Path | None:
        """The picture of a label file: called `name` or like the label file, in its folder before any other."""
        candidates = self._by_name.get(re.split(r"[/\\]", name)[-1]) or self._by_stem.get(label.stem, [])
        near = [path for path in candidates if path.parent == label.parent]
        return self._only(near or candidates, name or label.stem, label.name, report)

    def _only(self, found: list[Path], name: str, place: str, report: LabelReport) -> Path | None:
        if len(found) != 1:
            report.add("picture of which there are several" if found else "missing picture", f"{place}: {name[:200]}")
            return None
        return found[0]


def label_root(source: Path) -> Path:
    """The folder that holds labels and pictures, by the file or folder of the labels."""
    folder = Path(os.path.abspath(source if source.is_dir() else source.parent))
    return folder.parent if folder.name.lower() in LABEL_FOLDERS else folder


def index_pictures(source: Path, images: Path | None) -> PictureIndex:
    """The pictures below `images`, else where those of a file or folder of labels are usually; UserError for none."""
    index = PictureIndex(images or label_root(source))
    if not index:
        raise UserError(f"no pictures below {index.folder}: say with --images where those of {source} are")
    return index


def files_below(folder: Path) -> list[Path]:
    """All files of paths_below in the order of their names; pipes and devices are none."""
    return sorted(path for path in paths_below(folder) if path.is_file())
