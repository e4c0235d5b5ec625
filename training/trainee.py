"""The network in training, with the layers that training alone needs."""

from torch import Tensor, nn

from layers.anchors import STRIDES
from layers.outputs import FaceOutputs
from models.network import FaceNetwork


class Trainee(nn.Module):
    """The network in training with what exists in training only: one 1x1 projection per level to the teacher's width.

    Called with normalised pictures [B, 3, H, W] it returns (FaceOutputs, projected features or ()). Projections
    are optimised and kept in the training state; the network alone is what is evaluated and exported.
    """

    def __init__(self, network: FaceNetwork, teacher: FaceNetwork | None):
        super().__init__()
        self.network = network
        levels = STRIDES if teacher is not None else ()
        self.projections = nn.ModuleList(
            nn.Conv2d(network.neck_channels, teacher.neck_channels, kernel_size=1) for _ in levels
        )

    def forward(self, images: Tensor) -> tuple[FaceOutputs, tuple[Tensor, ...]]:
        outputs = self.network(images)
        projected = tuple(project(level) for project, level in zip(self.projections, outputs.features))
        return outputs, projected
