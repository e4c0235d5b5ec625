"""ONNX files that end with their own checksum, which ONNX has no place for: damage by a single bit is told.

The checksum is one more entry of the graph's metadata, the last one. An entry may stand behind all else in a file, so
that every other program reads it as `sha256` among the metadata, and none has to know of it.
"""

import hashlib
import re
from pathlib import Path

from utils.errors import UserError

NAME = b"sha256"

#: The entry in the bytes of ModelProto: metadata_props is its field 14, of a key (1) and a value (2).
ENTRY = re.compile(rb"\x72.\x0a\x06" + NAME + rb"\x12.([0-9a-f]{64}) of the first ([0-9]{1,12}) bytes\Z", re.DOTALL)


def with_checksum(graph: bytes) -> bytes:
    """The bytes of an ONNX file without a checksum -> those with one at the end."""
    value = f"{hashlib.sha256(graph).hexdigest()} of the first {len(graph)} bytes".encode()
    pair = b"\x0a" + _sized(NAME) + b"\x12" + _sized(value)
    return graph + b"\x72" + _sized(pair)


def _sized(text: bytes) -> bytes:
    return bytes([len(text)]) + text


def check_whole(data: bytes, path: str | Path) -> None:
    """UserError where the bytes of an ONNX file end with a checksum and are others than it was made of.

    A file without one passes, and so does one of another length than it tells: other tools that change a graph, and
    keep its metadata, keep a checksum that has lost its meaning. Damage to a disk or in a copy leaves the length.
    """
    entry = ENTRY.search(data[-256:])
    if not entry:
        return
    content = data[: len(data) - len(entry[0])]
    if len(content) == int(entry[2]) and hashlib.sha256(content).hexdigest().encode() != entry[1]:
        raise UserError(f"{path} is damaged, its checksum does not fit: copy or export it again; if you have changed "
                        "it on purpose, remove sha256 from its metadata")
