"""What a sample shows of a picture: on the CPU, on a device and from a file it is the same."""

from io import BytesIO

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from data.augment import ColourJitter, Cut
from data.config import MEAN_BGR
from data.picture_files import decode_picture, picture_size, read_picture, write_picture
from data.pictures import DecodedPicture, JpegPicture, PictureFiles
from data.pixels import cut_on_device, recolour, recolour_on_device
from utils.memory import free_memory

#: Of a level, between bytes and float32.
SAME_PIXELS = 2

CUTS = [
    Cut(0, 0, 200, 150, 0, 0, 200, 150, 200, 1),  # as it is, with a margin below
    Cut(17, 31, 40, 40, 0, 0, 96, 96, 96, 1),  # enlarged
    Cut(3, 5, 141, 141, 0, 0, 96, 96, 96, 1),  # shrunk
    Cut(0, 0, 200, 150, 4, 13, 90, 67, 96, 2),  # shrunk by more than 2
    Cut(8, 16, 192, 128, 3, 1, 9, 8, 12, 8),
    Cut(199, 149, 1, 1, 0, 0, 32, 32, 32, 1),  # a single pixel
    Cut(0, 0, 1, 150, 31, 0, 1, 32, 32, 1),  # a line
]


def picture_of_noise(height=150, width=200) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def on_cpu(picture: np.ndarray, cut: Cut) -> np.ndarray:
    canvas = np.zeros((cut.side, cut.side, 3), np.uint8)
    DecodedPicture(picture).show(cut, canvas)
    return canvas


def on_device(picture: np.ndarray, cut: Cut) -> np.ndarray:
    canvas = torch.tensor(MEAN_BGR, dtype=torch.uint8).repeat(cut.side, cut.side, 1)
    cut_on_device(torch.from_numpy(picture), cut, canvas)
    return canvas.numpy()


def in_floats(picture: np.ndarray, cut: Cut) -> np.ndarray:
    """The definition, by matrices: block means, then the triangle filter along each axis. float64 [h, w, 3]."""

    def weights(source: int, shown: int) -> np.ndarray:
        step = source / shown
        reach = max(step, 1)
        centres = (np.arange(shown)[:, None] + 0.5) * step
        triangle = np.clip(1 - np.abs(np.arange(source) + 0.5 - centres) / reach, 0, None)
        return triangle / triangle.sum(axis=1, keepdims=True)

    block = cut.reduction
    part = picture[cut.y : cut.y + cut.height, cut.x : cut.x + cut.width].astype(float)
    part = part.reshape(cut.height // block, block, cut.width // block, block, 3).mean(axis=(1, 3))
    rows, columns = weights(part.shape[0], cut.shown_height), weights(part.shape[1], cut.shown_width)
    return np.einsum("ijc,kj->ikc", np.einsum("ia,ajc->ijc", rows, part), columns)


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("cut", CUTS)
def test_cpu_and_device_follow_the_definition(cut, mirrored):
    picture = picture_of_noise()
    expected = np.tile(np.array(MEAN_BGR, float), (cut.side, cut.side, 1))
    place = slice(cut.top, cut.top + cut.shown_height), slice(cut.left, cut.left + cut.shown_width)
    expected[place] = in_floats(picture, cut)
    if mirrored:
        expected = expected[:, ::-1]
    cut = cut._replace(mirrored=mirrored)
    assert np.abs(on_device(picture, cut) - expected).max() <= 0.51
    assert np.abs(on_cpu(picture, cut) - expected).max() <= SAME_PIXELS


def test_small_faces_are_neither_blurred_nor_aliased():
    """Stripes finer than the canvas can show become grey; a face of 8 px keeps its contrast."""
    stripes = np.zeros((128, 128, 3), np.uint8)
    stripes[:, ::2] = 255
    cut = Cut(0, 0, 128, 128, 0, 0, 72, 72, 72, 1)
    face = np.zeros((128, 128, 3), np.uint8)
    face[60:74, 60:74] = 255
    for show in (on_cpu, on_device):
        assert np.abs(show(stripes, cut)[:, 2:-2].astype(int) - 128).max() < 40
        assert show(face, cut)[36:39, 36:39].min() > 250


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_jpeg_is_cut_before_it_is_decoded(tmp_path, mode):
    """Where nothing is reduced the pixels are those of the whole picture, decoded."""
    colours = picture_of_noise()
    picture = cv2.GaussianBlur(colours if mode == "RGB" else colours[..., 0], (0, 0), 2)
    write_picture(tmp_path / "a.jpg", picture)
    opened = PictureFiles([str(tmp_path / "a.jpg")]).open(0)
    assert isinstance(opened, JpegPicture) and (opened.height, opened.width) == (150, 200)
    canvas = np.zeros((96, 96, 3), np.uint8)
    assert opened.show(CUTS[2], canvas)
    np.testing.assert_array_equal(canvas, on_cpu(read_picture(tmp_path / "a.jpg"), CUTS[2]))


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
    assert opened is None or not opened.show(CUTS[2], np.zeros((96, 96, 3), np.uint8))
    assert PictureFiles([str(tmp_path / "absent.jpg")]).open(0) is None


def test_colours_are_the_same_on_cpu_and_device():
    jitter = ColourJitter()
    colours = torch.from_numpy(np.stack([jitter.plan_matrix(np.random.default_rng(seed)) for seed in range(16)]))
    images = torch.from_numpy(np.stack([picture_of_noise(48, 48)] * 16)).permute(0, 3, 1, 2)
    exact = torch.einsum("brc,bchw->brhw", colours[..., :3].double(), images.double()) + colours[..., 3, None, None]
    exact = exact.clamp(0, 255)
    by_opencv = recolour(images, colours)
    assert by_opencv.dtype == torch.uint8 and by_opencv.is_contiguous(memory_format=torch.channels_last)
    assert (by_opencv - exact).abs().max() <= 1
    assert (recolour_on_device(images, colours) - exact).abs().max() <= 0.51


def test_free_memory_is_told():
    free = free_memory(torch.device("cpu"))
    assert free is None or 0 < free < 2**50
