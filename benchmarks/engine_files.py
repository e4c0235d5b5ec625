"""A detector in the files that the engines load."""

from pathlib import Path

import onnx
import torch

from benchmarks.engines import COMPILED, ONNX_FLOAT, ONNX_INT8, PUBLISHED, PYTORCH
from deployment.onnx_graph import export_graph, metadata_of, save_graph
from deployment.quantization import quantize
from deployment.weights_file import deployment_state
from detection.face_detector import FaceDetector
from models import load_model


def write_files(checkpoint: Path, folder: Path, calibration: list[Path], compiled: bool) -> dict[str, Path]:
    """A detector as each engine takes it, without what only training needs: {engine: file in `folder`}.

    calibration: pictures that set the ranges of 8 bits; without any there is no such file. UserError as load_model.
    """
    network = load_model(checkpoint)
    detector = FaceDetector(network)
    weights, plain, quantized = (folder / name for name in ("weights.pth", "fp32.onnx", "int8.onnx"))
    torch.save(deployment_state(network, detector.parameter_count, []), weights)
    files = {PUBLISHED: weights, PYTORCH: weights} | ({COMPILED: weights} if compiled else {})
    save_graph(export_graph(detector, float_input=False), plain, metadata_of(detector))
    files[ONNX_FLOAT] = plain
    if calibration:
        quantize(plain, quantized, calibration)
        save_graph(onnx.load(quantized), quantized, metadata_of(detector))
        files[ONNX_INT8] = quantized
    return files
