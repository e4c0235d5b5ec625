"""Sizes at which protocols look at pictures."""

import numpy as np
import pytest

from detection.inference import looks_at
from detection.protocols import PROTOCOLS, protocol_of
from utils.errors import UserError


@pytest.mark.parametrize(("protocol", "height", "width", "sides"), [
    ("original", 33, 501, [(33, 501)]),
    ("vga", 480, 1280, [(240, 640)]),
    ("vga", 100, 50, [(640, 320)]),
    ("1600", 800, 1000, [(1600, 2000)]),
    ("1600", 1000, 3000, [(717, 2150)]),
    ("multiscale", 1000, 1400, [(500, 700), (800, 1120), (1100, 1540), (1400, 1960), (1700, 2380)]),
    ("multiscale", 200, 100, [(750, 375), (1200, 600), (1650, 825), (2100, 1050), (2550, 1275)]),
])
def test_each_protocol_looks_at_the_sizes_it_names(protocol, height, width, sides):
    looks = list(looks_at(np.zeros((height, width, 3), np.uint8), PROTOCOLS[protocol]))
    looked = [(round(look.scales[0] * height), round(look.scales[1] * width)) for look in looks]
    assert looked == [size for size in sides for _ in range(2 if protocol == "multiscale" else 1)]
    assert [look.is_mirrored for look in looks] == ([False, True] * 5 if protocol == "multiscale" else [False])
    assert all(side % 32 == 0 for look in looks for side in look.image.shape[1:])


@pytest.mark.parametrize(("tile", "height", "width", "sides"), [
    (None, 1, 1, [(1, 1)]), (None, 3000, 4000, [(960, 1280)]), (None, 200, 2400, [(200, 1280)] * 3),
    (None, 3000, 9000, [(512, 1280)] * 2), (None, 1, 1281, [(1, 1280)] * 2),
    (640, 640, 480, [(640, 480)]), (640, 700, 640, [(700, 640), (640, 640), (640, 640)]),
    (640, 2560, 640, [(1280, 320)] + [(640, 640)] * 5), (2000, 2100, 2000, [(1280, 1219)] + [(1280, 1280)] * 2),
])
def test_what_detect_py_looks_at(tile, height, width, sides):
    looks = looks_at(np.zeros((height, width, 3), np.uint8), protocol_of("fitted", tile))
    assert [(round(look.scales[0] * (look.tile.y.end - look.tile.y.start)),
             round(look.scales[1] * (look.tile.x.end - look.tile.x.start))) for look in looks] == sides


def test_a_protocol_that_is_not_there_is_told():
    with pytest.raises(UserError, match="choose one of fitted, vga, original, 1600, multiscale"):
        protocol_of("640")
