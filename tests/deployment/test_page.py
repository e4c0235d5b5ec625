"""The page of a package: its commands run, and it names the package's files."""

import importlib.util
import re

import cv2
import numpy as np

from data.picture_files import read_picture, write_picture
from data.widerface import list_pictures


def test_the_page_holds_commands_that_run(package, monkeypatch, capsys, validation_set):
    """Each block by itself, in the package's folder; all find the same faces.

    Those for OpenCV 5 and OpenVINO only where these are installed. The graph of one size is of the picture's.
    """
    text = (package / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == 7
    if int(cv2.__version__.split(".")[0]) < 5:
        blocks = [block for block in blocks if "readNetFromONNX" not in block or "copyMakeBorder" in block]
    if importlib.util.find_spec("openvino") is None:
        blocks = [block for block in blocks if "import openvino" not in block]
    picture = validation_set / "images" / list_pictures(validation_set)[0]
    write_picture(package / "picture.jpg", read_picture(picture))
    monkeypatch.chdir(package)
    printed = []
    for block in blocks:
        exec(compile(block, "README.md", "exec"), {})
        printed.append([float(line) for line in re.findall(r"-?\d+\.\d*(?:e[+-]?\d+)?", capsys.readouterr().out)])
    (package / "picture.jpg").unlink()
    # From left to right: rounding may swap two faces of nearly the same score.
    found = [sorted(np.reshape(numbers, (-1, 15)).tolist()) for numbers in printed]
    assert len(found[-1]) > 0
    for faces in found:
        np.testing.assert_allclose(faces, found[-1], rtol=1e-3, atol=0.01)


def test_the_page_names_every_file_and_no_other(package):
    text = (package / "README.md").read_text(encoding="utf-8")
    names = {path.name for path in package.iterdir()} - {"README.md"}
    assert set(re.findall(r"featherface_v2_deployment\w*\.\w+", text)) == names
    [size] = (re.findall(r"_(\d+x\d+)\.onnx", name) for name in names if "x" in name.split("_")[-1].split(".")[0])
    ends = (".pth", ".onnx", "_nms.onnx", f"_{size[0]}.onnx", "_half.onnx", "_int8.onnx")
    assert names == {f"featherface_v2_deployment{end}" for end in ends}
