"""Epochs are permutations; shares of several sets are exact, in each epoch and over all."""

import numpy as np
import pytest

from data.sampler import EpochBatchSampler, quotas
from utils.errors import UserError


@pytest.mark.parametrize("pictures, batch_size", [(64, 8), (67, 8), (8, 8)])
def test_epoch_sees_every_picture_at_most_once(pictures, batch_size):
    sampler = EpochBatchSampler(pictures, batch_size, seed=1)
    sampler.set_epoch(3)
    batches = list(sampler)
    assert len(batches) == len(sampler) == pictures // batch_size
    assert all(len(batch) == batch_size for batch in batches)
    keys = [key for batch in batches for key in batch]
    assert {epoch for epoch, _ in keys} == {3}
    indices = [index for _, index in keys]
    assert len(set(indices)) == len(indices) and set(indices) <= set(range(pictures))
    assert list(sampler) == batches
    sampler.set_epoch(4)
    assert [[index for _, index in batch] for batch in sampler] != [[index for _, index in batch] for batch in batches]


@pytest.mark.parametrize("world_size", [2, 4])
def test_processes_share_what_one_would_see(world_size):
    one = list(EpochBatchSampler(50, 8, seed=1))
    parts = [list(EpochBatchSampler(50, 8, seed=1, rank=rank, world_size=world_size)) for rank in range(world_size)]
    assert [sum(batches, []) for batches in zip(*parts)] == one


def test_batch_must_be_divisible():
    with pytest.raises(UserError, match="batch of 9 .* 2 processes"):
        EpochBatchSampler(50, 9, seed=1, world_size=2)


def shown(sampler: EpochBatchSampler, epoch: int) -> list[int]:
    """Indices of all samples of an epoch."""
    sampler.set_epoch(epoch)
    return [index for batch in sampler for _, index in batch]


def test_shares_of_training_sets():
    """Of twelve samples nine come from two pictures, three from ten; a picture's second sample gets other draws."""
    sampler = EpochBatchSampler(12, 4, seed=0, quotas=quotas([2, 10], [0.75, 0.25], 4))
    first = shown(sampler, 0)
    assert shown(sampler, 1) != first == shown(sampler, 0) and len(set(first)) == 12
    pictures = np.array(first) % 12
    assert sorted(np.bincount(pictures[pictures < 2]).tolist()) == [4, 5] and len(set(pictures[pictures >= 2])) == 3
    assert min(shown(EpochBatchSampler(12, 12, 0, quotas=quotas([2, 10], [0, 1], 12)), 0)) % 12 == 2
    indices = np.array(shown(EpochBatchSampler(4, 8, 0, quotas=quotas([2, 2], [0.75, 0.25], 8)), 0))
    assert len(set(indices)) == 8 and np.bincount(indices % 4).tolist() == [3, 3, 1, 1]  # more than there are pictures


@pytest.mark.parametrize(("sizes", "shares", "batch_size"), [
    ([7, 40], [0.6, 0.4], 8), ([7, 40], [0.05, 0.95], 16), ([3, 2], [0.5, 0.5], 64), ([5, 5, 30], [1, 0, 2], 4),
])
def test_over_epochs_every_picture_of_a_set_is_seen_equally_often(sizes, shares, batch_size):
    parts = quotas(sizes, shares, batch_size)
    sampler = EpochBatchSampler(sum(sizes), batch_size, seed=3, quotas=parts)
    seen = np.zeros(sum(sizes), dtype=int)
    for epoch in range(9):
        indices = shown(sampler, epoch)
        assert len(indices) == len(set(indices)) == len(sampler) * batch_size
        seen += np.bincount(np.array(indices) % sum(sizes), minlength=sum(sizes))
        for part in parts:
            own = seen[part.first : part.first + part.pictures]
            assert own.sum() == (epoch + 1) * part.samples and np.ptp(own) <= 1
    other = EpochBatchSampler(sum(sizes), batch_size, seed=4, quotas=parts)
    assert shown(other, 5) != shown(sampler, 5)


def test_a_share_that_gives_no_sample_is_refused():
    with pytest.raises(UserError, match="0.001 gives training set 1 none of the 48 samples"):
        quotas([10, 40], [0.001, 1], 8)
