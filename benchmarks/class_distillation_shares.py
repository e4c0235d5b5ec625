"""Which anchors class distillation works on, and how sure networks are of faces by height.

    python -m benchmarks.class_distillation_shares data/widerface/train/label.txt TEACHER.pth STUDENT.pth

Over 64 training crops of 320 px (seed 3, no mixing): shares of the gradient that T^2 * KL at T = 4 sends into the
class logits when anchors are weighted by |p_teacher - p_student| or by its square, and mean face probabilities of both
networks by face height. The tables of docs/experiments/2026-11-22-class-distillation-weight.md and
2026-11-23-teacher-small-budgets.md.
"""

import math
from collections import defaultdict
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import kl_div, log_softmax

from data.augment import training_augmentations
from data.loader import TrainingDataset, TrainingLoader
from data.pictures import PictureFiles
from data.pixels import normalize
from data.sampler import EpochBatchSampler
from data.widerface import read_labels
from layers.distillation import face_probability
from layers.matcher import Assignment, assign
from models import load_model
from utils.arguments import ArgumentParser
from utils.errors import run_script
from utils.tables import Row, print_table

TEMPERATURE, SIDE, PICTURES, BATCHES, SEED = 4.0, 320, 16, 4, 3

#: Weights of the anchors: powers of |p_teacher - p_student|.
WEIGHTS = {"abs(p_t - p_s)": 1, "its square": 2}

#: Face heights in pixels at which the bins begin, and where the last one ends.
HEIGHTS = (0, 8, 12, 16, 24, 48, SIDE + 1)


def training_batches(label_path: Path) -> TrainingLoader:
    """The crops that are looked at, and any number of others after them."""
    records, _ = read_labels(label_path)
    pictures = PictureFiles([record.path for record in records])
    dataset = TrainingDataset(records, pictures, SIDE, SEED, training_augmentations(SIDE))
    sampler = EpochBatchSampler(len(dataset), PICTURES, SEED)
    return TrainingLoader(dataset, sampler, num_workers=0, device=torch.device("cpu"))


def kinds_of_anchors(assignment: Assignment, taught: Tensor, learnt: Tensor) -> dict[str, Tensor]:
    """Masks [B, A] by what an anchor is and which network says more; taught, learnt: face probabilities [B, A]."""
    higher = taught >= learnt  # the teacher's
    return {
        "faces the teacher rates higher": assignment.positive & higher,
        "faces, lower": assignment.positive & ~higher,
        "ignored": ~assignment.positive & ~assignment.background,
        "background, lower": assignment.background & ~higher,
        "background, higher": assignment.background & higher,
    }


def gradient_sizes(logits: Tensor, taught: Tensor, weights: Tensor) -> Tensor:
    """[B, A] absolute gradient of the weighted class distillation with respect to the student's logits."""
    logits = logits.clone().requires_grad_()
    divergence = kl_div(log_softmax(logits / TEMPERATURE, -1), log_softmax(taught / TEMPERATURE, -1),
                        reduction="none", log_target=True).sum(-1)
    return torch.autograd.grad((weights * divergence).sum(), logits)[0].abs().sum(-1)


def sums_by_height(assignment: Assignment, values: list[Tensor]) -> Tensor:
    """[len(values), bins] sums over the positive anchors, by the height of their face; values: [B, A] each."""
    positive = assignment.positive
    heights = (assignment.boxes[..., 3] - assignment.boxes[..., 1])[positive]
    places = torch.bucketize(heights, torch.tensor(HEIGHTS[1:-1], dtype=torch.float32), right=True)
    return torch.stack([
        torch.zeros(len(HEIGHTS) - 1).index_add_(0, places, value[positive]) for value in values
    ])


def sum_up(teacher: nn.Module, student: nn.Module, batches: TrainingLoader) -> tuple[dict[str, Row], Tensor]:
    """{weight: gradient by kind of anchor}, and sums_by_height of positive anchors and of both probabilities."""
    gradients: dict[str, Row] = {weight: defaultdict(float) for weight in WEIGHTS}
    faces = torch.zeros(3, len(HEIGHTS) - 1)
    for batch in islice(batches, BATCHES):
        images = normalize(batch.images)
        with torch.no_grad():
            taught, logits = teacher(images).logits, student(images).logits
        assignment = assign(batch.targets, PICTURES, SIDE, SIDE)
        p_teacher, p_student = face_probability(taught), face_probability(logits)
        for weight, power in WEIGHTS.items():
            sizes = gradient_sizes(logits, taught, (p_teacher - p_student).abs() ** power)
            for kind, mask in kinds_of_anchors(assignment, p_teacher, p_student).items():
                gradients[weight][kind] += sizes[mask].sum().item()
        faces += sums_by_height(assignment, [torch.ones_like(p_teacher), p_teacher, p_student])
    return gradients, faces


def share_table(gradients: dict[str, Row]) -> list[Row]:
    """Shares of the gradient by kind of anchor, a row a weight; dashes where both networks say the same of all."""
    rows = []
    for weight, sizes in gradients.items():
        whole = sum(sizes.values()) or math.nan
        rows.append({"weight": weight} | {kind: size / whole for kind, size in sizes.items()})
    return rows


def height_table(faces: Tensor) -> list[Row]:
    """Mean face probabilities, a row a height."""
    means = faces[1:] / faces[0]  # NaN, a dash, where no face has that height
    return [
        {"face height, px": f"from {height}", "positive anchors": int(count), "teacher": taught, "student": learnt}
        for height, count, (taught, learnt) in zip(HEIGHTS, faces[0], means.T.tolist())
    ]


def main(arguments: list[str] | None = None) -> None:
    parser = ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("label_path", metavar="LABEL_TXT", type=Path, help="training set, with images/ beside it")
    add("teacher", metavar="TEACHER", type=Path, help="checkpoint of the teacher")
    add("student", metavar="STUDENT", type=Path, help="checkpoint of the student")
    options = parser.parse_args(arguments)
    teacher, student = load_model(options.teacher), load_model(options.student)
    gradients, faces = sum_up(teacher, student, training_batches(options.label_path))
    print_table(share_table(gradients))
    print(f"shares of the gradient, {BATCHES * PICTURES} crops of {SIDE} px\n")
    print_table(height_table(faces))
    print("mean face probabilities on positive anchors")


if __name__ == "__main__":
    run_script(main)
