"""WIDER FACE's layout, which all sets are trained and measured in: label.txt -> records, lists of pictures.

The folder: label.txt, the pictures under images/EVENT/NAME.jpg beside it, and optionally ignore.txt.
"""

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from data.formats.recognise import format_of
from utils.errors import UserError
from utils.files import as_line
from utils.text_files import inner_name, read_lines

#: Numbers a face line may hold: the box, the box with five landmarks of three numbers, and that with a score.
BOX_NUMBERS, LANDMARK_NUMBERS, SCORED_NUMBERS = 4, 19, 20

#: What turns labels of other formats into this layout.
CONVERTER = "python -m data.convert"

LAYOUT = "expected label.txt and beside it images/EVENT/NAME.jpg"


@dataclass
class Record:
    """One picture of the set and its labels, in pixels of the stored picture."""

    path: str
    boxes: np.ndarray  #: float32 [n, 4], xyxy
    landmarks: np.ndarray  #: float32 [n, 5, 2], (x, y); zeros where there are none
    has_landmarks: np.ndarray  #: bool [n]
    ignored: np.ndarray  #: bool [n], regions that are neither face nor background


@dataclass
class LabelReport:
    """What was read, and everything that was not, with the first places of each kind."""

    pictures: int = 0
    faces: int = 0
    faces_with_landmarks: int = 0
    ignored_regions: int = 0
    pictures_without_faces: int = 0
    face_lines: int = 0  #: lines that should be a face, usable or not
    largest: float = 0.0  #: of all x, y, width and height of faces, in absolute value
    problems: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)

    EXAMPLES_PER_KIND = 3

    def add(self, problem: str, place: str) -> None:
        """Count a problem and remember where it was."""
        self.problems[problem] += 1
        examples = self.examples.setdefault(problem, [])
        if len(examples) < self.EXAMPLES_PER_KIND:
            examples.append(as_line(place))

    def count(self, records: list[Record]) -> None:
        """Take in what can be trained on."""
        for record in records:
            self.pictures += 1
            self.faces += int((~record.ignored).sum())
            self.faces_with_landmarks += int(record.has_landmarks.sum())
            self.ignored_regions += int(record.ignored.sum())
            self.pictures_without_faces += bool(record.ignored.all())
            faces = record.boxes[~record.ignored]
            numbers = np.concatenate([faces[:, :2], faces[:, 2:] - faces[:, :2]])
            self.largest = max(self.largest, float(np.abs(numbers).max(initial=0)))

    def __str__(self) -> str:
        lines = [
            f"{self.pictures} pictures ({self.pictures_without_faces} without faces), {self.faces} faces "
            f"({self.faces_with_landmarks} with landmarks), {self.ignored_regions} ignored regions"
        ]
        for problem, count in self.problems.items():
            more = ", ..." if count > self.EXAMPLES_PER_KIND else ""
            lines.append(f"  {count} x {problem}: {', '.join(self.examples[problem])}{more}")
        return "\n".join(lines)


def read_labels(label_path: str | Path) -> tuple[list[Record], LabelReport]:
    """Read label.txt in RetinaFace's format and, where it exists, ignore.txt beside it (same layout, boxes only).

    A picture is a line `# EVENT/NAME.jpg`; its faces follow, one a line: x y w h, or x y w h and five landmarks
    x y flag (-1: unknown), or these and a last number, which is not used. A picture without faces is kept: it is all
    background. Whatever cannot be used is left out and told in the report. Raises UserError where no picture is left,
    where a file is in an encoding that cannot be read, and for a name that leaves images/.
    """
    label_path = Path(label_path)
    images = label_path.parent / "images"
    report = LabelReport()
    labels = _read_file(label_path, report)
    if not labels.names:
        raise UserError(f"{label_path} {what_it_is(label_path)}; {LAYOUT}")
    report.face_lines = len(labels.owners) + labels.unusable
    missing = missing_pictures(labels.names, images)
    if len(missing) == len(labels.names):
        first = images / next(iter(labels.names))
        raise UserError(f"none of the {len(missing)} pictures of {label_path} is there, not even {first}; {LAYOUT}")
    for name, line in labels.names.items():
        if name in missing:
            report.add("missing picture", f"{label_path.name}:{line}: {name}")

    ignore_path = label_path.with_name("ignore.txt")
    regions = _read_file(ignore_path, report) if os.path.lexists(ignore_path) else _LabelFile()
    for name, line in regions.names.items():
        if name not in labels.names:
            report.add("picture not in label.txt", f"{ignore_path.name}:{line}: {name}")

    records = _group_by_picture([name for name in labels.names if name not in missing], images, labels, regions)
    report.count(records)
    return records, report


@dataclass
class _LabelFile:
    """The usable lines of one label file, F faces."""

    names: dict[str, int] = field(default_factory=dict)  #: picture -> the line that first names it, in file order
    unusable: int = 0  #: lines that should be a face
    owners: list[str] = field(default_factory=list)  #: the picture of each face
    boxes: np.ndarray = field(default_factory=lambda: np.empty((0, 4), np.float32))
    landmarks: np.ndarray = field(default_factory=lambda: np.empty((0, 5, 2), np.float32))
    has_landmarks: np.ndarray = field(default_factory=lambda: np.empty(0, bool))


def _read_file(path: Path, report: LabelReport) -> _LabelFile:
    """Parse one label file; what is no usable face goes to the report."""
    names: dict[str, int] = {}
    owners, places, numbers = [], [], []
    picture, face_lines = "", 0
    for line_number, line in enumerate(read_lines(path, LAYOUT), start=1):
        line = line.strip()
        place = f"{path.name}:{line_number}"
        if line.startswith("#"):
            picture = line[1:].strip()
            if not picture:
                report.add("picture line without a name", place)
            elif names.setdefault(inner_name(picture, f"{path}:{line_number}"), line_number) != line_number:
                report.add("picture listed again (its faces are joined)", f"{place}: {picture}")
            continue
        face_lines += bool(line)
        if line and not picture:
            report.add("face line without a picture", place)
        elif line and (face := _parse_face(line, place, report)):
            owners.append(picture)
            places.append(place)
            numbers.append(face)

    table = np.array(numbers, dtype=np.float64).reshape(-1, LANDMARK_NUMBERS)
    boxes, usable = check_boxes(table[:, :BOX_NUMBERS], places, report)
    landmarks, has_landmarks = check_landmarks(table[:, BOX_NUMBERS:].reshape(-1, 5, 3), usable, places, report)
    owners = [owner for owner, keep in zip(owners, usable) if keep]
    return _LabelFile(names, face_lines - len(owners), owners, boxes[usable], landmarks[usable], has_landmarks[usable])


def _parse_face(line: str, place: str, report: LabelReport) -> list[float]:
    """Box and landmarks of a face line (landmarks -1 where it has none), or nothing where it is malformed."""
    try:
        numbers = [float(word) for word in line.split()]
    except ValueError:
        report.add("face line with text in it", place)
        return []
    if len(numbers) == BOX_NUMBERS:
        return numbers + [-1.0] * (LANDMARK_NUMBERS - BOX_NUMBERS)
    if len(numbers) not in (LANDMARK_NUMBERS, SCORED_NUMBERS):
        report.add("face line of not 4, 19 or 20 numbers", place)
        return []
    return numbers[:LANDMARK_NUMBERS]


def check_boxes(xywh: np.ndarray, places: list[str], report: LabelReport) -> tuple[np.ndarray, np.ndarray]:
    """[F, 4] x y w h -> xyxy in float32, and bool [F]: which are boxes."""
    with np.errstate(over="ignore", invalid="ignore"):  # what float32 cannot hold becomes infinite and is told as such
        boxes = np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1).astype(np.float32)
    finite = np.isfinite(boxes).all(axis=1)
    has_area = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
    for i in np.flatnonzero(~finite):
        report.add("box with NaN or infinity", places[i])
    for i in np.flatnonzero(finite & ~has_area):
        report.add("box of zero or negative size", places[i])
    return boxes, finite & has_area


def check_landmarks(
    points: np.ndarray, usable: np.ndarray, places: list[str], report: LabelReport
) -> tuple[np.ndarray, np.ndarray]:
    """[F, 5, 3] x y flag -> float32 [F, 5, 2], zeros where not all five are known, and bool [F]: where they are."""
    with np.errstate(over="ignore"):
        landmarks = points[..., :2].astype(np.float32)
    finite = np.isfinite(landmarks).all(axis=(1, 2))
    known = (points != -1).all(axis=2)
    has_landmarks = finite & known.all(axis=1)
    for i in np.flatnonzero(usable & ~has_landmarks & (~finite | known.any(axis=1))):
        report.add("face with incomplete landmarks (taken as a face without)", places[i])
    landmarks[~has_landmarks] = 0
    return landmarks, has_landmarks


def what_it_is(label_path: Path) -> str:
    """What to tell of a file that is no label.txt: the format it is in and what turns it into one, if that is known."""
    if found := format_of(read_lines(label_path)):
        return f"holds labels in the format {found}: {CONVERTER} writes them as label.txt (docs/own_pictures.md)"
    return "names no picture: a picture is a line '# EVENT/NAME.jpg'"


def missing_pictures(names: Iterable[str], images: Path) -> set[str]:
    """The pictures that are not there. Folders are listed once: thousands of queries are slow on network disks."""
    listings: dict[str, set[str]] = {}
    missing = set()
    for name in names:
        folder, _, file = name.rpartition("/")
        if folder not in listings:
            try:
                listings[folder] = set(os.listdir(images / folder))
            except (OSError, ValueError):  # no such folder, or no possible name of one
                listings[folder] = set()
        if file not in listings[folder]:
            missing.add(name)
    return missing


def _group_by_picture(names: list[str], images: Path, labels: _LabelFile, regions: _LabelFile) -> list[Record]:
    """One record a name, with its faces and ignored regions in the order of the files."""
    position = {name: i for i, name in enumerate(names)}
    owner = np.array([position.get(name, -1) for name in labels.owners + regions.owners], dtype=np.int64)
    order = np.argsort(owner, kind="stable")
    starts = np.searchsorted(owner[order], np.arange(len(names) + 1))

    boxes = np.concatenate([labels.boxes, regions.boxes])[order]
    landmarks = np.concatenate([labels.landmarks, np.zeros_like(regions.landmarks)])[order]
    has_landmarks = np.concatenate([labels.has_landmarks, np.zeros_like(regions.has_landmarks)])[order]
    ignored = (np.arange(len(order)) >= len(labels.owners))[order]
    records = []
    for name, start, end in zip(names, starts[:-1], starts[1:]):
        rows = slice(start, end)
        path = str(images / name)
        records.append(Record(path, boxes[rows], landmarks[rows], has_landmarks[rows], ignored[rows]))
    return records


#: What a validation folder holds.
VALIDATION_LAYOUT = ("images/EVENT/NAME.jpg, wider_val.txt with a line /EVENT/NAME.jpg each, ground_truth/*.mat; or "
                     "images/ and label.txt")


def picture_list(folder: str | Path) -> Path:
    """The file that names the pictures of a validation folder: wider_val.txt, or label.txt where that is missing."""
    path, labels = Path(folder) / "wider_val.txt", Path(folder) / "label.txt"
    return labels if labels.is_file() and not path.exists() else path


def list_pictures(folder: str | Path) -> list[str]:
    """EVENT/NAME.jpg of each picture that the list of a validation folder names; UserError for none, or another name.

    The list is that of picture_list.
    """
    path = picture_list(folder)
    lines = read_lines(path, f"a validation folder holds {VALIDATION_LAYOUT}")
    is_label_file = path.name == "label.txt"
    names = []
    for number, line in enumerate(lines, start=1):
        line = line.strip()
        if is_label_file:
            line = line[1:].strip() if line.startswith("#") else ""
        if name := line.lstrip("/"):
            names.append(inner_name(name, f"{path}:{number}"))
            if name.count("/") != 1:  # the ground truth of AP, and detections as files, know one folder
                raise UserError(f"{path}:{number} is '{name[:200]}': write it as /EVENT/NAME.jpg, a folder and a name")
    if not names:
        raise UserError(f"{path} names no picture: it must have one line /EVENT/NAME.jpg for each")
    return list(dict.fromkeys(names))


def list_test_pictures(folder: str | Path) -> list[str]:
    """EVENT/NAME.jpg of every picture under images/ of the test set, which has no labels; UserError where none is."""
    images = Path(folder) / "images"
    names = sorted(path.relative_to(images).as_posix() for path in images.glob("*/*.jpg"))
    if not names:
        raise UserError(f"no pictures {images}/EVENT/NAME.jpg: python -m data.download --test fetches the test set")
    return names
