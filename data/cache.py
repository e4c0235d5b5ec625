"""All pictures decoded once, packed into one buffer in main memory or on the device."""

import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from data.augment import Cut
from data.config import MEAN_BGR
from data.pixels import DecodedPicture, PictureFiles, SizedPicture, cut_on_device
from utils import distributed
from utils.files import picture_size, read_picture
from utils.log import UserError
from utils.memory import free_memory

#: Values of --cache.
FILES, RAM, DEVICE = "none", "ram", "device"
CACHES = (FILES, RAM, DEVICE)

CPU = torch.device("cpu")


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
        """A picture; None where it could not be decoded."""
        return DecodedPicture(self.pixels(index).numpy()) if self.sizes[index].all() else None

    def for_loaders(self) -> "RamPictures":
        """What the loader's processes get."""
        return self


class DevicePictures(PackedPictures):
    """On the device, cut there by the training process."""

    def __init__(self, sizes: np.ndarray, buffer: Tensor):
        super().__init__(sizes, buffer)
        self._mean = torch.tensor(MEAN_BGR, dtype=torch.uint8, device=buffer.device)

    def for_loaders(self) -> "PictureSizes":
        """What the loader's processes get: nothing that lies on the device."""
        return PictureSizes(self.sizes)

    def show(self, cuts: list[tuple[int, Cut | None]], side: int) -> Tensor:
        """Samples cut out of pictures, by their numbers: uint8 [B, 3, side, side] in channels_last, on the device.

        A sample without a cut is mean colour.
        """
        images = self._mean.repeat(len(cuts), side, side, 1)
        for image, (index, cut) in zip(images, cuts):
            if cut is not None:
                cut_on_device(self.pixels(index), cut, image)
        return images.permute(0, 3, 1, 2)


class PictureSizes:
    """Pictures that are cut later, elsewhere: only their sizes are known here."""

    cuts_later = True

    def __init__(self, sizes: np.ndarray):
        self._sizes = sizes

    def open(self, index: int) -> SizedPicture | None:
        """The size of a picture; None where it could not be decoded."""
        return SizedPicture(*self._sizes[index].tolist()) if self._sizes[index].all() else None


Pictures = PictureFiles | RamPictures | DevicePictures


def open_pictures(paths: list[str], cache: str, device: torch.device) -> Pictures:
    """The pictures, decoded already where `cache` is RAM or DEVICE: in main memory, or on `device`.

    Says how much memory that takes; UserError where it is not there, before a picture is decoded.
    """
    if cache == FILES:
        return PictureFiles(paths)
    sizes = np.array(list(_in_threads(_read_size, paths, "sizes of the pictures")), np.int64).reshape(-1, 2)
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
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", 1)) if place.type == "cpu" else 1
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


def _read_size(path: str) -> tuple[int, int]:
    """Height and width from the header, else by decoding; 0, 0 where that fails."""
    try:
        with open(path, "rb") as file:
            size = picture_size(file)
    except OSError:
        return 0, 0
    if size is None and (pixels := read_picture(path)) is not None:
        size = pixels.shape[:2]
    return size or (0, 0)


def _in_threads(function: Callable, paths: list[str], words: str) -> Iterator:
    """function(path) of every path, in their order, with a bar; only a few results wait at any time."""
    threads = max(1, (os.cpu_count() or 1) // int(os.environ.get("LOCAL_WORLD_SIZE", 1)))
    remaining = iter(tqdm(paths, words, disable=not distributed.is_main()))
    with ThreadPoolExecutor(threads) as pool:
        waiting = [pool.submit(function, path) for path in islice(remaining, 2 * threads)]
        while waiting:
            yield waiting.pop(0).result()
            waiting.extend(pool.submit(function, path) for path in islice(remaining, 1))
