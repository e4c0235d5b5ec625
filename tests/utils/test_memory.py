"""How much memory is free."""

import torch

from utils.memory import free_memory


def test_free_memory_is_told():
    free = free_memory(torch.device("cpu"))
    assert free is None or 0 < free < 2**50
