"""The weights that come with this repository, found from any folder; no training run writes them."""

from pathlib import Path

#: V2's checkpoint, what detect.py takes by default. FeatherFaceV2.onnx and a page, FeatherFaceV2.md, stand beside it.
SHIPPED = Path(__file__).resolve().parent.parent / "weights" / "FeatherFaceV2.pth"
