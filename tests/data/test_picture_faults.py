"""Why a file cannot be read as a picture."""

import os
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from data import picture_files
from data.picture_faults import file_fault, why_unreadable
from data.picture_files import encode_picture, read_picture
from tests.helpers import picture_of_noise

UNKNOWN = "no picture, or of an unknown format"


@pytest.mark.parametrize(("data", "why"), [
    (b"", "the file is empty"), (b"\0", UNKNOWN), (b"no picture", UNKNOWN), (b"\xff" * 4000, UNKNOWN),
    (b"\xff\xd8\xff", "a JPEG file that is"), (b"\x89PNG\r\n\x1a\n", "a PNG file that is"),
    (b"\0\0\0\x18ftypheic\0\0\0\0mif1", "HEIC, which is not read here"), (b"\xff\x0a\xfa", "JPEG XL"),
    (b"\0\0\0\x20ftypisom", "a video"), (b"\x1aE\xdf\xa3", "a video"), (b"<!DOCTYPE html><html>", "a web page"),
    (b"\n <svg>", "a web page or XML"), (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
    (b"%PDF-1.7", "a PDF"), (b"PK\x03\x04", "an archive"), (b"RIFF\0\0\0\0WEBPVP8 ", "a WebP file that is"),
])
def test_the_reason_is_what_the_file_begins_with(tmp_path, data, why):
    path = tmp_path / "ä.jpg"
    path.write_bytes(data)
    assert read_picture(path) is None
    assert why in why_unreadable(path) and "\n" not in why_unreadable(path)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".webp", ".tif"])
@pytest.mark.parametrize("kept", [0.3, 0.9])
def test_what_is_cut_short_is_named_with_its_format(tmp_path, suffix, kept):
    data = encode_picture(picture_of_noise(), suffix)
    path = tmp_path / f"a{suffix}"
    path.write_bytes(data[:int(kept * len(data))])
    if read_picture(path) is None:  # OpenCV before 5 fills a JPEG up
        kind = {".jpg": "JPEG", ".webp": "WebP", ".tif": "TIFF"}.get(suffix, suffix[1:].upper())
        assert why_unreadable(path).startswith(f"a {kind} file that is ") and "cut short" in why_unreadable(path)


@pytest.mark.parametrize(("suffix", "kind"), [(".tif", np.float32), (".tif", np.float64), (".tif", np.int32),
                                              (".pfm", np.float32)])
@pytest.mark.parametrize("channels", [(), (3,)])
def test_floats_are_named_and_not_read(tmp_path, suffix, kind, channels):
    """OpenCV gives a PFM of 0..1 as a black picture, and the others not at all."""
    pixels = np.full((20, 30, *channels), 100 if kind == np.int32 else 0.5, kind)
    (tmp_path / "a").write_bytes(cv2.imencode(suffix, pixels)[1].tobytes())
    assert read_picture(tmp_path / "a") is None and read_picture(tmp_path / "a", upright=True) is None
    why = f"with {kind.__name__} pixels, which are not read here: convert it to 8 bits a channel"
    assert why_unreadable(tmp_path / "a") == f"a {'TIFF' if suffix == '.tif' else 'PNM'} file {why}"


def test_floats_of_hdr_and_words_of_png_are_read(tmp_path):
    (tmp_path / "a").write_bytes(cv2.imencode(".hdr", np.full((20, 30, 3), 0.5, np.float32))[1].tobytes())
    assert abs(int(read_picture(tmp_path / "a").mean()) - 127) < 3
    (tmp_path / "b").write_bytes(cv2.imencode(".png", np.full((20, 30, 3), 1 << 15, np.uint16))[1].tobytes())
    assert read_picture(tmp_path / "b").mean() == 128


@pytest.mark.parametrize(("suffix", "size"), [(".png", (1_100_000, 1)), (".png", (1, 1_000_001)),
                                              (".tif", (1_100_000, 1)), (".png", (40_000, 40_000))])
def test_what_is_too_large_for_opencv_is_no_damage(tmp_path, monkeypatch, suffix, size):
    monkeypatch.setattr(picture_files, "free_main_memory", lambda: 1 << 50)
    path = tmp_path / f"a{suffix}"
    if max(size) > 100_000:
        Image.new("L", size).save(path)
    else:  # its header alone
        Image.new("L", (1, 1)).save(path)
        data = path.read_bytes()
        header = b"IHDR" + struct.pack(">II", *size) + data[24:29]
        path.write_bytes(data[:12] + header + struct.pack(">I", zlib.crc32(header)) + data[33:])
    assert read_picture(path) is None
    told = f"of {size[0]:,} x {size[1]:,} pixels, larger than OpenCV reads: make it smaller"
    assert why_unreadable(path) == f"a {'TIFF' if suffix == '.tif' else 'PNG'} file {told}"


def test_places_where_no_file_is(tmp_path):
    assert why_unreadable(tmp_path / "a.jpg") == "there is no such file"
    assert why_unreadable(tmp_path) == "a folder"
    if os.name != "nt":
        os.symlink("nowhere", tmp_path / "link")
        os.mkfifo(tmp_path / "pipe")
        assert why_unreadable(tmp_path / "link") == "a link to nothing"
        assert why_unreadable(tmp_path / "pipe") == "a pipe or a device, no file"


def test_a_file_with_something_in_it_has_no_fault(tmp_path):
    (tmp_path / "a").write_bytes(b"a")
    assert file_fault(tmp_path / "a") is None


def test_what_is_too_large_for_memory_is_told(tmp_path, monkeypatch):
    (tmp_path / "a.png").write_bytes(encode_picture(picture_of_noise(), ".png"))
    monkeypatch.setattr(picture_files, "LARGE_PICTURE", 1000)
    monkeypatch.setattr(picture_files, "free_main_memory", lambda: 2000)
    assert read_picture(tmp_path / "a.png") is None
    assert why_unreadable(tmp_path / "a.png") == "too large for the memory left"
