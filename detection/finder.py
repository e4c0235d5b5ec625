"""Faces in pictures in a few lines of Python, with the defaults and the results of detect.py, which is built on it."""

from collections.abc import Iterable, Iterator
from numbers import Integral
from pathlib import Path

import numpy as np
import torch

from data.picture_faults import why_unreadable
from data.picture_files import read_picture
from detection import defaults
from detection.face_detector import load_detector
from detection.inference import detect_pictures
from detection.protocols import protocol_of
from detection.shipped import SHIPPED
from detection.suppression import Detections, DetectionSettings
from utils.errors import UserError, reason
from utils.files import as_line

#: Of one picture: candidates before suppression, and faces. Far above any crowd, for every face is wanted here.
MOST_CANDIDATES, MOST_FACES = 20_000, 5_000

PictureOrPath = np.ndarray | str | Path


class FaceFinder:
    """A trained detector, ready to be called with pictures.

    weights: a checkpoint, .pth or .onnx; those of the repo where none are given. device: "cpu", "cuda:1" or a
    torch.device; GPU 0 where there is one. confidence_threshold: faces have a higher score. nms_threshold: of boxes
    with a higher IoU the best stays. protocol and tile: sizes at which pictures are looked at, see
    detection.protocols. UserError where the weights cannot be used, there is no such device or protocol, a threshold is
    not in 0..1, or tile is no whole number of at least 64.
    """

    def __init__(
        self,
        weights: str | Path = SHIPPED,
        device: str | torch.device | None = None,
        confidence_threshold: float = defaults.CONFIDENCE_THRESHOLD,
        nms_threshold: float = defaults.NMS_THRESHOLD,
        protocol: str = defaults.PROTOCOL,
        tile: int | None = None,
    ):
        for name, value in (("confidence_threshold", confidence_threshold), ("nms_threshold", nms_threshold)):
            if not 0 <= value <= 1:  # nor is NaN
                raise UserError(f"{name} {value} is out of range, it must be 0 to 1")
        if tile is not None and not (isinstance(tile, Integral) and tile >= defaults.SMALLEST_TILE):
            raise UserError(f"tile {tile} must be a whole number of pixels, {defaults.SMALLEST_TILE} or more")
        self.protocol = protocol_of(protocol, tile)
        self.settings = DetectionSettings(confidence_threshold, MOST_CANDIDATES, nms_threshold, MOST_FACES)
        self.device = device_of(device)
        self.detector = load_detector(weights, self.device)

    def __call__(self, pictures: PictureOrPath | Iterable[PictureOrPath]) -> Detections | list[Detections]:
        """The faces of a picture, best first; of several pictures a list, in their order.

        A picture is a uint8 BGR array [H, W, 3], as cv2.imread gives it, or the path of a file, which is turned as its
        EXIF says. Boxes [n, 4] xyxy and landmarks [n, 5, 2] are in its pixels: left eye, right eye, nose, left and
        right corner of the mouth, left as seen in the picture. Several pictures, or the tiles of one, go through the
        network in batches where their sizes are equal. UserError where a file or an array is no picture.
        """
        is_one = isinstance(pictures, PictureOrPath)
        found = detect_pictures(self.detector, opened([pictures] if is_one else pictures), self.protocol,
                                self.settings, self.device)
        return found[0] if is_one else found


def device_of(device: str | torch.device | None) -> torch.device:
    """The device of a name, GPU 0 or else the CPU for None; UserError where there is no such device."""
    if device is None:
        return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    try:
        torch.empty(0, device=device)
        return torch.device(device)
    except (RuntimeError, AssertionError) as error:  # a build without CUDA says it by an assertion
        raise UserError(f"device {device} cannot be used ({reason(error)}): give cpu, cuda:0 or the like") from None


def opened(pictures: Iterable[PictureOrPath]) -> Iterator[np.ndarray]:
    """Pictures as uint8 BGR [H, W, 3]; UserError where one is none."""
    for picture in pictures:
        if isinstance(picture, np.ndarray):
            if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or not picture.size:
                raise UserError(f"an array of {picture.dtype} {list(picture.shape)} is no picture: give uint8 "
                                "[height, width, 3] in the order blue, green, red")
            yield picture
        elif isinstance(picture, str | Path):
            pixels = read_picture(picture, upright=True)
            if pixels is None:
                raise UserError(f"cannot read {as_line(str(picture))}: {why_unreadable(picture)}")
            yield pixels
        else:
            raise UserError(f"a {type(picture).__name__} is no picture: give an array or a path")
