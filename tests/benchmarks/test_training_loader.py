"""The measurement of the training loader: what it compares is comparable, and its rows say what was measured."""

import cv2
import pytest
import torch

from benchmarks import training_loader
from benchmarks.rows import for_the_eye
from benchmarks.training_loader import choose_records, compare_loaders, loader_rows
from data.picture_files import read_picture
from tests.helpers import CPU
from utils.errors import UserError


def test_pictures_are_scaled_with_their_faces(labels, tmp_path):
    records = choose_records([labels], 3, 240, tmp_path)
    assert len(records) == 3 and all(record.path.endswith(".jpg") for record in records)
    picture = read_picture(records[0].path)
    assert picture.shape == (180, 240, 3)
    assert records[0].boxes.tolist() == [[80, 60, 160, 120]]
    assert picture[63:117, 83:157].min() > 240
    with_faces = choose_records([labels], 100, None, tmp_path)
    assert len(with_faces) == 6
    assert len(choose_records([labels, labels], 100, None, tmp_path)) == 12


def test_a_broken_picture_is_told(labels, tmp_path):
    (labels.parent / "images" / "e" / "0.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match="cannot read .*0.png"):
        choose_records([labels], 6, 240, tmp_path)


def test_rows_are_medians_and_ratios():
    setting = {"workers": 0, "pictures": 8}
    usual, ours = loader_rows({"usual": [80.0, 160.0, 80.0], "ours": [20.0, 20.0, 10.0]}, setting)
    assert usual["pictures/s"] == 100 and usual["times as fast"] == 1
    assert ours["pictures/s"] == 400 and ours["times as fast"] == 8
    assert (ours["ratio lower quartile"], ours["ratio upper quartile"]) == (6, 8)
    assert for_the_eye([ours], "quartiles")[0]["quartiles"] == "400-600"


def test_every_loader_is_measured_with_one_thread(labels, tmp_path, monkeypatch):
    threads = torch.get_num_threads(), cv2.getNumThreads()
    seen = []
    monkeypatch.setattr(training_loader, "decode_all", lambda records: seen.append((len(records), cv2.getNumThreads())))
    records = choose_records([labels], 6, None, tmp_path)
    rows = compare_loaders(records, 64, 4, [0, 1], rounds=1, device=CPU)
    own = ["usual", "ours", "ours, ready", "ours, --cache ram", "ours, ready, --cache ram"]
    assert [row["loader"] for row in rows] == ["decoding alone", *own, *own]
    assert [row["workers"] for row in rows] == [0] * 6 + [1] * 5
    assert {row["pictures"] for row in rows} == {4}  # whole batches
    assert seen == [(4, 1)] * 2
    assert (torch.get_num_threads(), cv2.getNumThreads()) == threads


def test_a_set_smaller_than_a_batch_is_measured(labels, tmp_path):
    rows = compare_loaders(choose_records([labels], 2, None, tmp_path), 64, 32, [0], rounds=1, device=CPU)
    assert {row["batch size"] for row in rows} == {2}
