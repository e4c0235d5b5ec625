"""The pictures of a training set: files read for every sample, or all decoded once, in main memory or on the device."""

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from itertools import islice
from typing import NamedTuple, Protocol

import cv2
import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from data.augment import Cut
from data.config import FILES, MEAN_BGR, RAM
from data.picture_files import (
    decode_picture,
    is_jpeg,
    picture_size,
    picture_size_of,
    read_bytes,
    read_picture,
)
from data.pixels import cut_on_device, resize_onto
from utils import distributed
from utils.cores import usable_cores
from utils.errors import UserError
from utils.memory import free_memory

CPU = torch.device("cpu")


class PictureSize(NamedTuple):
    """All that a plan needs of a picture whose pixels are cut later."""

    height: int
    width: int


class Picture(Protocol):
    """A picture that a loader process can show."""

    height: int
    width: int

    def show(self, cut: Cut, canvas: np.ndarray) -> bool:
        """Fill the canvas, uint8 [S, S, 3], with a part; False where the picture cannot be decoded after all."""


class Pictures(Protocol):
    """What the loader needs of a set of pictures, wherever they lie."""

    #: Whether the training process cuts them, on the device; then `open` gives sizes, else pictures to show.
    cuts_later: bool

    def open(self, index: int) -> Picture | PictureSize | None:
        """A picture by its number; None where it cannot be decoded."""

    def for_loaders(self) -> "Pictures":
        """What loader processes get of the set: nothing that lies on a device."""


class DecodedPicture:
    """A picture in memory, uint8 [H, W, 3]."""

    def __init__(self, pixels: np.ndarray):
        self.height, self.width = pixels.shape[:2]
        self._pixels = pixels

    def show(self, cut: Cut, canvas: np.ndarray) -> bool:
        """As Picture.show."""
        part = self._pixels[cut.y : cut.y + cut.height, cut.x : cut.x + cut.width]
        if cut.reduction > 1:
            size = (cut.width // cut.reduction, cut.height // cut.reduction)
            part = cv2.resize(part, size, interpolation=cv2.INTER_AREA)
        resize_onto(canvas, part, cut)
        return True


class JpegPicture:
    """The bytes of a JPEG whose size is known: decoded when, and at the scale at which, it is shown."""

    def __init__(self, data: np.ndarray, height: int, width: int):
        self.height, self.width = height, width
        self._data = data

    def show(self, cut: Cut, canvas: np.ndarray) -> bool:
        """As Picture.show."""
        pixels = decode_picture(self._data, reduction=cut.reduction)
        if pixels is None or pixels.shape[:2] != (-(-self.height // cut.reduction), -(-self.width // cut.reduction)):
            return False
        x, y, width, height = (number // cut.reduction for number in cut[:4])
        resize_onto(canvas, pixels[y : y + height, x : x + width], cut)
        return True


class PictureFiles:
    """Pictures that are read and decoded for every sample."""

    cuts_later = False

    def __init__(self, paths: list[str]):
        self.paths = paths

    def open(self, index: int) -> DecodedPicture | JpegPicture | None:
        """As Pictures.open; of a JPEG only the header is read yet."""
        data = read_bytes(self.paths[index])
        if data is None:
            return None
        size = picture_size(BytesIO(data)) if is_jpeg(data) else None
        if size is not None:
            return JpegPicture(data, *size)
        pixels = decode_picture(data)
        return None if pixels is None else DecodedPicture(pixels)

    def for_loaders(self) -> "PictureFiles":
        """All of it."""
        return self


class PackedPictures:
    """Pictures one after the other in one uint8 tensor, each [H, W, 3] BGR."""

    def __init__(self, sizes: np.ndarray, buffer: Tensor):
        self.sizes = sizes  #: int64 [N, 2], height and width; 0, 0 of what cannot be decoded
        self.buffer = buffer
        self._starts = 3 * (sizes.prod(axis=1).cumsum() - sizes.prod(axis=1))

    def pixels(self, index: int) -> Tensor:
        """A picture where it lies, uint8 [H, W, 3]."""
        height, width = self.sizes[index].tolist()
        start = int(self._starts[index])
        return self.buffer[start : start + 3 * height * width].view(height, width, 3)


class RamPictures(PackedPictures):
    """In main memory, cut by the loader's processes."""

    cuts_later = False

    def open(self, index: int) -> DecodedPicture | None:
        """As Pictures.open."""
        return DecodedPicture(self.pixels(index).numpy()) if self.sizes[index].all() else None

    def for_loaders(self) -> "RamPictures":
        """All of it: main memory is shared."""
        return self


class PictureSizes:
    """Pictures that are cut later, elsewhere: only their sizes are known here."""

    cuts_later = True

    def __init__(self, sizes: np.ndarray):
        self.sizes = sizes  #: int64 [N, 2], height and width; 0, 0 of what cannot be decoded

    def open(self, index: int) -> PictureSize | None:
        """As Pictures.open."""
        return PictureSize(*self.sizes[index].tolist()) if self.sizes[index].all() else None

    def for_loaders(self) -> "PictureSizes":
        """The sizes."""
        return PictureSizes(self.sizes)


class DevicePictures(PackedPictures, PictureSizes):
    """On the device, cut there by the training process."""

    def __init__(self, sizes: np.ndarray, buffer: Tensor):
        super().__init__(sizes, buffer)
        self._mean = torch.tensor(MEAN_BGR, dtype=torch.uint8, device=buffer.device)

    def show(self, cuts: list[tuple[int, Cut | None]], side: int) -> Tensor:
        """Samples cut out of pictures, by their numbers: uint8 [B, 3, side, side] in channels_last, on the device.

        A sample without a cut is mean colour.
        """
        images = self._mean.repeat(len(cuts), side, side, 1)
        for image, (index, cut) in zip(images, cuts):
            if cut is not None:
                cut_on_device(self.pixels(index), cut, image)
        return images.permute(0, 3, 1, 2)


def open_pictures(paths: list[str], cache: str, device: torch.device) -> Pictures:
    """The pictures, decoded already where `cache` is RAM or DEVICE: in main memory, or on `device`.

    Says how much memory that takes; UserError where it is not there, before a picture is decoded.
    """
    if cache == FILES:
        return PictureFiles(paths)
    read = _in_threads(picture_size_of, paths, "sizes of the pictures")
    sizes = np.array([size or (0, 0) for size in read], np.int64).reshape(-1, 2)
    place = CPU if cache == RAM else device
    bytes_needed = 3 * int(sizes.prod(axis=1).sum())
    _check_memory(cache, len(paths), bytes_needed, place)
    distributed.wait_for_all()  # else one would see less free because another fills its buffer already
    pictures = (RamPictures if cache == RAM else DevicePictures)(sizes, _allocate(bytes_needed, place))
    for index, pixels in enumerate(_in_threads(read_picture, paths, "pictures decoded")):
        if pixels is not None and pixels.shape[:2] == tuple(sizes[index]):
            pictures.pixels(index).copy_(torch.from_numpy(pixels))
        else:
            sizes[index] = 0
    return pictures


def _check_memory(cache: str, pictures: int, bytes_needed: int, place: torch.device) -> None:
    # Each process fills a buffer of its own, and those of one machine share its main memory.
    processes = distributed.processes_here() if place.type == "cpu" else 1
    free = free_memory(place)
    needed = f"--cache {cache} needs {bytes_needed * processes / 1e9:.1f} GB for {pictures:,} pictures"
    if processes > 1:
        needed += f" in {processes} processes"
    if free is None:
        distributed.say(f"{needed}; how much is free this system does not tell")
    elif bytes_needed * processes > free:
        raise UserError(f"{needed}, and {free / 1e9:.1f} GB are free ({place}): leave --cache out")
    else:
        distributed.say(f"{needed}, {free / 1e9:.1f} GB are free ({place})")


def _allocate(size: int, place: torch.device) -> Tensor:
    """uint8 [size]; main memory that loader processes read without a copy."""
    if place.type != "cpu":
        return torch.empty(size, dtype=torch.uint8, device=place)
    if can_fork():  # what is there before the fork is seen by all; numpy asks for huge pages
        return torch.from_numpy(np.empty(size, np.uint8))
    return torch.empty(size, dtype=torch.uint8).share_memory_()


def can_fork() -> bool:
    """Whether loader processes can be started as copies of this one."""
    return "fork" in multiprocessing.get_all_start_methods()


def _in_threads(function: Callable, paths: list[str], words: str) -> Iterator:
    """function(path) of every path, in their order, with a bar; only a few results wait at any time."""
    threads = max(1, usable_cores() // distributed.processes_here())
    remaining = iter(tqdm(paths, words, disable=not distributed.is_main()))
    with ThreadPoolExecutor(threads) as pool:
        waiting = [pool.submit(function, path) for path in islice(remaining, 2 * threads)]
        while waiting:
            yield waiting.pop(0).result()
            waiting.extend(pool.submit(function, path) for path in islice(remaining, 1))
