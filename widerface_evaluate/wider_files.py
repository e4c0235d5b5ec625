"""The files of a WIDER FACE evaluation: ground truth from .mat files, predictions from text files.

`evaluation.py` says what they hold, and which mistakes in them are an error.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.io import loadmat

SUBSETS = ("easy", "medium", "hard")
LABELS = ("blur", "occlusion", "pose", "invalid")

#: Beside predictions: by how much each picture was scaled for the detector.
SCALES = "scales.csv"

# (event, picture name) -> float [n, 5]: x y w h score, in the order of the file
Predictions = dict[tuple[str, str], np.ndarray]


class InputError(ValueError):
    """A mistake in the input, told in one line: what is wrong, where, and what to do."""


@dataclass(frozen=True)
class GroundTruth:
    """The F annotated faces of P pictures, all pictures one after the other."""

    pictures: list[tuple[str, str]]  # [P] event, picture name
    boxes: np.ndarray  # float64 [F, 4]: x y w h in pixels
    picture: np.ndarray  # int64 [F], ascending: index of the picture of each face
    subsets: dict[str, np.ndarray]  # SUBSETS -> bool [F]: the faces that count
    labels: dict[str, np.ndarray]  # LABELS -> int64 [F]; only the labels the file has

    def part(self, chosen: np.ndarray) -> "GroundTruth":
        """The pictures of bool [P], as if there were no others."""
        faces = chosen[self.picture]
        return GroundTruth(
            [picture for picture, is_chosen in zip(self.pictures, chosen) if is_chosen],
            self.boxes[faces],
            (np.cumsum(chosen) - 1)[self.picture[faces]],
            {name: values[faces] for name, values in self.subsets.items()},
            {name: values[faces] for name, values in self.labels.items()},
        )


def extent(ground_truth: GroundTruth, total: int) -> str:
    """What a number stands on, of `total` pictures: "513 of 3,226 pictures, 8 events"."""
    count, events = len(ground_truth.pictures), len({event for event, _ in ground_truth.pictures})
    share = f"{count:,} of {total:,}" if count < total else f"all {count:,}"
    return f"{share} pictures, {events} event{'s' * (events != 1)}"


def load_ground_truth(folder: str | Path) -> GroundTruth:
    """Read wider_face_val.mat and wider_{easy,medium,hard}_val.mat; InputError where one is missing or damaged."""
    folder = Path(folder)
    path = folder / "wider_face_val.mat"
    variables = load_mat(path, ("event_list", "file_list", "face_bbx_list"))
    with official_structure(path):
        pictures = picture_names(variables["event_list"], variables["file_list"])
        boxes = [numbers(cell, np.float64).reshape(-1, 4) for cell in picture_cells(variables["face_bbx_list"])]
    if not pictures or len(boxes) != len(pictures) or len(set(pictures)) != len(pictures):
        raise InputError(f"{path} has {len(set(pictures))} pictures and boxes for {len(boxes)}; copy it again")
    face_counts = np.array([len(cell) for cell in boxes])
    subsets = {subset: load_subset(folder / f"wider_{subset}_val.mat", face_counts) for subset in SUBSETS}
    with official_structure(path):
        labels = {label: np.concatenate([numbers(cell, np.int64).ravel() for cell in
                                         picture_cells(variables[f"{label}_label_list"])])
                  for label in LABELS if f"{label}_label_list" in variables}
    for label, values in labels.items():
        if len(values) != face_counts.sum():
            raise InputError(f"{path} has {len(values)} labels of {label} for {face_counts.sum()} faces; copy it again")
    return GroundTruth(pictures, np.concatenate(boxes), np.repeat(np.arange(len(boxes)), face_counts), subsets, labels)


def picture_names(event_list: np.ndarray, file_list: np.ndarray) -> list[tuple[str, str]]:
    """Event and name of each picture; ValueError for one that would leave the folders it is looked up in."""
    names = [(str(event.item()), str(name.item()))
             for event, names in zip(event_list.flat, file_list.flat, strict=True) for name in names.flat]
    for part in (part for picture in names for part in picture):
        if not is_name(part):
            raise ValueError(f"'{part[:80]}' is no name of an event or picture")
    return names


def is_name(part: str) -> bool:
    """Whether an event or picture can be called so: it stays in its folder on any system."""
    return part not in ("", ".", "..") and not any(character in part for character in "/\\:\0")


def numbers(cell: np.ndarray, kind: type) -> np.ndarray:
    """The array of a cell; ValueError where it holds text, NaN or infinite numbers."""
    if cell.dtype.kind not in "buif" or not np.isfinite(cell).all():
        raise ValueError("a cell holds something else than finite numbers")
    return cell.astype(kind)


@contextmanager
def official_structure(path: Path) -> Iterator[None]:
    """Turns what breaks on cells of another structure into one line."""
    try:
        yield
    except (ValueError, TypeError, AttributeError, IndexError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{path} has not the structure of the official file ({reason}); copy it again") from None


def read_picture_list(path: Path, ground_truth: GroundTruth) -> np.ndarray:
    """bool [P]: the pictures that a file names, a line EVENT/NAME.jpg each; InputError for none, or one not there."""
    place = {picture: index for index, picture in enumerate(ground_truth.pictures)}
    chosen = np.zeros(len(place), dtype=bool)
    for number, line in enumerate(text_lines(path), start=1):
        if line.strip():
            event, _, name = line.strip().strip("/").rpartition("/")
            if (event, Path(name).stem) not in place:
                raise InputError(f"{path}:{number}: the ground truth has no picture '{line.strip()[:200]}'; "
                                 "write EVENT/NAME.jpg, as in wider_val.txt")
            chosen[place[event, Path(name).stem]] = True
    if not chosen.any():
        raise InputError(f"{path} names no picture; write one EVENT/NAME.jpg a line, as in wider_val.txt")
    return chosen


def text_lines(path: Path) -> list[str]:
    """The lines of UTF-8 or, by its mark, UTF-16; InputError with the line where the encoding is another."""
    if not path.is_file():  # a pipe would be waited for, a device read for ever
        raise InputError(f"{path} is no file; give a text file with a picture a line")
    data = path.read_bytes()
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        # str.splitlines would break a line at signs that names can hold.
        return data.decode(encoding).replace("\r\n", "\n").replace("\r", "\n").split("\n")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise InputError(f"{path}:{line} is not UTF-8 (byte {data[error.start]:02X}); save the file as UTF-8") from None


def load_subset(path: Path, face_counts: np.ndarray) -> np.ndarray:
    """bool [F]: the faces whose index (from 1, within the picture) the file lists."""
    variables = load_mat(path, ("gt_list",))
    with official_structure(path):
        cells = [numbers(cell, np.int64).ravel() for cell in picture_cells(variables["gt_list"])]
    belongs = len(cells) == len(face_counts) and all(
        not len(cell) or 1 <= cell.min() <= cell.max() <= count for cell, count in zip(cells, face_counts))
    if not belongs:
        raise InputError(f"{path} lists pictures or faces that wider_face_val.mat beside it does not have; "
                         "take the four files from one place")
    counts = np.zeros(face_counts.sum(), dtype=bool)
    first_faces = np.cumsum(face_counts) - face_counts
    counts[np.concatenate([first + cell - 1 for first, cell in zip(first_faces, cells)])] = True
    return counts


def load_mat(path: Path, needed: tuple[str, ...]) -> dict[str, np.ndarray]:
    if not path.is_file():
        raise InputError(f"{path} is missing; the ground truth folder holds wider_face_val.mat and three subset files")
    try:
        variables = loadmat(path)
    except Exception as error:  # scipy raises errors of many types for a damaged file
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{path} cannot be read ({reason}); copy it again") from None
    absent = [name for name in needed if name not in variables]
    if absent:
        raise InputError(f"{path} has no variable {absent[0]}; is it the official file?")
    return variables


def picture_cells(variable: np.ndarray) -> list[np.ndarray]:
    """The arrays of all pictures, out of the nested cells: events, then pictures."""
    return [cell for event in variable.flat for cell in event.flat]


def read_predictions(folder: str | Path, ground_truth: GroundTruth) -> Predictions:
    """Read FOLDER/EVENT/NAME.txt for every picture of the ground truth; InputError with file and line."""
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder; it should hold a file EVENT/NAME.txt for every picture")
    events = dict.fromkeys(event for event, _ in ground_truth.pictures)
    absent = [event for event in events if not (folder / event).is_dir()]
    if absent:
        raise InputError(f"{folder / absent[0]} is missing ({len(absent)} of {len(events)} events); "
                         "is this the folder above the events, and is the run complete?")
    paths = {(event, name): folder / event / f"{name}.txt" for event, name in ground_truth.pictures}
    absent = [path for path in paths.values() if not path.is_file()]
    if absent:
        raise InputError(f"{absent[0]} is missing ({len(absent)} of {len(paths)} files); "
                         "a picture without detections needs an empty file")
    return {picture: read_detections(path) for picture, path in paths.items()}


def has_predictions(folder: str | Path, ground_truth: GroundTruth) -> np.ndarray:
    """bool [P]: the pictures of which FOLDER/EVENT/NAME.txt is there."""
    return np.array([(Path(folder) / event / f"{name}.txt").is_file() for event, name in ground_truth.pictures])


def read_scales(folder: str | Path, ground_truth: GroundTruth) -> np.ndarray:
    """float [P]: by how much pictures were scaled for the detector, from FOLDER/scales.csv; 1 where there is none.

    A line is EVENT/NAME,SCALE. InputError with file and line for any other, and for a picture without a line.
    """
    path = Path(folder) / SCALES
    if not path.exists():
        return np.ones(len(ground_truth.pictures))
    scales = {}
    for number, line in enumerate(text_lines(path), start=1):
        if not line.strip():
            continue
        name, _, scale = line.rpartition(",")
        event, _, stem = name.rpartition("/")
        try:
            scales[event, stem] = float(scale)
        except ValueError:
            raise InputError(f"{path}:{number}: should be EVENT/NAME,SCALE") from None
    absent = [picture for picture in ground_truth.pictures if not 0 < scales.get(picture, 0) < math.inf]
    if absent:
        raise InputError(f"{path} has no scale of {'/'.join(absent[0])}; remove the file or write it again")
    return np.array([scales[picture] for picture in ground_truth.pictures])


def read_detections(path: Path) -> np.ndarray:
    """float64 [n, 5]: the x y w h score of one file; a file of no bytes or blanks only has no detections."""
    # Split as bytes: text lines would also break at the rarer line ends of Unicode.
    lines = path.read_bytes().rstrip().splitlines()
    if not lines:
        return np.empty((0, 5))
    name = lines[0].decode("utf-8-sig", errors="replace").strip().replace("\\", "/").rpartition("/")[2]
    if path.stem.strip() not in (name, name.rpartition(".")[0].strip()):  # names may begin or end with blanks
        raise InputError(f"{path}, line 1: the picture is called '{name[:80]}' here, the file is not")
    if len(lines) < 2 or not lines[1].strip().isdigit():
        raise InputError(f"{path}, line 2: the number of detections should stand here")
    rows = [line.split() for line in lines[2:]]
    if lines[1].strip().lstrip(b"0") != (b"%d" % len(rows) if rows else b""):  # int() refuses thousands of digits
        raise InputError(f"{path}, line 2: says {lines[1].strip()[:20].decode()} detections, {len(rows)} follow; "
                         "was the run stopped while it wrote?")
    try:
        detections = np.array([[float(value) for value in row] for row in rows]).reshape(len(rows), 5)
    except ValueError:
        line = next(line for line, row in enumerate(rows, start=3) if not is_detection(row))
        raise InputError(f"{path}, line {line}: should be the five numbers x y w h score") from None
    check_detections(detections, lambda row: f"{path}, line {row + 3}")
    return detections


def is_detection(row: list[bytes]) -> bool:
    try:
        return len([float(value) for value in row]) == 5
    except ValueError:
        return False


def check_detections(detections: np.ndarray, place: Callable[[int], str]) -> None:
    """InputError for NaN, infinite numbers and negative sizes; `place` says where row i stands."""
    finite = np.isfinite(detections).all(axis=1)
    good = finite & (detections[:, 2:4] >= 0).all(axis=1)
    if not good.all():
        row = int(np.argmin(good))
        fault = "negative width or height" if finite[row] else "NaN or infinite number"
        raise InputError(f"{place(row)}: {fault}; correct what wrote it")


def in_order(predictions: Predictions, ground_truth: GroundTruth) -> list[np.ndarray]:
    """The detections of each picture of the ground truth, float64 [n, 5]; InputError where they do not fit."""
    unknown = predictions.keys() - set(ground_truth.pictures)
    if unknown:
        raise InputError(f"predictions for {'/'.join(min(unknown))}, a picture the ground truth does not have")
    ordered = []
    for picture in ground_truth.pictures:
        place = "/".join(picture)
        if picture not in predictions:
            raise InputError(f"no predictions for {place}; a picture without detections needs an array [0, 5]")
        detections = np.asarray(predictions[picture], dtype=np.float64)
        if detections.ndim != 2 or detections.shape[1] != 5:
            raise InputError(f"predictions for {place}: the array is {list(detections.shape)}, should be [n, 5]")
        check_detections(detections, lambda row, place=place: f"predictions for {place}, row {row}")
        ordered.append(detections)
    return ordered


def remarks(folder: str | Path, predictions: Predictions, ground_truth: GroundTruth) -> list[str]:
    """What is legal in a folder of predictions but should be known, a line each."""
    lines = []
    empty = sum(not len(detections) for detections in predictions.values())
    if empty:
        lines.append(f"{empty} of {len(predictions)} pictures have no detections")
    scores = np.concatenate([detections[:, 4] for detections in predictions.values()])
    if len(scores) and scores.min() == scores.max():
        lines.append("all scores are equal, so the curve has one point")
    known = set(ground_truth.pictures)
    unknown = sorted(path for path in Path(folder).glob("*/*.txt") if (path.parent.name, path.stem) not in known)
    if unknown:
        lines.append(f"left out {len(unknown)} files of pictures the ground truth does not have, such as {unknown[0]}")
    return lines
