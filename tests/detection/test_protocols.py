"""Sizes at which protocols look at pictures."""

import numpy as np
import pytest

from detection.inference import looks_at
from detection.protocols import PROTOCOLS


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
    looks = looks_at(np.zeros((height, width, 3), np.uint8), PROTOCOLS[protocol])
    looked = [(round(look.scales[0] * height), round(look.scales[1] * width)) for look in looks]
    assert looked == [size for size in sides for _ in range(2 if protocol == "multiscale" else 1)]
    assert [look.is_mirrored for look in looks] == ([False, True] * 5 if protocol == "multiscale" else [False])
    assert all(side % 32 == 0 for look in looks for side in look.image.shape[1:])
