"""What a detector must be, so that it can be trained, used, exported and listed without a change elsewhere."""

from abc import ABC, abstractmethod
from collections.abc import Mapping

from torch import Tensor, nn

from layers.outputs import FaceOutputs
from models.blocks import Heads


class FaceNetwork(nn.Module, ABC):
    """A detector: a backbone and whatever makes three maps of it, which the heads read.

    A new one sets the class attributes, builds its modules and writes `pyramid`; a line in models/__init__.py names it.
    BatchNorms are called `norm` and stand behind a convolution called `conv` or `pointwise`: inference folds them.
    """

    name: str  #: of the --model flag, in checkpoints and in the names of files
    neck_channels: int  #: width of the maps that feature distillation compares
    backbone: nn.Module  #: what --init_backbone fills
    heads: Heads

    @classmethod
    def like(cls, weights: Mapping[str, Tensor]) -> "FaceNetwork":
        """An untrained network with as many channels as weights by name have; one that is never pruned has one size."""
        return cls()

    @abstractmethod
    def pyramid(self, images: Tensor) -> tuple[list[Tensor], tuple[Tensor, ...]]:
        """Images as forward takes them -> the maps P3, P4, P5 that the heads read, and those that the neck gave."""

    def forward(self, images: Tensor) -> FaceOutputs:
        """[B, 3, H, W], BGR in 0..255 minus data.config.MEAN_BGR, any size -> outputs for every anchor."""
        levels, features = self.pyramid(images)
        boxes, logits, landmarks = self.heads(levels)
        return FaceOutputs(boxes, logits, landmarks, features)
