"""Picture files under any path: read, decoded and written as bytes, so that OpenCV never sees a name."""

import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
from PIL import ExifTags, Image, ImageOps

from utils.errors import UserError
from utils.files import atomic_path
from utils.memory import free_main_memory

Image.MAX_IMAGE_PIXELS = None  # Pillow reads headers here, which are the way to know that a picture is too large

#: What names of pictures end in: all that OpenCV reads, by the names in use, and what it does not read but people have
#: (HEIC, JPEG XL), or reads wrongly (PFM): such pictures are to be named, not passed over.
PICTURE_SUFFIXES = {
    ".apng", ".avif", ".avifs", ".bmp", ".dib", ".heic", ".heif", ".hdr", ".j2c", ".j2k", ".jfi", ".jfif", ".jif",
    ".jp2", ".jpc", ".jpe", ".jpeg", ".jpf", ".jpg", ".jpx", ".jxl", ".mpo", ".pam", ".pbm", ".pfm", ".pgm", ".pic",
    ".pjp", ".pjpeg", ".png", ".pnm", ".ppm", ".ras", ".sr", ".tif", ".tiff", ".webp",
}

#: Bytes of decoded pixels from which on it is asked whether they fit into memory: the system ends what takes too much.
LARGE_PICTURE = 1 << 28

#: Formats that OpenCV writes with transparency, by their suffixes.
WITH_ALPHA = {".png", ".tif", ".tiff", ".webp"}
OPAQUE = 255
TRANSPARENCY = "transparency"

#: How PFM begins, a picture of floats, mostly in 0..1. OpenCV takes them for bytes, and gives grey ones as [H, W].
PFM = (b"PF", b"Pf")

#: EXIF orientations: the one that changes nothing, and those that swap height and width.
AS_STORED, SIDEWAYS = 1, range(5, 9)

#: OpenCV's flags by the divisor of both sides.
REDUCED_COLOUR = {
    1: cv2.IMREAD_COLOR,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}

def read_picture(path: str | Path, upright: bool = False) -> np.ndarray | None:
    """uint8 [H, W, 3] BGR as stored, or None where the file is missing, no picture, or too large for the memory left.

    EXIF rotation is applied only if `upright`: WIDER FACE boxes refer to the stored pixels.
    """
    data = read_bytes(path)
    if data is None or is_too_large(data):
        return None
    return decode_picture(data, upright)


def is_too_large(data: np.ndarray) -> bool:
    """Whether the bytes of a picture file are of one that the memory left does not suffice for."""
    size = picture_size(io.BytesIO(data))
    return size is not None and LARGE_PICTURE < 3 * size[0] * size[1] > (free_main_memory() or np.inf)


def read_bytes(path: str | Path) -> np.ndarray | None:
    """A file as uint8 [n], or None where it is missing, empty, too large for memory, or a pipe or a device.

    The detour over bytes is for paths OpenCV cannot open: on Windows all that are not ASCII, elsewhere not UTF-8.
    """
    try:
        # A pipe would be waited for, and a device has no end.
        data = np.fromfile(path, dtype=np.uint8) if os.path.isfile(path) else np.empty(0, np.uint8)
    except (OSError, ValueError, MemoryError):
        return None
    return data if data.size else None


def decode_picture(data: np.ndarray, upright: bool = False, reduction: int = 1) -> np.ndarray | None:
    """The bytes of a picture file -> uint8 [H, W, 3] BGR, or None where they are no picture, or PFM.

    A JPEG can be decoded at 1/2, 1/4 or 1/8 of its scale (`reduction`), sides rounded up: each pixel then is
    the mean of a block, to a few levels.
    """
    if bytes(data[:2]) in PFM:
        return None
    flags = REDUCED_COLOUR[reduction] | (0 if upright else cv2.IMREAD_IGNORE_ORIENTATION)
    try:
        if upright and (turned := turned_avif(data)) is not None:
            return turned
        return cv2.imdecode(data, flags)
    except (cv2.error, MemoryError):  # a header that claims a picture of gigantic size, rightly or not
        return None


def decode_as_stored(data: np.ndarray) -> np.ndarray | None:
    """The bytes of a picture file as OpenCV finds them, [H, W] or [H, W, C] of any type; None where it does not."""
    try:
        return cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    except (cv2.error, MemoryError):  # as above
        return None


def turned_avif(data: np.ndarray) -> np.ndarray | None:
    """The bytes of an AVIF file that is to be turned or mirrored -> uint8 [H, W, 3] BGR, upright; None for any other.

    OpenCV leaves the rotation of AVIF out, which stands beside EXIF.
    """
    if bytes(data[4:11]) != b"ftypavi":
        return None
    try:
        with Image.open(io.BytesIO(data)) as picture:
            if picture.getexif().get(ExifTags.Base.Orientation, AS_STORED) == AS_STORED:
                return None
            return to_bgr(ImageOps.exif_transpose(picture))
    except Exception:  # Pillow raises a different type for each kind of broken file; it reads AVIF from 11.3 on
        return None


def to_bgr(picture: Image.Image) -> np.ndarray:
    """uint8 [H, W, 3] BGR."""
    return np.ascontiguousarray(np.asarray(picture.convert("RGB"))[..., ::-1])


def read_alpha(path: str | Path) -> np.ndarray | None:
    """How opaque the pixels of a picture file are, uint8 [H, W], upright; None where all are, or it does not say."""
    try:
        with Image.open(path) as picture:
            if "A" not in picture.getbands() and "transparency" not in picture.info:
                return None
            alpha = np.array(ImageOps.exif_transpose(picture).convert("RGBA").getchannel("A"))
    except Exception:  # Pillow raises a different type for each kind of broken file
        return None
    return alpha if (alpha < OPAQUE).any() else None


def lost_in_colour(path: str | Path) -> list[str]:
    """What a file has beyond the 8-bit BGR that it is read as, in words: transparency, more bits. Never of a JPEG."""
    data = read_bytes(path)
    if data is None or is_jpeg(data):
        return []
    pixels = decode_as_stored(data)
    if pixels is None:
        return []
    is_clear = pixels.ndim == 3 and pixels.shape[2] == 4 and (pixels[..., 3] < full_value(pixels.dtype)).any()
    return [TRANSPARENCY] * bool(is_clear) + ["bits beyond 8 a channel"] * (pixels.dtype != np.uint8)


def page_count(path: str | Path) -> int:
    """How many pages a TIFF file says it has, of which read_picture reads the first; 1 for any other file."""
    try:
        with Image.open(path, formats=["TIFF"]) as picture:
            return picture.n_frames
    except Exception:  # Pillow raises a different type for each kind of broken file, and for another format
        return 1


def full_value(kind: np.dtype) -> float:
    """The brightest value of a type of pixels."""
    return np.iinfo(kind).max if np.issubdtype(kind, np.integer) else 1.0


def is_jpeg(data: np.ndarray) -> bool:
    """Whether the bytes of a file begin like a JPEG."""
    return bytes(data[:3]) == b"\xff\xd8\xff"


def picture_size(file: BinaryIO) -> tuple[int, int] | None:
    """Height and width as stored, from the header of a picture file alone; None where Pillow does not know it."""
    try:
        with Image.open(file) as picture:
            return picture.height, picture.width
    except Exception:  # Pillow raises a different type for each kind of broken file
        return None


def picture_size_of(path: str | Path) -> tuple[int, int] | None:
    """Height and width as stored, from the header of a file, else by decoding it; None where that fails."""
    if not os.path.isfile(path):  # a pipe would be waited for
        return None
    try:
        with open(path, "rb") as file:
            size = picture_size(file)
    except OSError:
        return None
    if size is None and (pixels := read_picture(path)) is not None:
        size = pixels.shape[:2]
    return size


def orientation_of(path: str | Path) -> int:
    """How EXIF says that a picture is to be turned or mirrored, 1 to 8; AS_STORED where it says nothing."""
    try:
        with Image.open(path) as picture:
            found = picture.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # as above
        return AS_STORED
    return found if found in range(1, 9) else AS_STORED


def upright_bytes(path: str | Path) -> bytes | None:
    """A picture file turned as its EXIF says, in the same format; a JPEG loses a little. None where it is damaged."""
    data = io.BytesIO()
    try:
        with Image.open(path) as picture:
            ImageOps.exif_transpose(picture).save(data, format=picture.format, quality=95)
    except Exception:  # as above
        return None
    return data.getvalue()


def encode_picture(image: np.ndarray, suffix: str, options: Sequence[int] = ()) -> bytes | None:
    """The bytes of a uint8 BGR picture [H, W, 3] in the format a suffix names; None where that cannot hold it.

    A fourth channel, how opaque pixels are, is kept by the formats of WITH_ALPHA. JPEG ends at 65,500 pixels a side,
    WebP at 16,383, .pgm has no colours, .pfm no bytes, and .xyz is no format. options: OpenCV's.
    """
    if not suffix.isascii() or suffix.lower() == ".pfm":  # OpenCV ends the process at a name that is not UTF-8
        return None
    try:
        is_encoded, data = cv2.imencode(suffix, image, options)
    except cv2.error:
        return None
    return data.tobytes() if is_encoded else None


def write_picture(path: str | Path, image: np.ndarray) -> None:
    """Write a uint8 [H, W, 3] BGR picture in the format its suffix names; UserError where that cannot hold it."""
    path = Path(path)
    data = encode_picture(image, path.suffix)
    if data is None:
        raise UserError(f"cannot write {path}: '{path.suffix}' is no format for a picture of {image.shape[1]} x "
                        f"{image.shape[0]} pixels; use .jpg or .png")
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)
