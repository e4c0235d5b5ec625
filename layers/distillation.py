"""What the teacher teaches: pure functions of student and teacher.

Class, box and landmark terms are sums over anchors divided by the same `normalizer` as the task losses
(layers.multibox_loss): only then does alpha = 0.7 against 0.3 mean what it says. All run in float32.
"""

import torch
from torch import Tensor
from torch.nn import functional

from layers.matcher import Assignment
from layers.multibox_loss import masked_sum
from utils.boxes import overlap

#: The teacher's face probability from which its boxes and its landmarks teach.
BOX_CONFIDENCE = 0.5
LANDMARK_CONFIDENCE = 0.7


def class_distillation(student: Tensor, teacher: Tensor, temperature: float, normalizer: Tensor) -> Tensor:
    """T^2 * KL(teacher || student) of the class logits [B, A, 2] at temperature T (Hinton et al., 2015), a scalar.

    Each anchor is weighed by how far the two face probabilities at T = 1 are apart (Yang et al., ICCV 2023):
    unweighted, thousands of easy background anchors make up nearly all of the gradient at T = 4.
    """
    student, teacher = student.float(), teacher.float()
    disagreement = (face_probability(teacher) - face_probability(student)).square().detach()
    divergence = functional.kl_div(
        functional.log_softmax(student / temperature, dim=-1),
        functional.log_softmax(teacher / temperature, dim=-1),
        reduction="none",
        log_target=True,
    ).sum(dim=-1)
    return temperature**2 * (disagreement * divergence).sum() / normalizer


def box_distillation(
    student: Tensor, student_giou: Tensor, teacher: Tensor, confidence: Tensor, assignment: Assignment,
    normalizer: Tensor,
) -> Tensor:
    """1 - GIoU between the decoded boxes [B, A, 4] xyxy, weighed by the teacher's face probability, a scalar.

    confidence: that probability, student_giou: GIoU of the student's boxes with assignment.boxes, [B, A] each.
    Over positive anchors and those the teacher calls a face (> 0.5); where the truth is known, only while the
    teacher's box is nearer to it than the student's (Chen et al., NIPS 2017).
    """
    teacher_is_nearer = overlap(teacher, assignment.boxes).giou > student_giou
    taught = torch.where(assignment.positive, teacher_is_nearer, confidence > BOX_CONFIDENCE)
    return masked_sum(1 - overlap(student, teacher).giou, confidence * taught) / normalizer


def landmark_distillation(student: Tensor, teacher: Tensor, confidence: Tensor, normalizer: Tensor) -> Tensor:
    """Smooth L1 between the landmark offsets [B, A, 10], their mean, where the teacher is sure of a face, a scalar.

    Sure is a face probability `confidence` [B, A] > 0.7. It teaches landmarks on faces whose labels have none.
    """
    sure = (confidence > LANDMARK_CONFIDENCE).float()
    difference = functional.smooth_l1_loss(student, teacher, reduction="none")
    return masked_sum(difference.mean(dim=-1), sure) / normalizer


def feature_distillation(student: tuple[Tensor, ...], teacher: tuple[Tensor, ...]) -> Tensor:
    """Half the mean squared difference of the standardised maps, summed over levels, a scalar.

    PKD (Cao et al., NeurIPS 2022) multiplies it by 10: at the default weight that was more than half of the whole loss
    and cost AP (docs/experiments/2026-11-27-feature-term.md).

    student: projected neck outputs, each of the teacher's shape [B, C, H, W]. Standardised maps differ by
    1 - correlation, whatever the scale of either network's activations.
    """
    terms = [
        functional.mse_loss(standardize(projected.float()), standardize(reference.float())) / 2
        for projected, reference in zip(student, teacher, strict=True)
    ]
    return torch.stack(terms).sum()


def standardize(features: Tensor) -> Tensor:
    """[B, C, H, W] with mean 0 and variance 1 per channel over batch, height and width."""
    variance, mean = torch.var_mean(features, dim=(0, 2, 3), keepdim=True, correction=0)
    return (features - mean) * torch.rsqrt(variance + 1e-6)


def face_probability(logits: Tensor) -> Tensor:
    """[..., 2] class logits -> [...] probability of a face."""
    return torch.softmax(logits, dim=-1)[..., 1]
