"""Pictures, videos and webcams as frames, and drawn frames written back as what they came from."""

import errno
import functools
import math
import os
import warnings
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from time import monotonic
from typing import NamedTuple

import cv2
import numpy as np

from data.animations import animation_frames, animation_length, is_animation
from data.picture_faults import file_fault, why_unreadable
from data.picture_files import encode_picture, read_picture
from detection.sources import Source, followed
from utils.errors import UserError
from utils.files import UnwritableError, atomic_path, name_in_utf8

#: Codecs OpenCV's own build can write, by suffix. A video of another kind becomes an .mp4.
CODECS = {".avi": "MJPG", ".m4v": "mp4v", ".mkv": "mp4v", ".mov": "mp4v", ".mp4": "mp4v"}

#: Shows whether a format can be written; .pgm cannot hold its colours.
SMALL_PICTURE = np.zeros((64, 64, 3), np.uint8)

#: Frames a second of a webcam or file that does not say it.
USUAL_RATE = 25.0


class UndrawableError(Exception):
    """A copy that no format or name can hold; the run goes on without it."""


class Frames(NamedTuple):
    """What a source shows, frame by frame; a picture is one frame."""

    images: Iterator[np.ndarray]  #: uint8 [H, W, 3] BGR, upright, at least one
    size: tuple[int, int]  #: width and height of the first
    count: int | None  #: as the file says it, an estimate in some containers; None where it does not
    rate: float  #: frames a second, 0 for a picture
    is_live: bool = False  #: of a webcam: what it shows while a frame is looked at is not among them


def quiet_decoders() -> None:
    """Keep OpenCV, FFmpeg and Pillow from writing about what they cannot open: the scripts say it."""
    warnings.filterwarnings("ignore", module="PIL")
    if hasattr(cv2, "setLogLevel"):  # before OpenCV 4.13
        cv2.setLogLevel(0)
    else:
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
    if not isinstance(place, int) and is_animation(place):
        return read_animation(place)
    if isinstance(place, int):
        capture = cv2.VideoCapture(place)
    elif os.path.isfile(place):  # a pipe would be waited for
        with name_in_utf8(place) as name:
            capture = cv2.VideoCapture(name)
    else:
        return None
    first = next_frame(capture)
    if first is None:
        return None
    count, rate = capture.get(cv2.CAP_PROP_FRAME_COUNT), capture.get(cv2.CAP_PROP_FPS)

    def images() -> Iterator[np.ndarray]:
        image = first
        while image is not None:
            yield image
            image = next_frame(capture)
        capture.release()

    size = (first.shape[1], first.shape[0])
    return Frames(images(), size, int(count) if 0 < count < math.inf else None, rate if rate > 0 else USUAL_RATE,
                  is_live=isinstance(place, int))


def read_animation(path: Path) -> Frames | None:
    """The frames of a picture that moves; None where there is not even one."""
    images = animation_frames(path)
    first = next(images, None)
    if first is None:
        return None
    count, rate = animation_length(path)
    return Frames(chain([first], images), (first.shape[1], first.shape[0]), count or None, rate or USUAL_RATE)


def why_no_frames(source: Source) -> str:
    """What is the matter with a file that read_frames gives None of, in a few words."""
    if source.is_video:
        return file_fault(source.place) or "no frame of it can be decoded: damaged, or no video"
    return why_unreadable(source.place)


def next_frame(capture: cv2.VideoCapture) -> np.ndarray | None:
    """The next frame, uint8 [H, W, 3]; None at the end and where the file is damaged."""
    try:
        is_read, image = capture.read()
    except cv2.error:
        return None
    return image if is_read else None


def plan_copies(folder: Path, sources: list[Source]) -> dict[Source, Path]:
    """Where the drawn copy of each source goes; UserError where one would replace a source or another copy.

    It has the name of the source, with a suffix more where its own cannot be written.
    """
    originals = {followed(source.place): source for source in sources if not source.is_webcam}
    copies: dict[Path, Source] = {}
    paths: dict[Source, Path] = {}
    for source in sources:
        path = folder / source.name
        if source.is_video:
            path = path if path.suffix.lower() in CODECS else path.with_name(f"{path.name}.mp4")
        elif not can_write(path.suffix.lower()):
            path = path.with_name(f"{path.name}.png")
        place = followed(path)
        if place in originals:
            raise UserError(f"--save {folder} would overwrite {originals[place]}: give another folder")
        if place in copies:
            raise UserError(f"the copies of {copies[place]} and {source} would have one name: look at one of them in a "
                            "run of its own")
        copies[place] = source
        paths[source] = path
    return paths


@functools.cache
def can_write(suffix: str) -> bool:
    """Whether OpenCV writes pictures of three colours under a suffix."""
    return encode_picture(SMALL_PICTURE, suffix) is not None


@contextmanager
def frame_writer(path: Path, frames: Frames, taken: Collection[Path]) -> Iterator[Callable[[np.ndarray], None]]:
    """A function that takes the drawn frames; `path` is there once all are written.

    A video keeps size and frame rate; an odd side loses its last pixel, which the encoders do not take. That of a
    webcam is as long as what it shows. Neither sound nor metadata is copied. A picture that its format cannot hold
    becomes a .png, under a name that is not in `taken`. UndrawableError where there is no way, UserError where not all
    arrived on the disk.
    """
    if not frames.rate:
        yield functools.partial(write_copy, path, taken)
        return
    count = 0
    with told_if_undrawable(), atomic_path(path) as temporary, name_in_utf8(temporary) as name:
        codec = cv2.VideoWriter_fourcc(*CODECS[path.suffix.lower()])
        writer = cv2.VideoWriter(name, codec, frames.rate, frames.size)
        if not writer.isOpened():
            raise UndrawableError(f"cannot write {path}: OpenCV makes no video of {frames.size[0]} x {frames.size[1]} "
                                  f"pixels and {frames.rate:g} frames a second")

        def write(image: np.ndarray) -> None:
            nonlocal count
            if image.shape[1::-1] != frames.size:  # as it changes in some streams; the writer would leave it out
                image = cv2.resize(image, frames.size)
            writer.write(image)
            count += 1

        try:
            yield kept_in_time(write, frames.rate) if frames.is_live else write
        finally:
            writer.release()
        arrived = count_frames(temporary)
        if arrived != count:  # the writer itself does not tell
            raise UserError(f"cannot write {path}: {arrived} of {count} frames arrived; is the disk full?")


def kept_in_time(write: Callable[[np.ndarray], None], rate: float) -> Callable[[np.ndarray], None]:
    """A function that writes a frame as often as it is seen at `rate` a second: for the time since the one before it.

    The first is written once or more, and one that comes before its time not at all. Where `write` is too slow for the
    rate, it gets no more time than was spent on the frame before, and what is written is too short.
    """
    start = ready = monotonic()
    written = 0

    def write_as_seen(image: np.ndarray) -> None:
        nonlocal ready, written
        now = monotonic()
        while written < max(1, round((now - start) * rate)) and monotonic() - now <= now - ready:
            write(image)
            written += 1
        ready = monotonic()

    return write_as_seen


def count_frames(path: Path) -> int:
    """How many frames of a video file can be read."""
    count = 0
    with name_in_utf8(path) as name:
        capture = cv2.VideoCapture(name)
        while capture.grab():
            count += 1
        capture.release()
    return count


def write_copy(path: Path, taken: Collection[Path], image: np.ndarray) -> None:
    """Write a drawn picture, as .png where its own format cannot hold it; UndrawableError where neither can.

    taken: paths that nothing may replace, `path` among them, their links followed.
    """
    data = encode_picture(image, path.suffix)
    if data is None:
        data = encode_picture(image, ".png")
        if data is None:
            raise UndrawableError(f"cannot write {path}: no format holds {image.shape[1]} x {image.shape[0]} pixels")
        while followed(path) in taken:
            path = path.with_name(f"{path.name}.png")
    with told_if_undrawable(), atomic_path(path) as temporary:
        temporary.write_bytes(data)


@contextmanager
def told_if_undrawable() -> Iterator[None]:
    """A name that becomes too long by what is added to it is the matter of one copy, not of the run."""
    try:
        yield
    except UnwritableError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        raise UndrawableError(str(error)) from None
