"""A folder of detections, EVENT/NAME.txt each, that a run stopped at any moment goes on with."""

import json
import zipfile
from collections.abc import Sequence
from pathlib import Path

from data.picture_files import picture_size_of
from detection.protocols import Protocol
from detection.suppression import Detections
from detection.validation import rows_of
from utils.files import as_text, atomic_path, write_json
from widerface_evaluate.wider_files import SCALES

#: What made the detections of a folder.
STAMP = "made_by.json"
#: Size and time of change of the pictures they are of.
PICTURES = "pictures.json"


class DetectionFolder:
    """The detections of one detector by one protocol, one file a picture.

    stamp: all that the detections depend on beside the pictures, in plain types. Files that another stamp made are
    removed: the detections of two checkpoints never mix. paths: where the pictures lie, in the order of the names. The
    file of a picture that has changed since is removed.
    """

    def __init__(self, folder: Path, names: list[str], stamp: dict, paths: Sequence[Path] = ()):
        self.folder = folder
        self.names = names
        stamp_path = folder / STAMP
        if read_json(stamp_path) != json.loads(json.dumps(stamp)):
            stamp_path.unlink(missing_ok=True)
            for path in folder.glob("*/*.txt"):
                path.unlink()
            write_json(stamp_path, stamp)
        known, current = read_json(folder / PICTURES) or {}, dict(zip(names, map(version_of, paths)))
        changed = [name for name in current if current[name] != known.get(name)]
        for name in changed:
            self.path(name).unlink(missing_ok=True)
        if changed:
            write_json(folder / PICTURES, known | current)

    def path(self, name: str) -> Path:
        """The file of picture EVENT/NAME.jpg."""
        return self.folder / Path(name).with_suffix(".txt")

    def unfinished(self) -> list[str]:
        """Names of the pictures without a file, or without a detection in it.

        The latter are few, and those among them that cannot be read are to be named by every run.
        """
        return [name for name in self.names if not self.path(name).is_file() or is_empty(self.path(name))]

    def write(self, name: str, detections: Detections | None) -> None:
        """Name of the picture, number of faces, then a line `x y width height score` each, in pixels."""
        stem = Path(name).stem
        rows = rows_of(detections)
        lines = [stem, str(len(rows)), *(f"{x:.2f} {y:.2f} {w:.2f} {h:.2f} {score:.6f}" for x, y, w, h, score in rows)]
        with atomic_path(self.path(name)) as temporary:
            # A name that is no UTF-8 stays as it is, byte by byte.
            temporary.write_text("\n".join(lines) + "\n", encoding="utf-8", errors="surrogateescape")

    def write_scales(self, paths: list[Path], protocol: Protocol) -> None:
        """Write scales.csv, by which the evaluator tells how large a face was at the network.

        paths: where the pictures lie, in the order of the names. A protocol that looks several times counts with its
        largest scale; a picture that cannot be read with 1.
        """
        lines = []
        for name, path in zip(self.names, paths):
            size = picture_size_of(path)
            scale = max(protocol.factors(*size)) if size else 1.0
            lines.append(f"{Path(name).with_suffix('').as_posix()},{scale:.6g}")
        with atomic_path(self.folder / SCALES) as temporary:
            temporary.write_text("\n".join(lines) + "\n", encoding="utf-8", errors="surrogateescape")

    def pack(self) -> Path:
        """A zip of the EVENT/NAME.txt files beside the folder, as the official server takes a submission."""
        archive = self.folder.with_name(f"{self.folder.name}.zip")
        with atomic_path(archive) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as packed:
            for name in self.names:
                packed.write(self.path(name), as_text(self.path(name).relative_to(self.folder).as_posix()))
        return archive


def is_empty(path: Path) -> bool:
    """Whether a file of detections has none: it says so, or a power cut left nothing in it."""
    with path.open("rb") as file:
        file.readline()
        return file.readline().strip() in (b"", b"0")


def version_of(path: Path) -> str:
    """Size and time of change of a file, in bytes and nanoseconds: another where it has changed. Empty for none."""
    try:
        status = path.stat()
    except OSError:
        return ""
    return f"{status.st_size} {status.st_mtime_ns}"


def read_stamp(folder: Path) -> dict | None:
    """What made the detections of a folder; None where it does not say, or cannot be read any more."""
    return read_json(folder / STAMP)


def read_json(path: Path) -> dict | None:
    """What write_json wrote; None for no file, or one that is damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
    except (OSError, ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None
