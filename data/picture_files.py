"""Picture files under any path: read, decoded and written as bytes, so that OpenCV never sees a name."""

from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
from PIL import Image

from utils.errors import UserError
from utils.files import atomic_path

#: OpenCV's flags by the divisor of both sides.
REDUCED_COLOUR = {
    1: cv2.IMREAD_COLOR,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}


def read_picture(path: str | Path, upright: bool = False) -> np.ndarray | None:
    """uint8 [H, W, 3] BGR as stored, or None where the file is missing or no picture.

    EXIF rotation is applied only if `upright`: WIDER FACE boxes refer to the stored pixels.
    """
    data = read_bytes(path)
    return None if data is None else decode_picture(data, upright)


def read_bytes(path: str | Path) -> np.ndarray | None:
    """A file as uint8 [n], or None where it is missing or empty.

    The detour over bytes is for paths OpenCV cannot open on Windows (non-ASCII).
    """
    try:
        data = np.fromfile(path, dtype=np.uint8)
    except OSError:
        return None
    return data if data.size else None


def decode_picture(data: np.ndarray, upright: bool = False, reduction: int = 1) -> np.ndarray | None:
    """The bytes of a picture file -> uint8 [H, W, 3] BGR, or None where they are no picture.

    A JPEG can be decoded at 1/2, 1/4 or 1/8 of its scale (`reduction`), sides rounded up: each pixel then is
    the mean of a block, to a few levels.
    """
    flags = REDUCED_COLOUR[reduction] | (0 if upright else cv2.IMREAD_IGNORE_ORIENTATION)
    try:
        return cv2.imdecode(data, flags)
    except cv2.error:  # a broken header that claims a picture of gigantic size
        return None


def is_jpeg(data: np.ndarray) -> bool:
    """Whether the bytes of a file begin like a JPEG."""
    return bytes(data[:3]) == b"\xff\xd8\xff"


def picture_size(file: BinaryIO) -> tuple[int, int] | None:
    """Height and width as stored, from the header of a picture file alone; None where Pillow does not know it."""
    try:
        with Image.open(file) as picture:
            return picture.height, picture.width
    except (OSError, ValueError, Image.DecompressionBombError):
        return None


def picture_size_of(path: str | Path) -> tuple[int, int] | None:
    """Height and width as stored, from the header of a file, else by decoding it; None where that fails."""
    try:
        with open(path, "rb") as file:
            size = picture_size(file)
    except OSError:
        return None
    if size is None and (pixels := read_picture(path)) is not None:
        size = pixels.shape[:2]
    return size


def write_picture(path: str | Path, image: np.ndarray) -> None:
    """Write a uint8 [H, W, 3] BGR picture in the format its suffix names; UserError where it names none."""
    path = Path(path)
    try:
        encoded = cv2.imencode(path.suffix, image)[1]
    except cv2.error:
        raise UserError(f"cannot write {path}: '{path.suffix}' is no picture format; use .jpg or .png") from None
    with atomic_path(path) as temporary:
        encoded.tofile(temporary)
