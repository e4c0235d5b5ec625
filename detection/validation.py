"""A network over a folder in WIDER FACE's validation layout: its detections, as the evaluator takes them."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import Tensor, nn

from data.ground_truth import heights_of, is_outdated, write_ground_truth_from
from data.label_checks import check_frames, check_label_sets
from data.widerface import Record, list_pictures, missing_pictures, picture_list, read_labels
from detection.face_detector import Candidates, FaceDetector
from detection.inference import detect_files
from detection.suppression import Detections, DetectionSettings
from utils.errors import UserError
from utils.files import UnwritableError, atomic_folder
from widerface_evaluate.average_precision import evaluate
from widerface_evaluate.evaluation import group_tables
from widerface_evaluate.wider_files import GroundTruth, InputError, extent, load_ground_truth, read_predictions


@dataclass
class ValidationSet:
    """The pictures of a folder that its list names, on the disk and in the ground truth, where there is one."""

    folder: Path
    names: list[str]  #: EVENT/NAME.jpg
    truth: GroundTruth | None  #: of these pictures alone
    extent: str  #: what an AP stands on: "513 of 3,226 pictures, 8 events"
    remarks: list[str] = field(default_factory=list)  #: what was left out, and what the truth was made of, a line each
    heights: dict[str, str] = field(default_factory=dict)  #: as heights_of, of the truth

    @property
    def subsets(self) -> str:
        """What easy, medium and hard are, as a table tells it."""
        return f"by height: {', '.join(self.heights.values())} px" if self.heights else "of the ground truth"

    @property
    def paths(self) -> list[Path]:
        """Where the pictures lie, in the order of the names."""
        return [self.folder / "images" / name for name in self.names]


def open_validation_set(folder: str | Path, needs_truth: bool = True) -> ValidationSet:
    """Compare list, disk and ground truth; UserError where nothing is common to them, or a needed part is missing.

    Pictures that the list does not name are no part of the set: a list of a few events makes a smaller evaluation.
    """
    folder = Path(folder)
    names, remarks = list_pictures(folder), []

    def leave_out(absent: set[str], where: str) -> None:
        nonlocal names
        if len(absent) == len(names):
            raise UserError(f"none of the {len(names):,} pictures of {picture_list(folder)} is {where}, "
                            f"not even {names[0]}")
        if absent:
            first = next(name for name in names if name in absent)
            remarks.append(f"{len(absent):,} of {len(names):,} pictures of {picture_list(folder)} are not {where} "
                           f"and left out, such as {first}")
        names = [name for name in names if name not in absent]

    leave_out(missing_pictures(names, folder / "images"), f"in {folder / 'images'}")
    truth, heights = find_truth(folder, needs_truth, remarks)
    total = len(names)
    if truth:
        total = len(truth.pictures)
        known = set(truth.pictures)
        leave_out({name for name in names if _key(name) not in known}, f"in {folder / 'ground_truth'}")
        listed = {_key(name) for name in names}
        truth = truth.part(np.array([picture in listed for picture in truth.pictures]))
        remarks += check_frames(folder, labelled_pictures(folder, names, truth))
    told = extent(truth, total) if truth else f"{len(names):,} pictures"
    return ValidationSet(folder, names, truth, told, remarks, heights)


def find_truth(folder: Path, is_needed: bool, remarks: list[str]) -> tuple[GroundTruth | None, dict[str, str]]:
    """The ground truth of a validation folder, and heights_of it; None where there is none, UserError if it is needed.

    Where ground_truth/ is missing it is made from label.txt, by the heights of the faces, and again where the labels
    have changed since. It appears whole; where it cannot be written it serves this process alone. Every time a remark
    tells the heights: they are no subsets of WIDER FACE.
    """
    target, labels = folder / "ground_truth", folder / "label.txt"

    def read(place: Path) -> tuple[GroundTruth, dict[str, str]]:
        return read_ground_truth(place), heights_of(place)

    is_old = is_outdated(target, labels)
    if not is_old and (os.path.lexists(target) or not labels.is_file()):
        if not is_needed and not target.is_dir():
            return None, {}
        (truth, heights), how = read(target), "was made"
    else:
        records, report = read_labels(labels)
        if not report.face_lines and not is_needed:
            return None, {}
        check_label_sets({labels: report})
        remarks += [f"{labels}: {line.strip()}" for line in str(report).splitlines()[1:]]
        try:
            with atomic_folder(target) as made:
                write_ground_truth_from(labels, made, records)
                truth, heights = read(made)
            how = "was made again" if is_old else "was made"
        except UnwritableError as error:
            with TemporaryDirectory() as made:
                write_ground_truth_from(labels, Path(made), records)
                truth, heights = read(Path(made))
            how = f"cannot be written ({os.strerror(error.errno or 0)}): made for this run alone"
    if heights:
        limits = ", ".join(f"{subset} from {height}" for subset, height in heights.items())
        remarks.append(f"{target} {how} from {labels} ({limits} pixels of height on)")
    return truth, heights


def labelled_pictures(folder: Path, names: list[str], truth: GroundTruth) -> list[Record]:
    """The pictures of a ground truth with its boxes, without landmarks; empty and invalid boxes are ignored ones."""
    paths = {_key(name): str(folder / "images" / name) for name in names}
    boxes = np.concatenate([truth.boxes[:, :2], truth.boxes[:, :2] + truth.boxes[:, 2:]], axis=1)
    ignored = (truth.boxes[:, 2:] <= 0).any(axis=1) | (truth.labels.get("invalid", 0) != 0)
    ends = np.searchsorted(truth.picture, np.arange(1, len(truth.pictures)))
    parts = (np.split(values, ends) for values in (
        boxes, np.zeros((len(boxes), 5, 2), np.float32), np.zeros(len(boxes), bool), ignored))
    return [Record(paths[picture], *values) for picture, *values in zip(truth.pictures, *parts)]


def _key(name: str) -> tuple[str, str]:
    """EVENT/NAME.jpg -> (event, name without suffix), as the evaluator has it."""
    event, _, file = name.rpartition("/")
    return event, Path(file).stem


def predict(
    detector: Callable[[Tensor], Candidates], pictures: ValidationSet, protocol: str, device: torch.device, workers: int
) -> dict[tuple[str, str], np.ndarray]:
    """Detections of every picture of a set: {(event, name without suffix): rows_of its detections}.

    A picture that cannot be read has no detections.
    """
    found = detect_files(detector, pictures.paths, protocol, DetectionSettings(), device, workers)
    return {_key(pictures.names[index]): rows_of(detections) for index, detections in found}


def rows_of(detections: Detections | None) -> np.ndarray:
    """Detections, None for a picture that cannot be read, as float64 [n, 5] rows x, y, width, height, score."""
    if detections is None:
        return np.zeros((0, 5))
    boxes = detections.boxes.astype(np.float64)
    return np.column_stack([boxes[:, :2], boxes[:, 2:] - boxes[:, :2], detections.scores])


def measure_ap(
    network: nn.Module, pictures: ValidationSet, protocol: str, device: torch.device, workers: int
) -> dict[str, float]:
    """AP of a network on a set with ground truth: ap_easy, ap_medium, ap_hard and ap_mean, in 0..1.

    A subset without faces has no AP, NaN, and does not count in the mean.
    """
    predictions = predict(FaceDetector(network).to(device), pictures, protocol, device, workers)
    with mistakes_told():
        precision = evaluate(predictions, pictures.truth)
    return {f"ap_{subset}": value for subset, value in precision.items()} | {
        "ap_mean": float(np.nanmean(list(precision.values())))
    }


def precision_of_folder(folder: Path, ground_truth: GroundTruth) -> dict[str, float]:
    """AP on easy, medium and hard of the detections in a folder; UserError where they do not fit the ground truth."""
    with mistakes_told():
        return evaluate(read_predictions(folder, ground_truth), ground_truth)


def groups_of_folder(folder: Path, by: str, pictures: ValidationSet) -> str:
    """The tables of evaluation.py --by of the detections in a folder."""
    with mistakes_told():
        return group_tables(folder, by, pictures.truth)


def read_ground_truth(folder: str | Path) -> GroundTruth:
    """The four .mat files of a validation set; UserError where one is missing or damaged."""
    with mistakes_told():
        return load_ground_truth(folder)


@contextmanager
def mistakes_told() -> Iterator[None]:
    """Turns what the evaluator says of its input into the one line and exit code of our scripts."""
    try:
        yield
    except InputError as error:
        raise UserError(str(error)) from None
