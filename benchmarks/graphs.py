"""Compare ONNX graphs of export.py in ONNX Runtime on the CPU: latency in turn, then where the time goes.

    python -m benchmarks.graphs before.onnx after.onnx --threads 1

Whatever is to be tried on a graph, its file before and its file after are measured in one run.
"""

import json
import tempfile
from collections import defaultdict
from functools import partial
from pathlib import Path

import numpy as np
import torch
from onnxruntime import InferenceSession, SessionOptions
from torch import Tensor

from benchmarks.rows import for_the_eye, in_turn, measured, times_as_fast
from benchmarks.timing import random_pictures, spread
from detection.onnx_detector import open_session, run_session
from utils.arguments import ArgumentParser, number
from utils.errors import run_script
from utils.tables import Row, print_table
from utils.turns import take_turns

CPU = torch.device("cpu")


def latency(paths: list[Path], images: Tensor, rounds: int) -> list[Row]:
    """Milliseconds of each graph, and how many times as fast as the first it is, round by round.

    Names have a number before them: the same file may be given twice, which tells what chance alone makes.
    """
    sessions = {f"{place} {path}": open_session(path, CPU) for place, path in enumerate(paths, start=1)}
    times = take_turns({name: partial(run_session, one, images) for name, one in sessions.items()}, rounds, warmup=3)
    return [{
        "graph": name, **measured("ms", spread(own), "ms "), "fastest ms": min(own),
        **times_as_fast(next(iter(times.values())), own),
    } for name, own in times.items()]


def profile(path: Path, images: Tensor, rounds: int) -> list[Row]:
    """Milliseconds by kind of node, the slowest first: each node's median, summed, with ONNX Runtime's own clock.

    A profiled graph is slower than one that is not, by a few microseconds a node.
    """
    options = SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.enable_profiling = True
    with tempfile.TemporaryDirectory() as folder:
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
        for _ in range(rounds):
            run_session(session, images)
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    nodes: dict[tuple[str, str], list[float]] = defaultdict(list)
    for event in events:
        if event["cat"] == "Node" and event["name"].endswith("_kernel_time"):
            nodes[event["args"]["op_name"], event["name"]].append(event["dur"] / 1000)
    kinds: dict[str, list[float]] = defaultdict(list)
    for (kind, _), durations in nodes.items():
        kinds[kind].append(float(np.median(durations)))
    rows = [{"node": kind, "nodes": len(medians), "ms": sum(medians)} for kind, medians in kinds.items()]
    rows.sort(key=lambda row: -row["ms"])
    return [*rows, {"node": "all", "nodes": len(nodes), "ms": sum(row["ms"] for row in rows)}]


def main(arguments: list[str] | None = None) -> None:
    parser = ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("graphs", type=Path, nargs="+", help="files of export.py without suppression; the first is the one to beat")
    add("--threads", type=number(int, 1, 2**10), default=torch.get_num_threads())
    add("--rounds", type=number(int, 1), default=50)
    add("--batch", type=number(int, 1, 2**16), default=1, help="pictures")
    add("--height", type=number(int, 1, 2**14), default=640, help="of a picture, in pixels")
    add("--width", type=number(int, 1, 2**14), default=640)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    images = random_pictures(options.batch, options.height, options.width)
    rows = latency(options.graphs, images, options.rounds)
    print_table(for_the_eye(rows, "graph", "ms", "fastest ms", "ms quartiles", "times as fast", "ratio quartiles"))
    print(f"{in_turn(options.rounds)}, {options.batch} pictures of {options.width}x{options.height}")
    for row, path in zip(rows, options.graphs):
        print(f"\n{row['graph']}")
        print_table(profile(path, images, options.rounds))


if __name__ == "__main__":
    run_script(main)
