"""Drawn frames, written as long as they are seen."""

import cv2
import numpy as np
import pytest

from detection import frames
from detection.frames import Frames, frame_writer, kept_in_time, read_video

RATE = 20.0


class Clock:
    """Time that passes only where a test says so."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(frames, "monotonic", clock)
    return clock


def grey(value):
    return np.full((48, 64, 3), value, np.uint8)


def values_of(path):
    """The grey of each frame of a video."""
    return [round(float(image.mean()), -1) for image in read_video(path).images]


@pytest.mark.parametrize(("seconds", "expected"), [
    ([0.1, 0.3, 0.05], [0] * 2 + [50] * 6 + [100]),
    ([0, 0.05, 0.05], [0, 100]),  # the first stands for the first slot already
    ([0.01] * 15, [0, 0, 50]),  # a camera faster than it says
    ([0.12] * 5, [0] * 2 + [50] * 3 + [100] * 2 + [150] * 3 + [200] * 2),  # 2.4 each: the rest is not lost
])
def test_a_webcam_is_recorded_as_long_as_it_was_seen(tmp_path, clock, seconds, expected):
    shown = Frames(iter(()), (64, 48), None, RATE, is_live=True)
    with frame_writer(tmp_path / "a.avi", shown, set()) as write:
        for index, passed in enumerate(seconds):
            clock.now += passed
            write(grey(50 * index % 250))
    assert abs(len(values_of(tmp_path / "a.avi")) - sum(seconds) * RATE) <= 1
    if len(seconds) < 10:
        assert values_of(tmp_path / "a.avi") == expected


def test_frames_of_a_file_are_each_written_once_however_long_they_take(tmp_path, clock):
    with frame_writer(tmp_path / "a.avi", Frames(iter(()), (64, 48), 3, RATE), set()) as write:
        for value in (0, 50, 100):
            clock.now += 10
            write(grey(value))
    assert values_of(tmp_path / "a.avi") == [0, 50, 100]


def test_an_encoder_too_slow_for_the_rate_takes_no_more_time_than_the_search(clock):
    """Else it would fall behind further with each frame, which then has more to be written."""
    written = []

    def encode(image):
        clock.now += 0.2
        written.append(image)

    write, times = kept_in_time(encode, RATE), []
    for index in range(20):
        clock.now += 0.5
        before = clock.now
        write(index)
        times.append(clock.now - before)
    assert max(times) < 0.5 + 0.21 and set(written) == set(range(20))


@pytest.mark.parametrize("place", [0, "a.avi"])
def test_a_webcam_is_live_and_a_file_is_not(tmp_path, monkeypatch, place):
    with frame_writer(tmp_path / "a.avi", Frames(iter(()), (64, 48), 1, RATE), set()) as write:
        write(grey(9))
    read_file = cv2.VideoCapture
    monkeypatch.setattr(frames.cv2, "VideoCapture", lambda _: read_file(str(tmp_path / "a.avi")))
    assert read_video(place if place == 0 else tmp_path / place).is_live == (place == 0)
