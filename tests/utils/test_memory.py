"""How much memory is free."""

import sys

import pytest
import torch

from utils import memory
from utils.memory import free_main_memory, free_memory


@pytest.fixture
def system(tmp_path, monkeypatch):
    """A function that writes a file of the system, which from then on is the only one with such files."""
    monkeypatch.setattr(memory, "Path", lambda path: tmp_path / path.lstrip("/"))

    def write(path, text):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)

    return write


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not tell")
def test_free_memory_is_told():
    assert 0 < free_memory(torch.device("cpu")) < 2**50


def test_it_is_what_linux_calls_available(system):
    assert free_main_memory() is None
    system("proc/meminfo", "MemTotal:  4000 kB\nMemFree:  500 kB\nMemAvailable:  1000 kB\nHugePages_Total:  0\n")
    assert free_main_memory() == 1_024_000


@pytest.mark.parametrize(("limit", "used", "free"), [
    ("500000", 400_000, 150_000),  # what is cached, 50,000 bytes, can be had too
    ("500000", 600_000, 0),
    ("9000000", 400_000, 1_024_000),
    ("max", 400_000, 1_024_000),
])
def test_the_limit_of_a_container_counts(system, limit, used, free):
    system("proc/meminfo", "MemAvailable:  1000 kB\n")
    system("sys/fs/cgroup/memory.max", f"{limit}\n")
    system("sys/fs/cgroup/memory.current", f"{used}\n")
    system("sys/fs/cgroup/memory.stat", "anon 350000\nactive_file 20000\ninactive_file 30000\n")
    assert free_main_memory() == free
