"""The weights in the repo: that they load, find a face, are those of their graph, and keep their AP on photographs."""

from pathlib import Path

import matplotlib
import numpy as np
import pytest

from data.picture_files import read_picture
from detection.face_detector import load_detector
from detection.inference import detect, detect_files
from detection.protocols import PROTOCOLS
from detection.shipped import SHIPPED
from detection.suppression import DetectionSettings
from detection.validation import read_ground_truth, rows_of
from models import load_model
from tests.helpers import CPU, SHARED, needs_shared
from widerface_evaluate.average_precision import Group, faces_of_height, match_detections, precision_recall

#: A photograph in the public domain (Grace Hopper, by the United States Navy) that comes with matplotlib.
PORTRAIT = Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"

#: Every so many pictures of people val, and the AP over their faces of 9 px and more that the weights must keep.
SAMPLING, KEPT_AP = 20, 0.80


def test_they_are_the_network_of_the_readme():
    network = load_model(SHIPPED)
    assert network.name == "v2" and sum(parameter.numel() for parameter in network.parameters()) == 254_112


@pytest.mark.parametrize("suffix", [".pth", ".onnx"])
def test_they_find_one_face_in_a_portrait(suffix):
    picture = read_picture(PORTRAIT)
    detector = load_detector(SHIPPED.with_suffix(suffix), CPU)
    found = detect(detector, picture, PROTOCOLS["original"], DetectionSettings(0.5), CPU)
    assert len(found.boxes) == 1 and found.scores[0] > 0.9
    left, top, right, bottom = found.boxes[0]
    # Eyes, nose and mouth of the portrait, 512 x 600 px, are inside.
    assert 150 < left < 200 and 110 < top < 150 and 310 < right < 360 and 300 < bottom < 350
    assert ((found.landmarks[0] > (left, top)) & (found.landmarks[0] < (right, bottom))).all()


@needs_shared
def test_they_keep_their_ap_on_photographs():
    folder = SHARED / "data" / "people" / "val"
    ground_truth = read_ground_truth(folder / "ground_truth")
    numbers = np.arange(0, len(ground_truth.pictures), SAMPLING)
    paths = [folder / "images" / event / f"{name}.jpg" for event, name in (ground_truth.pictures[i] for i in numbers)]
    predictions = {picture: np.zeros((0, 5)) for picture in ground_truth.pictures}
    for place, found in detect_files(load_detector(SHIPPED, CPU), paths, "vga", DetectionSettings(), CPU):
        predictions[ground_truth.pictures[numbers[place]]] = rows_of(found)
    pictures = np.isin(np.arange(len(ground_truth.pictures)), numbers)
    faces = faces_of_height(9, np.inf, ground_truth) & pictures[ground_truth.picture]
    curve = precision_recall(match_detections(predictions, ground_truth), Group(faces, pictures), ground_truth)
    assert curve.ap > KEPT_AP
