"""Text files, many of which people and other programs write: their lines, and the file names in them."""

import os
import re
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Iterable
from pathlib import Path

from utils.errors import UserError

#: Bytes no list comes near; what is larger is another kind of file.
LARGEST_TEXT = 2**30


def read_lines(path: str | Path, advice: str = "check the path") -> list[str]:
    """The lines of a text file, without their ends: UTF-8, with or without a mark, or UTF-16 by its mark.

    UserError where the file cannot be read, with `advice`, and where it is in another encoding, with the line.
    """
    data = _read_bytes(path, advice)
    encoding = "utf-16" if data.startswith((BOM_UTF16_LE, BOM_UTF16_BE)) else "utf-8-sig"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data[: error.start].decode(encoding, errors="replace").count("\n") + 1
        raise UserError(f"{path}:{line} is not UTF-8 (byte {data[error.start]:02X}): save the file as UTF-8") from None
    # Of all that str.splitlines takes for the end of a line, only these are one in a list of names.
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    for number, line in enumerate(lines, start=1):
        if "\0" in line:
            raise UserError(f"{path}:{number} holds a zero byte, as UTF-16 without a mark does: save the file as UTF-8")
    return lines


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Write a text file of the same bytes on any system: UTF-8, and names in it that are none as they are."""
    text = "".join(f"{line}\n" for line in lines)
    path.write_text(text, encoding="utf-8", errors="surrogateescape", newline="\n")


def _read_bytes(path: str | Path, advice: str) -> bytes:
    if not os.path.isfile(path):  # reading a pipe would wait for ever
        reason = "it is no file" if os.path.lexists(path) else "there is none"
        raise UserError(f"cannot read {path} ({reason}): {advice}")
    try:
        if os.path.getsize(path) > LARGEST_TEXT:
            raise UserError(f"{path} has more than {LARGEST_TEXT:,} bytes: that is no list, give a text file")
        return Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path} ({error.strerror}): {advice}") from None


def inner_name(name: str, place: str) -> str:
    """`name`, which stays below the folder it is looked up in, on any system; UserError, with `place`, where it leaves.

    Names come out of lists that others wrote, and become paths of files that are read and written.
    """
    parts = re.split(r"[/\\]", name)
    if not parts[0] or ".." in parts or re.match("[A-Za-z]:", name) or "\0" in name:
        raise UserError(f"{place}: the name '{name[:200]}' leaves its folder: write EVENT/NAME.jpg")
    return name
