"""README.md of a deployment package: what is in it, how to load it, what was measured."""

import platform
from dataclasses import dataclass, field

import onnxruntime
import torch

from deployment.onnx_graph import OPSET, PIXEL_TOLERANCE, SCORE_TOLERANCE
from deployment.weights_file import LICENCE
from detection import defaults
from detection.suppression import DetectionSettings
from utils.tables import Row

#: By this a page is known.
MADE_BY = "Written by export.py."


@dataclass
class PackageFile:
    """A file of the package; milliseconds for one picture of 640 x 640 where it is a graph."""

    name: str
    use: str
    size: int  #: bytes
    sha256: str
    milliseconds: float | None = None


@dataclass
class Package:
    """All that the page tells. Graphs with suppression or 8-bit convolutions may be absent."""

    model: str
    parameters: int
    float_input: bool
    settings: DetectionSettings  #: inside the graph with suppression, advised for the others
    precision: list[Row]  #: of the weights, as deployment.weights_file has them
    weights: PackageFile | None = None
    graph: PackageFile | None = None
    suppressed: PackageFile | None = None
    quantized: PackageFile | None = None
    quantized_precision: list[Row] = field(default_factory=list)  #: "graph", easy, medium, hard before and after
    calibration_pictures: int = 0
    differences: tuple[float, float] = (0.0, 0.0)  #: from PyTorch, largest, in pixels and in scores

    @property
    def files(self) -> list[PackageFile]:
        return [file for file in (self.weights, self.graph, self.suppressed, self.quantized) if file]


def write_page(package: Package) -> str:
    """The text of README.md."""
    sections = [
        _files(package), _input_and_outputs(package), _with_onnxruntime(package), _with_opencv(package),
        _with_pytorch(package), _precision(package), f"## Licence\n\n{LICENCE}",
    ]
    return "\n\n".join(sections) + "\n"


def _files(package: Package) -> str:
    rows = [
        f"| `{file.name}` | {file.size / 1000:,.0f} | "
        f"{'' if file.milliseconds is None else format(file.milliseconds, '.1f')} | {file.use} |"
        for file in package.files
    ]
    return "\n".join([
        f"# FeatherFace {package.model.upper()}, ready to use",
        "",
        f"A face detector of {package.parameters:,} parameters: boxes, scores, five landmarks. {MADE_BY}",
        "",
        "| file | kB | ms | |",
        "|---|---|---|---|",
        *rows,
        "",
        "SHA-256, by which a file of another export is told (`sha256sum -c` checks these lines):",
        "",
        "```",
        *(f"{file.sha256}  {file.name}" for file in package.files),
        "```",
        "",
        f"ms: median for one picture of 640 x 640 pixels when this page was written, ONNX Runtime "
        f"{onnxruntime.__version__}, {_threads()} on {platform.machine()}, without reading the picture. "
        "Another machine has other times.",
        "",
        f"All graphs are ONNX opset {OPSET}, one file each. On pictures of four sizes every box, score and landmark "
        f"of `{package.graph.name}` was within {package.differences[0]:.1g} px and {package.differences[1]:.1g} of "
        f"PyTorch's; beyond {PIXEL_TOLERANCE:g} px or {SCORE_TOLERANCE:g} it would not have been written.",
    ])


def _threads() -> str:
    count = torch.get_num_threads()
    return "1 thread" if count == 1 else f"{count} threads"


def _input_and_outputs(package: Package) -> str:
    kind = "float32" if package.float_input else "uint8"
    lines = [
        "## Input and outputs",
        "",
        "| name | type and shape | |",
        "|---|---|---|",
        f"| `images` | {kind} [batch, 3, height, width] | BGR, 0 to 255, any batch, height and width |",
        "| `boxes` | float32 [batch, anchors, 4] | x1, y1, x2, y2 in pixels, may reach beyond the picture |",
        "| `scores` | float32 [batch, anchors] | probability of a face |",
        "| `landmarks` | float32 [batch, anchors, 5, 2] | x, y in pixels: left eye, right eye, nose, left and right "
        "corner of the mouth, left as you see it |",
        "",
        "The mean is subtracted, the picture padded and boxes decoded inside the graph. Pictures of one batch have one "
        "size. Means, strides and all else are in the file's metadata.",
        "",
        f"Thresholds: a score above {package.settings.confidence_threshold:g} is a face worth showing, of boxes with "
        f"IoU above {package.settings.nms_threshold:g} the best stays. AP is measured from score 0.02 on.",
    ]
    if package.suppressed:
        lines += [
            "",
            f"`{package.suppressed.name}` has these thresholds inside and keeps at most {package.settings.keep_top_k} "
            "faces of a picture. Its output:",
            "",
            "| name | type and shape | |",
            "|---|---|---|",
            "| `faces` | float32 [faces, 16] | number of the picture in the batch, x1, y1, x2, y2, score, five times "
            "x, y; best first |",
        ]
    return "\n".join(lines)


def _with_onnxruntime(package: Package) -> str:
    to_float = '.astype("float32")' if package.float_input else ""
    parts = [f'''## ONNX Runtime

```python
import cv2
import onnxruntime

picture = cv2.imread("picture.jpg")
session = onnxruntime.InferenceSession("{package.graph.name}", providers=["CPUExecutionProvider"])
images = picture.transpose(2, 0, 1)[None]{to_float}
boxes, scores, landmarks = (output[0] for output in session.run(None, {{"images": images}}))
{_opencv_suppression(package)}
```''']
    if package.suppressed:
        parts.append(f'''With suppression inside:

```python
import cv2
import onnxruntime

picture = cv2.imread("picture.jpg")
session = onnxruntime.InferenceSession("{package.suppressed.name}", providers=["CPUExecutionProvider"])
[faces] = session.run(None, {{"images": picture.transpose(2, 0, 1)[None]{to_float}}})
for number, x1, y1, x2, y2, score, *points in faces:
    print(x1, y1, x2, y2, score, points)
```''')
    return "\n\n".join(parts)


def _with_opencv(package: Package) -> str:
    depth = "" if package.float_input else ", ddepth=cv2.CV_8U"
    note = "" if not package.quantized else f" It does not read `{package.quantized.name}`."
    return f'''## OpenCV

OpenCV 5.0 or newer; 4.x cannot read graphs without a fixed size.{note}

```python
import cv2

picture = cv2.imread("picture.jpg")
network = cv2.dnn.readNetFromONNX("{package.graph.name}")
network.setInput(cv2.dnn.blobFromImage(picture{depth}))
boxes, scores, landmarks = (output[0] for output in network.forward(["boxes", "scores", "landmarks"]))
{_opencv_suppression(package)}
```'''


def _opencv_suppression(package: Package) -> str:
    return f'''sized = boxes.copy()
sized[:, 2:] -= sized[:, :2]  # x, y, width, height
for kept in cv2.dnn.NMSBoxes(sized, scores, {package.settings.confidence_threshold}, {package.settings.nms_threshold}):
    print(boxes[kept], scores[kept], landmarks[kept])'''


def _with_pytorch(package: Package) -> str:
    return f'''## PyTorch

In a checkout of this repository:

```python
from detection.finder import FaceFinder

find_faces = FaceFinder("{package.weights.name}"{_thresholds(package)})  # or a .onnx file
for box, score, landmarks in zip(*find_faces("picture.jpg")):
    print(box, score, landmarks)
```

It gives what detect.py gives: the lines for ONNX Runtime and OpenCV look at a picture at its own size, this reduces a
longer side of more than 1280 px to that first, and cuts extreme shapes into tiles. It takes arrays as of cv2.imread,
lists and a device, too: see its docstring.

The file loads with `torch.load(..., weights_only=True)`; beside `model` it holds `config`, `preprocessing`,
`average_precision`, `versions` and `licence`.'''


def _thresholds(package: Package) -> str:
    """The thresholds as arguments of FaceFinder, where they are not its own."""
    advised = {"confidence_threshold": package.settings.confidence_threshold,
               "nms_threshold": package.settings.nms_threshold}
    own = {"confidence_threshold": defaults.CONFIDENCE_THRESHOLD, "nms_threshold": defaults.NMS_THRESHOLD}
    return "".join(f", {name}={value}" for name, value in advised.items() if value != own[name])


def _precision(package: Package) -> str:
    lines = ["## Average precision", ""]
    if package.precision:
        lines += _table(package.precision)
    else:
        lines += ["Not known when this was written: test_widerface.py measures it, for .pth and .onnx alike."]
    if package.quantized:
        lines += [
            "",
            f"`{package.quantized.name}`: 8-bit convolutions, their ranges taken from {package.calibration_pictures} "
            "pictures of the validation set; the first, the depthwise and the last convolutions stay float32. On all "
            "pictures of that set, longer side 640 px, score above 0.02, NMS 0.4:",
            "",
            *_table(package.quantized_precision),
        ]
    return "\n".join(lines)


def _table(rows: list[Row]) -> list[str]:
    """Markdown; AP with four digits, a dash for what could not be measured."""
    def text(value: str | float | None) -> str:
        if isinstance(value, str):
            return value
        return "-" if value is None or value != value else f"{value:.4f}"

    lines = ["| " + " | ".join(rows[0]) + " |", "|" + "---|" * len(rows[0])]
    return lines + ["| " + " | ".join(map(text, row.values())) + " |" for row in rows]
