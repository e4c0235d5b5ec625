"""The folder of a run: tried and held before the first epoch, and made complete when a killed run goes on."""

import contextlib
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from utils.files import atomic_path, check_folder_is_writable
from utils.locks import folder_lock

LOCK = ".training.lock"


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
        with atomic_path(path) as temporary:
            shutil.copyfile(source, temporary)
    return missing
