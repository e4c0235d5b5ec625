"""What detect.py is given: hostile pictures, videos, names and places, and what of good bytes becomes hostile ones."""

import json
import os
import resource
import shutil
import socket
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

import detect
import detection.survey  # noqa: F401  loaded once, before the processes part
from data.picture_files import encode_picture, read_picture
from detection.frames import CODECS, count_frames
from detection.shipped import SHIPPED
from tests.helpers import ROOT

PORTRAITS = ROOT / "docs" / "detections.jpg"

#: Of memory for a script: far more than it needs.
BYTES = 6 << 30

PICTURES = (".jpg", ".png", ".webp", ".bmp", ".tiff", ".jp2", ".ppm", ".avif", ".hdr", ".ras", ".pam")
VIDEOS = (".mp4", ".avi", ".mkv", ".mov", ".gif")
NAMES = (b"caf\xe9", "人脸".encode("gbk"), "顔".encode("shift-jis"), b"\xff\xfe", b"%03d", b"12:30", b"-x", b"a\nb",
         b"n" * 240, "😀".encode(), b"*[1]", b"\x1b[2J", b" ")


class Case(NamedTuple):
    """prepare: makes the files in an empty folder and returns a script's main and its arguments.

    codes: exit codes that are right. check: says what is wrong with what is left, if anything is.
    """

    name: str
    prepare: Callable[[Path, np.random.Generator], tuple[Callable[[], int | None], list]]
    codes: set[int]
    check: Callable[[Path], str] = lambda folder: ""
    memory: int = BYTES
    largest_file: int = resource.RLIM_INFINITY


# What is done to good bytes.

def truncated(data: bytes, rng: np.random.Generator) -> bytes:
    return data[: int(rng.integers(1, len(data)))]


def flipped(data: bytes, rng: np.random.Generator) -> bytes:
    damaged = bytearray(data)
    for place in rng.integers(0, len(data), 5):
        damaged[place] ^= 1 << int(rng.integers(0, 8))
    return bytes(damaged)


def torn_head(data: bytes, rng: np.random.Generator) -> bytes:
    """The first bytes, where sizes stand, are noise, but for the mark of the format."""
    return data[:12] + rng.bytes(40) + data[52:]


def huge_claim(data: bytes, rng: np.random.Generator) -> bytes:
    """Every small number of the head that may be a side is the largest there is."""
    head = bytearray(data[:64])
    for place in range(8, len(head) - 1):
        if head[place] == 0 and 0 < head[place + 1] < 128:
            head[place] = 0x7F
    return bytes(head) + data[64:]


def noise_behind(data: bytes, rng: np.random.Generator) -> bytes:
    return data[: len(data) // 2] + rng.bytes(len(data) // 2)


DAMAGES = (truncated, flipped, torn_head, huge_claim, noise_behind)
NOTHINGS = {"empty": b"", "text": b"hello\n" * 50, "zeros": bytes(5000), "page": b"<html>404</html>",
            "json": b'{"a": [1, 2]}', "utf-16": "x y w h".encode("utf-16"), "zip": b"PK\x03\x04" + bytes(90)}


def picture(side: int = 64) -> np.ndarray:
    return cv2.resize(read_picture(PORTRAITS), (side, side), interpolation=cv2.INTER_AREA)


def encoded(suffix: str) -> bytes:
    return encode_picture(picture(), suffix)


def video(suffix: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"a{suffix}")
        if suffix == ".gif":
            animation = cv2.Animation()
            animation.frames, animation.durations = [picture()] * 6, [40] * 6
            cv2.imwriteanimation(str(path), animation)
        else:
            writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*CODECS[suffix]), 25, (64, 64))
            for _ in range(6):
                writer.write(picture())
            writer.release()
        return path.read_bytes()


# What is run.

def look(folder: Path, *arguments: object, model: Path = SHIPPED) -> tuple[Callable[[], int | None], list]:
    """detect.py on the folder `in`, with every kind of result."""
    results = ["--save", folder / "out", "--json", folder / "f.json", "--csv", folder / "f.csv"]
    return detect.main, [folder / "in", *results, "--cpu", "--trained_model", model, *arguments]


def is_done_beside(folder: Path) -> str:
    """The good picture beside a hostile file is drawn, records are whole, and all copies can be read."""
    json.loads((folder / "f.json").read_text(encoding="utf-8"))
    if read_picture(folder / "out" / "good.png") is None:
        return "good.png was not drawn"
    for copy in (folder / "out").iterdir():
        if not (count_frames(copy) if copy.suffix in CODECS else read_picture(copy) is not None):
            return f"{copy.name} cannot be read"
    return ""


def nothing_written(folder: Path) -> str:
    return "" if not (folder / "f.json").exists() else "f.json was written"


def beside_good(name: bytes, content: bytes, folder: Path, rng: np.random.Generator):
    (folder / "in").mkdir()
    (folder / "in" / "good.png").write_bytes(encoded(".png"))
    with open(os.path.join(os.fsencode(folder), b"in", name), "wb") as file:
        file.write(content)
    return look(folder)


def damaged_beside(name: str, data: bytes, damage: Callable, folder: Path, rng: np.random.Generator):
    return beside_good(name.encode(), damage(data, rng), folder, rng)


def picture_cases() -> Iterator[Case]:
    for suffix in PICTURES:
        for damage in DAMAGES:
            prepare = partial(damaged_beside, f"x{suffix}", encoded(suffix), damage)
            yield Case(f"picture{suffix} {damage.__name__}", prepare, {0, 1}, is_done_beside)
    for name, content in NOTHINGS.items():
        yield Case(f"picture {name}", partial(beside_good, b"x.jpg", content), {1}, is_done_beside)
    for name, shape in {"wide.jpg": (2, 66_000), "high.jpg": (66_000, 2), "wide.webp": (2, 17_000), "grey.pgm": (9, 9),
                        "bits.pbm": (9, 9), "one.jp2": (1, 1), "one.avif": (1, 1), "exif.jfif": (64, 64)}.items():
        content = encode_picture(np.zeros((*shape, 3), np.uint8), ".png")
        yield Case(f"picture held by no {name}", partial(beside_good, name.encode(), content), {0}, is_done_beside)
    claim = b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", (20_000).to_bytes(4, "big") * 2 + b"\x08\x02\0\0\0")
    for name, rows, codes, memory in (("cut", 200, {0, 1}, BYTES), ("without memory", 20_000, {1}, 900 << 20)):
        packer = zlib.compressobj(1)
        lines = b"".join([packer.compress(bytes(60_001)) for _ in range(rows)]) + packer.flush()
        content = claim + png_chunk(b"IDAT", lines) + png_chunk(b"IEND", b"")
        prepare = partial(beside_good, b"x.png", content)
        yield Case(f"picture of 20,000 x 20,000, {name}", prepare, codes, is_done_beside, memory)


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")


def video_cases() -> Iterator[Case]:
    for suffix in VIDEOS:
        for damage in DAMAGES:
            yield Case(f"video{suffix} {damage.__name__}", partial(damaged_beside, f"x{suffix}", video(suffix), damage),
                       {0, 1}, is_done_beside)
    for name, content in NOTHINGS.items():
        yield Case(f"video {name}", partial(beside_good, b"x.mp4", content), {1}, is_done_beside)
    playlist = b"#EXTM3U\n#EXTINF:9,\nfile:///etc/passwd\n#EXTINF:9,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n"
    yield Case("video that is a list of addresses", partial(beside_good, b"x.ts", playlist), {1}, is_done_beside)
    yield Case("video that is a picture", partial(beside_good, b"x.mp4", encoded(".jpg")), {0, 1}, is_done_beside)


def name_cases() -> Iterator[Case]:
    for name in NAMES:
        for suffix, content in ((b".jpg", encoded(".jpg")), (b".mp4", video(".mp4"))):
            yield Case(f"name {name[:9]!r}{suffix.decode()}", partial(beside_good, name + suffix, content), {0},
                       is_done_beside)
        yield Case(f"name {name[:9]!r} of nothing", partial(beside_good, name + b".jpg", b"x"), {1}, is_done_beside)


def source_cases() -> Iterator[Case]:
    def in_folder(make: Callable[[Path], object], folder: Path, rng):
        prepared = beside_good(b"other.png", encoded(".png"), folder, rng)
        make(folder / "in" / "x.jpg")
        shutil.copy(folder / "in" / "other.png", folder / "in" / "y.png")
        return prepared

    def alone(make: Callable[[Path], object], folder: Path, rng):
        make(folder / "in")
        return look(folder)

    def listen(path: Path) -> None:
        with suppress(OSError), socket.socket(socket.AF_UNIX) as server:
            server.bind(str(path))

    kinds = {"pipe": os.mkfifo, "socket": listen, "device": partial(os.symlink, "/dev/zero"),
             "link to nothing": partial(os.symlink, "nowhere"), "link to itself": lambda path: os.symlink(path, path),
             "memory of the process": partial(os.symlink, "/proc/self/mem")}
    for kind, make in kinds.items():
        yield Case(f"source {kind} in a folder", partial(in_folder, make), {1}, is_done_beside)
        yield Case(f"source {kind}", partial(alone, make), {1, 2}, lambda folder: "")
    yield Case("source folder named x.jpg", partial(in_folder, os.mkdir), {0}, is_done_beside)
    yield Case("source empty folder", partial(alone, os.mkdir), {2}, nothing_written)
    for text in ("n" * 300, "n/" * 3000 + "x.jpg", "[", "**/**/nothing*.jpg", "", "a" * 100_000):
        def run(folder: Path, rng, text=text):
            prepared = look(folder)
            prepared[1][0] = text
            return prepared

        yield Case(f"source {text[:12]!r} of {len(text)}", run, {2}, nothing_written)


def output_cases() -> Iterator[Case]:
    def run(flag: str, place: str, folder: Path, rng):
        main, arguments = beside_good(b"other.mp4", video(".mp4"), folder, rng)
        (folder / "file").touch()
        (folder / "there.json").mkdir()
        os.mkfifo(folder / "pipe.csv")
        arguments[arguments.index(flag) + 1] = place if place.startswith("/") else folder / place
        return main, arguments

    for flag, suffix in (("--json", ".json"), ("--csv", ".csv"), ("--save", "")):
        for place in (f"file/x{suffix}", f"file/a/b{suffix}", f"/proc/x/y{suffix}", "n" * 256 + suffix,
                      "a/" * 2100 + f"b{suffix}", f"/dev/null/x{suffix}"):
            yield Case(f"output {flag} {place[:14]}", partial(run, flag, place), {2}, nothing_written)
    yield Case("output a folder in its place", partial(run, "--json", "there.json"), {2})
    yield Case("output a pipe in its place", partial(run, "--csv", "pipe.csv"), {2}, nothing_written)
    yield Case("output a file in place of a folder", partial(run, "--save", "file"), {2}, nothing_written)
    for size in (1000, 3000):
        yield Case(f"output no file over {size} bytes", partial(run, "--save", "out"), {2}, nothing_written,
                   largest_file=size)
