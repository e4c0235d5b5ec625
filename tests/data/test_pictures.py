"""Picture files opened for the loader: JPEGs cut before they are decoded, others whole, what is no picture."""

import cv2
import numpy as np
import pytest

from data.augment import Cut
from data.picture_files import read_picture, write_picture
from data.pictures import DecodedPicture, JpegPicture, PictureFiles
from tests.helpers import picture_of_noise

#: A part of a picture of 150 x 200, shrunk.
CUT = Cut(3, 5, 141, 141, 0, 0, 96, 96, 96, 1)


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_jpeg_is_cut_before_it_is_decoded(tmp_path, mode):
    """Where nothing is reduced the pixels are those of the whole picture, decoded."""
    colours = picture_of_noise()
    picture = cv2.GaussianBlur(colours if mode == "RGB" else colours[..., 0], (0, 0), 2)
    write_picture(tmp_path / "a.jpg", picture)
    opened = PictureFiles([str(tmp_path / "a.jpg")]).open(0)
    assert isinstance(opened, JpegPicture) and (opened.height, opened.width) == (150, 200)
    canvas = np.zeros((96, 96, 3), np.uint8)
    assert opened.show(CUT, canvas)
    expected = np.zeros_like(canvas)
    DecodedPicture(read_picture(tmp_path / "a.jpg")).show(CUT, expected)
    np.testing.assert_array_equal(canvas, expected)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".webp", ".pgm"])
def test_other_formats_are_decoded_whole(tmp_path, suffix):
    grey = picture_of_noise()[..., 0]
    path = tmp_path / f"a{suffix}"
    write_picture(path, grey)
    opened = PictureFiles([str(path)]).open(0)
    assert isinstance(opened, DecodedPicture) and (opened.height, opened.width) == (150, 200)


def test_what_is_no_picture(tmp_path):
    whole = cv2.imencode(".jpg", picture_of_noise())[1].tobytes()
    for place, data in enumerate([b"", b"no picture", b"\xff\xd8\xff", whole[:100]]):
        (tmp_path / str(place)).write_bytes(data)
        assert PictureFiles([str(tmp_path / str(place))]).open(0) is None
    header_alone = whole[: whole.index(b"\xff\xda")]  # of a size that is known, and nothing behind it
    (tmp_path / "header").write_bytes(header_alone)
    opened = PictureFiles([str(tmp_path / "header")]).open(0)
    assert opened is None or not opened.show(CUT, np.zeros((96, 96, 3), np.uint8))
    assert PictureFiles([str(tmp_path / "absent.jpg")]).open(0) is None
