"""Pictures that move."""

import os

import numpy as np
import pytest
from PIL import Image, features

from data.animations import animation_frames, animation_length, is_animation
from data.picture_files import read_picture

KINDS = [kind for kind in ("PNG", "WEBP", "GIF", "AVIF") if kind != "AVIF" or features.check("avif")]


def write(path, kind, values, **options):
    images = [Image.fromarray(np.full((24, 40, 3), value, np.uint8)) for value in values]
    images[0].save(path, kind, save_all=True, append_images=images[1:], **options)
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_frames_come_in_their_order_with_their_rate(tmp_path, kind):
    path = write(tmp_path / "a.scan", kind, (10, 80, 200), duration=80)
    assert is_animation(path) and animation_length(path) == (3, 12.5)
    frames = list(animation_frames(path))
    assert [frame.shape for frame in frames] == [(24, 40, 3)] * 3 and frames[0].dtype == np.uint8
    assert np.abs([float(frame.mean()) for frame in frames] - np.array([10, 80, 200])).max() < 3


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])  # GIF has no EXIF, and Pillow writes no AVIF that moves with it
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_frame_is_turned_as_exif_says(tmp_path, kind, orientation):
    """As a still picture is. Of few colours, which all formats keep."""
    pixels = np.zeros((32, 64, 3), np.uint8)
    pixels[:16, :32], pixels[16:, :32], pixels[:16, 32:] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    images = [Image.fromarray(pixels // part) for part in (1, 2, 3)]
    exif = Image.Exif()
    exif[0x0112] = orientation
    images[0].save(tmp_path / "a", kind, save_all=True, append_images=images[1:], exif=exif, quality=95)
    frames = list(animation_frames(tmp_path / "a"))
    assert len(frames) == 3
    for frame, image in zip(frames, images):
        image.save(tmp_path / "still", "PNG", exif=exif)
        expected = read_picture(tmp_path / "still", upright=True)
        assert frame.shape == expected.shape == ((64, 32, 3) if orientation > 4 else (32, 64, 3))
        assert np.abs(frame.astype(int) - expected).mean() < 5


@pytest.mark.parametrize("kind", [*KINDS, "JPEG", "TIFF", "BMP"])
def test_a_still_picture_is_none(tmp_path, kind):
    Image.fromarray(np.zeros((24, 40, 3), np.uint8)).save(tmp_path / "a", kind)
    assert not is_animation(tmp_path / "a")


def test_colours_are_blue_green_red(tmp_path):
    images = [Image.new("RGB", (8, 8), colour) for colour in ((255, 0, 0), (0, 0, 255))]
    images[0].save(tmp_path / "a.png", save_all=True, append_images=images[1:])
    assert [frame[0, 0].tolist() for frame in animation_frames(tmp_path / "a.png")] == [[0, 0, 255], [255, 0, 0]]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("kept", [0, 1, 30, 0.5, 0.9])
def test_a_damaged_one_ends_early(tmp_path, kind, kept):
    images = [Image.fromarray(np.random.default_rng(seed).integers(0, 255, (24, 40, 3), np.uint8)) for seed in range(4)]
    images[0].save(tmp_path / "a", kind, save_all=True, append_images=images[1:])
    data = (tmp_path / "a").read_bytes()
    (tmp_path / "a").write_bytes(data[:int(kept * len(data)) if isinstance(kept, float) else kept])
    assert len(list(animation_frames(tmp_path / "a"))) <= animation_length(tmp_path / "a")[0] <= 4
    assert not is_animation(tmp_path / "a") or isinstance(kept, float)  # of the others not even the size is left


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such files")
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    assert not is_animation(tmp_path / "a.png") and not is_animation(tmp_path) and not is_animation("nowhere")
