"""Whether two detectors see the same faces."""

from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.comparison import STUDENT, TEACHER
from benchmarks.engines import CPU
from benchmarks.figures import plot_confidence
from data.picture_files import PICTURE_SUFFIXES
from data.widerface import list_pictures
from detection.face_detector import Candidates, load_detector
from detection.inference import detect_files
from detection.suppression import Detections, DetectionSettings
from utils.boxes import iou_matrix
from utils.errors import UserError
from utils.files import paths_below, write_json
from utils.tables import print_table

#: From this overlap on two boxes are the same face.
SAME_FACE_IOU = 0.5


def measure_consistency(checkpoints: dict[str, Path], paths: list[Path], options: Namespace) -> None:
    """Write and print how far teacher and student agree on the pictures, and draw the histogram of their scores.

    checkpoints: by role; options: those of benchmark.py.
    """
    found = {
        role: find_faces(load_detector(path, CPU), paths, options.protocol, options.num_workers)
        for role, path in checkpoints.items()
    }
    unreadable = [path for path, detections in zip(paths, found[TEACHER]) if detections is None]
    for path in unreadable:
        print(f"warning: cannot read {path}, it is left out")
    agreement = compare_faces(found[TEACHER], found[STUDENT], options.face_threshold)
    names = {role: str(path) for role, path in checkpoints.items()}
    folder = options.output_folder
    write_json(folder / "consistency.json", names | {"protocol": options.protocol} | agreement)
    plot_confidence(found, options.face_threshold, folder / "confidence_histogram.png")
    values = ("teacher_faces", "student_faces", "matched", "agreement", "recall_of_teacher", "score_correlation")
    print()
    print_table([{name.replace("_", " "): float("nan") if agreement[name] is None else agreement[name]
                  for name in values}])
    print(f"{agreement['pictures']} pictures, protocol {options.protocol}; a face is a detection scored at least "
          f"{options.face_threshold:g}, the same face an IoU of at least {agreement['iou']:g}")
    print(f"written: {folder / 'consistency.json'} and confidence_histogram.png")


def find_pictures(folder: Path, count: int | None = None) -> list[Path]:
    """The pictures of a folder in WIDER FACE's validation layout (wider_val.txt), or all in a folder and below it.

    Of more than `count`, as many as that, evenly spread. UserError where there is none.
    """
    if (folder / "wider_val.txt").is_file():
        paths = [folder / "images" / name for name in list_pictures(folder)]
    else:
        paths = sorted(path for path in paths_below(folder) if path.suffix.lower() in PICTURE_SUFFIXES)
    if not paths:
        raise UserError(f"no pictures in {folder}: give a folder with pictures, or with wider_val.txt and images/")
    if count is None or count >= len(paths):
        return paths
    return [paths[index * len(paths) // count] for index in range(count)]


def find_faces(
    detector: Callable[[Tensor], Candidates], paths: list[Path], protocol: str, workers: int
) -> list[Detections | None]:
    """Detections of every file in the order of `paths`, on the CPU, None for one that cannot be read."""
    found = dict(detect_files(detector, paths, protocol, DetectionSettings(), CPU, workers))
    return [found[index] for index in range(len(paths))]


def match(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One-to-one pairs of float32 boxes [N, 4] and [M, 4] xyxy: int64 [P, 2] rows, and their IoU [P].

    Of the pairs that overlap by at least SAME_FACE_IOU the best is taken first, then the best of what is left.
    """
    overlaps = iou_matrix(torch.from_numpy(first), torch.from_numpy(second)).numpy()
    rows, columns = (overlaps >= SAME_FACE_IOU).nonzero()
    pairs, free_rows, free_columns = [], set(rows), set(columns)
    for best in np.argsort(-overlaps[rows, columns], kind="stable"):
        row, column = rows[best], columns[best]
        if row in free_rows and column in free_columns:
            free_rows.remove(row)
            free_columns.remove(column)
            pairs.append((row, column))
    pairs = np.array(pairs, np.int64).reshape(-1, 2)
    return pairs, overlaps[pairs[:, 0], pairs[:, 1]]


def above(detections: Detections, threshold: float) -> Detections:
    """The faces scored at least `threshold`."""
    return Detections(*(field[detections.scores >= threshold] for field in detections))


def compare_faces(teacher: list[Detections | None], student: list[Detections | None], threshold: float) -> dict:
    """How far two detectors agree on the same pictures, in plain types; None for what is not defined.

    A face is a detection scored at least `threshold`. agreement: faces both found, of the faces any of them found.
    recall_of_teacher: of the teacher's faces, those the student found too; precision_against_teacher the other way.
    score_correlation: Pearson's, over the faces both found.
    """
    counts = {"teacher_faces": 0, "student_faces": 0}
    pictures, scores, overlaps = 0, [], []
    for pair in zip(teacher, student, strict=True):
        if None in pair:
            continue
        pictures += 1
        first, second = (above(detections, threshold) for detections in pair)
        counts["teacher_faces"] += len(first.scores)
        counts["student_faces"] += len(second.scores)
        matched, iou = match(first.boxes, second.boxes)
        scores.append(np.stack([first.scores[matched[:, 0]], second.scores[matched[:, 1]]]))
        overlaps.append(iou)
    scores = np.concatenate([np.zeros((2, 0)), *scores], axis=1)
    overlaps = np.concatenate([np.zeros(0), *overlaps])
    both = scores.shape[1]
    varies = both > 1 and (np.ptp(scores, axis=1) > 0).all()
    return {
        "pictures": pictures,
        "threshold": threshold,
        "iou": SAME_FACE_IOU,
        **counts,
        "matched": both,
        "agreement": share(both, sum(counts.values()) - both),
        "recall_of_teacher": share(both, counts["teacher_faces"]),
        "precision_against_teacher": share(both, counts["student_faces"]),
        "mean_iou": float(overlaps.mean()) if both else None,
        "score_correlation": float(np.corrcoef(scores)[0, 1]) if varies else None,
    }


def share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
