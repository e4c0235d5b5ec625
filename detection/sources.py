"""What detect.py looks at: pictures, folders, patterns, videos and webcams, each named by one text."""

import glob
import os
import re
from collections.abc import Collection
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple

from data.animations import is_animation
from data.picture_files import PICTURE_SUFFIXES
from utils.errors import UserError
from utils.files import as_line, as_text, paths_below

#: Videos that a folder or a pattern is searched for, beside pictures.
VIDEO_SUFFIXES = {
    ".3g2", ".3gp", ".asf", ".avi", ".divx", ".f4v", ".flv", ".gif", ".m2ts", ".m2v", ".m4v", ".mjpeg", ".mkv", ".mov",
    ".mp4", ".mpe", ".mpeg", ".mpg", ".mts", ".mxf", ".ogv", ".qt", ".ts", ".vob", ".webm", ".wmv",
}


class Source(NamedTuple):
    """One picture, video or webcam."""

    place: Path | int  #: a file, or the number of a webcam
    name: Path  #: relative to the folder that all sources lie in; no two sources have the same
    is_video: bool  #: or a webcam, or a picture that moves

    @property
    def is_webcam(self) -> bool:
        return isinstance(self.place, int)

    def __str__(self) -> str:
        if isinstance(self.place, int):
            return f"webcam {self.place}"
        return as_line(self.place.as_posix())

    @property
    def text(self) -> str:
        """As records name it."""
        return str(self) if self.is_webcam else as_text(self.place.as_posix())


def find_sources(texts: list[str], results: Collection[Path] = ()) -> list[Source]:
    """The sources that texts name, each once, in their order; those of one text in alphabetical order.

    A text is the number of a webcam; a file, whatever its suffix; a folder, with all pictures and videos in it and in
    the folders below, links followed and hidden ones left out; or a pattern with *, ? and [], and ** for any depth.
    Where one of `results` is a folder below, it is left out: an earlier run put its drawings there. UserError where a
    text names nothing.
    """
    webcams = [text for text in texts if text.isascii() and text.isdigit() and len(text) < 10]  # no system has more
    if webcams and len(texts) > 1:
        raise UserError(f"{webcams[0]} is a webcam, which never ends: give it alone (./{webcams[0]} is the file)")
    if webcams:
        return [Source(int(webcams[0]), Path(f"webcam_{webcams[0]}"), is_video=True)]
    folders, places = [], {}
    for text in texts:
        folder, paths = files_of(text, results)
        folders.append(absolute(folder))
        for path in paths:
            places.setdefault(absolute(path), path)
    # Names start below the folder all have in common: pictures of one name in two folders stay apart.
    try:
        common = Path(os.path.commonpath(folders))
    except ValueError:
        raise UserError("the sources lie on two drives: look at each drive in a run of its own") from None
    return [Source(path, place.relative_to(common), is_video(path)) for place, path in places.items()]


def is_video(path: Path) -> bool:
    """Whether a file is looked at frame by frame: by its name, or because it is a picture that moves."""
    return path.suffix.lower() in VIDEO_SUFFIXES or is_animation(path)


def files_of(text: str, results: Collection[Path]) -> tuple[Path, list[Path]]:
    """The folder a text speaks of, and the files; UserError where there are none."""
    if re.match(r"\w{2,}://", text) and not os.path.lexists(text):
        raise UserError(f"{as_line(text)} is an address: save what is there as a file first, and give that")
    path = Path(text)
    if os.path.isfile(text):
        return path.parent, [path]
    if os.path.lexists(text) and not os.path.isdir(text):
        raise UserError(f"{text} is no ordinary file: give a picture, a folder or a video"
                        if os.path.exists(text) else f"{text} is a link to nothing: give what it was to be")
    if os.path.isdir(text):
        folder = path
        paths = paths_below(path)
        mistake = f"{text} holds no pictures and no videos"
    else:
        folder = Path(*takewhile(lambda part: not set(part) & set("*?["), path.parts[:-1]))
        paths = [Path(file) for file in glob.glob(text, recursive=True)]
        mistake = f"there is no {text}, and as a pattern it matches no picture and no video"
    known = sorted(file for file in paths if is_known(file))
    for place in map(followed, results):
        if not followed(folder).is_relative_to(place):
            known = [file for file in known if not followed(file.parent).is_relative_to(place)]
    if not known:
        raise UserError(f"{mistake}: give a picture, a folder, a pattern in quotes, a video or the number of a webcam")
    return folder, known


def is_known(path: Path) -> bool:
    """Whether a name says picture or video; what lies there, a pipe or a link to nothing, is told when it is read."""
    return path.suffix.lower() in PICTURE_SUFFIXES | VIDEO_SUFFIXES and not path.is_dir()


def absolute(path: Path) -> Path:
    """Without `..`, so that equal places have equal paths; links are left as they are."""
    return Path(os.path.abspath(path))


def followed(path: Path) -> Path:
    """With links followed, so that one file has one path; it need not be there."""
    return Path(os.path.realpath(path))
