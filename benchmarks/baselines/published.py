"""A network as FeatherFace V1 was published: plain PyTorch, deformable convolutions by torchvision."""

import copy

import torch
from torch import Tensor, nn
from torchvision.ops import deform_conv2d

from data.pixels import normalize
from detection.face_detector import Candidates
from layers.anchors import make_anchors
from layers.box_coder import decode_boxes, decode_landmarks
from models.featherface_v1 import DeformableConv


class TorchvisionDeformableConv(nn.Module):
    """A deformable convolution computed by torchvision."""

    def __init__(self, conv: DeformableConv):
        super().__init__()
        self.conv = conv

    def forward(self, x: Tensor) -> Tensor:
        mask = 2 * self.conv.modulation(x).sigmoid()
        return deform_conv2d(x, self.conv.offsets(x), self.conv.weight, padding=1, mask=mask)


def as_published(network: nn.Module) -> nn.Module:
    """A copy of a network in eval mode that computes its deformable convolutions, where it has some, by torchvision."""
    network = copy.deepcopy(network).eval()
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, DeformableConv):
                setattr(module, name, TorchvisionDeformableConv(child))
    return network


class PublishedDetector(nn.Module):
    """Pixels to decoded boxes with BatchNorms not folded and channels first in memory. FaceDetector gives the same."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = as_published(network)

    def forward(self, images: Tensor) -> Candidates:
        """uint8 BGR pixels [B, 3, H, W], sides divisible by the largest stride."""
        outputs = self.network(normalize(images).contiguous())
        anchors = make_anchors(images.shape[2], images.shape[3])
        return Candidates(
            decode_boxes(outputs.boxes, anchors),
            torch.softmax(outputs.logits, dim=-1)[..., 1],
            decode_landmarks(outputs.landmarks, anchors),
        )
