"""Why a file cannot be read as a picture, in a few words."""

import io
import os
import re
from pathlib import Path

import numpy as np
from PIL import Image

from data.picture_files import decode_as_stored, is_too_large, picture_size, read_bytes
from utils.errors import reason

#: How the files of formats begin that are read here.
FORMATS = (
    (rb"\xff\xd8\xff", "JPEG"), (rb"\x89PNG", "PNG"), (rb"GIF8", "GIF"), (rb"RIFF....WEBP", "WebP"), (rb"BM", "BMP"),
    (rb"II\*\0|MM\0\*", "TIFF"), (rb"....ftypavi[fs]", "AVIF"), (rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51", "JPEG 2000"),
    (rb"P[1-7fF]\s", "PNM"), (rb"#\?R", "HDR"),
)
#: What OpenCV reads at most, pixels: a side, one of a PNG, and both sides multiplied.
LARGEST_SIDE, LARGEST_PNG_SIDE, LARGEST_AREA = 1 << 20, 10**6, 1 << 30

#: How other files begin that come under the name of a picture, what they are, and what to do.
FOREIGN = (
    (rb"....ftyp(hei[cxms]|hevc|hevx|mif1|msf1)", "HEIC, which is not read here: convert it to JPEG"),
    (rb"\xff\x0a|\0\0\0\x0cJXL ", "JPEG XL, which is not read here: convert it to JPEG"),
    (rb"....ftyp|\x1aE\xdf\xa3|RIFF....AVI ", "a video: give it the suffix of one, such as .mp4"),
    (rb"version https://git-lfs", "a pointer of Git LFS: run git lfs pull"),
    (rb"\s*<", "a web page or XML, no picture: fetch the file itself"),
    (rb"%PDF", "a PDF document: convert its pages to pictures"),
    (rb"PK\x03\x04|Rar!|7z\xbc\xaf|\x1f\x8b", "an archive: unpack it"),
)


def why_unreadable(path: str | Path) -> str:
    """What is the matter with a file that read_picture gives None of, in a few words."""
    if fault := file_fault(path):
        return fault
    data = read_bytes(path)
    if data is None or is_too_large(data):
        return "too large for the memory left"
    start = bytes(data[:64])
    for signature, kind in FORMATS:
        if re.match(signature, start, re.DOTALL):
            return f"a {kind} file {beyond_opencv(data, kind) or fault_in(data)}"
    for signature, kind in FOREIGN:
        if re.match(signature, start, re.DOTALL):
            return kind
    return "no picture, or of an unknown format"


def file_fault(path: str | Path) -> str | None:
    """Why there is nothing to read in a file, in a few words; None where there is something."""
    if not os.path.exists(path):
        return "a link to nothing" if os.path.islink(path) else "there is no such file"
    if not os.path.isfile(path):
        return "a folder" if os.path.isdir(path) else "a pipe or a device, no file"
    try:
        with open(path, "rb") as file:
            return None if file.read(1) else "the file is empty"
    except OSError as error:
        return reason(error)


def beyond_opencv(data: np.ndarray, kind: str) -> str | None:
    """What an intact file of a format has that OpenCV does not read, and what to do; None where it is not known."""
    height, width = picture_size(io.BytesIO(data)) or (0, 0)
    if max(height, width) > (LARGEST_PNG_SIDE if kind == "PNG" else LARGEST_SIDE) or height * width > LARGEST_AREA:
        return f"of {width:,} x {height:,} pixels, larger than OpenCV reads: make it smaller"
    pixels = decode_as_stored(data)
    if pixels is not None and pixels.dtype.itemsize > 2:
        return f"with {pixels.dtype} pixels, which are not read here: convert it to 8 bits a channel"
    return None


def fault_in(data: np.ndarray) -> str:
    """What damage a file of a known format has."""
    return f"that is {'cut short' if is_cut_short(data) else 'damaged or cut short'}"


def is_cut_short(data: np.ndarray) -> bool:
    """Whether Pillow misses the end of a picture file; in formats that do not tell how long they are, nobody does."""
    try:
        with Image.open(io.BytesIO(data)) as picture:
            picture.load()
    except Exception as error:  # Pillow raises a different type for each kind of broken file
        return "truncated" in str(error).lower()
    return False
