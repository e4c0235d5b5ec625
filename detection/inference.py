"""From pictures to faces: read, scale, pad, detect, suppress. Testing, training and detect.py share it."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from data.config import MEAN_BGR
from data.picture_files import read_picture
from detection.face_detector import Candidates
from detection.protocols import PROTOCOLS, Protocol
from detection.suppression import (
    Detections,
    DetectionSettings,
    above_threshold,
    from_tile,
    mirror,
    rescale,
    suppress,
    vote,
    without_parts,
)
from detection.tiles import Tile
from layers.anchors import STRIDES
from utils.errors import is_out_of_memory

#: Pixels that go through the network at once: four pictures of 640 x 640, or one larger picture.
BATCH_PIXELS = 4 * 640 * 640
#: What waits to be grouped by size: pixels, 200 MB of them, and looks, of which each holds a handle or two of the
#: shared memory it came in; a process often has 1,024 handles, on macOS 256.
WAITING_PIXELS = 1 << 26
WAITING_LOOKS = 96


class Look(NamedTuple):
    """A scaled picture or tile as a detector takes it, and the way back to the pixels of the picture itself."""

    image: Tensor  #: uint8 [3, H, W] BGR, padded right and below
    scales: tuple[float, float]  #: (y, x) factors, as rounding to whole pixels really gave them
    width: int  #: of the scaled tile without padding
    is_mirrored: bool
    tile: Tile


def scale_picture(picture: np.ndarray, scale: float) -> np.ndarray:
    """uint8 [H, W, 3] resized, at least one pixel a side: averaged down, interpolated up."""
    if scale == 1:
        return picture
    height, width = picture.shape[:2]
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)


def pad_picture(picture: np.ndarray) -> Tensor:
    """uint8 [H, W, 3] -> uint8 [3, H, W], padded right and below with the mean to multiples of the largest stride."""
    pad_height, pad_width = (-side % STRIDES[-1] for side in picture.shape[:2])
    picture = cv2.copyMakeBorder(picture, 0, pad_height, 0, pad_width, cv2.BORDER_CONSTANT, value=MEAN_BGR)
    return torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1)))


def looks_at(picture: np.ndarray, protocol: Protocol) -> Iterator[Look]:
    """All that a protocol shows a detector of a uint8 BGR picture [H, W, 3], one after the other."""
    for tile in protocol.tiles(*picture.shape[:2]):
        part = picture[tile.y.start : tile.y.end, tile.x.start : tile.x.end]
        height, width = part.shape[:2]
        for factor in protocol.factors(height, width):
            scaled = scale_picture(part, factor)
            scales = (scaled.shape[0] / height, scaled.shape[1] / width)
            yield Look(pad_picture(scaled), scales, scaled.shape[1], False, tile)
            if protocol.flip:
                yield Look(pad_picture(cv2.flip(scaled, 1)), scales, scaled.shape[1], True, tile)


@torch.inference_mode()
def detect_looks(
    detector: Callable[[Tensor], Candidates], looks: list[Look], settings: DetectionSettings, device: torch.device
) -> list[Candidates]:
    """Candidates above the threshold for looks of one size, in the pixels of the pictures they were taken of."""
    batch = detector(torch.stack([look.image for look in looks]).to(device))
    found = []
    for row, look in enumerate(looks):
        candidates = above_threshold(Candidates(*(field[row] for field in batch)), settings)
        if look.is_mirrored:
            candidates = mirror(candidates, look.width)
        found.append(from_tile(rescale(candidates, look.scales), look.tile))
    return found


def join_looks(candidates: list[Candidates], protocol: Protocol, settings: DetectionSettings) -> Detections:
    """The faces of one picture from what was found on each look at it."""
    join = vote if protocol.votes else suppress
    faces = join(Candidates(*(torch.cat(fields) for fields in zip(*candidates))), settings)
    return faces if protocol.seen_whole is None else without_parts(faces, protocol.seen_whole)


def detect_pictures(
    detector: Callable[[Tensor], Candidates],
    pictures: Iterable[np.ndarray],
    protocol: Protocol,
    settings: DetectionSettings,
    device: torch.device,
) -> list[Detections]:
    """The faces of each uint8 BGR picture [H, W, 3], in its pixels.

    Looks of one size go through the detector in batches, over the pictures. What waits is bounded, so pictures may be
    read as they are asked for.
    """
    found: list[list[Candidates]] = []

    def looks() -> Iterator[tuple[int, list[Look]]]:
        for index, picture in enumerate(pictures):
            found.append([])
            yield from ((index, [look]) for look in looks_at(picture, protocol))

    for window in windows(looks()):
        for batch in batches_of_equal_size(window):
            candidates = detect_looks(detector, [look for _, look in batch], settings, device)
            for (index, _), field in zip(batch, candidates):
                found[index].append(field)
    return [join_looks(candidates, protocol, settings) for candidates in found]


def detect(
    detector: Callable[[Tensor], Candidates],
    picture: np.ndarray,
    protocol: Protocol,
    settings: DetectionSettings,
    device: torch.device,
) -> Detections:
    """The faces of one uint8 BGR picture [H, W, 3], in its pixels."""
    return detect_pictures(detector, [picture], protocol, settings, device)[0]


class PictureFolder(Dataset):
    """Pictures read and scaled by a protocol: (index, looks), no looks where one cannot be read or held in memory."""

    def __init__(self, paths: list[Path], protocol: Protocol):
        self.paths = paths
        self.protocol = protocol

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[int, list[Look]]:
        picture = read_picture(self.paths[index])
        try:
            return index, [] if picture is None else list(looks_at(picture, self.protocol))
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            return index, []


def detect_files(
    detector: Callable[[Tensor], Candidates],
    paths: list[Path],
    protocol: str,
    settings: DetectionSettings,
    device: torch.device,
    workers: int = 0,
) -> Iterator[tuple[int, Detections | None]]:
    """Detections of every file as (index into paths, Detections in the pixels of the file, None if unreadable).

    Pictures that wait together go through the detector in batches of equal padded size, so the order is not that
    of `paths`. What waits is bounded: neither memory nor handles grow with the size of the set. A picture that memory
    does not suffice for counts as unreadable.
    """
    folder = PictureFolder(paths, PROTOCOLS[protocol])
    loader = DataLoader(folder, batch_size=None, num_workers=workers)
    for window in windows(loader):
        found: dict[int, list[Candidates]] = {index: [] for index, _ in window}
        too_large = set()
        for batch in batches_of_equal_size(window):
            try:
                candidates = detect_looks(detector, [look for _, look in batch], settings, device)
            except Exception as error:
                # Of one picture it is the picture's fault; what fits as a rule tells of the machine.
                if len(batch) > 1 or not is_out_of_memory(error):
                    raise
                too_large.add(batch[0][0])
                continue
            for (index, _), field in zip(batch, candidates):
                found[index].append(field)
        for index, candidates in found.items():
            is_read = candidates and index not in too_large
            yield index, join_looks(candidates, folder.protocol, settings) if is_read else None


def windows(loader: Iterable[tuple[int, list[Look]]]) -> Iterator[list[tuple[int, list[Look]]]]:
    """Consecutive pictures, as many as may wait together."""
    window, pixels, waiting = [], 0, 0
    for index, looks in loader:
        window.append((index, looks))
        pixels += sum(look.image[0].numel() for look in looks)
        waiting += len(looks)
        if pixels >= WAITING_PIXELS or waiting >= WAITING_LOOKS:
            yield window
            window, pixels, waiting = [], 0, 0
    if window:
        yield window


def batches_of_equal_size(window: list[tuple[int, list[Look]]]) -> Iterator[list[tuple[int, Look]]]:
    """The looks of a window, grouped by padded size, as many at once as BATCH_PIXELS allow."""
    groups: dict[torch.Size, list[tuple[int, Look]]] = {}
    for index, looks in window:
        for look in looks:
            groups.setdefault(look.image.shape, []).append((index, look))
    for shape, group in groups.items():
        size = max(1, BATCH_PIXELS // shape[1:].numel())
        yield from (group[start : start + size] for start in range(0, len(group), size))
