"""A network made for inference gives the numbers of the network."""

import numpy as np
import pytest
import torch

from detection.face_detector import FaceDetector
from detection.inference import pad_picture
from tests.helpers import ODD_SIZES, assert_rewritten_alike


def test_the_detector_pads_as_the_loader_does(student):
    picture = np.random.default_rng(0).integers(0, 256, (45, 70, 3), dtype=np.uint8)
    detector = FaceDetector(student)
    whole = detector(pad_picture(picture)[None])
    for images in (torch.from_numpy(picture.transpose(2, 0, 1)[None].copy()), pad_picture(picture)[None].double()):
        for field, expected in zip(detector(images), whole):
            torch.testing.assert_close(field, expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("size", ODD_SIZES)
@pytest.mark.parametrize("name", ["v1", "v2"])
def test_rewriting_changes_nothing_but_the_number_of_steps(name, size):
    assert_rewritten_alike(FaceDetector, name, size)
