"""Scripts run as a user runs them, in this process, and what came of it."""

import contextlib
import io
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.helpers import ROOT
from utils.errors import run_script


class Outcome(NamedTuple):
    """What a script left behind."""

    code: int | None
    out: str
    err: str


def run(main: Callable[[], int | None], *arguments: object) -> Outcome:
    """A script's main with those arguments."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2))
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        err.reconfigure(errors="backslashreplace")  # as Python has it
        patch.setattr(sys, "argv", ["script", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            run_script(main)
    texts = [stream.buffer.getvalue().decode() for stream in map(flushed, (out, err))]
    return Outcome(stop.value.code, *texts)


def flushed(stream: io.TextIOWrapper) -> io.TextIOWrapper:
    stream.flush()
    return stream


@contextlib.contextmanager
def largest_file(size: int) -> Iterator[None]:
    """A disk that takes no file of more bytes."""
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@contextlib.contextmanager
def held_by_another(folder: Path, name: str) -> Iterator[None]:
    """A folder whose lock of that name another process has: a process may hold its own lock twice."""
    hold = ("import sys; from pathlib import Path; from utils.locks import folder_lock\n"
            "with folder_lock(Path(sys.argv[1]), sys.argv[2]): print('held', flush=True); sys.stdin.read()")
    command, pipe = [sys.executable, "-c", hold, folder, name], subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True) as other:
        assert other.stdout.readline() == "held\n"
        yield
        other.communicate()


def interruptible() -> None:
    """For subprocess.Popen's preexec_fn: a process that Ctrl-C stops, even below a shell that ignores it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
