"""Which pictures make up which batch: of one training set or of several, in one process or in several."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from torch.utils.data import Sampler

from utils.errors import UserError

Key = tuple[int, int]  #: epoch and index of a sample


class Quota(NamedTuple):
    """How many samples of an epoch come from one of several training sets that lie one after the other."""

    first: int  #: index of its first picture
    pictures: int
    samples: int

    def __str__(self) -> str:
        return f"{self.samples:,} samples an epoch, each picture {self.samples / self.pictures:.2g} times"


def quotas(sizes: list[int], shares: list[float], batch_size: int) -> list[Quota]:
    """The batches that as many samples make as the sets have pictures, or one, shared out in the ratio of `shares`.

    UserError where a set with a share gets none.
    """
    total = max(1, sum(sizes) // batch_size) * batch_size
    samples = np.diff(np.rint(np.cumsum([0.0, *shares]) / sum(shares) * total).astype(int))
    for number, (share, count) in enumerate(zip(shares, samples), start=1):
        if share and not count:
            raise UserError(f"argument --dataset_shares: {share:g} gives training set {number} none of the {total:,} "
                            "samples of an epoch: raise it, or leave the set out")
    return [Quota(*numbers) for numbers in zip(np.cumsum([0, *sizes]).tolist(), sizes, samples.tolist())]


class EpochBatchSampler(Sampler):
    """Batches of (epoch, index) keys: each epoch its own permutation by seed, cut into global batches.

    Of every global batch of batch_size pictures a process takes its own contiguous part, so that all processes together
    see what one would. The last, incomplete batch is left out; a set smaller than one batch is repeated to fill one.
    With quotas an epoch has the samples of each. They go on where those of the epoch before have ended: at any time
    each picture of a set has been seen as often as any other, or once more.
    """

    def __init__(
        self,
        pictures: int,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        quotas: Sequence[Quota] = (),
    ):
        if batch_size % world_size:
            raise UserError(f"a batch of {batch_size} cannot be shared equally by {world_size} processes")
        self.pictures = pictures
        self.batch_size = batch_size
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.quotas = quotas
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration goes through."""
        self.epoch = epoch

    def __len__(self) -> int:
        return max(1, self.pictures // self.batch_size)

    def __iter__(self) -> Iterator[list[Key]]:
        if self.quotas:
            samples = np.concatenate([self._samples(quota) for quota in self.quotas])
        else:
            samples = np.arange(max(self.pictures, self.batch_size))
        order = np.random.default_rng([self.seed, self.epoch]).permutation(samples)
        share = self.batch_size // self.world_size
        for batch in range(len(self)):
            start = batch * self.batch_size + self.rank * share
            yield [(self.epoch, int(index)) for index in order[start : start + share]]

    def _samples(self, quota: Quota) -> np.ndarray:
        """Indices of a set's samples, int64; a picture's second one lies beyond all pictures and gets other draws.

        They are a part of an endless row, in which every round shows all pictures of the set, in an order of its own.
        """
        start = self.epoch * quota.samples
        first, skipped = divmod(start, quota.pictures)
        rounds = -(-(skipped + quota.samples) // quota.pictures)
        indices = [np.empty(0, np.int64)]
        for turn in range(rounds):
            seed = np.random.SeedSequence(self.seed, spawn_key=(quota.first, first + turn))
            order = np.random.default_rng(seed).permutation(quota.pictures)
            indices.append(turn * self.pictures + quota.first + order)
        return np.concatenate(indices)[skipped : skipped + quota.samples]
