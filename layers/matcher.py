"""Which anchor learns which face: a whole batch at once, on its device, without gradients."""

from typing import NamedTuple

import torch
from torch import Tensor

from data.targets import ABSENT, FACE, IGNORED, Targets
from utils.boxes import area, center_to_corner, intersection_matrix

#: An anchor that overlaps a face this much learns it.
POSITIVE_IOU = 0.35
#: Every face gets its best anchors, however small the overlap (a 7-px face never reaches 0.35 with a 16-px anchor).
ANCHORS_PER_FACE = 3
#: An anchor with this share of its area inside an ignored region is no background.
INSIDE_IGNORED = 0.5


class Assignment(NamedTuple):
    """What each of the A anchors of B pictures has to learn. Rows of anchors without a face hold any face's numbers."""

    weights: Tensor  #: float32 [B, A], loss weight of the anchor's face; 0 for anchors without one
    background: Tensor  #: bool [B, A]; an anchor that is neither face nor background is ignored
    boxes: Tensor  #: float32 [B, A, 4], xyxy in pixels
    landmarks: Tensor  #: float32 [B, A, 5, 2] in pixels
    has_landmarks: Tensor  #: bool [B, A], True only where the anchor has a face

    @property
    def positive(self) -> Tensor:
        """bool [B, A]: anchors that learn a face."""
        return self.weights > 0

    def pictures(self, start: int, stop: int) -> "Assignment":
        """The rows of the pictures start..stop-1."""
        return Assignment(*(field[start:stop] for field in self))


@torch.no_grad()
def assign(targets: Targets, anchors: Tensor, batch_size: int) -> Assignment:
    """Match the faces of a batch to anchors [A, 4] (cxcywh, pixels).

    A face takes the anchors it overlaps with IoU >= 0.35 and, in any case, its 3 best ones; an anchor
    wanted by several faces goes to the one that has it among its best, then to the one of larger IoU.
    Anchors that an ignored region takes by the same rule, or that lie half inside one, are not background.
    No step depends on values on the device: nothing synchronises with the host.
    """
    targets = _rows_to_match(targets)
    corners = center_to_corner(anchors)
    intersection = intersection_matrix(targets.boxes, corners)
    wish = _wishes(targets.boxes, anchors, intersection)
    is_face = (targets.role == FACE)[:, None]
    is_ignored = (targets.role == IGNORED)[:, None]

    faces = torch.where(is_face, wish, 0.0)
    best = _reduce_by_picture(faces, targets.picture, batch_size, "amax", 0.0)
    positive = best > 0

    # The row that made the wish: the first, where two are equal.
    rows = torch.arange(len(wish), device=wish.device, dtype=torch.int32)[:, None]
    rows = torch.where(faces == best[targets.picture], rows, len(wish) - 1)
    row = _reduce_by_picture(rows, targets.picture, batch_size, "amin", len(wish) - 1)

    ignored = is_ignored & ((wish > 0) | (intersection >= INSIDE_IGNORED * area(corners)))
    ignored = _reduce_by_picture(ignored.to(torch.uint8), targets.picture, batch_size, "amax", 0) > 0

    return Assignment(
        weights=torch.where(positive, targets.weights[row], 0.0),
        background=~positive & ~ignored,
        boxes=targets.boxes[row],
        landmarks=targets.landmarks[row],
        has_landmarks=targets.has_landmarks[row] & positive,
    )


def _wishes(boxes: Tensor, anchors: Tensor, intersection: Tensor) -> Tensor:
    """How much each box [F, 4] wants each anchor [A, 4] -> [F, A]: 0 not at all, its IoU, or 1 + IoU for its best.

    intersection: [F, A], the areas they share.
    """
    iou = intersection / (area(boxes)[:, None] + anchors[:, 2:].prod(dim=1) - intersection)
    # A face inside several anchors overlaps all of them equally: the nearest centre decides.
    x, y = ((boxes[:, :2] + boxes[:, 2:]) / 2)[:, :, None].unbind(1)
    distance = ((x - anchors[:, 0]).abs_() + (y - anchors[:, 1]).abs_()).div_(anchors[:, 2])
    best = torch.topk(torch.add(iou, distance, alpha=-1e-3), min(ANCHORS_PER_FACE, len(anchors)), dim=1).indices
    wish = torch.where(iou >= POSITIVE_IOU, iou, 0.0)
    return wish.scatter_(1, best, 1 + iou.gather(1, best))


def _reduce_by_picture(values: Tensor, picture: Tensor, batch_size: int, reduce: str, start: float) -> Tensor:
    """Reduce the rows of [F, A] that belong to one picture -> [B, A]."""
    result = values.new_full((batch_size, values.shape[1]), start)
    return result.scatter_reduce(0, picture[:, None].expand_as(values), values, reduce)


def _rows_to_match(targets: Targets) -> Targets:
    """The targets, on the CPU without absent faces (elsewhere counting them would synchronise); never without a row."""
    if targets.role.device.type == "cpu":
        present = targets.role != ABSENT
        targets = Targets(*(field[present] for field in targets))
    if len(targets.picture):
        return targets
    absent = Targets(*(field.new_zeros((1, *field.shape[1:])) for field in targets))
    return absent._replace(role=absent.role + ABSENT)
