"""Files that are never half-written, and pictures under any path."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from utils.log import UserError


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A temporary path in the folder of `path`, renamed to `path` on success and removed on failure."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # The suffix stays last: image and plot writers choose the format by it.
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())  # else a power cut can leave the new name with nothing in it
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def read_picture(path: str | Path, upright: bool = False) -> np.ndarray | None:
    """uint8 [H, W, 3] BGR as stored, or None where the file is missing or no picture.

    EXIF rotation is applied only if `upright`: WIDER FACE boxes refer to the stored pixels. The detour over bytes
    is for paths OpenCV cannot open on Windows (non-ASCII).
    """
    try:
        data = np.fromfile(path, dtype=np.uint8)
    except OSError:
        return None
    if not data.size:
        return None
    try:
        return cv2.imdecode(data, cv2.IMREAD_COLOR | (0 if upright else cv2.IMREAD_IGNORE_ORIENTATION))
    except cv2.error:  # a broken header that claims a picture of gigantic size
        return None


def write_picture(path: str | Path, image: np.ndarray) -> None:
    """Write a uint8 [H, W, 3] BGR picture in the format its suffix names; UserError where it names none."""
    path = Path(path)
    try:
        encoded = cv2.imencode(path.suffix, image)[1]
    except cv2.error:
        raise UserError(f"cannot write {path}: '{path.suffix}' is no picture format; use .jpg or .png") from None
    with atomic_path(path) as temporary:
        encoded.tofile(temporary)
