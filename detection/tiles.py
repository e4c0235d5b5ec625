"""Pictures cut into overlapping tiles, each looked at as a picture of its own.

Who answers for a face is settled by its centre: each tile has a core, the cores fill the picture, and what a tile finds
outside of its core it leaves to its neighbour. A face that the edge of a tile cuts off has the centre of its visible
part out there, as long as it fits into the overlap. Cores overlap a little too, so that no face is lost whose centre
two tiles see on different sides of a seam; suppression leaves one of such two.
"""

import math
from typing import NamedTuple

#: The longer side of a picture that is looked at as a whole, about that of WIDER FACE.
LONGEST_SIDE = 1280
#: A picture of a more extreme shape is cut: fitted into LONGEST_SIDE, its faces would be tiny.
LARGEST_ASPECT = 2.5
#: Share of a square tile that its neighbour sees too.
OVERLAP = 1 / 4
#: Share of an overlap by which cores reach beyond its middle. A face that fits into the overlap and of which more than
#: half is seen at a cut then overlaps its whole self by more than half, and suppression takes it.
CORE_MARGIN = 1 / 4


class Span(NamedTuple):
    """A tile along one axis, in pixels; the core has no end where the picture has."""

    start: int
    end: int
    core_start: float
    core_end: float


class Tile(NamedTuple):
    """A part of a picture."""

    y: Span
    x: Span


def spans(length: int, size: int, overlap: int) -> list[Span]:
    """Tiles of `size` px, evenly spread along `length` px, that overlap by `overlap` px or more."""
    if length <= size:
        return [Span(0, length, -math.inf, math.inf)]
    count = math.ceil((length - overlap) / (size - overlap))
    starts = [round(index * (length - size) / (count - 1)) for index in range(count)]
    cores = [-math.inf] * count, [math.inf] * count
    for index, start in enumerate(starts[1:]):
        end = starts[index] + size
        margin = CORE_MARGIN * (end - start)
        cores[0][index + 1], cores[1][index] = (start + end) / 2 - margin, (start + end) / 2 + margin
    return [Span(start, start + size, *core) for start, *core in zip(starts, *cores)]


def whole(height: int, width: int) -> list[Tile]:
    """The picture as one tile."""
    return [Tile(*spans(height, height, 0), *spans(width, width, 0))]


def cut_extreme(height: int, width: int) -> list[Tile]:
    """A picture that is long for its shorter side cut across; any other whole.

    The overlap is the shorter side: no face is much larger.
    """
    shorter = min(height, width)
    size = max(LONGEST_SIDE, math.ceil(LARGEST_ASPECT * shorter))
    return [Tile(y, x) for y in spans(height, size, shorter) for x in spans(width, size, shorter)]


def cut_squares(height: int, width: int, size: int) -> list[Tile]:
    """The whole picture, for its large faces, and where it is larger than `size` px squares of that size."""
    if max(height, width) <= size:
        return whole(height, width)
    overlap = round(OVERLAP * size)
    squares = [Tile(y, x) for y in spans(height, size, overlap) for x in spans(width, size, overlap)]
    return [*whole(height, width), *squares]
