"""What a batch of pictures holds, face by face."""

from typing import NamedTuple

from torch import Tensor

FACE, IGNORED, ABSENT = 1, 0, -1


class Targets(NamedTuple):
    """All faces of a batch in one flat list of F rows; a picture without faces simply has no row.

    role is FACE, IGNORED (a region that is neither face nor background) or ABSENT (dropped on the
    device by mixing: the row stays, so that no shape depends on device data).
    """

    picture: Tensor  #: int64 [F], index of the picture in the batch
    boxes: Tensor  #: float32 [F, 4], xyxy in pixels of the batch picture
    landmarks: Tensor  #: float32 [F, 5, 2], (x, y) in the same pixels
    has_landmarks: Tensor  #: bool [F]
    role: Tensor  #: int8 [F]
    weights: Tensor  #: float32 [F], share of the face in the loss, 1 unless MixUp lowered it

    def to(self, device) -> "Targets":
        """The same rows on another device."""
        return Targets(*(field.to(device, non_blocking=True) for field in self))

    def rows(self, chosen: Tensor) -> "Targets":
        """Some rows, by their indices or a mask."""
        return Targets(*(field[chosen] for field in self))

    def absent(self, rows: int) -> "Targets":
        """So many rows that no picture has, of the same types and on the same device."""
        empty = Targets(*(field.new_zeros((rows, *field.shape[1:])) for field in self))
        return empty._replace(role=empty.role + ABSENT)
