"""How much memory is free."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def free_memory(device: torch.device) -> int | None:
    """Bytes that can still be had on a GPU, or in main memory for the CPU; None where the system does not tell."""
    if device.type == "cuda":
        import torch  # not above: drawing pictures, in several processes, does without it

        return torch.cuda.mem_get_info(device)[0]
    return free_main_memory()


def free_main_memory() -> int | None:
    """Bytes that Linux calls available, or less where a container's limit leaves less; None on other systems."""
    try:
        available = 1024 * _numbers(Path("/proc/meminfo"))["MemAvailable:"]
    except (OSError, KeyError):
        return None
    group = Path("/sys/fs/cgroup")
    try:
        limit = int((group / "memory.max").read_text())
        used = int((group / "memory.current").read_text())
        statistics = _numbers(group / "memory.stat")
    except (OSError, ValueError):  # no container, no limit ("max"), or the first version of control groups
        return available
    cached = statistics.get("active_file", 0) + statistics.get("inactive_file", 0)
    return min(available, max(0, limit - used + cached))


def _numbers(path: Path) -> dict[str, int]:
    """The first two words of each line: a name and a number."""
    lines = (line.split() for line in path.read_text().splitlines())
    return {words[0]: int(words[1]) for words in lines if len(words) > 1}
