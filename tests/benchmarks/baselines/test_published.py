"""Networks as published compute the same."""

import pytest
import torch

from benchmarks.baselines.published import PublishedDetector, as_published
from data.pixels import normalize
from detection.face_detector import FaceDetector
from tests.helpers import trained_network


@pytest.mark.parametrize("name", ["v1", "v2"])
def test_the_published_form_computes_the_same_and_leaves_the_network_alone(name):
    network = trained_network(name)
    before = [type(module).__name__ for module in network.modules()]
    published = as_published(network)
    kinds = [type(module).__name__ for module in published.modules()]
    assert kinds.count("TorchvisionDeformableConv") == (15 if name == "v1" else 0)
    assert [type(module).__name__ for module in network.modules()] == before
    images = torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8)
    with torch.no_grad():
        expected, found = network(normalize(images)), published(normalize(images))
        for field in ("boxes", "logits", "landmarks"):
            reference = getattr(expected, field)
            torch.testing.assert_close(getattr(found, field), reference, rtol=1e-3,
                                       atol=1e-4 * reference.abs().max().item())
        for result, other in zip(PublishedDetector(network)(images), FaceDetector(network)(images)):
            torch.testing.assert_close(result, other, rtol=1e-3, atol=1e-2)
