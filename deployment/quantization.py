"""A graph of export.py with 8-bit convolutions, its ranges measured on real pictures."""

import contextlib
import io
import logging
from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static

from data.picture_files import read_picture
from detection.inference import looks_at
from detection.protocols import PROTOCOLS
from utils.errors import UserError

#: How pictures are shown to the graph, for the ranges and for the AP.
PROTOCOL = "vga"

#: Of the values of a map, what its range of 8 bits holds.
PERCENTILE = 99.99

#: Largest drop of AP in any subset that goes without a warning: one point.
ACCEPTED_LOSS = 0.01


class CalibrationPictures(CalibrationDataReader):
    """Picture files as the graph's input, one at a time, scaled and padded as for detection."""

    def __init__(self, paths: list[Path], dtype: type[np.generic]):
        self.paths = paths
        self.dtype = dtype
        self.set_range(0, len(paths))

    def __len__(self) -> int:
        return len(self.paths)

    def set_range(self, start_index: int, end_index: int) -> None:
        """Which pictures come next."""
        self._next = iter(self.paths[start_index:end_index])

    def get_next(self) -> dict[str, np.ndarray] | None:
        path = next(self._next, None)
        if path is None:
            return None
        [look] = looks_at(read_picture(path), PROTOCOLS[PROTOCOL])
        return {"images": look.image[None].numpy().astype(self.dtype)}


def quantize(source: Path, target: Path, paths: list[Path]) -> int:
    """Write `target`, the graph of `source` with 8-bit convolutions; returns how many pictures set the ranges.

    Static ranges in QDQ form, 8-bit weights with a scale a channel; see `float_convolutions` for what stays as it is.
    A range holds PERCENTILE of the values of all pictures: the extremes would be set by the oddest picture and leave
    few steps for the others. UserError where none can be read.
    """
    readable = [path for path in paths if read_picture(path) is not None]
    if not readable:
        raise UserError(f"none of {len(paths)} calibration pictures can be read, {paths[0]} for one")
    graph = onnx.load(source)
    is_float = graph.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    pictures = CalibrationPictures(readable, np.float32 if is_float else np.uint8)
    logging.disable(logging.WARNING)  # it asks for a preparation that is done: the BatchNorms are folded
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # what it does, line by line
            quantize_static(
                graph, target, pictures, quant_format=QuantFormat.QDQ, op_types_to_quantize=["Conv"], per_channel=True,
                activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
                nodes_to_exclude=float_convolutions(graph),
                calibrate_method=CalibrationMethod.Percentile,
                # One picture after the other: they differ in size, and the maps of all together would fill the memory.
                extra_options={"CalibPercentile": PERCENTILE, "CalibStridedMinMax": 1},
            )
    finally:
        logging.disable(logging.NOTSET)
    return len(readable)


def float_convolutions(graph: ModelProto) -> list[str]:
    """Names of the convolutions that 8 bits harm most: the first one, the depthwise ones and the heads.

    The first reads pixels; the channels of a depthwise convolution differ in range (Sheng et al., "A
    quantization-friendly separable convolution for MobileNets", 2018); the heads give pixels and probabilities.
    """
    depthwise = {tensor.name for tensor in graph.graph.initializer if len(tensor.dims) == 4 and tensor.dims[1] == 1}
    convolutions = [node for node in graph.graph.node if node.op_type == "Conv"]
    return [
        node.name for index, node in enumerate(convolutions)
        if index == 0 or node.input[1] in depthwise or "/heads/" in node.name
    ]
