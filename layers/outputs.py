"""What every detector of this repo returns."""

from typing import NamedTuple

from torch import Tensor


class FaceOutputs(NamedTuple):
    """Raw outputs for a batch of B pictures with A anchors each, in the anchor order of layers.anchors."""

    boxes: Tensor  #: [B, A, 4], coded offsets to the anchors (layers.box_coder)
    logits: Tensor  #: [B, A, 2], background and face, before softmax
    landmarks: Tensor  #: [B, A, 10], coded offsets of five points
    features: tuple[Tensor, ...]  #: P3, P4, P5 of the BiFPN, [B, C, H, W]: what feature distillation compares

    def in_float32(self) -> "FaceOutputs":
        """The same, what the heads gave in float32."""
        return FaceOutputs(self.boxes.float(), self.logits.float(), self.landmarks.float(), self.features)
