"""Pictures for label files of other formats, and WIDER FACE's official text."""

from pathlib import Path

import numpy as np
from PIL import Image

from data.picture_files import write_picture

#: Official lines of numbers end with a blank.
OFFICIAL_BOXES = """\
0--Parade/a.jpg
3
10 20 30 40 0 0 0 0 0 0_
1 2 3 4 2 0 0 1 2 0_
5 5 0 7 2 0 0 0 0 0_
0--Parade/empty.jpg
0
0 0 0 0 0 0 0 0 0 0_
1--Handshaking/b.jpg
1
7 8 9 10 0 0 0 0 0 0_
""".replace("_", " ")


def write_pictures(folder: Path, *names: str, height: int = 60, width: int = 80) -> None:
    """Grey pictures."""
    for name in names:
        write_picture(folder / name, np.full((height, width, 3), 90, np.uint8))


def write_turned(path: Path, orientation: int = 6) -> None:
    """A JPEG stored 80 wide and 60 high, which EXIF turns; its left half is black, the right one white."""
    pixels = np.zeros((60, 80, 3), np.uint8)
    pixels[:, 40:] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, exif=exif)
