"""What the labels teach: box, class and landmark losses of one batch.

Each term is a sum over anchors divided by `normalizer`, the sum of the weights of all positive anchors
of the whole batch (all processes, all accumulated parts), so that the terms of distillation, divided by
the same number, can be weighed against them.
"""

import torch
from torch import Tensor
from torch.nn import functional

from layers.box_coder import decode_boxes, encode_landmarks
from layers.matcher import Assignment
from layers.outputs import FaceOutputs
from utils.boxes import generalized_iou

#: Hard negatives per positive anchor (RetinaFace, Deng et al., CVPR 2020).
NEGATIVES_PER_POSITIVE = 7
#: A picture without faces still teaches its hardest background anchors.
MINIMUM_NEGATIVES = 14


def multibox_loss(
    outputs: FaceOutputs, assignment: Assignment, anchors: Tensor, normalizer: Tensor
) -> dict[str, Tensor]:
    """Named scalar losses: box (1 - GIoU), class (cross-entropy), landmark (smooth L1, mean of ten offsets).

    outputs of B pictures with A anchors; anchors [A, 4] cxcywh in pixels; normalizer a positive scalar tensor.
    Computed in float32.
    """
    weights = assignment.weights
    predicted = decode_boxes(outputs.boxes.float(), anchors)
    box = 1 - generalized_iou(predicted, assignment.boxes)

    cross_entropy = functional.cross_entropy(
        outputs.logits.float().flatten(0, 1), assignment.positive.long().flatten(), reduction="none"
    ).view_as(weights)
    class_weights = weights + hard_negatives(cross_entropy.detach(), assignment)

    landmark = functional.smooth_l1_loss(
        outputs.landmarks.float(), encode_landmarks(assignment.landmarks, anchors), reduction="none"
    ).mean(dim=-1)

    return {
        "box": masked_sum(box, weights) / normalizer,
        "class": (cross_entropy * class_weights).sum() / normalizer,
        "landmark": masked_sum(landmark, weights * assignment.has_landmarks) / normalizer,
    }


@torch.no_grad()
def hard_negatives(cross_entropy: Tensor, assignment: Assignment) -> Tensor:
    """bool [B, A]: the background anchors of largest loss, 7 per positive anchor of the picture, at least 14."""
    losses = torch.where(assignment.background, cross_entropy, -1.0)
    wanted = (assignment.positive.sum(dim=1, keepdim=True) * NEGATIVES_PER_POSITIVE).clamp(min=MINIMUM_NEGATIVES)
    order = losses.argsort(dim=1, descending=True, stable=True)
    places = torch.arange(order.shape[1], device=order.device).expand_as(order)
    rank = torch.empty_like(order).scatter_(1, order, places)
    return assignment.background & (rank < wanted)


def masked_sum(values: Tensor, weights: Tensor) -> Tensor:
    """Sum of values * weights in which an anchor of weight 0 counts for nothing, even where its value is not finite."""
    return (torch.where(weights > 0, values, 0.0) * weights).sum()
