"""The measurement of the training loader: what it compares is comparable, and its rows say what was measured."""

import random

import cv2
import numpy as np
import pytest
import torch

from benchmarks import training_loader
from benchmarks.lineage_loader import MEAN, LineageDataset, distort
from benchmarks.training_loader import choose_records, compare_loaders, describe, loader_table, loader_verdict
from data.picture_files import read_picture, write_picture
from utils.errors import UserError

CPU = torch.device("cpu")


@pytest.fixture
def labels(tmp_path):
    """Six pictures with a white face each, and one without any."""
    lines = []
    for place in range(6):
        picture = np.zeros((90, 120, 3), np.uint8)
        picture[30:60, 40:80] = 255
        write_picture(tmp_path / "images" / "e" / f"{place}.png", picture)
        lines.append(f"# e/{place}.png\n40 30 40 30\n")
    write_picture(tmp_path / "images" / "e" / "none.png", picture)
    (tmp_path / "label.txt").write_text("".join([*lines, "# e/none.png\n"]))
    return tmp_path / "label.txt"


def test_pictures_are_scaled_with_their_faces(labels, tmp_path):
    records = choose_records(labels, 3, 240, tmp_path)
    assert len(records) == 3 and all(record.path.endswith(".jpg") for record in records)
    picture = read_picture(records[0].path)
    assert picture.shape == (180, 240, 3)
    assert records[0].boxes.tolist() == [[80, 60, 160, 120]]
    assert picture[63:117, 83:157].min() > 240
    with_faces = choose_records(labels, 100, None, tmp_path)
    assert len(with_faces) == 6


def test_a_broken_picture_is_told(labels, tmp_path):
    (labels.parent / "images" / "e" / "0.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match="cannot read .*0.png"):
        choose_records(labels, 6, 240, tmp_path)


def test_the_stand_in_moves_faces_with_the_pixels(labels, tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.lineage_loader.distort", lambda image: image)
    dataset = LineageDataset(choose_records(labels, 6, None, tmp_path), 96)
    random.seed(0)
    for index in list(range(6)) * 5:
        image, targets = dataset[index]
        assert image.shape == (3, 96, 96) and image.dtype == torch.float32 and targets.shape == (1, 15)
        left, top, right, bottom = (targets[0, :4] * 96).round().astype(int)
        face = image[:, top + 2 : bottom - 2, left + 2 : right - 2].permute(1, 2, 0).numpy() + MEAN
        assert face.min() > 250


def test_the_stand_in_changes_colours_within_reason():
    random.seed(0)
    grey = np.full((4, 4, 3), 100, np.float32)
    results = np.stack([distort(grey.copy()) for _ in range(50)])
    assert results.min() >= 30 and results.max() <= 200 and results.std() > 5
    assert np.abs(results - results[..., :1]).max() < 1e-3  # grey stays grey


def test_rows_are_medians_and_ratios():
    setting = {"workers": 0, "pictures": 8}
    lineage, ours = describe({"lineage": [80.0, 160.0, 80.0], "ours": [20.0, 20.0, 10.0]}, setting)
    assert lineage["pictures/s"] == 100 and lineage["times as fast"] == 1
    assert ours["pictures/s"] == 400 and ours["times as fast"] == 8
    assert "is 3 times as fast" in loader_verdict([lineage, ours])
    assert "is not 3 times as fast" in loader_verdict([lineage, lineage | {"loader": "ours"}])
    assert loader_table([ours])[0]["quartiles"] == "400-600"


def test_every_loader_is_measured_with_one_thread(labels, tmp_path, monkeypatch):
    threads = torch.get_num_threads(), cv2.getNumThreads()
    seen = []
    monkeypatch.setattr(training_loader, "decode_all", lambda records: seen.append((len(records), cv2.getNumThreads())))
    records = choose_records(labels, 6, None, tmp_path)
    rows = compare_loaders(records, 64, 4, [0, 1], rounds=1, device=CPU)
    own = ["lineage", "ours", "ours, ready", "ours, --cache ram", "ours, ready, --cache ram"]
    assert [row["loader"] for row in rows] == ["decoding alone", *own, *own]
    assert [row["workers"] for row in rows] == [0] * 6 + [1] * 5
    assert {row["pictures"] for row in rows} == {4}  # whole batches
    assert seen == [(4, 1)] * 2
    assert (torch.get_num_threads(), cv2.getNumThreads()) == threads


def test_a_set_smaller_than_a_batch_is_measured(labels, tmp_path):
    rows = compare_loaders(choose_records(labels, 2, None, tmp_path), 64, 32, [0], rounds=1, device=CPU)
    assert {row["batch size"] for row in rows} == {2}
