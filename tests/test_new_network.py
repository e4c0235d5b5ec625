"""A network that the repo does not know, put into MODELS, is trained, detected with, exported and listed as it is.

What docs and models/network.py promise: a new student is one file and a line. If this test needs a change elsewhere, so
will the next student.
"""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import train_v2
from data.loader import Batch
from deployment.onnx_graph import check_graph, export_graph, metadata_of, save_graph
from detection.face_detector import FaceDetector, load_detector
from detection.inference import detect
from detection.protocols import PROTOCOLS
from detection.suppression import DetectionSettings
from layers.anchors import make_anchors
from models import MODELS, build_model
from models.blocks import ConvNorm, Heads
from models.ledger import format_ledger, measure
from models.network import FaceNetwork
from tests.helpers import CPU, call, count_parameters, make_targets, noise, outputs_of, picture_of_noise
from training.ema import WeightAverage
from training.flags import parse_args
from training.optimizer import build_optimizer
from training.trainee import Trainee


class Backbone(nn.Module):
    """Five plain convolutions of stride 2."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(ConvNorm(narrow, wide, 3, stride=2) for narrow, wide in
                                    ((3, 8), (8, 12), (12, 16), (16, 20), (20, 28)))

    def forward(self, images: Tensor) -> list[Tensor]:
        maps = [images]
        for layer in self.layers:
            maps.append(layer(maps[-1]))
        return maps[3:]


class PlainNetwork(FaceNetwork):
    """A projection a level and nothing else."""

    name = "v3"
    neck_channels = 24

    def __init__(self):
        super().__init__()
        self.backbone = Backbone()
        self.neck = nn.ModuleList(ConvNorm(width, self.neck_channels, 1) for width in (16, 20, 28))
        self.heads = Heads(self.neck_channels)
        self.heads.start_rare()

    def pyramid(self, images: Tensor) -> tuple[list[Tensor], tuple[Tensor, ...]]:
        features = tuple(project(x) for project, x in zip(self.neck, self.backbone(images)))
        return list(features), features


@pytest.fixture(autouse=True)
def known(monkeypatch):
    monkeypatch.setitem(MODELS, "v3", PlainNetwork)


@pytest.fixture
def flags(teacher_checkpoint, tmp_path):
    """It has a backbone of its own, so that nothing of the teacher's fits."""
    return ["--model", "v3", "--teacher_model", str(teacher_checkpoint), "--init_backbone", "none",
            "--save_folder", str(tmp_path / "run"), "--image_size", "64", "--gpu", "cpu", "--num_workers", "0"]


def test_it_is_trained_by_a_step_with_feature_distillation(flags):
    options = parse_args(arguments=flags)
    train_v2.settle(options)
    torch.manual_seed(0)
    network, teacher = train_v2.build_networks(options)
    trainee = Trainee(network, teacher)
    step = train_v2.build_step(trainee, teacher, build_optimizer(trainee, 1e-3, 0.05), WeightAverage(network, 0.9),
                               CPU, options)
    step.model.train()
    before = {name: value.clone() for name, value in trainee.state_dict().items()}
    targets = make_targets((0, (10.0, 10.0, 40.0, 50.0)), (1, (5.0, 20.0, 30.0, 50.0)))
    losses, norm, gradients = step(Batch(noise(2, 64, 64), targets, []), torch.Generator(), mixes=True,
                                   measure_gradients=True)
    assert set(losses) == set(step.criterion.weights) and losses["feature"] > 0
    assert all(torch.isfinite(value) for value in (*losses.values(), norm, *gradients.values()))
    # Anchors of the coarser levels have no face here, so their heads of boxes and landmarks learn nothing.
    still = {name for name, value in trainee.named_parameters() if torch.equal(value, before[name])}
    assert {name.rsplit(".", 2)[0] for name in still} <= {"network.heads.boxes", "network.heads.landmarks"}
    assert [project.weight.shape[:2] for project in trainee.projections] == [(64, 24)] * 3


def test_its_checkpoint_is_detected_with(flags, drawn_set, tmp_path):
    call(train_v2.main, *flags, "--training_dataset", drawn_set(12, 12) / "train" / "label.txt", "--epochs", "1",
         "--batch_size", "12", "--eval_every", "0")
    detector = load_detector(tmp_path / "run" / "FeatherFaceV3_final.pth", CPU)
    assert (detector.name, detector.parameter_count) == ("v3", count_parameters(PlainNetwork()))
    picture = picture_of_noise(90, 130)
    found = detect(detector, picture, PROTOCOLS["original"], DetectionSettings(0.001), CPU)
    assert len(found.boxes) > 0 and np.isfinite(found.boxes).all() and found.landmarks.shape[1:] == (5, 2)


def test_its_graph_gives_the_numbers_of_pytorch(tmp_path):
    torch.manual_seed(0)
    network = PlainNetwork().eval()
    for conv in (*network.heads.boxes, *network.heads.landmarks, *network.heads.logits):
        nn.init.normal_(conv.weight, std=0.05)
    detector = FaceDetector(network)
    images = noise(2, 64, 96)
    scores = detector(images).scores
    assert scores.shape == (2, len(make_anchors(64, 96))) and scores.std() > 1e-3
    expected = outputs_of(network, images.float() - torch.tensor([104.0, 117.0, 123.0])[:, None, None])
    torch.testing.assert_close(scores, expected.logits.softmax(-1)[..., 1], rtol=1e-4, atol=1e-5)
    graph = export_graph(detector, float_input=False)
    save_graph(graph, tmp_path / "v3.onnx", metadata_of(detector))
    check_graph(tmp_path / "v3.onnx", detector)
    assert load_detector(tmp_path / "v3.onnx", CPU).name == "v3"


def test_it_is_listed_beside_the_others():
    costs = {name: measure(build_model(name).eval(), 64, 96) for name in MODELS}
    assert list(costs) == ["v1", "v2", "v3"] and list(costs["v3"]) == ["backbone", "neck", "heads"]
    cells = 8 * 12 + 4 * 6 + 2 * 3
    assert costs["v3"]["heads"].multiply_adds == cells * 24 * 32
    table = format_ledger(costs, 64, 96)
    assert "v3 params" in table and "v3 against v1" in table
    [row] = [line for line in table.splitlines() if line.startswith("total")]
    assert f"{count_parameters(PlainNetwork()):,}" in row.split()
