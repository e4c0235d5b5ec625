"""What is folded away for inference."""

import pytest
from torch import nn

from detection.face_detector import FaceDetector
from models import build_model
from tests.helpers import count_parameters


@pytest.mark.parametrize("name", ["v1", "v2"])
def test_no_norm_is_left_that_could_be_folded(name):
    network = build_model(name)
    detector = FaceDetector(network)
    assert detector.parameter_count == count_parameters(network)
    folded = sum(isinstance(module, nn.BatchNorm2d) for module in detector.modules())
    assert folded == (0 if name == "v2" else 15)  # those behind V1's deformable convolutions stay
    assert any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
