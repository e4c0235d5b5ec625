"""Reading picture files."""

from io import BytesIO

import cv2
import numpy as np
import pytest
from PIL import Image, features

from data.picture_files import decode_picture, lost_in_colour, page_count, picture_size, read_picture
from tests.helpers import picture_of_noise


def test_the_orientation_of_the_camera_is_ignored_at_every_scale():
    """Boxes are in the stored pixels."""
    file = BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    Image.fromarray(picture_of_noise()).save(file, "JPEG", exif=exif)
    data = np.frombuffer(file.getvalue(), np.uint8)
    assert picture_size(BytesIO(data)) == (150, 200)
    for reduction in (1, 2, 4, 8):
        assert decode_picture(data, reduction=reduction).shape[:2] == (-(-150 // reduction), -(-200 // reduction))
    assert decode_picture(data, upright=True).shape == (200, 150, 3)


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow reads no AVIF")
@pytest.mark.parametrize("orientation", range(1, 9))
def test_avif_is_turned_as_jpeg_is(tmp_path, orientation):
    """OpenCV leaves its rotation out. A picture of few colours, which both formats keep."""
    picture = np.zeros((48, 64, 3), np.uint8)
    picture[:24, :32], picture[24:, :32], picture[:24, 32:] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    for kind in ("AVIF", "JPEG"):
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.fromarray(picture).save(tmp_path / kind, kind, exif=exif, quality=95)
    turned, expected = (read_picture(tmp_path / kind, upright=True) for kind in ("AVIF", "JPEG"))
    assert turned.shape == expected.shape
    assert np.abs(turned.astype(int) - expected).mean() < 5
    assert read_picture(tmp_path / "AVIF").shape == (48, 64, 3)


DEPTH = "bits beyond 8 a channel"


@pytest.mark.parametrize(("suffix", "channels", "kind", "full", "lost"), [
    (".png", 3, np.uint8, True, []), (".png", 4, np.uint8, True, []), (".png", 4, np.uint8, False, ["transparency"]),
    (".png", 3, np.uint16, True, [DEPTH]), (".png", 4, np.uint16, True, [DEPTH]),
    (".png", 4, np.uint16, False, ["transparency", DEPTH]), (".png", 1, np.uint8, True, []),
    (".tif", 3, np.uint16, True, [DEPTH]), (".webp", 4, np.uint8, False, ["transparency"]),
    (".jpg", 3, np.uint8, True, []),
])
def test_what_is_lost_of_a_picture_as_it_is_read(tmp_path, suffix, channels, kind, full, lost):
    pixels = np.full((20, 30, channels), np.iinfo(kind).max, kind)
    if not full:
        pixels[:5, :5, 3] = np.iinfo(kind).max // 2
    (tmp_path / "a").write_bytes(cv2.imencode(suffix, pixels)[1].tobytes())
    assert lost_in_colour(tmp_path / "a") == lost


def test_nothing_is_lost_of_what_is_no_picture(tmp_path):
    (tmp_path / "a").write_bytes(b"no picture")
    assert lost_in_colour(tmp_path / "a") == lost_in_colour(tmp_path / "nowhere") == []


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_pages_of_a_tiff_are_counted_and_nothing_else_is(tmp_path):
    pages = [Image.new("RGB", (20, 30), (80 * index, 0, 0)) for index in range(3)]
    for kind, count in (("TIFF", 3), ("MPO", 1), ("GIF", 1), ("PNG", 1), ("WEBP", 1)):
        pages[0].save(tmp_path / kind, kind, save_all=True, append_images=pages[1:])
        assert page_count(tmp_path / kind) == count
    pages[0].save(tmp_path / "one", "TIFF")
    (tmp_path / "cut").write_bytes((tmp_path / "TIFF").read_bytes()[:40])
    assert [page_count(tmp_path / name) for name in ("one", "cut", "nowhere", ".")] == [1] * 4
