"""What the labels teach: losses of boxes, scores and landmarks of one batch.

Each term is a sum over anchors divided by `normalizer`, the sum of the weights of all positive anchors of the whole
batch (all processes, all accumulated parts), or about that where they are chosen later (layers.selection): so that the
terms of distillation, divided by the same number, can be weighed against them.
"""

import torch
from torch import Tensor
from torch.nn import functional

from layers.box_coder import encode_boxes, encode_landmarks
from layers.matcher import Assignment
from layers.outputs import FaceOutputs
from utils.boxes import Overlap, center_to_corner

#: Hard negatives per positive anchor (RetinaFace, Deng et al., CVPR 2020).
NEGATIVES_PER_POSITIVE = 7
#: A picture without faces still teaches its hardest background anchors.
MINIMUM_NEGATIVES = 14

#: IoU of an anchor's own box with its face up to which the class target is 0, and from which on it is 1. AP counts a
#: box from 0.5 on: a score then says how likely the box will count, not only how likely there is a face.
MISS_IOU, HIT_IOU = 0.2, 0.6


def multibox_loss(
    outputs: FaceOutputs, fit: Overlap, assignment: Assignment, anchors: Tensor, normalizer: Tensor
) -> dict[str, Tensor]:
    """Named scalar losses: box (1 - GIoU), code (smooth L1 of the box code, mean of four offsets), face and background
    (cross-entropy against class_targets of positive anchors and of hard negatives), landmark (smooth L1, mean of ten
    offsets).

    The code term is for small faces: a box of 7 px needs a size offset of -4 from an anchor of 16 px, to which GIoU's
    gradient drives the heads too slowly.

    outputs, in float32, of B pictures with A anchors; fit: of their decoded boxes to assignment.boxes, [B, A];
    anchors [A, 4] cxcywh in pixels; normalizer a positive scalar tensor.
    """
    weights = assignment.weights
    box = 1 - fit.giou

    # The logarithm of a box turned inside out, as rows without a face may hold, would make all gradients NaN.
    boxes = torch.where(assignment.positive[..., None], assignment.boxes, center_to_corner(anchors))
    code = functional.smooth_l1_loss(
        outputs.boxes, encode_boxes(boxes, anchors), reduction="none"
    ).mean(dim=-1)

    background, face = outputs.logits.unbind(dim=-1)
    cross_entropy = functional.binary_cross_entropy_with_logits(
        face - background, class_targets(fit.iou, assignment), reduction="none"
    )
    is_hard = hard_negatives(cross_entropy.detach(), assignment)

    landmark = functional.smooth_l1_loss(
        outputs.landmarks, encode_landmarks(assignment.landmarks, anchors), reduction="none"
    ).mean(dim=-1)

    return {
        "box": masked_sum(box, weights) / normalizer,
        "code": masked_sum(code, weights) / normalizer,
        "face": (cross_entropy * weights).sum() / normalizer,
        "background": (cross_entropy * is_hard).sum() / normalizer,
        "landmark": masked_sum(landmark, weights * assignment.has_landmarks) / normalizer,
    }


@torch.no_grad()
def class_targets(iou: Tensor, assignment: Assignment) -> Tensor:
    """float32 [B, A]: the face probability that each anchor should give, by the `iou` [B, A] of its own box and face.

    0 without a face; with one, how well its own box hits it. A target of 1 for every positive anchor, however bad its
    box, scores faces that are seen and missed as high as those that are hit.
    """
    return torch.where(assignment.positive, hit_quality(iou), 0.0)


def hit_quality(iou: Tensor) -> Tensor:
    """How much a box counts as a hit: 0 up to an IoU of 0.2, 1 from 0.6 on, linear between."""
    return ((iou - MISS_IOU) / (HIT_IOU - MISS_IOU)).clamp(0, 1)


@torch.no_grad()
def hard_negatives(cross_entropy: Tensor, assignment: Assignment) -> Tensor:
    """bool [B, A]: the background anchors of largest loss, 7 per positive anchor of the picture, at least 14."""
    background = assignment.background
    losses = torch.where(background, cross_entropy, -1.0)
    wanted = (assignment.positive.sum(dim=1, keepdim=True) * NEGATIVES_PER_POSITIVE).clamp(min=MINIMUM_NEGATIVES)
    order = losses.argsort(dim=1, descending=True, stable=True)
    is_hard = torch.arange(order.shape[1], device=order.device) < wanted  # in the order of their losses
    return background & torch.empty_like(is_hard).scatter_(1, order, is_hard)


def masked_sum(values: Tensor, weights: Tensor) -> Tensor:
    """Sum of values * weights in which an anchor of weight 0 counts for nothing, even where its value is not finite."""
    return (torch.where(weights > 0, values, 0.0) * weights).sum()
