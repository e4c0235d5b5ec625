"""Plain functions and marks that several test files share; fixtures stand in conftest.py."""

import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from scipy.io import savemat
from torch import nn
from torch.nn import functional as F

from data.pixels import normalize
from data.targets import FACE, Targets
from detection.crops import TEMPLATE
from detection.face_detector import Candidates
from detection.suppression import Detections
from layers.anchors import STRIDES, make_anchors
from layers.box_coder import decode_boxes, decode_landmarks, encode_boxes, encode_landmarks
from layers.matcher import assign
from layers.outputs import FaceOutputs
from models import build_model
from models.blocks import Heads
from models.network import FaceNetwork
from utils.errors import run_script
from widerface_evaluate.wider_files import GroundTruth, load_ground_truth

ROOT = Path(__file__).resolve().parent.parent

#: Data that is not part of the repo.
SHARED = ROOT.parent / "shared"

needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="needs the reference data in ../shared, which is absent")

CPU = torch.device("cpu")


# Scripts, called as from a command line


def call(main: Callable, *arguments):
    """What main() returns with these arguments on its command line."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(sys, "argv", [f"{main.__module__}.py", *map(str, arguments)])
        return main()


def exit_code(main: Callable, *arguments) -> int | None:
    """The same as a person meets it: a mistake becomes one line on stderr."""
    with pytest.raises(SystemExit) as stop:
        run_script(lambda: call(main, *arguments))
    return stop.value.code


# Faces and pictures


def make_targets(*faces: tuple, places=((0.5, 0.5),) * 5) -> Targets:
    """Faces as (picture, xyxy box) or (picture, box, role); landmarks at five places, (x, y) as shares of the box."""
    boxes = torch.tensor([face[1] for face in faces], dtype=torch.float32).reshape(-1, 4)
    role = torch.tensor([face[2] if len(face) > 2 else FACE for face in faces], dtype=torch.int8)
    return Targets(
        picture=torch.tensor([face[0] for face in faces], dtype=torch.int64),
        boxes=boxes,
        landmarks=boxes[:, None, :2] + torch.tensor(places) * (boxes[:, None, 2:] - boxes[:, None, :2]),
        has_landmarks=role == FACE,
        role=role,
        weights=torch.ones(len(faces)),
    )


def detections_of(*rows) -> Detections:
    """Detections from rows x1 y1 x2 y2 score, landmarks at the centre."""
    rows = np.array(rows, np.float32).reshape(-1, 5)
    landmarks = np.repeat((rows[:, None, :2] + rows[:, None, 2:4]) / 2, 5, axis=1)
    return Detections(rows[:, :4], rows[:, 4], landmarks)


def picture_of_noise(height: int = 150, width: int = 200) -> np.ndarray:
    """uint8 BGR [height, width, 3]."""
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def red_picture(height: int, width: int, box: tuple[int, ...]) -> np.ndarray:
    """A grey picture with a red rectangle, which RedBoxes finds."""
    picture = np.full((height, width, 3), 90, np.uint8)
    left, top, right, bottom = box
    picture[top:bottom, left:right] = (0, 0, 255)
    return picture


# Networks


class RedBoxes(nn.Module):
    """A network that finds the one red rectangle of a picture: its maps are the code of its true box, 16 channels an
    anchor, and its heads pass them on."""

    name = "red"

    def __init__(self):
        super().__init__()
        self.heads = Heads(2 * 16)
        first = 0
        for convs, values in ((self.heads.boxes, 4), (self.heads.logits, 2), (self.heads.landmarks, 10)):
            rows = torch.eye(16)[first : first + values]
            for conv in convs:
                conv.weight.data = torch.block_diag(rows, rows)[..., None, None]
                nn.init.zeros_(conv.bias)
            first += values

    def pyramid(self, images):
        height, width = images.shape[2:]
        anchors = make_anchors(height, width)
        rows = []
        for picture, image in enumerate(images):
            red = (image[2] > 60) & (image[1] < -60)
            y, x = red.nonzero().unbind(1)
            rows.append((picture, (x.min(), y.min(), x.max() + 1, y.max() + 1)))
        result = assign(make_targets(*rows), len(images), height, width)
        logits = torch.where(result.positive[..., None], torch.tensor([0.0, 4.0]), torch.tensor([9.0, 0.0]))
        boxes, landmarks = encode_boxes(result.boxes, anchors), encode_landmarks(result.landmarks, anchors)
        cells = torch.cat([boxes, logits, landmarks], dim=-1).unflatten(1, (-1, 2)).flatten(2)
        sizes = [(height // stride, width // stride) for stride in STRIDES]
        levels = cells.split([rows * columns for rows, columns in sizes], dim=1)
        return [level.transpose(1, 2).unflatten(2, size) for level, size in zip(levels, sizes)], ()


def red_squares(images: torch.Tensor) -> Candidates:
    """A detector that finds every red rectangle of a picture, scored 0.9, its landmarks as those of the template."""
    rows = []
    for image in images.numpy():
        red = ((image[2] > 200) & (image[1] < 60)).astype(np.uint8)
        count, _, boxes, _ = cv2.connectedComponentsWithStats(red, connectivity=4)
        rows.append(torch.tensor(boxes[1:count, :4]).float())
    most = max(len(boxes) for boxes in rows)
    boxes = torch.stack([F.pad(found, (0, 0, 0, most - len(found))) for found in rows])
    boxes[..., 2:] += boxes[..., :2]
    scores = torch.tensor([[0.9] * len(found) + [0.0] * (most - len(found)) for found in rows])
    sides = (boxes[..., 2:] - boxes[..., :2])[..., None, :]
    return Candidates(boxes, scores, boxes[..., None, :2] + sides * torch.from_numpy(TEMPLATE / 112).float())


def red_crowd(height: int, width: int, side: int, places: Iterable[tuple[int, int]]) -> np.ndarray:
    """A grey picture with a red square at each place, its upper left corner x, y."""
    picture = np.full((height, width, 3), 90, np.uint8)
    for x, y in places:
        picture[y : y + side, x : x + side] = (0, 0, 255)
    return picture


def untrained_network(name: str) -> FaceNetwork:
    """The same weights at every call, in training mode."""
    torch.manual_seed(0)
    return build_model(name)


def trained_network(name: str = "v2", seed: int = 0) -> FaceNetwork:
    """As if trained, in eval mode: BatchNorms that know their inputs, offsets that move, heads that find many faces.

    Boxes, landmarks and offsets move as little as in a trained one: larger weights multiply the rounding of float32.
    """
    torch.manual_seed(seed)
    network = build_model(name)
    for parameter_name, parameter in network.named_parameters():
        if "offsets" in parameter_name or "modulation" in parameter_name:
            nn.init.normal_(parameter, std=0.002)
    for norm in (module for module in network.modules() if isinstance(module, nn.BatchNorm2d)):
        norm.momentum = None  # the mean over all that is seen
    with torch.no_grad():
        network(torch.randn(2, 3, 160, 160) * 60)
        for conv in network.heads.logits:
            nn.init.normal_(conv.weight, std=0.2)
        for conv in (*network.heads.boxes, *network.heads.landmarks):
            nn.init.normal_(conv.weight, std=0.003)
    return network.eval()


def save_checkpoint(path: Path, network: FaceNetwork) -> Path:
    """As train_v2.py: the averaged weights beside the last ones, which here are useless."""
    zeros = {name: torch.zeros_like(value) for name, value in network.state_dict().items()}
    torch.save({"model_name": network.name, "model": zeros, "ema": network.state_dict()}, path)
    return path


def count_parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def outputs_of(network: FaceNetwork, images: torch.Tensor) -> FaceOutputs:
    """What any network says of normalised pictures, in eval mode."""
    with torch.no_grad():
        return network.eval()(images)


def random_outputs(
    seed: int, scale: float = 1.0, requires_grad: bool = False, pictures: int = 2, anchors: int = 60
) -> FaceOutputs:
    """What a network might say, without features."""
    generator = torch.Generator().manual_seed(seed)
    sizes = ((pictures, anchors, values) for values in (4, 2, 10))
    tensors = [(torch.randn(size, generator=generator) * scale).requires_grad_(requires_grad) for size in sizes]
    return FaceOutputs(*tensors, features=())


def noise(count: int, height: int, width: int) -> torch.Tensor:
    """Pictures of noise, uint8 [count, 3, height, width]."""
    generator = torch.Generator().manual_seed(height)
    return torch.randint(0, 256, (count, 3, height, width), generator=generator, dtype=torch.uint8)


#: (pictures, height, width) that are no multiples of the largest stride.
ODD_SIZES = ((1, 1, 1), (1, 32, 97), (2, 61, 90), (3, 160, 31))


def assert_rewritten_alike(form: Callable, name: str, size: tuple[int, int, int]) -> None:
    """form(network) gives what the network and plain decoding give, and leaves the network as it was.

    Running statistics and factors of the BatchNorms are unlike the start's.
    """
    torch.manual_seed(1)
    network = build_model(name)
    for norm in (module for module in network.modules() if isinstance(module, nn.BatchNorm2d)):
        for values in (norm.weight, norm.bias):
            values.data.uniform_(0.5, 1.5)
        norm.momentum = None  # the mean over all that is seen
    for parameter_name, parameter in network.named_parameters():
        if parameter_name.startswith("heads."):
            parameter.data.normal_(std=0.01)
    with torch.no_grad():
        network(torch.randn(2, 3, 160, 160) * 60)
    network.eval()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    count, height, width = size
    images = torch.randint(0, 256, (count, 3, height, width), dtype=torch.uint8)
    with torch.no_grad():
        found = form(network)(images)
        padded = F.pad(normalize(images), (0, -width % 32, 0, -height % 32))
        outputs = network(padded)
    anchors = make_anchors(*padded.shape[2:])
    expected = (
        decode_boxes(outputs.boxes, anchors), outputs.logits.softmax(-1)[..., 1],
        decode_landmarks(outputs.landmarks, anchors),
    )
    for field, reference in zip(found, expected, strict=True):
        assert field.shape == reference.shape and field.is_contiguous()
        torch.testing.assert_close(field, reference, rtol=1e-3, atol=1e-4 * reference.abs().max().item())
    assert expected[1].std() > 1e-3  # else agreement would say nothing
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


# Files of the WIDER FACE evaluation


def cells(values: list) -> np.ndarray:
    """A column of MATLAB cells."""
    column = np.empty((len(values), 1), dtype=object)
    column[:, 0] = values
    return column


def write_ground_truth(folder: Path, pictures: dict, easy=None, medium=None, **labels) -> GroundTruth:
    """The four .mat files in the official structure.

    pictures: {(event, name): [face, ...]}, pictures of an event side by side; one without faces has one empty box, as
    officially. easy and medium: {(event, name): [index from 1, ...]}, by default all faces; hard is always all faces.
    labels: like pictures, a value per face.
    """
    folder.mkdir(parents=True, exist_ok=True)
    events = list(dict.fromkeys(event for event, _ in pictures))

    def nested(value_of):
        by_event = []
        for event in events:
            values = np.empty((sum(key[0] == event for key in pictures), 1), dtype=object)
            values[:, 0] = [value_of(key) for key in pictures if key[0] == event]
            by_event.append(values)
        return cells(by_event)

    def boxes(key):
        return np.array(pictures[key], np.float64) if len(pictures[key]) else np.zeros((1, 4))

    def columns(values_of):
        return nested(lambda key: np.array(values_of[key], dtype=np.uint16).reshape(-1, 1))

    savemat(folder / "wider_face_val.mat", {
        "event_list": cells(events),
        "file_list": nested(lambda key: np.array([key[1]])),
        "face_bbx_list": nested(boxes),
        **{f"{label}_label_list": columns(values) for label, values in labels.items()},
    })
    for subset, kept in (("easy", easy), ("medium", medium), ("hard", None)):
        indices = {key: range(1, len(faces) + 1) for key, faces in pictures.items()} if kept is None else kept
        savemat(folder / f"wider_{subset}_val.mat", {"gt_list": columns(indices)})
    return load_ground_truth(folder)


def write_predictions(folder: Path, predictions: dict) -> Path:
    """A text file a picture from {(event, name): [x y w h score, ...]}."""
    for (event, name), rows in predictions.items():
        (folder / event).mkdir(parents=True, exist_ok=True)
        lines = [name, str(len(rows)), *(" ".join(map(str, row)) for row in rows)]
        (folder / event / f"{name}.txt").write_bytes("".join(line + "\n" for line in lines).encode())
    return folder


def arrays(predictions: dict) -> dict:
    """The same predictions as arrays [n, 5]."""
    return {key: np.array(rows, dtype=np.float64).reshape(-1, 5) for key, rows in predictions.items()}


# Rows of benchmarks


def speed_row(role: str, engine: str, ms: float, ratio: float, to_published: float) -> dict:
    """A row of performance_comparison.csv."""
    return {
        "role": role, "engine": engine, "width": 640, "height": 480, "batch": 1, "threads": 2, "ms": ms,
        "ms lower quartile": ms, "ms upper quartile": ms, "ratio": ratio, "ratio lower quartile": ratio,
        "ratio upper quartile": ratio, "ratio to published": to_published,
    }
