"""A detector as an ONNX graph: made from FaceDetector, described in its metadata, compared with PyTorch."""

import io
import json
import sys
import warnings
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import ModelProto, TensorProto, helper, numpy_helper
from torch import Tensor, nn
from torch.nn import functional as F

from data.config import MEAN_BGR
from deployment.onnx_fixed import FixedDetector, split_by_slices
from deployment.onnx_layout import BlockedDetector
from detection.face_detector import Candidates, FaceDetector
from detection.onnx_detector import OnnxDetector, open_session, run_session
from detection.suppression import DetectionSettings, suppress
from layers.anchors import ANCHOR_SIZES, STRIDES
from layers.box_coder import VARIANCES
from utils.errors import UserError
from utils.onnx_files import NAME, with_checksum

#: V2 needs nothing newer. V1 neither: its deformable convolution is written with bilinear sampling, GridSample of
#: opset 16, so that it does not wait for runtimes with DeformConv of opset 19.
OPSET = 17

#: Shapes of the outputs; a word is a side that depends on the input.
OUTPUTS = {"boxes": ["batch", "anchors", 4], "scores": ["batch", "anchors"], "landmarks": ["batch", "anchors", 5, 2]}

#: Of an exported graph with suppression: batch index, x1 y1 x2 y2, score, five times x y.
FACES = {"faces": ["faces", 16]}

#: (pictures, height, width) on which a graph is compared with PyTorch.
CHECKED_SIZES = ((1, 97, 201), (2, 333, 257), (1, 479, 637), (1, 1, 1))

#: Largest differences from PyTorch that a graph may have; float32 has rounding steps of 6e-5 at 640 px.
PIXEL_TOLERANCE, SCORE_TOLERANCE = 1e-3, 1e-4


def export_graph(detector: FaceDetector, float_input: bool) -> ModelProto:
    """The detector as a graph from `images`, BGR pixels 0..255 [batch, 3, height, width] of any size, to OUTPUTS.

    The input is uint8 unless `float_input`. Normalisation, padding, anchors and decoding are inside.
    """
    example = torch.zeros(2, 3, 70, 101, dtype=torch.float32 if float_input else torch.uint8)
    dynamic = {"images": {0: "batch", 2: "height", 3: "width"}}
    dynamic |= {name: {0: "batch", 1: "anchors"} for name in OUTPUTS}
    graph = _trace(BlockedDetector(detector.cpu()), example, dynamic)
    _declare_outputs(graph, OUTPUTS)
    _declare_sums(graph)
    return graph


def export_fixed_graph(detector: FaceDetector, width: int, height: int) -> ModelProto:
    """The same of one picture of `width` x `height` pixels, without shapes to be computed; `images` is float32.

    For importers that know no shape but numbers, and for compilers that want to.
    """
    graph = _trace(FixedDetector(detector.cpu(), width, height), torch.zeros(1, 3, height, width), {})
    split_by_slices(graph)
    return graph


def _trace(module: nn.Module, example: Tensor, dynamic: dict[str, dict[int, str]]) -> ModelProto:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # That a trace may not hold for other sizes is checked on other sizes. The exporter by tracing is the one that
        # needs no size to be promised; PyTorch calls it deprecated.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module, (example,), buffer, dynamo=False, opset_version=OPSET, input_names=["images"],
            output_names=list(OUTPUTS), dynamic_axes=dynamic,
        )
    graph = onnx.load_from_string(buffer.getvalue())
    _pool_maxima(graph)
    return graph


def halve_weights(graph: ModelProto) -> ModelProto:
    """The same graph with the weights of its convolutions in float16, half as many bytes, and all else in float32.

    Runtimes turn the weights into float32 while they load them, and then are as fast as with the others. UserError
    where float16 cannot hold a weight.
    """
    halved = ModelProto()
    halved.CopyFrom(graph)
    weights = {node.input[1] for node in halved.graph.node if node.op_type == "Conv"}
    casts = []
    for tensor in halved.graph.initializer:
        if tensor.name in weights:
            stored = f"{tensor.name}/float16"
            casts.append(helper.make_node("Cast", [stored], [tensor.name], name=stored, to=TensorProto.FLOAT))
            weight = numpy_helper.to_array(tensor)
            if np.abs(weight).max() > np.finfo(np.float16).max:
                raise UserError(f"weights of {np.abs(weight).max():g} are more than float16 holds: nothing is written; "
                                "export without --half")
            tensor.CopyFrom(numpy_helper.from_array(weight.astype(np.float16), stored))
    nodes = [*casts, *halved.graph.node]
    del halved.graph.node[:]
    halved.graph.node.extend(nodes)
    return halved


def add_suppression(graph: ModelProto, settings: DetectionSettings) -> ModelProto:
    """A graph of `export_graph` that ends with FACES: picture by picture, best first, as `suppress` gives them.

    Only `settings.top_k` is left out: all candidates above the threshold take part.
    """
    suppressed = ModelProto()
    suppressed.CopyFrom(graph)

    constants = {
        "nms/keep_top_k": np.int64([settings.keep_top_k]),
        "nms/iou_threshold": np.float32([settings.nms_threshold]),
        "nms/score_threshold": np.float32([settings.confidence_threshold]),
        "nms/first": np.int64([0]),
        "nms/second": np.int64([1]),
        "nms/third": np.int64([2]),
        "nms/list": np.int64([-1]),
    }
    constants |= {f"nms/rows_of_{values}": np.int64([-1, values]) for values in (4, 1, 10)}
    suppressed.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())

    def node(kind: str, inputs: str, output: str, **attributes: int) -> None:
        suppressed.graph.node.append(helper.make_node(kind, inputs.split(), [output], name=output, **attributes))

    node("Unsqueeze", "scores nms/second", "nms/scores")
    node("NonMaxSuppression", "boxes nms/scores nms/keep_top_k nms/iou_threshold nms/score_threshold", "nms/selected")
    # What is selected is a picture, a class, an anchor. Faces are taken from the anchors of all pictures in one list:
    # GatherND, which takes picture and anchor, ends the process in OpenCV 5.0 where nothing is selected.
    node("Gather", "nms/selected nms/first", "nms/picture", axis=1)
    node("Gather", "nms/selected nms/third", "nms/anchor", axis=1)
    node("Shape", "scores", "nms/anchors", start=1)
    node("Mul", "nms/picture nms/anchors", "nms/first_anchor")
    node("Add", "nms/first_anchor nms/anchor", "nms/column")
    node("Reshape", "nms/column nms/list", "nms/index")
    for output, values in (("boxes", 4), ("scores", 1), ("landmarks", 10)):
        node("Reshape", f"{output} nms/rows_of_{values}", f"nms/all_{output}")
        node("Gather", f"nms/all_{output} nms/index", f"nms/face_{output}", axis=0)
    node("Cast", "nms/picture", "nms/face_pictures", to=TensorProto.FLOAT)
    node("Concat", "nms/face_pictures nms/face_boxes nms/face_scores nms/face_landmarks", "faces", axis=1)
    _declare_outputs(suppressed, FACES)
    return suppressed


def _declare_sums(graph: ModelProto) -> None:
    """Say that an enlarged map and the one that it is added to have the same shape: inference cannot know.

    ONNX Runtime then adds them as they lie in memory, or within a convolution, without reshaping them before and after.
    """
    enlarged = {node.output[0] for node in graph.graph.node if node.op_type == "Resize"}
    for node in graph.graph.node:
        if node.op_type == "Add" and enlarged.intersection(node.input):
            shape = ["batch", f"{node.output[0]}/channels", f"{node.output[0]}/rows", f"{node.output[0]}/columns"]
            graph.graph.value_info.extend(
                helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in node.input
            )


def _pool_maxima(graph: ModelProto) -> None:
    """Take the maximum of a whole map by the node that reads it as ONNX Runtime keeps it, in blocks of channels."""
    for node in graph.graph.node:
        if node.op_type == "ReduceMax":
            options = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
            if options == {"axes": [2, 3], "keepdims": 1}:
                node.op_type = "GlobalMaxPool"
                del node.attribute[:]


def _declare_outputs(graph: ModelProto, shapes: dict[str, list[str | int]]) -> None:
    del graph.graph.output[:]
    graph.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()
    )


def metadata_of(detector: FaceDetector) -> dict:
    """What a graph says of itself, in plain types; see save_graph."""
    return {
        "model": detector.name,
        "parameters": detector.parameter_count,
        "opset": OPSET,
        "channel_order": "BGR",
        "mean": MEAN_BGR,
        "strides": STRIDES,
        "anchor_sizes": ANCHOR_SIZES,
        "variances": VARIANCES,
    }


def metadata_in(graph: ModelProto) -> dict[str, str]:
    """What a graph that was read says of itself, as save_graph takes it: without the checksum of its file."""
    return {entry.key: entry.value for entry in graph.metadata_props if entry.key != NAME.decode()}


def save_graph(graph: ModelProto, path: Path, metadata: dict) -> None:
    """Write a graph with a dict in its metadata_props, everything but text as JSON, and a checksum behind it."""
    helper.set_model_props(
        graph, {name: value if isinstance(value, str) else json.dumps(value) for name, value in metadata.items()}
    )
    path.write_bytes(with_checksum(graph.SerializeToString()))


def suppression_metadata(settings: DetectionSettings) -> dict[str, float]:
    """The thresholds inside a graph with suppression."""
    return {name: value for name, value in asdict(settings).items() if name != "top_k"}


def check_graph(
    path: Path, detector: FaceDetector, sizes: Sequence[tuple[int, int, int]] = CHECKED_SIZES
) -> tuple[float, float]:
    """Compare the graph in a file with PyTorch on pictures (count, height, width), every anchor.

    Returns the largest difference in pixels and in scores; UserError where they are beyond the tolerances.
    """
    pixels, scores = differences(path, detector, sizes)
    if not (pixels <= PIXEL_TOLERANCE and scores <= SCORE_TOLERANCE):
        raise UserError(
            f"the graph differs from PyTorch by {pixels:.2g} px and {scores:.2g} in score, allowed are "
            f"{PIXEL_TOLERANCE:g} and {SCORE_TOLERANCE:g}: nothing is written; was this network trained?"
        )
    return pixels, scores


def differences(
    path: Path, detector: FaceDetector, sizes: Sequence[tuple[int, int, int]] = CHECKED_SIZES
) -> tuple[float, float]:
    """Largest difference of the graph in a file from PyTorch, in pixels and in scores, NaN where one is."""
    graph = OnnxDetector(path)
    boxes = scores = landmarks = 0.0
    for size in sizes:
        images = _check_pictures(*size)
        with torch.inference_mode():
            found, expected = graph(images), detector(images)
        # NumPy's maximum, unlike Python's, keeps a NaN.
        boxes, scores, landmarks = (
            np.maximum(worst, (field - reference).abs().max().item())
            for worst, field, reference in zip((boxes, scores, landmarks), found, expected)
        )
    return float(np.maximum(boxes, landmarks)), float(scores)


def check_suppression(suppressed: Path, plain: Path, settings: DetectionSettings) -> None:
    """Compare a graph with suppression with `suppress` after the graph without; UserError where they differ."""
    session, graph = open_session(suppressed, torch.device("cpu")), OnnxDetector(plain)
    settings = replace(settings, top_k=sys.maxsize)  # as add_suppression: all above the threshold take part
    for size in CHECKED_SIZES:
        images = _check_pictures(*size)
        [faces] = run_session(session, images)
        expected = faces_of(graph(images), settings)
        if faces.shape != expected.shape or not np.allclose(faces, expected, rtol=0, atol=PIXEL_TOLERANCE):
            raise UserError("suppression in the graph keeps other faces than PyTorch's: nothing is written")


def faces_of(batch: Candidates, settings: DetectionSettings) -> np.ndarray:
    """The candidates of a batch as a graph with suppression gives them: float32 [faces, 16], see FACES."""
    rows = []
    for picture, fields in enumerate(zip(*batch)):
        kept = suppress(Candidates(*fields), settings)
        numbers = np.full(len(kept.scores), picture)
        rows.append(np.column_stack([numbers, kept.boxes, kept.scores, kept.landmarks.reshape(-1, 10)]))
    return np.concatenate(rows).astype(np.float32)


def _check_pictures(count: int, height: int, width: int) -> Tensor:
    """uint8 [count, 3, height, width] of coarse shapes and noise, always the same."""
    generator = torch.Generator().manual_seed(height)
    coarse = torch.rand(count, 3, height // 24 + 2, width // 24 + 2, generator=generator) * 255
    noise = torch.randn(count, 3, height, width, generator=generator) * 12
    smooth = F.interpolate(coarse, size=(height, width), mode="bilinear", align_corners=False)
    return (smooth + noise).clamp(0, 255).to(torch.uint8)
