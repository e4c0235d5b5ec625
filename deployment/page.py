"""README.md of a deployment package: what is in it, how to load it, what was measured."""

import platform

import onnxruntime
import torch

from deployment.onnx_graph import OPSET, PIXEL_TOLERANCE, SCORE_TOLERANCE
from deployment.package import USES, Package
from deployment.page_code import code_blocks
from deployment.weights_file import LICENCE
from utils.tables import Row

#: By this a page is known.
MADE_BY = "Written by export.py."


def write_page(package: Package) -> str:
    """The text of README.md."""
    sections = [
        _files(package), _input_and_outputs(package), _tools(package), *code_blocks(package), _precision(package),
        f"## Licence\n\n{LICENCE}",
    ]
    return "\n\n".join(sections) + "\n"


def _files(package: Package) -> str:
    rows = [
        f"| `{file.name}` | {file.size / 1000:,.0f} | "
        f"{'' if file.milliseconds is None else format(file.milliseconds, '.1f')} | {use} |"
        for kind, use in USES.items() if (file := package.files.get(kind))
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
        *(f"{file.sha256}  {file.name}" for file in package.files.values()),
        "```",
        "",
        f"ms: median for one picture of 640 x 640 pixels{_of_its_size(package)} when this page was written, the graphs "
        f"in turn, ONNX Runtime {onnxruntime.__version__}, {_threads()} on {platform.machine()}, without reading the "
        "picture. Another machine has other times.",
        "",
        f"All graphs are ONNX opset {OPSET}, one file each. On pictures of four sizes every box, score and landmark "
        f"of `{package.name('graph')}` was within {package.differences[0]:.1g} px and {package.differences[1]:.1g} of "
        f"PyTorch's; beyond {PIXEL_TOLERANCE:g} px or {SCORE_TOLERANCE:g} it would not have been written.",
    ])


def _of_its_size(package: Package) -> str:
    return f" (`{package.name('fixed')}`: of {package.files['fixed'].timed_at})" if package.image_size else ""


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
        f"| `images` | {kind} [batch, 3, height, width] | BGR, 0 to 255, any height and width, a batch of 1 or more |",
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
    if package.image_size:
        width, height = package.image_size
        lines += [
            "",
            f"`{package.name('fixed')}` takes one picture, float32 [1, 3, {height}, {width}], {width} pixels wide and "
            f"{height} high, BGR, 0 to 255. All else is as above; OpenCV's last block brings a picture to that size.",
        ]
    if "suppressed" in package.files:
        lines += [
            "",
            f"`{package.name('suppressed')}` has these thresholds inside and keeps at most "
            f"{package.settings.keep_top_k} faces of a picture. Its output:",
            "",
            "| name | type and shape | |",
            "|---|---|---|",
            "| `faces` | float32 [faces, 16] | number of the picture in the batch, x1, y1, x2, y2, score, five times "
            "x, y; of each picture the best first; no rows where there is no face |",
        ]
    return "\n".join(lines)


def _tools(package: Package) -> str:
    fixed = f"`{package.name('fixed')}`" if package.image_size else "the graph of one size that `--image_size` writes"
    rows = [
        ("ONNX Runtime", "1.32.0", "every graph", "below"),
        ("OpenCV 5", "5.0.0", "every graph without 8 bits", "below"),
        ("OpenCV 4", "4.8.0, 4.10.0, 4.14.0, not 4.5.5", fixed, "below"),
        ("OpenVINO", "2026.4.1", "every graph", "below; many CPUs compute in bfloat16 there unless told otherwise"),
        ("onnxsim", "0.8.1", "every graph", "`onnxsim before.onnx after.onnx`; not needed, and float16 weights become "
         "float32 again"),
        ("MNN", "3.6.1", fixed, "`mnnconvert -f ONNX --modelFile before.onnx --MNNModel after.mnn --bizCode any`"),
        ("ncnn", "20261020", fixed, "`pnnx before.onnx fp16=0`; without fp16=0 boxes move by pixels"),
        ("LiteRT", "2.3.0", fixed, "`onnx2tf -i before.onnx` (1.29.24), which makes .tflite files; the input is then "
         "[1, height, width, 3]. In the one of float16 boxes move by a tenth of a pixel"),
        ("tract", "0.23.9", fixed, "`tract.onnx().load(\"before.onnx\").into_model().into_runnable()`"),
        ("onnxslim", "0.1.98", "every graph without 8 bits", "`onnxslim before.onnx after.onnx`; not needed"),
        ("Core ML", "coremltools 9.0", "no ONNX", "from PyTorch, not run: converted, `ct.convert(torch.jit.trace("
         "FixedDetector(load_detector(...), 640, 480), picture), inputs=[ct.TensorType(\"images\", picture.shape)])`"),
        ("TensorRT", "not tried, it needs a GPU", fixed, "float32, fixed shapes, and nothing but convolution, "
         "activation, pooling, resizing and arithmetic"),
    ]
    return "\n".join([
        "## Which tool reads what", "",
        "Tried with V2's graphs on an x86_64 CPU: what ran gave the faces, boxes and landmarks of ONNX Runtime.", "",
        "| tool | version | reads | how |", "|---|---|---|---|", *("| " + " | ".join(row) + " |" for row in rows),
    ])


def _precision(package: Package) -> str:
    lines = ["## Average precision", ""]
    if package.precision:
        lines += _table(package.precision)
    else:
        lines += ["Not known when this was written: test_widerface.py measures it, for .pth and .onnx alike."]
    if "half" in package.files:
        lines += [
            "",
            f"`{package.name('half')}`: the weights are float16, all else is float32, and so is what comes out. On the "
            f"pictures of the check a score changed by at most {package.half_differences[1]:.1g}.",
        ]
    if "quantized" in package.files:
        lines += [
            "",
            f"`{package.name('quantized')}`: 8-bit convolutions, their ranges taken from "
            f"{package.calibration_pictures} pictures of the validation set; the first, the depthwise and the last "
            "convolutions stay float32.",
        ]
    if package.reduced_precision:
        lines += [
            "",
            f"What fewer bits cost, on {package.measured_on}, longer side 640 px, score above 0.02, NMS 0.4:",
            "",
            *_table(package.reduced_precision),
        ]
    return "\n".join(lines)


def _table(rows: list[Row]) -> list[str]:
    """Markdown; AP with four digits, a dash for what could not be measured, nothing for a column that a row lacks."""
    def text(value: str | float | None) -> str:
        if isinstance(value, str):
            return value
        return "-" if value is None or value != value else f"{value:.4f}"

    columns = list(max(rows, key=len))
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    return lines + ["| " + " | ".join(text(row.get(column, "")) for column in columns) + " |" for row in rows]
