"""Hostile checkpoints, label files, logs and flags, and trainings killed anywhere: how many were met as they should be.

    python -m tests.hostile_training                    # all of it
    python -m tests.hostile_training --kills 0          # the files and flags alone, within a minute or two
    python -m tests.hostile_training --seed 7           # other ones

Right is: read where that is harmless, else refused in one line; a killed run ends with every file of the unbroken one.
"""

import contextlib
import io
import math
import os
import random
import signal
import tempfile
import traceback
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from data.widerface import read_labels
from detection.shipped import SHIPPED
from layers.anchors import make_anchors
from layers.criterion import Criterion
from models import MODELS, build_model, load_model
from tests.kills import kills
from tests.tiny_training import are_same, tiny_flags, train, write_pictures
from training.checkpoint import load_training_state
from training.ema import WeightAverage
from training.flags import parse_args
from training.log import TrainingLog
from training.optimizer import build_optimizer
from training.step import TrainingStep
from training.trainee import Trainee
from utils.arguments import ArgumentParser, number
from utils.errors import UserError, run_script

#: Seconds after which a reader hangs.
PATIENCE = 30


class Case(NamedTuple):
    """One hostile input and what is right: to be refused in one line, or to be read as `is_right` says, or either."""

    kind: str
    name: str
    read: Callable[[], object]
    is_right: Callable[[object], bool] | None  #: of what was read; None where only refusing is right
    may_refuse: bool = True


# Checkpoints


def checkpoints(folder: Path, draw: random.Random, state_file: Path) -> Iterator[Case]:
    """Files that are no checkpoint, damaged ones, and whole ones with parts that do not belong there."""
    content, weights = SHIPPED.read_bytes(), load_model(SHIPPED).state_dict()

    def case(name: str, data: bytes, same: bool = False) -> Case:
        path = folder / f"{name}.pth"
        path.write_bytes(data)
        is_right = (lambda model: are_same(dict(model.state_dict()), dict(weights))) if same else None
        return Case("checkpoint", name, lambda: load_model(path), is_right)

    for i in range(60):
        bit = draw.randrange(8 * len(content))
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        yield case(f"bit_{i}", bytes(damaged), same=True)
    for i in range(10):
        yield case(f"cut_{i}", content[: draw.randrange(len(content))])
        start = draw.randrange(len(content) - 600)
        yield case(f"overwritten_{i}", content[:start] + draw.randbytes(600) + content[start + 600 :])
        yield case(f"noise_{i}", draw.randbytes(draw.randrange(5000)))
    for name, data in others(draw).items():
        yield case(name, data)
    for name, changed in changed_weights(draw).items():
        yield case(name, saved({"model_name": "v2", "model": changed}))
        yield case(f"bare_{name}", saved(changed))
    yield from training_states(folder, state_file)


def saved(content: object, **options) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


def others(draw: random.Random) -> dict[str, bytes]:
    """Whole files of other kinds."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("x/data.pkl", bytes(50_000_000))
    return {
        "empty": b"", "text": b"# Weights\n", "picture": b"\x89PNG\r\n\x1a\n" + draw.randbytes(500), "bomb":
        archive.getvalue(), "numpy": saved({"model": np.float64(1)}), "module": saved(build_model("v2")),
        "list": saved([1]), "number": saved(1), "tensor": saved(torch.ones(2)), "none": saved(None),
        "numbered": saved({0: torch.ones(2)}), "mixed": saved({"a": 1, ("b", 2): 3}), "nothing": saved({}),
        "old": saved(build_model("v2").state_dict(), _use_new_zipfile_serialization=False),
        "deep": saved(nested(200)), "unknown": saved({"model_name": "v9", "model": {"a": torch.ones(1)}}),
        "model of text": saved({"model_name": "v2", "model": "text"}),
        "ema of numbers": saved({"model_name": "v2", "model": {}, "ema": [1, 2]}),
    }


def nested(depth: int) -> dict:
    return {"model": nested(depth - 1)} if depth else {"a": torch.ones(1)}


def changed_weights(draw: random.Random) -> dict[str, dict]:
    """States of V2 in which one entry is not what it should be."""
    state = MODELS["v2"]().state_dict()
    name = draw.choice([name for name, value in state.items() if value.is_floating_point() and value.numel() > 3])
    value = state[name]
    wrong = {
        "nan": value * math.nan, "infinite": value + math.inf, "double": value.double() * 1e300 + 1e300,
        "shape": value.flatten()[:2], "complex": value.to(torch.complex64), "whole": value.long(),
        "huge": torch.zeros(1).expand(10**9), "sparse": value.to_sparse(), "meta": value.to("meta"), "text": "text",
        "none": None, "list": [1.0],
    }
    changed = {kind: {**state, name: part} for kind, part in wrong.items()}
    variance = next(name for name in state if name.endswith("running_var"))
    return changed | {
        "variance": {**state, variance: -state[variance]}, "surplus": {**state, "stranger": value},
        "less": {key: part for key, part in state.items() if key != name}, "numbered": {**state, 3: value},
    }


def training_states(folder: Path, state_file: Path) -> Iterator[Case]:
    """Training states with entries and moments of other types and shapes."""
    state = torch.load(state_file)
    wrong = [None, "text", -1, [1], {"a": 1}, torch.full((3,), math.nan)]
    harmless = {("best_ap", -1), ("options", 4)}
    for entry in state:
        for number_of, value in enumerate(wrong):
            if (entry, value if isinstance(value, int) else number_of) not in harmless:
                yield state_case(folder, f"{entry}_{number_of}", {**state, entry: value})
    moments = state["optimizer"]["state"]
    for part in moments[0]:
        for number_of, value in enumerate([*wrong, moments[0]["exp_avg"][:1].clone().mul(math.inf)]):
            if (part, number_of) != ("step", -1):
                optimizer = {**state["optimizer"], "state": {**moments, 0: {**moments[0], part: value}}}
                yield state_case(folder, f"moment_{part}_{number_of}", {**state, "optimizer": optimizer})


def state_case(folder: Path, name: str, state: dict) -> Case:
    path = folder / f"state_{name}.pth"
    path.write_bytes(saved(state))

    def read() -> object:
        trainee = Trainee(build_model("v2"), None)
        optimizer, average = build_optimizer(trainee, 1e-3, 0), WeightAverage(trainee.network, 0.9)
        step = TrainingStep(trainee, None, Criterion(False, 0, 0, 1), optimizer, average, make_anchors(64, 64))
        return load_training_state(path, step)

    return Case("training state", name, read, None)


# Label files


def label_files(folder: Path, draw: random.Random, labels: Path) -> Iterator[Case]:
    """label.txt with damaged bytes, other encodings, names that leave the folder, numbers that are none."""
    whole = labels.read_bytes()
    images = labels.parent / "images"
    texts: dict[str, tuple[bytes, bool]] = {  # content, and whether it may be read
        **{f"name_{i}": (f"# {name}\n1 2 3 4\n".encode() + whole, False) for i, name in enumerate(
            ["../x.jpg", "/etc/passwd", "C:\\x.jpg", "a/../../x.jpg", "..", "\\\\host\\x.jpg", "c:x", "..\\x.jpg"])},
        **{f"line_{i}": (whole + line.encode() + b"\n", True) for i, line in enumerate(
            ["nan 1 2 3", "1e999 1 2 3", "9" * 5000, "1 " * 100_000, "x" * 100_000, "#", "1 2 -3 4", "# \x85.jpg"])},
        "latin": (whole + "# Fête.jpg\n".encode("latin-1"), False), "gbk": (whole + "# 人.jpg\n".encode("gbk"), False),
        "utf-16": (whole.decode().encode("utf-16"), True), "utf-16-be": (whole.decode().encode("utf-16-be"), False),
        "utf-32": (whole.decode().encode("utf-32"), False), "zero": (whole + b"\0\n", False), "empty": (b"", False),
        "reversed": (b"\n".join(reversed(whole.split(b"\n"))), True), "old Mac": (whole.replace(b"\n", b"\r"), True),
    }
    for i in range(20):
        damaged = bytearray(whole)
        for _ in range(draw.randrange(1, 30)):
            damaged[draw.randrange(len(damaged))] = draw.randrange(256)
        texts[f"damaged_{i}"] = bytes(damaged), True

    def right(read: tuple) -> bool:
        records, _ = read
        return all(np.isfinite(record.boxes).all() and Path(record.path).resolve().is_relative_to(images.resolve())
                   and os.path.isfile(record.path) for record in records)

    for number_of, (name, (text, may_be_read)) in enumerate(texts.items()):
        path = folder / str(number_of) / "label.txt"
        path.parent.mkdir()
        (path.parent / "images").symlink_to(images)
        path.write_bytes(text)
        yield Case("label file", name, lambda path=path: read_labels(path), right if may_be_read else None)
        if number_of % 3 == 0:
            path.with_name("ignore.txt").write_bytes(text)
    os.mkfifo(folder / "fifo.txt")
    yield Case("label file", "pipe", lambda: read_labels(folder / "fifo.txt"), None)
    yield Case("label file", "folder", lambda: read_labels(folder), None)


# Logs


def logs(folder: Path, draw: random.Random) -> Iterator[Case]:
    """training_log.csv as spreadsheets and accidents leave it: never an error, never a row that is none."""
    whole = "epoch,learning_rate,total,ap_mean\r\n1,0.001,5.5,\r\n2,0.0005,4.25,0.5\r\n3,0.0001,4.0,0.6\r\n"
    texts = {
        "semicolons": whole.replace(",", ";"), "tabs": whole.replace(",", "\t"), "commas": whole.replace(".", ","),
        "text": whole.replace("4.25", "four"), "title": "My training\r\n" + whole, "quotes": whole.replace("1,", '"1,'),
        "no head": whole.partition("\n")[2], "twice": whole + whole, "surplus": whole.replace("4.0", "4.0,1,2,3"),
        "fraction": whole.replace("\n2,", "\n2.5,"), "float": whole.replace("\n2,", "\n2.0,"), "zero": whole + "\0",
        "huge": whole.replace("\n2,", "\n" + "9" * 5000 + ","), "wide": "a," * 50_000 + "\n", "empty": "", "order":
        "total,epoch\r\n5,1\r\n4,2\r\n", "mark": "\ufeff" + whole, "nan": whole.replace("4.25", "nan"), "sum":
        whole + "sum,,,\r\n", "blank": whole.replace("\r\n", "\r\n\r\n"), "long": whole + "x" * 200_000,
    }
    contents_of = {name: text.encode() for name, text in texts.items()}
    contents_of["utf-16"], contents_of["latin"] = whole.encode("utf-16"), whole.encode() + b"\xe9"
    for i in range(15):
        damaged = bytearray(whole.encode())
        damaged[draw.randrange(len(damaged))] = draw.randrange(256)
        contents_of[f"damaged_{i}"] = bytes(damaged)

    def right(log: TrainingLog) -> bool:
        numbers = [row["epoch"] for row in log.rows]
        return numbers == sorted(set(numbers)) and all(type(epoch) is int and epoch <= 2 for epoch in numbers) and (
            bool(log.note) == bool(list(log.path.parent.glob("*set_aside*"))))

    for name, content in contents_of.items():
        path = folder / name.replace(" ", "_") / "training_log.csv"
        path.parent.mkdir()
        path.write_bytes(content)
        yield Case("log", name, lambda path=path: TrainingLog(path, 2), right, may_refuse=False)


# Flags


def flags() -> Iterator[Case]:
    """Every flag with a number, given what is none, or what no machine can do."""
    defaults = vars(parse_args(arguments=[]))
    wrong = ["nan", "inf", "-inf", "1e999", "9" * 5000, "-1", "x", "", "0x10", "99999999999999999999"]
    numbers = {name for name, value in defaults.items() if type(value) in (int, float)}
    for name in sorted(numbers | {"crop_scales", "dataset_shares"}):
        for text in wrong:
            yield Case("flag", f"--{name} {text[:20]}", lambda name=name, text=text: parse_args(
                arguments=[f"--{name}={text}"]), None)


# Judging


@contextlib.contextmanager
def patience(seconds: int) -> Iterator[None]:
    """TimeoutError where the block hangs."""
    def ring(*_) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def fault_of(case: Case) -> str | None:
    """What was wrong with how a case was met; None where nothing was."""
    told = io.StringIO()
    try:
        with patience(PATIENCE), contextlib.redirect_stderr(told), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            read = case.read()
    except (UserError, SystemExit) as error:
        line = str(error) if isinstance(error, UserError) else told.getvalue().strip()
        is_line = 0 < len(line) < 700 and "\n" not in line and "\x1b" not in line
        code = error.code if isinstance(error, SystemExit) else 2
        return None if case.may_refuse and is_line and code == 2 else f"refused with {code}: {line!r}"
    except TimeoutError:
        return "hangs"
    except BaseException:
        return traceback.format_exc(limit=-2)
    return None if case.is_right and case.is_right(read) else "a wrong success"


def main() -> int:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=number(int, 0, 2**32), default=0)
    parser.add_argument("--kills", type=number(int, 0, 10_000), default=54)
    options = parser.parse_args()
    tried, faults = Counter(), []
    with tempfile.TemporaryDirectory() as place:
        folder, draw = Path(place), random.Random(options.seed)
        for name in ("checkpoints", "labels", "logs", "kills"):
            (folder / name).mkdir()
        labels = write_pictures(folder / "set")
        for name, fault in kills(folder / "kills", draw, labels, options.kills) if options.kills else ():
            tried["kill"] += 1
            faults += [("kill", name, fault)] if fault else []
        train(tiny_flags(labels, folder / "run", "--epochs", "1"))
        state_file = folder / "run" / "FeatherFaceV2_last.pth"
        cases = [checkpoints(folder / "checkpoints", draw, state_file), label_files(folder / "labels", draw, labels),
                 logs(folder / "logs", draw), flags()]
        for case in (case for group in cases for case in group):
            tried[case.kind] += 1
            if fault := fault_of(case):
                faults.append((case.kind, case.name, fault))
    for kind, name, fault in faults:
        print(f"{kind}, {name}: {fault}")
    for kind, count in tried.items():
        failures = sum(fault[0] == kind for fault in faults)
        print(f"{kind}: {count} tried, {count - failures} as it should, {failures} failures")
    return bool(faults)


if __name__ == "__main__":
    run_script(main)
