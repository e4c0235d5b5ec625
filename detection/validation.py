"""A network over a folder in WIDER FACE's validation layout: its detections, as the evaluator takes them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from data.widerface import list_pictures
from detection.face_detector import Candidates, FaceDetector
from detection.inference import detect_files
from detection.suppression import Detections, DetectionSettings
from utils.errors import UserError
from widerface_evaluate.evaluation import evaluate
from widerface_evaluate.wider_files import GroundTruth, InputError, load_ground_truth, read_predictions


def predict(
    detector: Callable[[Tensor], Candidates], folder: str | Path, protocol: str, device: torch.device, workers: int
) -> dict[tuple[str, str], np.ndarray]:
    """Detections of every picture of a validation folder: {(event, name without suffix): rows_of its detections}.

    A picture that cannot be read has no detections.
    """
    names = list_pictures(folder)
    paths = [Path(folder) / "images" / name for name in names]
    predictions = {}
    for index, detections in detect_files(detector, paths, protocol, DetectionSettings(), device, workers):
        event, name = names[index].rsplit("/", 1)
        predictions[event, Path(name).stem] = rows_of(detections)
    return predictions


def rows_of(detections: Detections | None) -> np.ndarray:
    """Detections, None for a picture that cannot be read, as float64 [n, 5] rows x, y, width, height, score."""
    if detections is None:
        return np.zeros((0, 5))
    boxes = detections.boxes.astype(np.float64)
    return np.column_stack([boxes[:, :2], boxes[:, 2:] - boxes[:, :2], detections.scores])


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
    predictions = predict(FaceDetector(network).to(device), folder, protocol, device, workers)
    with mistakes_told():
        precision = evaluate(predictions, ground_truth)
    return {f"ap_{subset}": value for subset, value in precision.items()} | {
        "ap_mean": float(np.nanmean(list(precision.values())))
    }


def precision_of_folder(folder: Path, ground_truth: GroundTruth) -> dict[str, float]:
    """AP on easy, medium and hard of the detections in a folder; UserError where they do not fit the ground truth."""
    with mistakes_told():
        return evaluate(read_predictions(folder, ground_truth), ground_truth)


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
