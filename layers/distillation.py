"""What the teacher teaches: pure functions of student and teacher.

Class, box and landmark terms are sums over anchors divided by the same `normalizer` as the task losses
(layers.multibox_loss): only then does alpha = 0.7 against 0.3 mean what it says. All run in float32.
"""

import torch
from torch import Tensor
from torch.nn import functional

from layers.matcher import Assignment
from layers.multibox_loss import hit_quality, masked_sum
from utils.boxes import Overlap

#: The teacher's face probability from which its boxes and its landmarks teach.
BOX_CONFIDENCE = 0.5
LANDMARK_CONFIDENCE = 0.7
#: How near to 0 and to 1 a face probability comes that is taught: farther on the logarithms of float32 end.
NEARLY_NOTHING = 1e-6


def class_distillation(
    student: Tensor, wanted: Tensor, mask: Tensor, temperature: float, normalizer: Tensor
) -> Tensor:
    """T^2 * KL(teacher || student) at temperature T (Hinton et al., 2015), a scalar.

    student: class logits [B, A, 2]; wanted: the face probability that is taught, at T = 1, [B, A], see wanted_scores;
    mask: bool [B, A], the anchors that are taught.
    Each anchor is weighed by how far the two face probabilities at T = 1 are apart (Yang et al., ICCV 2023):
    unweighted, thousands of easy background anchors make up nearly all of the gradient at T = 4.
    """
    wanted = wanted.clamp(NEARLY_NOTHING, 1 - NEARLY_NOTHING)
    teacher = torch.stack([1 - wanted, wanted], dim=-1).log()
    disagreement = (wanted - face_probability(student)).square().detach()
    divergence = functional.kl_div(
        functional.log_softmax(student / temperature, dim=-1),
        functional.log_softmax(teacher / temperature, dim=-1),
        reduction="none",
        log_target=True,
    ).sum(dim=-1)
    return temperature**2 * (disagreement * divergence * mask).sum() / normalizer


@torch.no_grad()
def wanted_scores(confidence: Tensor, iou: Tensor) -> Tensor:
    """The face probabilities [B, A] that the student should give: the teacher's, as far as it hits the teacher's box.

    confidence: the teacher's face probabilities; iou: of the student's box and the teacher's, [B, A] each. A score is
    for a box, and the student's is not yet where the teacher's is: it should say what its own box is worth, as
    layers.multibox_loss.class_targets ask on labels.
    """
    return confidence * hit_quality(iou)


def box_distillation(
    fit: Overlap, student: Tensor, teacher: Tensor, weights: Tensor, normalizer: Tensor
) -> tuple[Tensor, Tensor]:
    """What the labels' box and code terms are with the teacher's box in place of the label's, two scalars.

    fit: of the student's decoded boxes to the teacher's, [B, A]; student, teacher: box codes [B, A, 4]; weights: of
    the anchors, [B, A], see trusted_boxes.
    """
    code = functional.smooth_l1_loss(student, teacher, reduction="none").mean(dim=-1)
    return masked_sum(1 - fit.giou, weights) / normalizer, masked_sum(code, weights) / normalizer


@torch.no_grad()
def trusted_boxes(confidence: Tensor, student_giou: Tensor, teacher_giou: Tensor, assignment: Assignment) -> Tensor:
    """How much each of the teacher's boxes teaches, [B, A]: its face probability `confidence`, or 0.

    Positive anchors, while the teacher's box is nearer to the label than the student's (Chen et al., NIPS 2017: GIoU
    with assignment.boxes), and of the others those that the teacher calls a face (> 0.5).
    """
    return confidence * torch.where(assignment.positive, teacher_giou > student_giou, confidence > BOX_CONFIDENCE)


def landmark_distillation(
    student: Tensor, teacher: Tensor, confidence: Tensor, mask: Tensor, normalizer: Tensor
) -> Tensor:
    """Smooth L1 between the landmark offsets [B, A, 10], their mean, where the teacher is sure of a face, a scalar.

    Sure is a face probability `confidence` [B, A] > 0.7. mask: bool [B, A], the anchors whose labels have no landmarks.
    """
    sure = (mask & (confidence > LANDMARK_CONFIDENCE)).float()
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
