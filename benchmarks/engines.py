"""The ways a detector is run: as published, in PyTorch as this repo does it, compiled, in ONNX Runtime.

    python -m benchmarks.engines ENGINE FILE THREADS HEIGHT WIDTH

prints by how many bytes the memory of a fresh process grows while it loads a detector and looks at one picture.
"""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import onnxruntime  # noqa: F401  as PyTorch: what an engine itself takes is no part of what a detector takes
import torch
from torch import Tensor

from benchmarks.baselines.published import PublishedDetector
from benchmarks.timing import random_pictures
from detection.face_detector import Candidates, load_detector
from models import load_model
from utils.arguments import ArgumentParser, number
from utils.errors import UserError, run_script

ROOT = Path(__file__).resolve().parent.parent
CPU = torch.device("cpu")

#: As V1 was published; as this repo runs a detector; and what that becomes.
PUBLISHED, PYTORCH, COMPILED = "as published", "PyTorch", "PyTorch compiled"
ONNX_FLOAT, ONNX_INT8 = "ONNX fp32", "ONNX INT8"


def load_engine(engine: str, path: Path) -> Callable[[Tensor], Candidates]:
    """uint8 BGR pictures [B, 3, H, W] -> Candidates, in as many threads as PyTorch has now.

    UserError where torch.compile does not work here (it needs a C++ compiler, for one).
    """
    run = PublishedDetector(load_model(path)) if engine == PUBLISHED else load_detector(path, CPU)
    if engine == COMPILED:
        run = torch.compile(run)
    run = torch.inference_mode()(run)
    try:
        run(torch.zeros(1, 3, 64, 64, dtype=torch.uint8))
    except RuntimeError as error:
        if engine != COMPILED:
            raise
        raise UserError(f"torch.compile does not work here ({str(error).splitlines()[0][:200]})") from None
    return run


def resident_bytes(field: str) -> float:
    """VmRSS, the memory of this process, or VmHWM, its peak; NaN where there is no /proc (outside Linux)."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return float("nan")
    [kilobytes] = [line.split()[1] for line in lines if line.startswith(field)]
    return 1024.0 * int(kilobytes)


def peak_memory(engine: str, path: Path, height: int, width: int) -> float:
    """Bytes by which a fresh process grows at its peak; NaN outside Linux. UserError where that process fails."""
    command = [engine, path.resolve(), torch.get_num_threads(), height, width]
    process = subprocess.run(
        [sys.executable, "-m", "benchmarks.engines", *map(str, command)], cwd=ROOT, capture_output=True, text=True
    )
    if process.returncode:
        raise UserError(f"the process that measures the memory of {engine} failed: {process.stderr.strip()[-200:]}")
    return float(process.stdout.split()[-1])


def main(arguments: list[str] | None = None) -> None:
    parser = ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("engine", metavar="ENGINE", choices=(PUBLISHED, PYTORCH, COMPILED, ONNX_FLOAT, ONNX_INT8))
    add("path", metavar="FILE", type=Path, help="what the engine loads")
    for name in ("threads", "height", "width"):
        add(name, metavar=name.upper(), type=number(int, 1))
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    picture = random_pictures(1, options.height, options.width)
    before = resident_bytes("VmRSS")
    load_engine(options.engine, options.path)(picture)
    print(resident_bytes("VmHWM") - before)


if __name__ == "__main__":
    run_script(main)
