"""The test protocols: at which sizes a picture is looked at, whole or in tiles, and how the looks are joined.

AP means nothing without its protocol: one checkpoint of SCRFD-0.5GF scores 68.51 on WIDER FACE hard at a longer side of
640 px and 82.03 at the pictures' own size (README of insightface's detection/scrfd).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from detection.defaults import PROTOCOL
from detection.tiles import LONGEST_SIDE, OVERLAP, Tile, cut_extreme, cut_squares, whole
from utils.errors import UserError


@dataclass(frozen=True)
class Protocol:
    """How a picture is shown to the detector.

    tiles: height and width of a picture -> its parts. factors: height and width of a part -> its scale factors, one
    look each. flip: every look is taken a second time, mirrored. votes: a face is the mean of what was found on all
    looks (box voting, detection.suppression), else the best. seen_whole: the longest side in pixels of a face that
    tiles show whole; where it is given, larger ones are found on a look at the whole picture.
    """

    description: str
    factors: Callable[[int, int], list[float]]
    flip: bool = False
    votes: bool = False
    tiles: Callable[[int, int], list[Tile]] = whole
    seen_whole: float | None = None


def keep_size(height: int, width: int) -> list[float]:
    """The picture as it is."""
    return [1.0]


def long_side_640(height: int, width: int) -> list[float]:
    """The longer side becomes 640 px, up or down."""
    return [640 / max(height, width)]


def short_side(size: float, longest: float) -> Callable[[int, int], float]:
    """The shorter side becomes `size` px, up or down, unless the longer one would be more than `longest`."""
    return lambda height, width: min(size / min(height, width), longest / max(height, width))


def short_side_1600(height: int, width: int) -> list[float]:
    """RetinaFace's single scale for WIDER FACE: shorter side 1600, longer side at most 2150 px."""
    return [short_side(1600, 2150)(height, width)]


#: Shorter sides of the pyramid, and how much longer the longer side may be; both from RetinaFace's test script.
PYRAMID = (500, 800, 1100, 1400, 1700)
PYRAMID_ASPECT = 1.5


def pyramid(height: int, width: int) -> list[float]:
    """RetinaFace's five scales for WIDER FACE."""
    return [short_side(size, PYRAMID_ASPECT * size)(height, width) for size in PYRAMID]


def fit(height: int, width: int) -> list[float]:
    """The longer side at most 1280 px."""
    return [min(1, LONGEST_SIDE / max(height, width))]


#: In the order of their cost.
PROTOCOLS = {
    "vga": Protocol("long side 640", long_side_640),
    "original": Protocol("original size", keep_size),
    "1600": Protocol("short side 1600, long side at most 2150", short_side_1600),
    "multiscale": Protocol(
        f"short side {'/'.join(map(str, PYRAMID))}, long side at most {PYRAMID_ASPECT} times that; flipped too",
        pyramid,
        flip=True,
        votes=True,
    ),
}

#: What detect.py does: for looking, not for measuring AP.
#: The largest anchor has 512 px: at its own size, a near face in a photograph of 12 megapixels falls apart.
FITTED = Protocol("original size, longer side at most 1280; extreme shapes in tiles", fit, tiles=cut_extreme)

#: By name, all that pictures can be looked at by.
LOOKING = {PROTOCOL: FITTED, **PROTOCOLS}


def protocol_of(name: str, tile: int | None = None) -> Protocol:
    """A protocol of LOOKING, on squares of `tile` px where that is given; UserError for any other name.

    The picture itself is then looked at fitted, so that faces larger than a tile are found too.
    """
    if name not in LOOKING:
        raise UserError(f"there is no protocol '{name}'; choose one of {', '.join(LOOKING)}")
    protocol = LOOKING[name]
    if tile is None:
        return protocol

    def factors(height: int, width: int) -> list[float]:
        return (protocol.factors if max(height, width) <= tile else fit)(height, width)

    return replace(protocol, description=f"{protocol.description}, in tiles of {tile} px", factors=factors,
                   tiles=lambda height, width: cut_squares(height, width, tile), seen_whole=OVERLAP * tile)
