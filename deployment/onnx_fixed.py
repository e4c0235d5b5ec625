"""A detector rewritten for a graph of one size: shapes and anchors are constants, so that the nodes are those that any
importer knows. deployment/onnx_layout.py has what ONNX Runtime gains from; here it would only be in the way of others.
"""

import numpy as np
import torch
from onnx import ModelProto, helper, numpy_helper
from torch import Tensor, nn

from data.config import MEAN_BGR
from detection.face_detector import Candidates, FaceDetector
from layers.anchors import STRIDES, make_cells


class FixedDetector(nn.Module):
    """A FaceDetector of pictures of `width` x `height` pixels, with their anchors as a constant."""

    def __init__(self, detector: FaceDetector, width: int, height: int):
        super().__init__()
        self.network, self.heads = detector.network, detector.heads
        self.right, self.below = (-side % STRIDES[-1] for side in (width, height))
        self.register_buffer("mean", torch.tensor(MEAN_BGR, dtype=torch.float32).view(1, 3, 1, 1))
        self.register_buffer("cells", make_cells(height + self.below, width + self.right))
        self.eval()  # else the exporter leaves the detector in training mode

    def forward(self, images: Tensor) -> Candidates:
        """BGR pixels 0..255, float32 [B, 3, height, width]."""
        images = images - self.mean
        if self.right or self.below:
            images = ZeroPad.apply(images, self.right, self.below)
        levels, _ = self.network.pyramid(images)
        return Candidates(*self.heads(levels, self.cells))


class ZeroPad(torch.autograd.Function):
    """Maps [B, C, H, W] with zeros on the right and below; in ONNX one node, of which a trace makes twenty."""

    @staticmethod
    def forward(context, images: Tensor, right: int, below: int) -> Tensor:
        return nn.functional.pad(images, (0, right, 0, below))

    @staticmethod
    def symbolic(graph, images, right: int, below: int):
        # Of every axis what comes before it, then what comes behind it.
        return graph.op("Pad", images, graph.op("Constant", value_t=torch.tensor([0, 0, 0, 0, 0, 0, below, right])))


def split_by_slices(graph: ModelProto) -> None:
    """Replace each Split, in place, by a Slice for each part: onnx2tf makes of a Split what LiteRT does not run."""
    constants = {node.output[0]: node for node in graph.graph.node if node.op_type == "Constant"}
    nodes = list(graph.graph.node)
    for node in [node for node in nodes if node.op_type == "Split"]:
        values, sizes = node.input
        ends = numpy_helper.to_array(constants[sizes].attribute[0].t).cumsum()
        [axis] = [attribute.i for attribute in node.attribute if attribute.name == "axis"]
        slices = []
        for start, end, part in zip([0, *ends], ends, node.output):
            names = {f"{part}/start": start, f"{part}/end": end, f"{part}/axis": axis}
            graph.graph.initializer.extend(numpy_helper.from_array(np.int64([at]), name) for name, at in names.items())
            slices.append(helper.make_node("Slice", [values, *names], [part], name=part))
        place = nodes.index(node)
        nodes[place : place + 1] = slices
        nodes.remove(constants[sizes])
    del graph.graph.node[:]
    graph.graph.node.extend(nodes)
