"""Trainings that are killed for real, in processes of their own, and resumed: for tests/hostile_training.py."""

import contextlib
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import torch

from tests.tiny_training import EPOCHS, are_same, contents, go_on, tiny_flags, train
from utils.errors import UserError

#: Seconds after which a tiny training hangs.
PATIENCE = 180

#: Files that a tiny training renames: the picture of its first batch, of each epoch log, curves, _epoch_N, _best and
#: _last, of the last one _final too.
RENAMES = 1 + 5 * EPOCHS + 1


def in_child(work: Callable[[], object], delay: float | None = None) -> int | str:
    """Run `work` in a process of its own, killed after `delay` seconds; its exit code (-9: killed), or "hangs"."""
    child = os.fork()
    if not child:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        code = 1
        with contextlib.suppress(BaseException):
            try:
                work()
                code = 0
            except UserError:
                code = 2
        os._exit(code)
    deadline = time.monotonic() + (PATIENCE if delay is None else delay)
    while time.monotonic() < deadline:
        if (ended := os.waitpid(child, os.WNOHANG))[0]:
            return os.waitstatus_to_exitcode(ended[1])
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return "hangs" if delay is None else code


def killed_at_rename(run: list[str], number: int, before: bool) -> None:
    """A training that kills itself, for real, just before or just after its rename of that number."""
    rename, count = os.replace, iter(range(10**6))

    def rename_and_die(*paths) -> None:
        due = next(count) == number
        if not (due and before):
            rename(*paths)
        if due:
            os.kill(os.getpid(), signal.SIGKILL)

    os.replace = rename_and_die
    train(run)


def kills(folder: Path, draw: random.Random, labels: Path, tries: int) -> Iterator[tuple[str, str | None]]:
    """Trainings killed around each rename and at random moments, each resumed to its end: name and fault of each."""
    torch.set_num_threads(1)  # children are forked: no pool of threads must be there yet
    cv2.setNumThreads(0)
    start = time.monotonic()
    whole = folder / "whole"
    if in_child(lambda: train(tiny_flags(labels, whole))) != 0:
        raise UserError("the unbroken training did not end: nothing to compare with")
    length, expected = time.monotonic() - start, contents(whole)
    renames = [(f"{'before' if before else 'after'} rename {i}", i, before) for i in range(RENAMES)
               for before in (True, False)]
    moments = [(f"after {share:.0%} of the time", share * length, None) for share in
               (draw.random() for _ in range(tries - len(renames)))]
    for i, (name, place, before) in enumerate([*renames, *moments][:tries]):
        run = tiny_flags(labels, folder / str(i))
        if before is None:
            in_child(lambda run=run: train(run), delay=place)
        else:
            in_child(lambda run=run, place=place, before=before: killed_at_rename(run, place, before))
        code = in_child(lambda run=run: go_on(run))
        left = contents(folder / str(i))
        # Killed after all was done, it is refused: raise --epochs to go on.
        has_ended = code == 0 or (code == 2 and (before is None or (place, before) == (RENAMES - 1, False)))
        yield name, None if has_ended and are_same(expected, left) else f"ended with {code}, {sorted(left)}"
