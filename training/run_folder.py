"""The folder of a run: tried and held before the first epoch, and made complete when a killed run goes on."""

import contextlib
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from utils.errors import UserError
from utils.files import atomic_path
from utils.locks import folder_lock

LOCK = ".training.lock"


@contextlib.contextmanager
def hold_folder(folder: Path, paths: Iterable[Path]) -> Iterator[None]:
    """Make `folder`, keep other runs out of it, and see that files can be written at `paths` in it.

    UserError where one of these fails: now, and not after an epoch. What killed runs left half-written is removed.
    """
    with contextlib.ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(folder_lock(folder, LOCK))
            for left in folder.glob(".*.partial.*"):
                left.unlink()
            for path in paths:
                _try(path)
        except OSError as error:
            raise UserError(f"cannot write to {folder} ({error.strerror}): choose another --save_folder") from None
        yield


def _try(path: Path) -> None:
    """OSError where no file can be written beside `path`, UserError where none can take its place."""
    if path.is_dir():
        raise UserError(f"{path} is a folder, where a file is to be written: choose another --save_folder")
    trial = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")
    trial.write_bytes(bytes(4096))
    trial.unlink()


def write_missing(source: Path, paths: Iterable[Path]) -> list[Path]:
    """Copy a checkpoint to those of `paths` that are not there; returns them."""
    missing = [path for path in paths if not path.exists()]
    for path in missing:
        with atomic_path(path) as temporary:
            shutil.copyfile(source, temporary)
    return missing
