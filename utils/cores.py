"""How many processes and threads may compute at once; without PyTorch."""

import os


def usable_cores() -> int:
    """CPU cores that this process may run on: fewer than the machine has where it is tied to some."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
