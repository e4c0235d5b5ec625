"""How detect.py and FaceFinder look at pictures unless told otherwise. Light: --help reads it without PyTorch."""

CONFIDENCE_THRESHOLD = 0.5
NMS_THRESHOLD = 0.4
PROTOCOL = "fitted"

#: Side of a tile, pixels.
SMALLEST_TILE = 64
