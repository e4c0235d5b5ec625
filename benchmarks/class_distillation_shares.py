"""Which anchors class distillation works on, and how sure networks are of faces by height.

The tables of docs/experiments/2026-11-22-class-distillation-weight.md and 2026-11-23-teacher-small-budgets.md.

    python -m benchmarks.class_distillation_shares LABEL_TXT TEACHER STUDENT

Over 64 training crops of 320 px (seed 3, no mixing): shares of the gradient that T^2 * KL at T = 4 sends into the
class logits when anchors are weighted by |p_teacher - p_student| or by its square, and mean face probabilities by
face height.
"""

import sys
from itertools import islice

import torch
from torch.nn.functional import kl_div, log_softmax

from data.augment import training_augmentations
from data.loader import EpochBatchSampler, TrainingDataset, TrainingLoader
from data.pictures import PictureFiles
from data.pixels import normalize
from data.widerface import read_labels
from layers.anchors import make_anchors
from layers.distillation import face_probability
from layers.matcher import assign
from models import load_model

TEMPERATURE, SIDE, PICTURES, BATCHES, SEED = 4.0, 320, 16, 4, 3
HEIGHTS = (0, 8, 12, 16, 24, 48, SIDE + 1)


def main(label_path: str, teacher_path: str, student_path: str) -> None:
    teacher, student = load_model(teacher_path), load_model(student_path)
    records, _ = read_labels(label_path)
    pictures = PictureFiles([record.path for record in records])
    dataset = TrainingDataset(records, pictures, SIDE, SEED, training_augmentations(SIDE))
    sampler = EpochBatchSampler(len(dataset), PICTURES, SEED)
    loader = TrainingLoader(dataset, sampler, num_workers=0, device=torch.device("cpu"))
    anchors = make_anchors(SIDE, SIDE)
    shares = {power: torch.zeros(5) for power in (1, 2)}
    probabilities = torch.zeros(3, len(HEIGHTS) - 1)  # anchors, sums of the teacher's and of the student's
    for batch in islice(loader, BATCHES):
        images = normalize(batch.images)
        with torch.no_grad():
            taught, logits = teacher(images).logits, student(images).logits
        assignment = assign(batch.targets, anchors, PICTURES)
        p_teacher, p_student = face_probability(taught), face_probability(logits)
        higher, ignored = p_teacher >= p_student, ~assignment.positive & ~assignment.background
        kinds = [assignment.positive & higher, assignment.positive & ~higher, ignored,
                 assignment.background & ~higher, assignment.background & higher]
        for power, share in shares.items():
            sizes = gradient_sizes(logits, taught, (p_teacher - p_student).abs() ** power)
            share += torch.stack([sizes[kind].sum() for kind in kinds])
        heights = (assignment.boxes[..., 3] - assignment.boxes[..., 1])[assignment.positive]
        places = torch.bucketize(heights, torch.tensor(HEIGHTS[1:-1], dtype=torch.float32), right=True)
        for row, values in zip(probabilities, (torch.ones_like(heights), p_teacher[assignment.positive],
                                               p_student[assignment.positive])):
            row.index_add_(0, places, values)
    print("faces the teacher rates higher, lower, ignored, background it rates lower, higher")
    for power, share in shares.items():
        print(f"power {power}:", *(f"{value:.2f}" for value in share / share.sum()))
    print("positive anchors, teacher's and student's mean probability for faces from", *HEIGHTS[:-1], "px")
    print(*(f"{n:.0f}: {t / n:.2f} {s / n:.2f}" for n, t, s in probabilities.T.tolist()), sep=" | ")


def gradient_sizes(logits: torch.Tensor, taught: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """[B, A] absolute gradient of the weighted class distillation with respect to the student's logits."""
    logits = logits.clone().requires_grad_()
    divergence = kl_div(log_softmax(logits / TEMPERATURE, -1), log_softmax(taught / TEMPERATURE, -1),
                        reduction="none", log_target=True).sum(-1)
    return torch.autograd.grad((weights * divergence).sum(), logits)[0].abs().sum(-1)


if __name__ == "__main__":
    main(*sys.argv[1:])
