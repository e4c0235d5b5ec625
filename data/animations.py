"""Pictures that move: WebP, PNG, AVIF and GIF of several frames, read by Pillow.

OpenCV's own reader of videos takes no WebP and no AVIF.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, ImageSequence

from data.picture_files import to_bgr

#: Formats of pictures that may move, by Pillow's names.
ANIMATED = {"AVIF", "GIF", "PNG", "WEBP"}


def is_animation(path: str | Path) -> bool:
    """Whether a file is a WebP, PNG, AVIF or GIF of several frames, by what it says of itself."""
    if not os.path.isfile(path):  # a pipe would be waited for
        return False
    try:
        with Image.open(path) as picture:
            return picture.format in ANIMATED and getattr(picture, "is_animated", False)
    except Exception:  # Pillow raises a different type for each kind of broken file
        return False


def animation_frames(path: str | Path) -> Iterator[np.ndarray]:
    """The frames of an animation, uint8 [H, W, 3] BGR, upright; they end early where the file is damaged."""
    try:
        with Image.open(path) as picture:
            for frame in ImageSequence.Iterator(picture):
                yield to_bgr(ImageOps.exif_transpose(frame))
    except Exception:  # as above
        return


def animation_length(path: str | Path) -> tuple[int, float]:
    """How many frames an animation says it has, and how many a second, by the first; 0 for what it does not say."""
    try:
        with Image.open(path) as picture:
            picture.load()  # before, WebP and AVIF do not say how long a frame is shown
            milliseconds = picture.info.get("duration") or 0
            return picture.n_frames, 1000 / milliseconds if milliseconds > 0 else 0.0
    except Exception:  # as above
        return 0, 0.0
