"""The code on the page of a deployment package: how each runtime loads a graph and prints the faces of a picture."""

from data.config import MEAN_BGR
from deployment.package import Package
from detection import defaults


def code_blocks(package: Package) -> list[str]:
    """A section for each runtime."""
    return [_with_onnxruntime(package), _with_opencv(package), _with_openvino(package), _with_pytorch(package)]


def _with_onnxruntime(package: Package) -> str:
    to_float = '.astype("float32")' if package.float_input else ""
    parts = [f'''## ONNX Runtime

```python
import cv2
import onnxruntime

picture = cv2.imread("picture.jpg")
session = onnxruntime.InferenceSession("{package.name("graph")}", providers=["CPUExecutionProvider"])
images = picture.transpose(2, 0, 1)[None]{to_float}
boxes, scores, landmarks = (output[0] for output in session.run(None, {{"images": images}}))
{_opencv_suppression(package)}
```''']
    if "suppressed" in package.files:
        parts.append(f'''With suppression inside:

```python
import cv2
import onnxruntime

picture = cv2.imread("picture.jpg")
session = onnxruntime.InferenceSession("{package.name("suppressed")}", providers=["CPUExecutionProvider"])
[faces] = session.run(None, {{"images": picture.transpose(2, 0, 1)[None]{to_float}}})
{_PRINT_ROWS.format("faces")}
```''')
    return "\n\n".join(parts)


def _with_opencv(package: Package) -> str:
    depth = "" if package.float_input else ", ddepth=cv2.CV_8U"
    parts = [f'''## OpenCV

OpenCV 5:

```python
import cv2

picture = cv2.imread("picture.jpg")
network = cv2.dnn.readNetFromONNX("{package.name("graph")}")
network.setInput(cv2.dnn.blobFromImage(picture{depth}))
boxes, scores, landmarks = (output[0] for output in network.forward(["boxes", "scores", "landmarks"]))
{_opencv_suppression(package)}
```''']
    if "suppressed" in package.files:
        parts.append(f'''OpenCV 5, with suppression inside; without a face Python gets None in place of no rows:

```python
import cv2

picture = cv2.imread("picture.jpg")
network = cv2.dnn.readNetFromONNX("{package.name("suppressed")}")
network.setInput(cv2.dnn.blobFromImage(picture{depth}))
faces = network.forward("faces")
{_PRINT_ROWS.format("() if faces is None else faces")}
```''')
    if package.image_size:
        width, height = package.image_size
        parts.append(f'''OpenCV 4.8 or newer, and 5; larger pictures are reduced, smaller ones padded with the mean:

```python
import cv2

picture = cv2.imread("picture.jpg")
network = cv2.dnn.readNetFromONNX("{package.name("fixed")}")
scale = min(1, {width} / picture.shape[1], {height} / picture.shape[0])
fitted = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
below, right = {height} - fitted.shape[0], {width} - fitted.shape[1]
fitted = cv2.copyMakeBorder(fitted, 0, below, 0, right, cv2.BORDER_CONSTANT, value={MEAN_BGR})
network.setInput(cv2.dnn.blobFromImage(fitted))
boxes, scores, landmarks = (output[0] for output in network.forward(["boxes", "scores", "landmarks"]))
boxes, landmarks = boxes / scale, landmarks / scale
{_opencv_suppression(package)}
```''')
    return "\n\n".join(parts)


def _with_openvino(package: Package) -> str:
    to_float = '.astype("float32")' if package.float_input else ""
    return f'''## OpenVINO

On CPUs with bfloat16 OpenVINO computes in it unless `INFERENCE_PRECISION_HINT` says float32. That is faster and moves
boxes by pixels where there is no face, by less where there is one; leave the hint out if you want that.

```python
import cv2
import openvino

picture = cv2.imread("picture.jpg")
network = openvino.Core().compile_model("{package.name("graph")}", "CPU", {{"INFERENCE_PRECISION_HINT": "f32"}})
outputs = network(picture.transpose(2, 0, 1)[None]{to_float})
boxes, scores, landmarks = (outputs[name][0] for name in ("boxes", "scores", "landmarks"))
{_opencv_suppression(package)}
```'''


#: Code that prints the rows of a graph with suppression inside.
_PRINT_ROWS = '''for number, x1, y1, x2, y2, score, *points in {}:
    print(x1, y1, x2, y2, score, points)'''


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

find_faces = FaceFinder("{package.name("weights")}"{_thresholds(package)})  # or a .onnx file
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
