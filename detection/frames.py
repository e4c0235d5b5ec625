"""Pictures, videos and webcams as frames, and drawn frames written back as what they came from."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from data.picture_files import read_picture, write_picture
from detection.sources import Source
from utils.errors import UserError
from utils.files import atomic_path

#: Codecs OpenCV's own build can write, by suffix. A video of another kind becomes an .mp4.
CODECS = {".avi": "MJPG", ".m4v": "mp4v", ".mkv": "mp4v", ".mov": "mp4v", ".mp4": "mp4v"}

#: Frames a second of a webcam or file that does not say it.
USUAL_RATE = 25.0


class Frames(NamedTuple):
    """What a source shows, frame by frame; a picture is one frame."""

    images: Iterator[np.ndarray]  #: uint8 [H, W, 3] BGR, upright, at least one
    size: tuple[int, int]  #: width and height of the first
    count: int | None  #: as the file says it, an estimate in some containers; None where it does not
    rate: float  #: frames a second, 0 for a picture


def quiet_opencv() -> None:
    """Keep OpenCV and FFmpeg from writing about what they cannot open: the scripts say it."""
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")


def read_frames(source: Source) -> Frames | None:
    """The frames of a source; None where not even one can be read."""
    if source.is_video:
        return read_video(source.place)
    picture = read_picture(source.place, upright=True)
    return None if picture is None else Frames(iter([picture]), (picture.shape[1], picture.shape[0]), 1, 0.0)


def read_video(place: Path | int) -> Frames | None:
    """The frames of a video file or webcam, turned as the file says; None where there is not even one."""
    capture = cv2.VideoCapture(place if isinstance(place, int) else str(place))
    is_read, first = capture.read()
    if not is_read:
        return None
    count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    rate = capture.get(cv2.CAP_PROP_FPS)

    def images() -> Iterator[np.ndarray]:
        is_read, image = True, first
        while is_read:
            yield image
            is_read, image = capture.read()
        capture.release()

    size = (first.shape[1], first.shape[0])
    return Frames(images(), size, count if count > 0 else None, rate if rate > 0 else USUAL_RATE)


def drawn_path(folder: Path, source: Source) -> Path:
    """Where the drawn copy of a source goes: under its name, with a suffix more where its own cannot be written."""
    path = folder / source.name
    if source.is_video:
        return path if path.suffix.lower() in CODECS else path.with_name(f"{path.name}.mp4")
    return path if cv2.haveImageWriter(path.name) else path.with_name(f"{path.name}.png")


@contextmanager
def frame_writer(path: Path, frames: Frames) -> Iterator[Callable[[np.ndarray], None]]:
    """A function that takes the drawn frames; `path` is there once all are written.

    A video keeps size and frame rate; an odd side loses its last pixel, which the encoders do not take. Neither
    sound nor metadata is copied.
    """
    if not frames.rate:
        yield lambda image: write_picture(path, image)
        return
    with atomic_path(path) as temporary:
        codec = cv2.VideoWriter_fourcc(*CODECS[path.suffix.lower()])
        writer = cv2.VideoWriter(str(temporary), codec, frames.rate, frames.size)
        if not writer.isOpened():
            raise UserError(f"OpenCV cannot write {path} ({frames.size[0]} x {frames.size[1]}, {frames.rate:g} frames "
                            "a second): save elsewhere or leave this video out")
        try:
            yield writer.write
        finally:
            writer.release()
