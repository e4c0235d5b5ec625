"""The folder of a run: its files by name, tried and held before the first epoch, made complete when a run goes on."""

import contextlib
import os
import re
import shutil
from argparse import Namespace
from collections.abc import Iterable, Iterator
from pathlib import Path

from utils.errors import UserError
from utils.files import atomic_path, check_folder_is_writable
from utils.locks import folder_lock

#: What a run writes beside its checkpoints.
LOG, CURVES, BATCH = "training_log.csv", "training_curves.png", "training_batch.jpg"

LOCK = ".training.lock"

#: Checkpoints of a run of any network.
CHECKPOINT = re.compile(r"FeatherFace\w+_(last|best|final|epoch_\d+)\.pth")


def checkpoint_path(options: Namespace, name: str) -> Path:
    """Where a run keeps its checkpoint `name`: last, best, final, epoch_10."""
    return options.save_folder / f"FeatherFace{options.model.upper()}_{name}.pth"


def is_due(epoch: int, every: int, options: Namespace) -> bool:
    """Whether something done each `every` epochs is done after this one; always after the last."""
    return (epoch + 1) % every == 0 or epoch + 1 == options.epochs


def due_checkpoints(epoch: int, options: Namespace) -> list[str]:
    """Names of the checkpoints to write after an epoch, apart from the best and the last."""
    names = [f"epoch_{epoch + 1}"] if (epoch + 1) % options.save_every == 0 else []
    return [*names, "final"] if epoch + 1 == options.epochs else names


def newest_checkpoint(folder: Path) -> Path | None:
    """The checkpoint from which the run in a folder goes on: its last, else what was written latest."""
    try:
        found = [folder / name for name in os.listdir(folder) if CHECKPOINT.fullmatch(name)]
    except OSError:  # no folder, or none that can be made: told when it is tried
        return None
    return max(found, key=lambda path: (path.stem.endswith("_last"), os.lstat(path).st_mtime), default=None)


def check_for_earlier_run(folder: Path, source: Path | None) -> None:
    """UserError where a run would write over files of another. source: the checkpoint it goes on from, if any."""
    if source is not None and source.resolve().parent == folder.resolve():
        return
    if (found := newest_checkpoint(folder)) is not None:
        raise UserError(f"{found} is of an earlier run: go on with --resume_net {found}, or choose another "
                        "--save_folder")
    log = folder / LOG
    # A run that was stopped before its first checkpoint leaves one row, and may be started again.
    if os.path.isfile(log) and len(log.read_bytes().splitlines()) > 2:
        raise UserError(f"{log} is of an earlier run: move it away, or choose another --save_folder")


@contextlib.contextmanager
def hold_folder(folder: Path, paths: Iterable[Path]) -> Iterator[None]:
    """Make `folder`, keep other runs out of it, and see that files can be written at `paths` in it.

    UserError where one of these fails: now, and not after an epoch.
    """
    check_folder_is_writable(folder)
    with folder_lock(folder, LOCK):
        for path in paths:
            _try(path)
        yield


class _TriedError(Exception):
    """Ends a trial, so that nothing is renamed."""


def _try(path: Path) -> None:
    with contextlib.suppress(_TriedError), atomic_path(path) as temporary:
        temporary.write_bytes(bytes(4096))
        raise _TriedError


def write_missing(source: Path, paths: Iterable[Path]) -> list[Path]:
    """Copy a file to those of `paths` that are not there; returns them."""
    missing = [path for path in paths if not path.exists()]
    for path in missing:
        write_copy(source, path)
    return missing


def write_copy(source: Path, path: Path) -> None:
    """Copy a file to the place of another, or of none."""
    with atomic_path(path) as temporary:
        shutil.copyfile(source, temporary)
