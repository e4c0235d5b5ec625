"""One run a folder: a lock that the system takes back when its process ends, however it ends."""

import contextlib
import errno
import os
import platform
from collections.abc import Iterator
from pathlib import Path

from utils.errors import UserError
from utils.files import output_errors

#: Where in the file the lock lies: behind what is written there, which others can read that way on Windows too.
PLACE = 2**30


@contextlib.contextmanager
def folder_lock(folder: Path, name: str) -> Iterator[None]:
    """Hold `folder` against every other process that asks for it by the same name, of the file with the lock.

    UserError where another process holds it. A file left behind by a killed process is no lock.
    """
    path = folder / name
    with output_errors(path):
        file = _open_locked(path)
    try:
        os.write(file, f"process {os.getpid()} on {platform.node()}\n".encode())
        yield
    finally:
        if os.name != "nt":
            path.unlink(missing_ok=True)  # before it is let go, so that nobody locks a file that is about to go
        os.close(file)
        if os.name == "nt":  # where an open file cannot be removed
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)


def _open_locked(path: Path) -> int:
    """A descriptor of the file, locked and empty."""
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            _lock(file)
            if os.path.exists(path) and os.path.samestat(os.fstat(file), os.stat(path)):
                os.truncate(file, 0)
                return file
        except BlockingIOError:
            holder = os.read(file, 200).decode(errors="replace").strip() or "another process"
            os.close(file)
            raise UserError(f"{path.parent} is being written to by another run ({holder}): wait for its end, or choose "
                            "another folder") from None
        os.close(file)  # the run that held it has just ended, and removed it


def _lock(file: int) -> None:
    """Lock an open file or raise BlockingIOError; where the file system knows no locks, nothing."""
    try:
        if os.name == "nt":
            import msvcrt

            os.lseek(file, PLACE, os.SEEK_SET)
            try:
                msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
            finally:
                os.lseek(file, 0, os.SEEK_SET)
        else:
            import fcntl

            # Not flock: loader processes would inherit it, and outlive a killed run by seconds.
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, PLACE)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN, errno.EDEADLK):
            raise BlockingIOError from None
