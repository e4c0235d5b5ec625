"""A face as a record of JSON and CSV."""

import numpy as np

from detection.face_records import records_of
from tests.helpers import detections_of


def test_landmarks_have_the_names_of_their_places():
    points = np.arange(10, dtype=np.float32).reshape(1, 5, 2)
    [record] = records_of("a", 3, detections_of((0, 0, 1, 1, 0.9))._replace(landmarks=points))
    names = ["left_eye_x", "left_eye_y", "right_eye_x", "right_eye_y", "nose_x", "nose_y", "left_mouth_x",
             "left_mouth_y", "right_mouth_x", "right_mouth_y"]
    assert [record[name] for name in names] == list(range(10)) and list(record)[-10:] == names
    assert record["frame"] == 3
