"""Graphs of export.py in ONNX Runtime, called as a FaceDetector is."""

import json
from pathlib import Path

import numpy as np
import torch
from onnxruntime import InferenceSession, SessionOptions, get_available_providers
from torch import Tensor

from detection.face_detector import Candidates
from utils.errors import UserError


class OnnxDetector:
    """A graph of export.py without suppression: BGR pictures [B, 3, H, W] to Candidates on the CPU.

    `name`, `parameter_count` and `metadata` (text by name) are what the graph says of itself. UserError where the file
    is missing or is no such graph, or where ONNX Runtime cannot run on `device`.
    """

    def __init__(self, path: str | Path, device: torch.device | str = "cpu"):
        self.session = open_session(path, torch.device(device))
        self.metadata = self.session.get_modelmeta().custom_metadata_map
        if not {"model", "parameters"} <= self.metadata.keys():
            raise UserError(f"{path} is no graph of export.py: it names no model in its metadata")
        if len(self.session.get_outputs()) != len(Candidates._fields):
            raise UserError(f"{path} has suppression inside: give the file without, which export.py writes beside it")
        self.name = self.metadata["model"]
        self.parameter_count = json.loads(self.metadata["parameters"])

    def __call__(self, images: Tensor) -> Candidates:
        """uint8 pixels [B, 3, H, W] of any size, on any device."""
        return Candidates(*map(torch.from_numpy, run_session(self.session, images)))


def open_session(path: str | Path, device: torch.device) -> InferenceSession:
    """ONNX Runtime for a file, with as many threads as PyTorch; UserError where it cannot run it."""
    path = Path(path)
    if not path.is_file():
        raise UserError(f"no graph at {path}: check the path")
    providers = ["CPUExecutionProvider"]
    if device.type == "cuda":
        if "CUDAExecutionProvider" not in get_available_providers():
            raise UserError(f"the onnxruntime installed here cannot run {path} on a GPU: pass --gpu cpu, or install "
                            "onnxruntime-gpu in its place")
        providers.insert(0, ("CUDAExecutionProvider", {"device_id": device.index or 0}))
    options = SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    # Else its threads go on waiting busily after a run, on the cores that read the next picture or run another graph.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    try:
        return InferenceSession(path.read_bytes(), options, providers=providers)
    except Exception as error:  # ONNX Runtime raises a different type for each kind of broken file
        reason = str(error).splitlines()[0][:160]
        raise UserError(f"{path} is no graph ONNX Runtime can run ({reason}): export it again") from None


def run_session(session: InferenceSession, images: Tensor) -> list[np.ndarray]:
    """The outputs of a graph of export.py for uint8 pictures [B, 3, H, W], whichever type its input has."""
    is_float = session.get_inputs()[0].type == "tensor(float)"
    return session.run(None, {"images": (images.float() if is_float else images).cpu().numpy()})
