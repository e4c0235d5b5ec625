"""Blocks in both memory formats."""

import pytest
import torch

from benchmarks import memory_format
from benchmarks.memory_format import FORMATS, compare_formats, in_format, record_blocks, tensors_of
from models import build_model


@pytest.mark.parametrize("name", ["v1", "v2"])
def test_blocks_give_the_same_in_both_memory_formats(name):
    network = build_model(name).eval()
    blocks = record_blocks(network, 50 * torch.randn(2, 3, 64, 64))
    counted = sum(p.numel() for recorded in blocks.values() for block in recorded for p in block.module.parameters())
    assert counted == sum(p.numel() for p in network.parameters())  # no part is forgotten, none there twice
    for module, inputs in (block for recorded in blocks.values() for block in recorded):
        first, last = (in_format(inputs, memory_format, False) for memory_format in FORMATS.values())
        assert all(x.is_contiguous(memory_format=torch.channels_last) for x in tensors_of(last))
        for one, other in zip(tensors_of(module(*first)), tensors_of(module(*last)), strict=True):
            assert torch.allclose(one, other, atol=1e-3, rtol=1e-4)
    rows = compare_formats(network, torch.randn(1, 3, 32, 32), True, torch.float32, rounds=1)
    assert [row["part"] for row in rows] == list(blocks) and all(row["times as fast"] > 0 for row in rows)


def test_half_the_time_is_twice_as_fast(monkeypatch):
    """Channels first takes 10 ms, channels last 5."""
    monkeypatch.setattr(memory_format, "take_turns", lambda runs, rounds: dict(zip(runs, ([10.0] * 3, [5.0] * 3))))
    row = compare_formats(build_model("v2").eval(), torch.randn(1, 3, 32, 32), False, torch.float32, rounds=3)[0]
    assert (row["channels first, ms"], row["channels last, ms"], row["times as fast"]) == (10, 5, 2)
