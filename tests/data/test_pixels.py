"""What a sample shows of a picture: on the CPU and on a device it is the same."""

import numpy as np
import pytest
import torch

from data.augment import ColourJitter, Cut
from data.config import MEAN_BGR
from data.pictures import DecodedPicture
from data.pixels import cut_on_device, recolour, recolour_on_device
from tests.helpers import picture_of_noise

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
