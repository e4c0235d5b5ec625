"""The ways a detector is run: as published, in PyTorch as this repo does it, compiled, in ONNX Runtime.

    python -m benchmarks.engines ENGINE FILE THREADS HEIGHT WIDTH

prints by how many bytes the memory of a fresh process grows while it loads a detector and looks at one picture.
"""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime  # noqa: F401  as PyTorch: what an engine itself takes is no part of what a detector takes
import torch
from torch import Tensor, nn

from benchmarks.lineage_loop import as_published
from data.pixels import normalize
from detection.face_detector import Candidates, load_detector
from layers.anchors import make_anchors
from layers.box_coder import decode_boxes, decode_landmarks
from models import load_model
from utils.errors import UserError, run_script

ROOT = Path(__file__).resolve().parent.parent
CPU = torch.device("cpu")

#: As V1 was published; as this repo runs a detector; and what that becomes.
PUBLISHED, PYTORCH, COMPILED = "as published", "PyTorch", "PyTorch compiled"
ONNX_FLOAT, ONNX_INT8 = "ONNX fp32", "ONNX INT8"


class PublishedDetector(nn.Module):
    """A network as FeatherFace V1 was published, in plain PyTorch: BatchNorms not folded, channels first in memory,
    deformable convolutions by torchvision. FaceDetector gives the same."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = as_published(network)

    def forward(self, images: Tensor) -> Candidates:
        """uint8 BGR pixels [B, 3, H, W], sides divisible by the largest stride."""
        outputs = self.network(normalize(images).contiguous())
        anchors = make_anchors(images.shape[2], images.shape[3])
        return Candidates(
            decode_boxes(outputs.boxes, anchors),
            torch.softmax(outputs.logits, dim=-1)[..., 1],
            decode_landmarks(outputs.landmarks, anchors),
        )


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


def main() -> None:
    engine, path, threads, height, width = sys.argv[1:]
    torch.set_num_threads(int(threads))
    pixels = np.random.default_rng(0).integers(0, 256, (1, 3, int(height), int(width)), np.uint8)
    before = resident_bytes("VmRSS")
    load_engine(engine, Path(path))(torch.from_numpy(pixels))
    print(resident_bytes("VmHWM") - before)


if __name__ == "__main__":
    run_script(main)
