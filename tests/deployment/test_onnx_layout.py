"""A network rewritten for ONNX Runtime gives the numbers of the network."""

import pytest

from deployment.onnx_layout import BlockedDetector
from detection.face_detector import FaceDetector
from tests.helpers import ODD_SIZES, assert_rewritten_alike


@pytest.mark.parametrize("size", ODD_SIZES)
@pytest.mark.parametrize("name", ["v1", "v2"])
def test_halves_of_a_picture_give_what_the_whole_gives(name, size):
    assert_rewritten_alike(lambda network: BlockedDetector(FaceDetector(network)), name, size)
