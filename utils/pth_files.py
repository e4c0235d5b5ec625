"""Any .pth file, whoever wrote it: read without running code from it, and only where it is whole."""

import hashlib
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from utils.errors import UserError

#: How other files begin that come under a checkpoint's name, and what they are.
KINDS = {
    b"": "empty: fetch or copy it again",
    b"version https://git-lfs": "a pointer of Git LFS: run git lfs pull",
    b"<": "a web page or XML: fetch the file itself, not the page about it",
    b"\x89PNG": "a PNG picture",
    b"\xff\xd8\xff": "a JPEG picture",
    b"GIF8": "a GIF picture",
    b"RIFF": "a WebP picture or AVI video",
    b"%PDF": "a PDF document",
    b"\x1f\x8b": "a gzip archive: unpack it",
    b"Rar!": "a RAR archive: unpack it",
    b"7z\xbc\xaf": "a 7-Zip archive: unpack it",
    b"\x93NUMPY": "an array of NumPy",
    b"\x89HDF": "an HDF5 file, of Keras perhaps",
    b"\x08": "an ONNX graph or the like",
    b"\x80": "a pickle of Python objects, which is not opened because it could run code",
}

#: How files of PyTorch before 1.6 begin. They have no checksum, so that damage to them cannot be noticed.
OLD_FORMAT = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
#: SHA-256 of the one file of that kind this repo asks for: mobilenetV1X0.25_pretrain.tar.
KNOWN_OLD_FILES = {"75c37f8d438b7c6aed2e6b310fd0540c40dabf0dd820770bd7082668dfd7c1c1"}

#: Bytes no checkpoint here comes near.
LARGEST = 2**31


def read_checkpoint(path: str | Path) -> dict[str, object]:
    """Load any .pth file on the CPU without running code from it.

    Raises UserError where the file is missing, damaged by as little as a bit, or no dict by names; it says what it is.
    """
    if not os.path.isfile(path):  # reading a pipe would wait for ever
        raise UserError(f"no checkpoint at {path}: " + ("it is no file" if os.path.lexists(path) else "check the path"))
    try:
        with open(path, "rb") as file:
            _check_whole(file, path)
            state = _load(file, path)
    except OSError as error:
        raise UserError(f"cannot read {path} ({error.strerror})") from None
    if not isinstance(state, dict):
        raise UserError(f"{path} holds a {type(state).__name__}, not a dict of weights: give a checkpoint file")
    for name in state:
        if not isinstance(name, str):
            raise UserError(f"{path} has an entry with a name of type {type(name).__name__}: give a checkpoint file")
    return state


def named_tensors(part: object, place: str) -> dict[str, Tensor]:
    """A part of a checkpoint that should be {name: tensor}; UserError, with `place`, where it is anything else."""
    if not isinstance(part, Mapping):
        raise UserError(f"{place} is a {type(part).__name__}, not weights by name: give a checkpoint file")
    for name, value in part.items():
        plain = isinstance(value, Tensor) and value.layout == torch.strided and value.device.type == "cpu"
        if not isinstance(name, str) or not plain or value.is_quantized or value.is_complex():
            kind = f"{value.dtype} tensor" if isinstance(value, Tensor) else type(value).__name__
            raise UserError(f"{place} has the entry {shown(name)} of kind {kind}, where a name and a plain tensor "
                            "should be: give a checkpoint file")
    return dict(part)


def shown(name: object) -> str:
    """A name out of a file as it may stand in one line."""
    return " ".join(str(name).split())[:80]


def _check_whole(file: BinaryIO, path: str | Path) -> None:
    """UserError unless the open file is a checkpoint and every byte of its content is as it was written."""
    head = file.read(64)
    if head.startswith(OLD_FORMAT):
        if hashlib.sha256(head + file.read()).hexdigest() not in KNOWN_OLD_FILES:
            raise UserError(f"{path} is of PyTorch before 1.6, without a checksum, and no file known here: it may be "
                            "damaged; if you trust it, torch.save(torch.load(PATH, weights_only=True), PATH) adds one")
    elif head.startswith(b"PK") or zipfile.is_zipfile(file):
        _check_zip(file, path)
    else:
        raise UserError(f"{path} is no readable checkpoint but {_kind(head)}: give a file written by torch.save")
    file.seek(0)


def _kind(head: bytes) -> str:
    """What a file is, by its first bytes."""
    for start, kind in KINDS.items():
        if head.startswith(start) and (start or not head):
            return kind
    if head[8:9] == b"{":
        return "a safetensors file, which is not read here"
    return "a text file" if min(head) >= ord("\t") else "a file of another kind, or damaged"


def _check_zip(file: BinaryIO, path: str | Path) -> None:
    """UserError unless the zip archive is one of torch.save and each of its entries has its checksum."""
    try:
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
            is_small = sum(entry.file_size for entry in entries) <= LARGEST  # else packed to fill the memory
            twice = len(entries) - len({entry.filename for entry in entries})  # of two, one would not be tested
            damaged = is_small and (archive.testzip() or twice and "a name that is there twice")
    except Exception as error:  # each kind of damage has its own type, down to those of zlib and struct
        reason = "cut short" if isinstance(error, zipfile.BadZipFile) else "damaged"
        raise UserError(f"{path} is a checkpoint or zip archive that is {reason}: copy or fetch it again") from None
    names = [entry.filename for entry in entries]
    if damaged:
        raise UserError(f"{path} is damaged, {shown(damaged)} fails its checksum: copy or fetch it again")
    if not is_small:
        raise UserError(f"{path} unpacks to more than {LARGEST:,} bytes: that is no checkpoint of a detector")
    if any(name.endswith("/constants.pkl") for name in names):
        raise UserError(f"{path} is a TorchScript program, not weights: save model.state_dict() by torch.save")
    if not any(name.endswith("/data.pkl") for name in names):
        what = f"such as {shown(names[0])}" if names else "that is empty"
        raise UserError(f"{path} is no readable checkpoint but a zip archive of other files, {what}: unpack it, "
                        "or give a file written by torch.save")


def _load(file: BinaryIO, path: str | Path) -> object:
    """What torch.save put into an open file, plain types alone."""
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except Exception:  # torch.load raises a different type for each kind of broken file
        strangers = _strangers(file)
    if strangers:
        more = f" and {len(strangers) - 3} more" if len(strangers) > 3 else ""
        raise UserError(f"{path} holds Python objects beside its tensors ({', '.join(strangers[:3])}{more}), which are "
                        "not opened because they could run code: where it was made, save model.state_dict() alone")
    raise UserError(f"{path} is no readable checkpoint, its content makes no sense: fetch or save it again")


def _strangers(file: BinaryIO) -> list[str]:
    """Names of the classes and functions in a checkpoint that torch.load does not take for harmless."""
    try:
        file.seek(0)
        return sorted(map(shown, torch.serialization.get_unsafe_globals_in_checkpoint(file)))
    except Exception:  # as above
        return []
