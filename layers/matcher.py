"""Which anchor learns which face: a whole batch at once, on its device, without gradients."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from data.targets import ABSENT, FACE, IGNORED, Targets
from layers.anchors import ANCHOR_SIZES, ANCHORS_PER_CELL, STRIDES
from utils.boxes import area


class Rule(NamedTuple):
    """Which anchors a face takes."""

    iou: float  #: all those that it overlaps this much
    least: int  #: and as many of its best ones, however small the overlap


#: A face of 7 px never reaches this IoU with an anchor of 16 px: it has its three best.
BY_IOU = Rule(iou=0.35, least=3)

#: An anchor with this share of its area inside an ignored region is no background.
INSIDE_IGNORED = 0.5

#: For the rounding of centres, as a share of an anchor's side.
MARGIN = 1e-3


class Assignment(NamedTuple):
    """What each of the A anchors of B pictures has to learn, or may learn, before some are chosen (layers.selection).
    Rows of anchors without a face hold any face's numbers."""

    weights: Tensor  #: float32 [B, A], loss weight of the anchor's face; 0 for anchors without one
    ignored: Tensor  #: bool [B, A]; such an anchor is no background, though it may have a face
    face: Tensor  #: int32 [B, A], a number that anchors of one face share
    boxes: Tensor  #: float32 [B, A, 4], xyxy in pixels
    landmarks: Tensor  #: float32 [B, A, 5, 2] in pixels
    has_landmarks: Tensor  #: bool [B, A], True only where the anchor has a face

    @property
    def positive(self) -> Tensor:
        """bool [B, A]: anchors that learn a face."""
        return self.weights > 0

    @property
    def background(self) -> Tensor:
        """bool [B, A]: anchors that are to say that there is none."""
        return ~self.positive & ~self.ignored

    def pictures(self, start: int, stop: int) -> "Assignment":
        """The rows of the pictures start..stop-1."""
        return Assignment(*(field[start:stop] for field in self))


@torch.no_grad()
def assign(targets: Targets, batch_size: int, height: int, width: int, rule: Rule = BY_IOU) -> Assignment:
    """Match the faces of a batch of pictures of height x width pixels to the anchors of make_anchors(height, width).

    A face takes the anchors of `rule`; an anchor wanted by several faces goes to the one that has it among its best,
    then to the one of larger IoU.
    Anchors that an ignored region takes by the same rule, or that lie half inside one, are ignored.
    Of anchors that a face wants alike, and of faces that want an anchor alike, the first ones count.
    A box meets the anchors near it alone: no other can be among those it takes.
    No shape depends on values on the device: nothing synchronises with the host.
    """
    targets = _rows_to_match(targets)
    wish, anchor = _wishes(targets.boxes, height, width, rule)
    place = targets.picture[:, None] * _count(height, width) + anchor
    is_face = (targets.role == FACE)[:, None]
    is_ignored = (targets.role == IGNORED)[:, None]

    def reduce(values: Tensor, how: str, start: float) -> Tensor:
        """[F, K] values of boxes for anchors -> [B, A]."""
        result = values.new_full((batch_size * _count(height, width),), start)
        return result.scatter_reduce(0, place.flatten(), values.flatten(), how).view(batch_size, -1)

    faces = torch.where(is_face, wish, 0.0)
    best = reduce(faces, "amax", 0.0)
    positive = best > 0

    # The row that made the wish: the first, where two are equal.
    rows = torch.arange(len(wish), device=wish.device, dtype=torch.int32)[:, None]
    rows = torch.where(faces == best.flatten()[place], rows, len(wish) - 1)
    row = reduce(rows, "amin", len(wish) - 1)

    ignored = reduce(torch.where(is_ignored, wish, 0.0), "amax", 0.0) > 0
    ignored |= _inside_ignored(targets, batch_size, height, width)

    return Assignment(
        weights=torch.where(positive, targets.weights[row], 0.0),
        ignored=ignored,
        face=row,
        boxes=targets.boxes[row],
        landmarks=targets.landmarks[row],
        has_landmarks=targets.has_landmarks[row] & positive,
    )


def _wishes(boxes: Tensor, height: int, width: int, rule: Rule) -> tuple[Tensor, Tensor]:
    """How much each box [F, 4] wants the anchors near it: 0 not at all, its IoU, or 1 + IoU for its best; and which
    anchors these are, [F, K] each."""
    centers = ((boxes[:, :2] + boxes[:, 2:]) / 2)[:, :, None]
    ious, scores, anchors = [], [], []
    for first_anchor, place, stride, side, rows, columns in _lattices(height, width):
        column, row = (
            _near(center, side, stride, cells, rule) for center, cells in zip(centers.unbind(1), (columns, rows))
        )
        x, y = stride * (column + 0.5), stride * (row + 0.5)
        shared = _overlap(boxes, 1, y, side)[:, :, None] * _overlap(boxes, 0, x, side)[:, None]
        iou = shared / (area(boxes)[:, None, None] + side * side - shared)
        # A face inside several anchors overlaps all of them equally: the nearest centre decides.
        distance = (x - centers[:, 0]).abs()[:, None] + (y - centers[:, 1]).abs()[:, :, None]
        ious.append(iou.flatten(1))
        scores.append(torch.add(iou, distance / side, alpha=-1e-3).flatten(1))
        cell = (row * columns)[:, :, None] + column[:, None]
        anchors.append((first_anchor + ANCHORS_PER_CELL * cell + place).flatten(1))
    iou = torch.cat(ious, dim=1)
    best = _best(torch.cat(scores, dim=1), rule.least)
    wish = torch.where(iou >= rule.iou, iou, 0.0)
    return wish.scatter_(1, best, 1 + iou.gather(1, best)), torch.cat(anchors, dim=1)


def _best(scores: Tensor, number: int) -> Tensor:
    """Places of so many highest scores of each row, the first ones where some are equal; spoils scores."""
    places = []
    for _ in range(min(number, scores.shape[1])):
        places.append(scores.max(dim=1, keepdim=True).indices)
        scores.scatter_(1, places[-1], -math.inf)
    return torch.cat(places, dim=1)


def _near(center: Tensor, side: int, stride: int, cells: int, rule: Rule) -> Tensor:
    """Numbers of the cells, along one axis of a map, on which anchors of that side can be taken: int64 [F, n].

    center: [F, 1] in pixels. Those within reach and, whatever the map, the nearest rule.least: the further an
    anchor is along one axis, the less it is wanted, so that the best of a side are among these.

    reach, in cells: no anchor of side s whose centre is further, along x or along y, from that of a box has an IoU of
    p = rule.iou with it. For sides w of the box and s, IoU >= p asks for a shared width of at least p * max(w, s), so
    the centres are at most (w + s) / 2 - p * max(w, s) apart, and for w <= s / p; that is largest at w = s / p.
    """
    reach = max(((1 / rule.iou + 1) / 2 - 1 + MARGIN) * side / stride, rule.least / 2)
    number = min(cells, math.floor(2 * reach) + 1)
    first = (center / stride - 0.5 - reach).ceil().clamp(0, cells - number).long()
    return first + torch.arange(number, device=center.device)


def _overlap(boxes: Tensor, axis: int, center: Tensor, side: int) -> Tensor:
    """Lengths that boxes [F, 4] share along an axis with anchors of that side around centers [F or 1, n] -> [F, n]."""
    low, high = boxes[:, axis, None], boxes[:, axis + 2, None]
    return (torch.minimum(high, center + side / 2) - torch.maximum(low, center - side / 2)).clamp(min=0)


def _inside_ignored(targets: Targets, batch_size: int, height: int, width: int) -> Tensor:
    """bool [B, A]: anchors that lie half inside one ignored region.

    In a row of cells they stand side by side, so a region meets rows, not anchors: it marks where its anchors begin and
    where they end, and marks added up along the rows are how many regions hold each anchor.
    """
    is_ignored = targets.role == IGNORED
    if may_choose(is_ignored):
        smallest = INSIDE_IGNORED * ANCHOR_SIZES[0][0] ** 2
        targets = targets.rows(is_ignored & (area(targets.boxes) >= smallest))
        is_ignored = targets.role == IGNORED
    first, stop, may_be_any = _runs_inside(targets.boxes, height, width)
    picture = (targets.picture * _count(height, width))[:, None]
    marks = (may_be_any & is_ignored[:, None]).int().flatten()
    regions = marks.new_zeros(batch_size * _count(height, width) + 1)
    regions.scatter_add_(0, (picture + first).flatten(), marks)
    regions.scatter_add_(0, (picture + stop).flatten(), -marks)
    inside = regions.cumsum(0, dtype=torch.int32)[:-1].bool()
    return inside.view(batch_size, ANCHORS_PER_CELL, -1).mT.flatten(1)


def _runs_inside(boxes: Tensor, height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """Which anchors lie half inside boxes [F, 4], in each of the N rows of cells of all sides.

    The first of them and the one after the last, int64, and whether there may be any, bool (where not, the first two
    mean nothing); [F, N] each.

    Anchors are counted with the smaller ones of all cells before the larger ones, unlike those of make_anchors.

    The width that a box shares with an anchor is the least of four: from the box's left edge to the anchor's right one,
    from the anchor's left edge to the box's right one, and both widths. As rounding keeps the order of numbers, the
    area is large enough where it is with each of the four, to the last bit. With the first it is from some column on:
    that one in which the edge that is wanted falls, or the next; its centre decides, by the same rounding.
    """
    y, side, stride, columns, begin = _rows_of_cells(height, width, boxes.device)
    left, right = boxes[:, 0, None], boxes[:, 2, None]
    shared_height = _overlap(boxes, 1, y, side)
    enough = INSIDE_IGNORED * side * side
    # The right edge is the left one of the mirrored picture, in which column c is -1 - c.
    edge = torch.stack([left, -right])
    column = ((edge + enough / shared_height - side / 2) / stride).floor()
    shared_width = stride * (column + 0.5) + side / 2 - edge
    first, mirrored = (column + (shared_height * shared_width < enough)).unbind()
    first, stop = (torch.minimum(end.clamp(min=0), columns) for end in (first, -mirrored))
    may_be_any = shared_height * torch.minimum(right - left, side) >= enough
    return begin + first.long(), begin + stop.long(), may_be_any


def _rows_of_cells(height: int, width: int, device: torch.device) -> tuple[Tensor, ...]:
    """Of each row of cells, first for the smaller anchors of all, then for the larger ones: y of the centres, side,
    stride, number of columns and, int64, number of anchors before it; [N] each."""
    ys, sides, strides, columns = [], [], [], []
    for _, _, stride, side, rows, number in sorted(_lattices(height, width), key=lambda lattice: lattice[1]):
        ys.append(torch.arange(stride / 2, stride * rows, stride, device=device))
        for values, value in zip((sides, strides, columns), (side, stride, number)):
            values.append(torch.full((rows,), float(value), device=device))
    ys, sides, strides, columns = (torch.cat(values) for values in (ys, sides, strides, columns))
    return ys, sides, strides, columns, (columns.cumsum(0) - columns).long()


def _lattices(height: int, width: int) -> list[tuple[int, int, int, int, int, int]]:
    """The anchors of each side: number of the level's first anchor, place in a cell, stride, side, rows, columns."""
    lattices, first_anchor = [], 0
    for stride, sides in zip(STRIDES, ANCHOR_SIZES):
        rows, columns = -(-height // stride), -(-width // stride)
        lattices += [(first_anchor, place, stride, side, rows, columns) for place, side in enumerate(sides)]
        first_anchor += ANCHORS_PER_CELL * rows * columns
    return lattices


def _count(height: int, width: int) -> int:
    """Anchors of a picture."""
    return sum(rows * columns for *_, rows, columns in _lattices(height, width))


def _rows_to_match(targets: Targets) -> Targets:
    """The targets, where rows may be chosen without absent faces; never without a row."""
    if may_choose(targets.role):
        targets = targets.rows(targets.role != ABSENT)
    return targets if len(targets.picture) else targets.absent(1)


def may_choose(rows: Tensor) -> bool:
    """Whether some may be left out by their values: on a GPU that would wait for it, compiled it would be anew for each
    number that is left."""
    return rows.device.type == "cpu" and not torch.compiler.is_compiling()
