"""The training loader: records and pictures -> augmented samples -> batches on the device.

What a sample shows is planned from its labels and the size of its picture (data/augment.py), before anything is
decoded. Loader processes then fill uint8 batches (data/pixels.py), or, where the pictures lie on the device, hand over
the plans; the training process cuts there, and recolours.
"""

import copy
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from data.augment import Augmentation, Cut, Sample, augment
from data.config import MEAN_BGR
from data.pictures import Pictures, RamPictures, can_fork
from data.pixels import Patch, blend, draw_mask, recolour
from data.sampler import EpochBatchSampler, Key
from data.targets import FACE, IGNORED, Targets
from data.widerface import Record
from utils.errors import UserError
from utils.memory import free_memory

#: Batches that a loader process draws ahead.
PREFETCH = 2

#: Where Linux keeps shared memory.
SHARED_MEMORY = Path("/dev/shm")

#: Bytes, just below glibc's limit for blocks that it keeps.
LARGEST_KEPT = 32 * 2**20 - 2**16


class LoadedBatch(NamedTuple):
    """What a loader process hands over."""

    images: Tensor | None  #: uint8 [B, 3, S, S], BGR, in channels_last; None where the device is to cut
    cuts: list[tuple[int, Cut | None]]  #: for the device: picture of each sample and its part, none if unreadable
    masks: list[Patch]
    colours: Tensor  #: float32 [B, 3, 4]
    targets: Targets
    unreadable: list[str]  #: paths of pictures that could not be decoded and are mean colour instead


class Batch(NamedTuple):
    """What the training loop gets, on its device."""

    images: Tensor  #: uint8 [B, 3, S, S], BGR, in channels_last memory format
    targets: Targets
    unreadable: list[str]  #: as above


class TrainingDataset(Dataset):
    """Batches of augmented training samples of image_size x image_size, by the keys of their samples.

    A key is (epoch, index): the sample depends on these and the seed alone, not on the worker, the process or what was
    drawn before, so a resumed run and a run over several processes see the same pictures. An index beyond the last
    picture starts over with other draws. pictures: those of the records, in their order; wherever they lie, cuts and
    faces are the same, and pixels as data/pixels.py says. augmentations must begin with the cut to image_size.
    """

    def __init__(
        self, records: list[Record], pictures: Pictures, image_size: int, seed: int, augmentations: list[Augmentation]
    ):
        self.records = records
        self.pictures = pictures
        self.image_size = image_size
        self.seed = seed
        self.augmentations = augmentations

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, keys: list[Key]) -> LoadedBatch:
        return self.fill(new_canvases(1, len(keys), self.image_size)[0], keys)

    def fill(self, canvases: Tensor, keys: list[Key]) -> LoadedBatch:
        """A batch whose pixels are on the canvases, uint8 [B, S, S, 3], unless they are cut on the device later."""
        samples = [self._sample(key, canvas) for key, canvas in zip(keys, canvases.numpy(), strict=True)]
        numbers = [index % len(self) for _, index in keys]
        later = self.pictures.cuts_later
        return LoadedBatch(
            images=None if later else canvases.permute(0, 3, 1, 2),
            cuts=[(number, sample.cut) for number, sample in zip(numbers, samples)] if later else [],
            masks=[draw_mask(place, mask) for place, sample in enumerate(samples) for mask in sample.masks],
            colours=torch.from_numpy(np.stack([sample.colour for sample in samples])),
            targets=collate_targets(samples),
            unreadable=[self.records[i].path for i, sample in zip(numbers, samples) if sample.cut is None],
        )

    def plan(self, key: Key, height: int, width: int) -> Sample:
        """The faces of a sample, and what becomes of the pixels of its picture, which has that size."""
        epoch, index = key
        record = self.records[index % len(self)]
        sample = Sample(height, width, record.boxes, record.landmarks, record.has_landmarks, record.ignored)
        return augment(sample, self.augmentations, np.random.default_rng([self.seed, epoch, index]))

    def _sample(self, key: Key, canvas: np.ndarray) -> Sample:
        """A sample whose pixels are on the canvas, unless they are cut later."""
        picture = self.pictures.open(key[1] % len(self))
        if picture is not None:
            sample = self.plan(key, picture.height, picture.width)
            if self.pictures.cuts_later or picture.show(sample.cut, canvas):
                return sample
        return self._blank(canvas)

    def _blank(self, canvas: np.ndarray) -> Sample:
        """What stands in for a picture that cannot be decoded: mean colour and no faces."""
        canvas[:] = MEAN_BGR
        none = np.zeros(0, dtype=bool)
        boxes, landmarks = np.zeros((0, 4), np.float32), np.zeros((0, 5, 2), np.float32)
        side = self.image_size
        return Sample(side, side, boxes, landmarks, none, none)


def new_canvases(batches: int, pictures: int, side: int) -> Tensor:
    """uint8 [N, B, S, S, 3] for N batches, not initialised."""
    return torch.from_numpy(np.empty((batches, pictures, side, side, 3), np.uint8))


def collate_targets(samples: list[Sample]) -> Targets:
    """The faces of a batch in one flat list."""
    faces = [len(sample.boxes) for sample in samples]
    ignored = torch.from_numpy(np.concatenate([sample.ignored for sample in samples]))
    return Targets(
        picture=torch.repeat_interleave(torch.arange(len(samples)), torch.tensor(faces)),
        boxes=torch.from_numpy(np.concatenate([sample.boxes for sample in samples])),
        landmarks=torch.from_numpy(np.concatenate([sample.landmarks for sample in samples])),
        has_landmarks=torch.from_numpy(np.concatenate([sample.has_landmarks for sample in samples])),
        role=torch.where(ignored, IGNORED, FACE).to(torch.int8),
        weights=torch.ones(sum(faces)),
    )


class TrainingLoader:
    """Batches on the device, by processes that live through all epochs.

    Call sampler.set_epoch before iterating, nothing else. Batches are drawn onto a ring of canvases, in shared memory
    where there are processes: fresh memory for each would cost a page fault for every 4 kB of it. A canvas is drawn on
    again when the batch after the next is asked for, and what is handed out is a copy, on the device or recoloured.
    """

    def __init__(self, dataset: TrainingDataset, sampler: EpochBatchSampler, num_workers: int, device: torch.device):
        self._pictures = dataset.pictures
        self._side = dataset.image_size
        self._device = device
        # One for all epochs: memory that one stream has freed serves no other.
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        loading = copy.copy(dataset)
        loading.pictures = dataset.pictures.for_loaders()
        share = sampler.batch_size // sampler.world_size
        # On their way are PREFETCH batches a process; one more is with the training loop, one about to be.
        side = 0 if loading.pictures.cuts_later else self._side
        _check_memory((PREFETCH * num_workers + 2) * share * side * side * 3)
        canvases = new_canvases(PREFETCH * num_workers + 2, share, side)
        if num_workers:
            _check_shared_memory(canvases.nbytes, num_workers)
            canvases.share_memory_()
        else:
            _keep_freed_memory()
        self.loaded = DataLoader(
            _Ring(loading, canvases),
            batch_size=None,  # a key of the sampler is a batch
            sampler=_Turns(sampler),
            num_workers=num_workers,
            prefetch_factor=PREFETCH if num_workers else None,
            worker_init_fn=_start_worker,
            persistent_workers=num_workers > 0,
            pin_memory=device.type == "cuda",
            multiprocessing_context="fork" if num_workers and isinstance(loading.pictures, RamPictures) and can_fork()
            else None,
            # Its own generator: the loader's draw of a base seed must not move the global one.
            generator=torch.Generator(),
        )

    def __len__(self) -> int:
        return len(self.loaded)

    def __iter__(self) -> Iterator[Batch]:
        if self._stream is None:
            yield from map(self._finish, self.loaded)
            return
        main = torch.cuda.current_stream(self._device)
        for loaded in self.loaded:
            with torch.cuda.stream(self._stream):  # a batch is made while the GPU computes the step before
                batch = self._finish(loaded)
            main.wait_stream(self._stream)
            for tensor in (batch.images, *batch.targets):
                tensor.record_stream(main)  # else its memory would serve the next batch while this one is read
            yield batch

    def preview(self, pictures: int) -> Batch:
        """The first pictures of the epoch's first batch, by this process; what is iterated over stays the same."""
        _, keys = next(iter(self.loaded.sampler))
        return self._finish(self.loaded.dataset.dataset[keys[:pictures]])

    def _finish(self, loaded: LoadedBatch) -> Batch:
        """What is left to do on the device."""
        if loaded.images is None:
            images = self._pictures.show(loaded.cuts, self._side)
        else:
            images = loaded.images.to(self._device, non_blocking=True)
        blend(images, loaded.masks)
        colours = loaded.colours.to(self._device, non_blocking=True)
        return Batch(recolour(images, colours), loaded.targets.to(self._device), loaded.unreadable)


class _Turns(Sampler):
    """The batches of a sampler, numbered."""

    def __init__(self, sampler: EpochBatchSampler):
        self.sampler = sampler

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[tuple[int, list[Key]]]:
        return enumerate(self.sampler)


class _Ring(Dataset):
    """Batches drawn onto one canvas after the other."""

    def __init__(self, dataset: TrainingDataset, canvases: Tensor):
        self.dataset = dataset
        self.canvases = canvases

    def __getitem__(self, turn: tuple[int, list[Key]]) -> LoadedBatch:
        number, keys = turn
        return self.dataset.fill(self.canvases[number % len(self.canvases)], keys)


def _check_memory(needed: int) -> None:
    """UserError where main memory is too small: the system hands it out none the less, and kills the run later."""
    free = free_memory(torch.device("cpu"))
    if free is not None and needed > free:
        raise UserError(f"the batches on their way need {needed / 1e9:,.1f} GB, and {free / 1e9:,.1f} GB of memory are "
                        "free: take a smaller --batch_size or --image_size, or fewer workers")


def _check_shared_memory(needed: int, num_workers: int) -> None:
    """UserError where the system's shared memory is too small; a container often has 64 MB of it."""
    if SHARED_MEMORY.is_dir() and shutil.disk_usage(SHARED_MEMORY).free < needed:
        raise UserError(f"--num_workers {num_workers} needs {needed / 1e6:,.0f} MB in {SHARED_MEMORY}, "
                        f"{shutil.disk_usage(SHARED_MEMORY).free / 1e6:,.0f} MB are free: take fewer workers, or give "
                        "the container more (docker run --shm-size)")


def _start_worker(worker: int) -> None:
    """One thread a worker: the workers are the parallelism."""
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    _keep_freed_memory()


def _keep_freed_memory() -> None:
    """Let the C library keep the memory of a decoded picture for the next, in place of giving it back each time.

    glibc keeps blocks up to the size of the largest that was freed, 32 MB at most; until then each picture costs a page
    fault for every 4 kB.
    """
    np.empty(LARGEST_KEPT, np.uint8)
