"""A network over a folder in WIDER FACE's validation layout: its detections, as the evaluator takes them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn

from utils.detector import Detections, DetectionSettings, detect_files
from utils.files import atomic_path
from utils.log import UserError
from widerface_evaluate.evaluation import evaluate
from widerface_evaluate.wider_files import GroundTruth, InputError, load_ground_truth

#: What a validation folder holds.
VALIDATION_LAYOUT = "images/EVENT/NAME.jpg, wider_val.txt with a line /EVENT/NAME.jpg each, ground_truth/*.mat"


def list_pictures(folder: str | Path) -> list[str]:
    """The EVENT/NAME.jpg lines of wider_val.txt; UserError where it is missing or empty."""
    path = Path(folder) / "wider_val.txt"
    if not path.is_file():
        raise UserError(f"no {path}: a validation folder holds {VALIDATION_LAYOUT}")
    names = [line.strip().lstrip("/") for line in path.read_text(encoding="utf-8-sig").splitlines()]
    names = [name for name in names if name]
    if not names:
        raise UserError(f"{path} names no picture: it must have one line /EVENT/NAME.jpg for each")
    stray = [name for name in names if "/" not in name]
    if stray:
        raise UserError(f"{path} has the line '{stray[0]}': write it as /EVENT/NAME.jpg")
    return names


def predict(
    network: nn.Module,
    folder: str | Path,
    protocol: str,
    settings: DetectionSettings,
    device: torch.device,
    workers: int = 0,
    on_picture: Callable[[], None] = lambda: None,
) -> tuple[dict[tuple[str, str], np.ndarray], list[str]]:
    """Detections of every picture of a validation folder, and the names of the pictures that cannot be read.

    Returns {(event, name without suffix): float [n, 5] rows x, y, width, height, score}, best first. A picture
    that cannot be read has no detections. on_picture is called once a picture, for progress.
    """
    names = list_pictures(folder)
    paths = [Path(folder) / "images" / name for name in names]
    predictions, unreadable = {}, []
    for index, detections in detect_files(network, paths, protocol, settings, device, workers):
        event, name = names[index].rsplit("/", 1)
        if detections is None:
            unreadable.append(names[index])
        predictions[event, Path(name).stem] = rows_of(detections)
        on_picture()
    return predictions, unreadable


def rows_of(detections: Detections | None) -> np.ndarray:
    """Detections as float64 [n, 5] rows x, y, width, height, score."""
    if detections is None:
        return np.zeros((0, 5))
    boxes = detections.boxes.astype(np.float64)
    return np.column_stack([boxes[:, :2], boxes[:, 2:] - boxes[:, :2], detections.scores])


def write_predictions(predictions: dict[tuple[str, str], np.ndarray], folder: str | Path) -> None:
    """FOLDER/EVENT/NAME.txt for every picture: its name, the number of faces, then a line x y width height score."""
    for (event, name), rows in predictions.items():
        lines = [name, str(len(rows)), *(f"{x:.2f} {y:.2f} {w:.2f} {h:.2f} {score:.6f}" for x, y, w, h, score in rows)]
        with atomic_path(Path(folder) / event / f"{name}.txt") as temporary:
            temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")


def measure_ap(
    network: nn.Module,
    folder: str | Path,
    protocol: str,
    device: torch.device,
    workers: int,
) -> dict[str, float]:
    """AP of a network on a validation folder with ground truth: ap_easy, ap_medium, ap_hard and ap_mean, in 0..1.

    A subset without faces has no AP, NaN, and does not count in the mean.
    """
    ground_truth = read_ground_truth(Path(folder) / "ground_truth")
    predictions, _ = predict(network, folder, protocol, DetectionSettings(), device, workers)
    precision = average_precision(predictions, ground_truth)
    return {f"ap_{subset}": value for subset, value in precision.items()} | {
        "ap_mean": float(np.nanmean(list(precision.values())))
    }


def average_precision(predictions: dict[tuple[str, str], np.ndarray], ground_truth: GroundTruth) -> dict[str, float]:
    """AP on easy, medium and hard; UserError where the predictions are not of the pictures of the ground truth."""
    try:
        return evaluate(predictions, ground_truth)
    except InputError as error:
        raise UserError(str(error)) from None


def read_ground_truth(folder: str | Path) -> GroundTruth:
    """The four .mat files of a validation set; UserError where one is missing or damaged."""
    try:
        return load_ground_truth(folder)
    except InputError as error:
        raise UserError(str(error)) from None
