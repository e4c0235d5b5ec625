"""Files that are never half-written, and files told apart."""

import contextlib
import errno
import functools
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

from utils.errors import UserError, reason

#: What stands beside a file until it is whole: its stem, the number of the process, its suffix.
PARTIAL = re.compile(r"\.(.+)\.[0-9]+\.partial(.*)", re.DOTALL)

#: Bytes of a name that leave room for what is added to it: file systems allow 255.
LONGEST_STEM = 200
LONGEST_SUFFIX = 16


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A temporary file in the folder of `path`, renamed to `path` on success and removed on failure.

    Where `path` is a link, that of the file it leads to, and the link stays. What a killed run has left of the same
    file is removed first. UserError where `path` cannot be written, at once where that can be known.
    """
    path = Path(path)
    with output_errors(path):
        if path.exists() and not path.is_file():
            raise UserError(f"cannot write {path}: {'a folder' if path.is_dir() else 'no ordinary file'} is there")
        target = target_of(path)
        with _kept(target, path.suffix) as temporary:
            yield temporary
            with open(temporary, "rb+") as file:
                os.fsync(file.fileno())  # else a power cut can leave the new name with nothing in it
            os.replace(temporary, target)


@contextlib.contextmanager
def atomic_folder(folder: str | Path) -> Iterator[Path]:
    """The same for a folder with all that is written into it. One that stands there is replaced as a whole."""
    folder = Path(folder)
    with output_errors(folder):
        target = target_of(folder)
        if target.exists() and not target.is_dir():
            raise UserError(f"cannot write {folder}: a file is there, no folder: move it away or give another place")
        if os.path.ismount(target):
            raise UserError(f"cannot write {folder}: {target} is where a disk is mounted, and cannot be replaced as a "
                            "whole: link or give a folder on that disk")
        with _kept(target, target.suffix, is_folder=True) as temporary:
            yield temporary
            # Named like what a killed run leaves, so that the next one removes it.
            old = temporary.with_name(temporary.name.replace(f".{os.getpid()}.", ".0.", 1))
            if target.exists():
                os.replace(target, old)
            os.replace(temporary, target)
            _remove(old)


def write_json(path: str | Path, content: object) -> None:
    """Write plain types and paths, whole or not at all; UserError as atomic_path."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1, default=os.fspath) + "\n", encoding="utf-8")


def target_of(path: Path) -> Path:
    """What is written where `path` is to be written: itself or, of a link, what it leads to, which need not be there.

    UserError where links lead in a circle.
    """
    if not path.is_symlink():
        return path
    target = Path(os.path.realpath(path))
    if any(place.is_symlink() for place in (target, *target.parents)):  # left where there is no end
        raise UserError(f"cannot write {path}: it is a link that leads in a circle: remove it or give another place")
    return target


@contextlib.contextmanager
def output_errors(path: str | Path) -> Iterator[None]:
    """Turns what fails in writing `path`, a file or a folder, into a UserError that names it.

    An OSError that speaks of another file stays what it is, as one of what is printed meanwhile.
    """
    path = Path(path)
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        if isinstance(error.filename, (str, bytes)) and not _is_on_the_way(os.fsdecode(error.filename), path):
            raise
        raise UnwritableError(path, error) from None
    except RuntimeError as error:  # torch.save has no other for a full disk
        if "inline_container" not in str(error):
            raise
        raise UnwritableError(path, OSError("the disk is full, or a limit of its files")) from None


def _is_on_the_way(name: str, path: Path) -> bool:
    """Whether a file is `path`, a folder above it, or what is written in its place until it is whole."""
    for absolute in (os.path.abspath, os.path.realpath):
        place, own = (Path(absolute(file)) for file in (name, path))
        if own.parent in place.parents and ".partial" in place.relative_to(own.parent).parts[0]:
            return True
        if place in (own, *own.parents):
            return True
    return False


class UnwritableError(UserError):
    """An output that the system does not take: the disk is full, a file stands in the way, the name is too long."""

    def __init__(self, path: Path, error: OSError):
        advice = "make room or write elsewhere" if error.errno == errno.ENOSPC else "give another place"
        above = (*path.parents, *Path(os.path.realpath(path)).parents)
        obstacle = f"{error.filename}: " if error.filename and Path(error.filename) in above else ""
        super().__init__(f"cannot write {path} ({obstacle}{reason(error)}): {advice}")
        self.errno = error.errno


def check_folder_is_writable(folder: Path) -> None:
    """Make a folder that results go to; UserError where nothing can be written there. For before a long work."""
    with output_errors(folder):
        target_of(folder).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass


@contextlib.contextmanager
def _kept(path: Path, suffix: str, is_folder: bool = False) -> Iterator[Path]:
    """A new file or folder beside `path`, locked while this process lives and removed at the end if still there."""
    target_of(path.parent).mkdir(parents=True, exist_ok=True)
    stem = path.stem if suffix == path.suffix else path.name
    if len(os.fsencode(stem)) > LONGEST_STEM or len(os.fsencode(suffix)) > LONGEST_SUFFIX:
        stem, suffix = hashlib.sha256(os.fsencode(path.name)).hexdigest(), suffix[:LONGEST_SUFFIX]
    for leftover in _partial_files(path.parent).get((stem, suffix), ()):
        _remove_if_dead(path.parent / leftover)
    # The suffix stays last: image and plot writers choose the format by it.
    temporary = path.with_name(f".{stem}.{os.getpid()}.partial{suffix}")
    if is_folder:
        temporary.mkdir()
    else:
        temporary.touch()
    lock = _lock(temporary)
    try:
        yield temporary
    finally:
        _remove(temporary)
        if lock is not None:
            os.close(lock)


@functools.cache
def _partial_files(folder: Path) -> dict[tuple[str, str], list[str]]:
    """What lay unfinished in a folder when this process first wrote there, by stem and suffix of what it was to be."""
    found: dict[tuple[str, str], list[str]] = {}
    for place in os.scandir(folder):
        if name := PARTIAL.fullmatch(place.name):
            found.setdefault((name[1], name[2]), []).append(place.name)
    return found


def _remove_if_dead(path: Path) -> None:
    """Remove what a process that was killed has left.

    It is told by its lock, which ends with a process wherever it ran: numbers of processes are used again, and mean
    nothing in another container. Windows has no such lock; there it stays.
    """
    lock = _lock(path)
    if lock is not None:
        _remove(path)
        os.close(lock)


def _lock(path: str | Path) -> int | None:
    """The descriptor that holds a file or folder for this process; None where another holds it, or nobody can."""
    if fcntl is None:
        return None
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return descriptor
        except OSError:
            os.close(descriptor)
    return None


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def name_in_utf8(path: str | Path) -> Iterator[str]:
    """A name of a file for libraries that end the process at one that is not UTF-8, as OpenCV does.

    The path itself, absolute, so that no name is taken for an address; else a link to it, which stands in its place
    until the block ends.
    """
    place = os.path.abspath(path)
    if is_text(place):
        yield place
        return
    with tempfile.TemporaryDirectory() as folder:
        link = Path(folder, "link" + Path(path).suffix.encode("ascii", errors="ignore").decode())
        link.symlink_to(place)
        yield str(link)


def is_text(name: str) -> bool:
    """Whether the name of a file is UTF-8. Those out of old archives are Latin-1, GBK or Shift-JIS."""
    return as_text(name) == name


def as_text(name: str) -> str:
    r"""A name that can be written: bytes of it that are not UTF-8 become `\xe9` and the like."""
    return os.fsencode(name).decode(errors="backslashreplace")


def as_line(name: str) -> str:
    r"""A name that can be printed in one line, and does nothing to a terminal: line breaks in it become `\n`."""
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in as_text(name))


def paths_below(folder: Path) -> list[Path]:
    """All that is no folder in a folder and in those below it, links followed, in no order; hidden ones left out.

    No folder is looked into twice, however links lead; one that lies below is found under its own name.
    """
    seen, paths, waiting = set(), [], [folder]
    for start in waiting:  # grows by the links, which come after what lies there itself
        for place, folders, names in os.walk(start):
            real = os.path.realpath(place)
            if real in seen:
                folders.clear()
                continue
            seen.add(real)
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            waiting += [Path(place, name) for name in folders if os.path.islink(os.path.join(place, name))]
            paths += [Path(place, name) for name in names if not name.startswith(".")]
    return paths


def fingerprint(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
