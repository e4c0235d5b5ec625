"""Hostile ground truth, predictions and lists for the evaluator: each ends in an AP or in one line.

    python -m tests.hostile_evaluation
    python -m tests.hostile_evaluation --seed 7
"""

import math
import random
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from data.widerface import list_pictures
from tests.helpers import write_ground_truth, write_predictions
from utils.arguments import ArgumentParser, number
from utils.errors import UserError, run_script
from widerface_evaluate.average_precision import evaluate
from widerface_evaluate.wider_files import (
    InputError,
    load_ground_truth,
    read_picture_list,
    read_predictions,
    read_scales,
)

TRIES = 40  #: of each file
WORDS = (b"nan", b"inf", b"-1", b"9" * 5000, b"1e400", b"\xe9", b"\0", b"../..", b"0x10", b"", b"\xff\xfe", b"\r", b"#")


def damage(data: bytes, draw: random.Random) -> bytes:
    """Cut short, with bytes changed, a word put in place of another, lines swapped, or another file altogether."""
    kind = draw.randrange(5)
    if kind == 0:
        return data[: draw.randrange(len(data))]
    if kind == 1:
        changed = bytearray(data)
        for _ in range(draw.randrange(1, 9)):
            changed[draw.randrange(len(changed))] = draw.randrange(256)
        return bytes(changed)
    if kind == 2:
        words = data.split(b" ")
        words[draw.randrange(len(words))] = draw.choice(WORDS)
        return b" ".join(words)
    if kind == 3:
        lines = data.split(b"\n")
        draw.shuffle(lines)
        return b"\n".join(lines)
    return draw.choice(WORDS) * draw.randrange(1, 50)


def fault_of(work: Callable[[], object]) -> str | None:
    """What is wrong with how a piece of work ended; None where it is as it should be."""
    try:
        result = work()
    except (InputError, UserError) as error:
        return "more than one line" if "\n" in str(error) or len(str(error)) > 1000 else None
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    is_ap = all(math.isnan(ap) or 0 <= ap <= 1 for ap in result.values()) if isinstance(result, dict) else True
    return None if is_ap else f"an AP of {result}"


def main() -> int:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=number(int, 0), default=0)
    draw = random.Random(parser.parse_args().seed)
    tried, faults = 0, []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        faces = {("0--A", "one"): [[10, 20, 30, 40]], ("1--B", "two"): [[5, 5, 9, 9], [50, 60, 20, 30]]}
        write_ground_truth(folder / "truth", faces)
        write_predictions(folder / "found", {key: [[*box, 0.5] for box in boxes] for key, boxes in faces.items()})
        (folder / "found" / "scales.csv").write_text("0--A/one,0.5\n1--B/two,1\n")
        (folder / "found" / "wider_val.txt").write_text("/0--A/one.jpg\n/1--B/two.jpg\n")
        truth = load_ground_truth(folder / "truth")
        readers: dict[str, Callable[[], object]] = {
            "truth/wider_face_val.mat": lambda: evaluate(read_predictions(folder / "found", truth),
                                                         load_ground_truth(folder / "truth")),
            "truth/wider_hard_val.mat": lambda: load_ground_truth(folder / "truth"),
            "found/1--B/two.txt": lambda: evaluate(read_predictions(folder / "found", truth), truth),
            "found/scales.csv": lambda: read_scales(folder / "found", truth),
            "found/wider_val.txt": lambda: (list_pictures(folder / "found"),
                                            read_picture_list(folder / "found" / "wider_val.txt", truth)),
        }
        for file, read in readers.items():
            path = folder / file
            whole = shutil.copy(path, folder / "whole")
            for _ in range(TRIES):
                path.write_bytes(damage(Path(whole).read_bytes(), draw))
                tried += 1
                if fault := fault_of(read):
                    faults.append(f"{file}: {fault}")
            shutil.copy(whole, path)
    for fault in faults:
        print(f"fault: {fault}")
    print(f"{tried} tried / {tried - len(faults)} as it should / {len(faults)} failures")
    return bool(faults)


if __name__ == "__main__":
    run_script(main)
