"""Graphs of export.py in ONNX Runtime, called as a FaceDetector is."""

import re
from pathlib import Path

import numpy as np
import torch
from onnxruntime import InferenceSession, SessionOptions, get_available_providers
from torch import Tensor
from torch.nn import functional as F

from data.config import MEAN_BGR
from detection.face_detector import Candidates
from utils.errors import UserError, is_out_of_memory, reason
from utils.onnx_files import check_whole

#: Types of pixels that a graph may take, by ONNX Runtime's names; other tools make floats of bytes.
PIXEL_TYPES = {"tensor(uint8)": torch.uint8, "tensor(float)": torch.float32, "tensor(float16)": torch.float16}


class OnnxDetector:
    """A graph of export.py without suppression: BGR pictures [B, 3, H, W] to Candidates on the CPU.

    `name`, `parameter_count` and `metadata` (text by name) are what the graph says of itself. Another tool may have
    fixed the number or the size of the pictures it takes: they are brought to that. UserError where the file is missing
    or is no such graph, or where ONNX Runtime cannot run it on `device`.
    """

    def __init__(self, path: str | Path, device: torch.device | str = "cpu"):
        self.path = path
        self.session = open_session(path, torch.device(device))
        self.metadata = self.session.get_modelmeta().custom_metadata_map
        check_ends(self.session, path)
        missing = [name for name in ("model", "parameters") if not self.metadata.get(name)]
        if missing:
            raise UserError(f"{path} lacks {' and '.join(missing)} in its metadata, which some tools drop: export it "
                            "again, or copy metadata_props from the graph it was made of")
        self.name = self.metadata["model"]
        if not re.fullmatch("[0-9]{1,18}", self.metadata["parameters"]):
            raise UserError(f"{path} is damaged: its metadata have parameters '{self.metadata['parameters'][:40]}', no "
                            "number; export it again")
        self.parameter_count = int(self.metadata["parameters"])
        #: Number, height and width that the graph is fixed to, None for what is free.
        self.batch, _, self.height, self.width = (
            side if isinstance(side, int) and side > 0 else None for side in self.session.get_inputs()[0].shape
        )

    def __call__(self, images: Tensor) -> Candidates:
        """uint8 pixels [B, 3, H, W] of any size, on any device."""
        fitted, scales = self._fit(images.cpu())
        boxes, scores, landmarks = self._run_parts(fitted) if self.batch else self._run(fitted)
        return Candidates(boxes / scales.repeat(2), scores, landmarks / scales)

    def _fit(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Pictures at the size the graph is fixed to, reduced where they are larger, padded with the mean.

        With the factors, float32 [2] (x, y), as rounding to whole pixels gave them. A picture that is smaller keeps its
        size, so that it is seen as the protocol asks for.
        """
        before = images.shape[2:]
        scale = min((side or given) / given for side, given in zip((self.height, self.width), before))
        if scale < 1:
            sides = [max(1, round(side * scale)) for side in before]
            images = F.interpolate(images, sides, mode="bilinear", antialias=True)
        height, width = images.shape[2:]
        scales = torch.tensor([width / before[1], height / before[0]])
        if (self.height or height, self.width or width) == (height, width):
            return images, scales
        canvas = torch.tensor(MEAN_BGR, dtype=images.dtype).view(1, 3, 1, 1)
        canvas = canvas.repeat(len(images), 1, self.height or height, self.width or width)
        canvas[:, :, :height, :width] = images
        return canvas, scales

    def _run_parts(self, images: Tensor) -> Candidates:
        """The outputs for any number of pictures, as many at once as the graph is fixed to."""
        parts = []
        for part in images.split(self.batch):
            filled = F.pad(part, (0, 0, 0, 0, 0, 0, 0, self.batch - len(part)))
            parts.append([field[: len(part)] for field in self._run(filled)])
        return Candidates(*(torch.cat(fields) for fields in zip(*parts)))

    def _run(self, images: Tensor) -> Candidates:
        """The outputs for a batch as the graph takes it; UserError where they are not what a detector gives."""
        fields = dict(zip((output.name for output in self.session.get_outputs()), run_session(self.session, images)))
        found = Candidates(*(torch.from_numpy(np.asarray(fields[name], np.float32)) for name in Candidates._fields))
        anchors = found.scores.shape[1] if found.scores.ndim == 2 else -1
        expected = [(len(images), anchors, 4), (len(images), anchors), (len(images), anchors, 5, 2)]
        if [tuple(field.shape) for field in found] != expected:
            shapes = ", ".join(f"{name} {list(field.shape)}" for name, field in zip(Candidates._fields, found))
            raise UserError(f"{self.path} is no graph of export.py: for {len(images)} pictures it gives {shapes}")
        if not torch.isfinite(found.scores).all():
            raise UserError(f"{self.path} gives scores that are no numbers: its weights are damaged, export it again")
        return found


def check_ends(session: InferenceSession, path: str | Path) -> None:
    """UserError where a graph has not the input and the outputs of export.py's."""
    inputs, outputs = session.get_inputs(), session.get_outputs()
    if [output.name for output in outputs] == ["faces"]:
        raise UserError(f"{path} has suppression inside: give the file without, which export.py writes beside it")
    if {output.name for output in outputs} != set(Candidates._fields):
        raise UserError(f"{path} is no graph of export.py: it gives {', '.join(one.name for one in outputs)} in place "
                        f"of {', '.join(Candidates._fields)}")
    pixels = inputs[0] if len(inputs) == 1 else None
    if pixels is None or pixels.type not in PIXEL_TYPES or len(pixels.shape) != 4 or not is_colour(pixels.shape[1]):
        told = ", ".join(f"{one.name} {one.type} {one.shape}" for one in inputs)
        raise UserError(f"{path} is no graph of export.py: it takes {told or 'nothing'}, not one batch of pictures "
                        "[batch, 3, height, width]")


def is_colour(channels: int | str | None) -> bool:
    """Whether an axis of a graph's input can be the three colours: it is 3, or it is free."""
    return channels == 3 or not isinstance(channels, int)


def open_session(path: str | Path, device: torch.device) -> InferenceSession:
    """ONNX Runtime for a file, with as many threads as PyTorch; UserError where it is damaged or cannot be run."""
    path = Path(path)
    if not path.is_file():
        raise UserError(f"no graph at {path}: check the path")
    providers = ["CPUExecutionProvider"]
    if device.type == "cuda":
        if "CUDAExecutionProvider" not in get_available_providers():
            raise UserError(f"the onnxruntime installed here cannot run {path} on a GPU: give the device cpu (--gpu "
                            "cpu), or install onnxruntime-gpu in its place")
        providers.insert(0, ("CUDAExecutionProvider", {"device_id": device.index or 0}))
    data = path.read_bytes()
    check_whole(data, path)
    options = SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    # Else its threads go on waiting busily after a run, on the cores that read the next picture or run another graph.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.log_severity_level = 4  # what it logs of an error is in the error
    try:
        return InferenceSession(data, options, providers=providers)
    except Exception as error:  # ONNX Runtime raises a different type for each kind of broken file
        raise UserError(f"{path} is no graph ONNX Runtime can run ({reason(error)}): export it again") from None


def run_session(session: InferenceSession, images: Tensor) -> list[np.ndarray]:
    """The outputs of a graph of export.py for uint8 pictures [B, 3, H, W], whichever type its input has.

    UserError where ONNX Runtime fails on them, MemoryError where they are too large for it.
    """
    pixels = session.get_inputs()[0]
    try:
        return session.run(None, {pixels.name: images.to(PIXEL_TYPES[pixels.type]).cpu().numpy()})
    except Exception as error:  # ONNX Runtime raises a different type for each kind of mistake
        if is_out_of_memory(error):
            raise MemoryError(reason(error)) from None
        count, _, height, width = images.shape
        raise UserError(f"the graph fails on {count} x {width} x {height} pixels ({reason(error)}): export it "
                        "again") from None
