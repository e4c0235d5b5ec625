"""Hostile files for everything that reads pictures, videos, graphs, archives, stamps and tables, and for every output.

    python -m tests.hostile_inputs                 # all of them, some minutes on one core
    python -m tests.hostile_inputs --only graph    # those with that word in their names

Each case runs a script in a forked process with a time and a memory limit, and must end with one of its exit codes: 2
after one line `error: ...`, 1 after lines `warning: ...`, 0 after none. No traceback, no crash, no hang, nothing
half-written is left, and what is beside a hostile file is done all the same. The same seed gives the same files.
"""

import io
import json
import os
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
import zipfile
import zlib
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper

from data import demo, download
from data.drawn.demo_set import STAMP as DEMO_STAMP
from deployment.weights_file import PRECISION_COLUMNS, known_precision
from detection.frames import quiet_decoders
from detection.shipped import SHIPPED
from detection.text_files import STAMP, DetectionFolder
from tests.hostile_sources import (
    DAMAGES,
    NOTHINGS,
    PORTRAITS,
    Case,
    flipped,
    look,
    name_cases,
    noise_behind,
    nothing_written,
    output_cases,
    picture_cases,
    source_cases,
    truncated,
    video_cases,
)
from utils.arguments import ArgumentParser, number
from utils.errors import run_script
from utils.files import fingerprint

GRAPH = SHIPPED.with_suffix(".onnx")

#: For a script: far more than it needs, since beside other work it waits for its turn.
SECONDS = 120


def graph_cases() -> Iterator[Case]:
    good, data = onnx.load(GRAPH), GRAPH.read_bytes()

    def run(content: bytes, folder: Path, rng):
        (folder / "in").mkdir()
        shutil.copy(PORTRAITS, folder / "in" / "good.jpg")
        (folder / "g.onnx").write_bytes(content)
        return look(folder, model=folder / "g.onnx")

    def two_faces(folder: Path) -> str:
        count = len(json.loads((folder / "f.json").read_text()))
        return "" if count == 2 else f"{count} faces in place of 2"

    for count in range(10):
        yield Case(f"graph truncated {count}", lambda folder, rng: run(truncated(data, rng), folder, rng), {2},
                   nothing_written)
        yield Case(f"graph flipped {count}", lambda folder, rng: run(flipped(data, rng), folder, rng), {2},
                   nothing_written)
        yield Case(f"graph noise {count}", lambda folder, rng: run(noise_behind(data, rng), folder, rng), {2},
                   nothing_written)
    for name, content in {**NOTHINGS, "weights": SHIPPED.read_bytes()}.items():
        yield Case(f"graph {name}", partial(run, content), {2}, nothing_written)
    for name, (change, codes) in graph_changes().items():
        changed = onnx.ModelProto()
        changed.CopyFrom(good)
        change(changed)
        check = {"{0}": two_faces, "{2}": nothing_written}.get(str(codes), lambda folder: "")
        yield Case(f"graph {name}", partial(run, changed.SerializeToString()), codes, check)


def graph_changes() -> dict[str, tuple[Callable[[onnx.ModelProto], object], set[int]]]:
    """What other tools, and nobody's tools, make of a graph."""
    def sides(*values: int | None):
        def change(model: onnx.ModelProto) -> None:
            for dimension, value in zip(model.graph.input[0].type.tensor_type.shape.dim, values):
                if value is not None:
                    dimension.dim_value = value
        return change

    def weights(change: Callable[[np.ndarray], np.ndarray]):
        def apply(model: onnx.ModelProto) -> None:
            for tensor in model.graph.initializer:
                values = numpy_helper.to_array(tensor)
                if values.dtype == np.float32 and values.ndim == 4:
                    tensor.CopyFrom(numpy_helper.from_array(change(values.copy()), tensor.name))
        return apply

    def elsewhere(model: onnx.ModelProto) -> None:
        tensor = model.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="../../../../etc/passwd")

    def cut_output(model: onnx.ModelProto) -> None:
        del model.graph.output[-1]

    def rename_output(model: onnx.ModelProto) -> None:
        model.graph.node.append(helper.make_node("Identity", ["scores"], ["probabilities"]))
        model.graph.output[1].name = "probabilities"

    def properties(**values: str):
        return lambda model: helper.set_model_props(model, values)

    return {
        "of fixed size": (sides(1, None, 640, 640), {0}), "of fixed small size": (sides(1, None, 300, 400), {0}),
        "of fixed number": (sides(4), {0}), "of fixed height": (sides(None, None, 480), {0}),
        "of no pixels": (sides(1, None, 0, 0), {0, 2}), "of less than none": (sides(-1, None, -5, -5), {0, 2}),
        "of four colours": (sides(None, 4), {2}), "of endless sides": (sides(1, None, 1 << 40, 1 << 40), {1, 2}),
        "without metadata": (lambda model: model.ClearField("metadata_props"), {2}),
        "of no number": (properties(model="v2", parameters="1e9"), {2}),
        "of 5,000 digits": (properties(model="v2", parameters="9" * 5000), {2}),
        "of another output": (rename_output, {2}), "without landmarks": (cut_output, {2}),
        "with NaN": (weights(lambda values: values * np.nan), {2}),
        "with infinity": (weights(lambda values: values * np.float32(1e38) * 10), {2}),
        "with other shapes": (weights(lambda values: values[:-1] if len(values) > 1 else values), {2}),
        "with data elsewhere": (elsewhere, {2}),
        "of a later opset": (lambda model: setattr(model.opset_import[0], "version", 999), {2}),
        "of a later format": (lambda model: setattr(model, "ir_version", 999), {2}),
        "without nodes": (lambda model: model.graph.ClearField("node"), {2}),
        "without outputs": (lambda model: model.graph.ClearField("output"), {2}),
        "without inputs": (lambda model: model.graph.ClearField("input"), {2}),
    }


def archive_cases() -> Iterator[Case]:
    label = b"# 0--Parade/a.jpg\n1 2 3 4\n"

    def zipped(members: dict[str, bytes]) -> bytes:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in members.items():
                archive.writestr(name, content)
        return buffer.getvalue()

    def run(content: bytes, place: str, folder: Path, rng):
        for name in ("train/images/0--Parade/a.jpg", "val/ground_truth/x.mat", "archives/x"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).touch()
        (folder / "train" / "label.txt").write_bytes(label)
        (folder / "archives" / "WIDER_val.zip").write_bytes(zipped({"WIDER_val/images/0--Parade/b.jpg": b"b"}))
        (folder / place).write_bytes(content)
        labels = ["--labels", folder / place] if place == "labels" else []
        return download.main, ["--folder", folder, *labels]

    good = {"labels": zipped({"train/label.txt": label * 500}),
            "archives/WIDER_val.zip": zipped({f"WIDER_val/images/0--Parade/{i}.jpg": b"b" * 99 for i in range(20)})}
    for place, data in good.items():
        for damage in DAMAGES:
            for count in range(3):
                yield Case(f"archive {place} {damage.__name__} {count}",
                           lambda folder, rng, d=data, p=place, f=damage: run(f(d, rng), p, folder, rng), {0, 2})
        for name, content in NOTHINGS.items():
            yield Case(f"archive {place} {name}", partial(run, content, place), {2})
    bomb = zipped({"train/label.txt": label + bytes(300 << 20)})
    yield Case("archive labels of 300 MB", partial(run, bomb, "labels"), {2}, memory=900 << 20)
    for name in ("WIDER_val/images/../../../x.jpg", "WIDER_val/images//etc/x.jpg", "WIDER_val/images/" + "n" * 300):
        yield Case(f"archive member {name[:30]}", partial(run, zipped({name: b""}), "archives/WIDER_val.zip"), {2})
    for name, content, code in (("binary", bytes(range(256)) * 9, 2), ("nul", label + b"\0" * 99, 2),
                                ("utf-16", label.decode().encode("utf-16"), 0),
                                ("numbers", label + b"1e999 nan -5 " + b"9" * 5000 + b"\n", 0)):
        yield Case(f"archive ignore.txt {name}", partial(run, content, "train/ignore.txt"), {code})


def stamp_cases() -> Iterator[Case]:
    row = dict.fromkeys(PRECISION_COLUMNS, "x") | {"easy": 0.5, "medium": 0.5, "hard": 0.5, "model": "m"}
    good = json.dumps([row]).encode()
    contents = {**NOTHINGS, "deep": b"[" * 99_999, "null": b"null", "cut": good[:50], "number": b"7", "list": b"[[]]",
                "other types": json.dumps([row | {"easy": "x", "dataset": [1]}]).encode(),
                "long name": json.dumps([row | {"model": "n" * 5000}]).encode(),
                "nul in a name": json.dumps([row | {"model": "a\0b"}]).encode()}

    def prepare(place: str, content: bytes, folder: Path, rng):
        torch.save({"model": {}}, folder / "m.pth")
        (folder / "table.json").write_bytes(good)
        DetectionFolder(folder / "m_x", [], {"checkpoint": fingerprint(folder / "m.pth")})
        (folder / place).write_bytes(content)
        return lambda: print(known_precision(folder / "m.pth", folder / "table.json")), []

    for name, content in contents.items():
        yield Case(f"stamp table.json {name}", partial(prepare, "table.json", content), {0, 2})
        yield Case(f"stamp made_by.json {name}", partial(prepare, f"m_x/{STAMP}", content), {0})

        def drawn(folder: Path, rng, content=content):
            (folder / DEMO_STAMP).write_bytes(content)
            return demo.main, ["--output", folder, "--train", 1, "--val", 1]

        yield Case(f"stamp of the demo {name}", drawn, {2})


def cases() -> Iterator[Case]:
    for group in (picture_cases, video_cases, name_cases, source_cases, output_cases, graph_cases, archive_cases,
                  stamp_cases):
        yield from group()


# How a case is run and judged.

def fault_of(case: Case, seed: int) -> str:
    """What is wrong with the outcome of a case; nothing where all is as it should be."""
    file = tempfile.TemporaryFile
    with tempfile.TemporaryDirectory() as place, file() as out, file() as err:
        folder = Path(place)
        main, arguments = case.prepare(folder, np.random.default_rng([seed, zlib.crc32(case.name.encode())]))
        code = run_apart(main, arguments, case, out, err)
        err.seek(0)
        lines = [line for line in re.split("[\r\n]", err.read().decode(errors="replace")) if is_word(line)]
        told = " | ".join(lines)[-700:]
        if code is None:
            return f"still running after {SECONDS} seconds"
        if code < 0:
            return f"ended by signal {-code}"
        if code not in case.codes:
            return f"exit code {code} in place of {' or '.join(map(str, sorted(case.codes)))}: {told}"
        if code == 2 and (len(lines) != 1 or not lines[0].startswith("error: ")):
            return f"not one line: {told}"
        warnings = [line for line in lines if line.startswith("warning: ")]
        if (code == 0 and lines) or (code == 1 and not warnings) or "Traceback" in told:
            return f"exit code {code} after: {told}"
        if left := [name for _, folders, files in os.walk(os.fsencode(place)) for name in folders + files
                    if b".partial" in name]:
            return f"left: {left}"
        return case.check(folder) if code < 2 or case.check is nothing_written else ""


def is_word(line: str) -> bool:
    """Whether a line is of the script: neither a progress bar, nor what the JPEG library says of a picture it reads."""
    return bool(line) and not re.search("[0-9]%[|]|^(Corrupt JPEG|Premature end|Unsupported marker|Invalid SOS)", line)


def run_apart(main: Callable, arguments: list, case: Case, out, err) -> int | None:
    """The exit code of a script in a process of its own, negative for a signal, None after SECONDS."""
    process = os.fork()
    if not process:
        os.dup2(out.fileno(), 1)
        os.dup2(err.fileno(), 2)
        used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        resource.setrlimit(resource.RLIMIT_AS, (used + case.memory,) * 2)
        resource.setrlimit(resource.RLIMIT_FSIZE, (case.largest_file,) * 2)
        sys.argv = ["script", *map(str, arguments)]
        code = 99
        try:
            run_script(main)
        except SystemExit as end:
            code = end.code or 0
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            with suppress(BaseException):
                sys.stdout.flush(), sys.stderr.flush()
            os._exit(code)
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    return None


def parse_args() -> Namespace:
    parser = ArgumentParser(prog="python -m tests.hostile_inputs", description=__doc__)
    parser.add_argument("--seed", type=number(int, 0), default=0)
    parser.add_argument("--only", default="", help="cases with this in their names")
    return parser.parse_args()


def main() -> int:
    options = parse_args()
    quiet_decoders()
    torch.set_num_threads(1)  # a process that is forked has no other threads
    cv2.setNumThreads(0)
    tried, failures = 0, 0
    for case in cases():
        if options.only not in case.name:
            continue
        tried += 1
        if fault := fault_of(case, options.seed):
            failures += 1
            print(f"{case.name}: {fault}", flush=True)
    print(f"{tried} tried / {tried - failures} as it should / {failures} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    run_script(main)
