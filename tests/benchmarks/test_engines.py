"""What runs a checkpoint, and the memory it takes."""

import subprocess

import pytest

from benchmarks import engines
from utils.errors import UserError


def test_peak_memory_is_that_of_a_fresh_process(monkeypatch, student_checkpoint):
    """At least the weights and one map of the first layer."""
    grown = engines.peak_memory(engines.PYTORCH, student_checkpoint, 320, 320)
    assert 4 * (254112 + 8 * 160 * 160) < grown < 500e6
    failed = subprocess.CompletedProcess([], 2, "", "error: no file\n")
    monkeypatch.setattr(subprocess, "run", lambda *command, **options: failed)
    with pytest.raises(UserError, match="no file"):
        engines.peak_memory(engines.PYTORCH, student_checkpoint, 64, 64)
