"""python -m data.convert: sets of other formats become one that trains and is measured, whole or not at all."""

import errno
import json
import re

import numpy as np
import pytest

from data import convert
from data.ground_truth import is_outdated
from data.picture_files import read_picture
from data.widerface import list_pictures, read_labels
from tests.data.formats.pictures import write_pictures, write_turned
from tests.foreign_sets import WRITERS
from tests.helpers import exit_code
from widerface_evaluate.wider_files import load_ground_truth

#: The source of a set that tests/foreign_sets.py has written, below its folder.
SOURCES = {"yolo": ".", "voc": ".", "coco": "faces.json", "wider": "wider_face_split/wider_face_train_bbx_gt.txt"}


def converted(source, output, *flags, capsys=None):
    """Run the command; returns what it prints where that is asked for."""
    assert exit_code(convert.main, source, "--output", output, *flags) is None
    return capsys and capsys.readouterr().out


def mistake(capsys, *arguments):
    """The one line that a command ends with."""
    assert exit_code(convert.main, *arguments) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    return lines[0]


def by_name(records):
    return {record.path.rpartition("images/")[2]: record for record in records}


def write_yolo(folder, labels, height=60, width=80):
    """labels: {picture: lines of its text file, None for no file}."""
    for name, lines in labels.items():
        write_pictures(folder, name, height=height, width=width)
        if lines is not None:
            (folder / name).with_suffix(".txt").write_text(lines)
    return folder


@pytest.fixture(scope="module")
def drawn(drawn_set):
    return drawn_set(12, 12) / "train"


@pytest.mark.parametrize("kind", WRITERS)
def test_there_and_back(tmp_path, drawn, kind, capsys):
    """Boxes to 1/100 pixel, landmarks and ignored regions where the format has them; nothing else is lost."""
    originals = read_labels(drawn / "label.txt")[0]
    for record in originals[::3]:
        record.ignored[:1], record.has_landmarks[:1] = kind != "yolo", False
    WRITERS[kind](tmp_path / "foreign", originals)
    output = converted(tmp_path / "foreign" / SOURCES[kind], tmp_path / "set", "--val_share", 0.25, capsys=capsys)
    train, report = read_labels(tmp_path / "set" / "train" / "label.txt")
    val, _ = read_labels(tmp_path / "set" / "val" / "label.txt")
    assert not report.problems and " x " not in output
    found = by_name(train) | by_name(val)
    assert len(train) + len(val) == len(originals) and found.keys() == by_name(originals).keys()
    for name, record in by_name(originals).items():
        order = np.argsort(record.ignored, kind="stable")  # ignored regions stand in their own file, behind
        boxes = record.boxes[order]
        if kind == "wider":
            corner, size = boxes[:, :2].round(), (boxes[:, 2:] - boxes[:, :2]).round()
            boxes = np.hstack([corner, corner + size])
        np.testing.assert_allclose(found[name].boxes, boxes, atol=0.011)
        assert (found[name].ignored == record.ignored[order]).all()
        if kind in ("yolo", "coco"):
            assert (found[name].has_landmarks == record.has_landmarks[order]).all()
            np.testing.assert_allclose(found[name].landmarks, record.landmarks[order], atol=0.011)
        assert (read_picture(found[name].path) == read_picture(record.path)).all()


def test_the_ground_truth_counts_faces_by_height(tmp_path):
    heights = (9.99, 10, 23.99, 24, 49.99, 50, 200)
    rows = "\n".join(f"0 {0.1 * i + 0.1} 0.5 0.05 {height / 300}" for i, height in enumerate(heights))
    folder = write_yolo(tmp_path / "val", {"a.jpg": rows, "b.jpg": ""}, height=300)
    converted(write_yolo(tmp_path / "train", {"c.jpg": rows}, height=300), tmp_path / "set", "--val_source", folder)
    truth = load_ground_truth(tmp_path / "set" / "val" / "ground_truth")
    assert list_pictures(tmp_path / "set" / "val") == ["pictures/a.jpg", "pictures/b.jpg"]
    assert truth.pictures == [("pictures", "a"), ("pictures", "b")]
    assert {name: int(counted.sum()) for name, counted in truth.subsets.items()} == {"easy": 2, "medium": 4, "hard": 6}


def test_ignored_regions_are_no_false_alarms(tmp_path, drawn):
    records = read_labels(drawn / "label.txt")[0]
    for record in records:
        record.ignored[:1] = True
    WRITERS["voc"](tmp_path / "voc", records)
    converted(tmp_path / "voc", tmp_path / "set", "--val_share", 0.5)
    truth = load_ground_truth(tmp_path / "set" / "val" / "ground_truth")
    invalid = truth.labels["invalid"] == 1
    assert invalid.any() and not any(counted[invalid].any() for counted in truth.subsets.values())


def test_the_split_is_drawn_by_seed_and_keeps_both_kinds(tmp_path):
    labels = {f"{i}.jpg": "0 0.5 0.5 0.5 0.5" if i % 2 else "" for i in range(40)}
    folder = write_yolo(tmp_path / "source", labels)
    names = []
    for number, flags in enumerate([("--seed", 1), ("--seed", 1), ("--seed", 2), ("--val_share", 0)]):
        converted(folder, tmp_path / str(number), "--val_share", 0.2, *flags)
        has_val = (tmp_path / str(number) / "val").exists()
        names.append(set(list_pictures(tmp_path / str(number) / "val")) if has_val else set())
        train = by_name(read_labels(tmp_path / str(number) / "train" / "label.txt")[0])
        assert len(train) + len(names[-1]) == 40 and not names[-1] & train.keys()
    assert names[0] == names[1] != names[2] and names[3] == set()
    assert sorted(int(name.split("/")[1][:-4]) % 2 for name in names[0]) == [0] * 4 + [1] * 4


def test_a_single_face_is_trained_on(tmp_path):
    converted(write_yolo(tmp_path / "source", {"a.jpg": "0 0.5 0.5 0.5 0.5", "b.jpg": ""}), tmp_path / "set")
    assert not (tmp_path / "set" / "val").exists()
    assert len(read_labels(tmp_path / "set" / "train" / "label.txt")[0]) == 2


def test_classes(tmp_path, capsys):
    folder = write_yolo(tmp_path / "source", {"a.jpg": "0 0.5 0.5 0.5 0.5\n2 0.5 0.5 0.2 0.2\n2 0.4 0.5 0.2 0.2"})
    assert "classes 2 (2), 0 (1): say with --face_class" in mistake(capsys, folder, "--output", tmp_path / "set")
    told = mistake(capsys, folder, "--output", tmp_path / "set", "--face_class", "face")
    assert "no class face, its classes are: 2 (2), 0 (1)" in told
    output = converted(folder, tmp_path / "two", "--face_class", 2, 7, capsys=capsys)
    assert "2 faces" in output and "1 x region of another class: source/a.txt:1: 0" in output
    assert "1 x class of --face_class that is not there: 7" in output
    assert "3 faces" in converted(folder, tmp_path / "all", "--face_class", 2, 0, capsys=capsys)


def test_face_is_the_class_that_is_meant(tmp_path, capsys):
    write_pictures(tmp_path, "a.jpg")
    (tmp_path / "faces.json").write_text(json.dumps({
        "images": [{"id": 1, "file_name": "a.jpg"}],
        "categories": [{"id": 1, "name": "Face"}, {"id": 2, "name": "dog"}],
        "annotations": [{"id": i, "image_id": 1, "category_id": i, "bbox": [1, 2, 30, 40]} for i in (1, 2)]}))
    output = converted(tmp_path, tmp_path / "set", capsys=capsys)
    assert "1 faces" in output and "1 x region of another class: faces.json, annotation 2: dog" in output


def test_names_that_files_cannot_have_or_that_meet(tmp_path):
    rows = "0 0.5 0.5 0.5 0.5"
    folder = write_yolo(tmp_path / "source", {
        "images/a.jpg": rows, "images/A.png": rows, "train/images/a.jpg": rows, "1--Fête 人/ü ñ.jpg": rows,
        "deep/er/a: b?.jpg": rows, "deep/er/a_ b_.jpg": rows, "#x/ .jpg": rows, "0--Event/a.b.jpg": rows})
    converted(folder, tmp_path / "set", "--val_share", 0)
    names = list(by_name(read_labels(tmp_path / "set" / "train" / "label.txt")[0]))
    assert sorted(names) == ["#x/_.jpg", "0--Event/a.b.jpg", "1--Fête 人/ü ñ.jpg", "deep--er/a_ b_.jpg",
                             "deep--er/a_ b__2.jpg", "pictures/A.png", "pictures/a_2.jpg", "pictures/a_3.jpg"]
    converted(folder, tmp_path / "both", "--val_share", 0.8)
    assert len(load_ground_truth(tmp_path / "both" / "val" / "ground_truth").pictures) == 6


def test_deep_folders_and_long_names_are_shortened_and_stay_apart(tmp_path):
    rows, long = "0 0.5 0.5 0.5 0.5", "ä" * 100
    folder = write_yolo(tmp_path / "source", {
        f"{long}/{long}/a.jpg": rows, f"{long}/{long}/b.jpg": rows, f"{long}/{long}2/a.jpg": rows,
        f"{'n' * 250}.jpg": rows, f"{'n' * 249}m.jpg": rows, f"{'k' * 200}.jpg": rows})
    converted(folder, tmp_path / "set", "--val_share", 0.5)
    names = {name for part in ("train", "val")
             for name in by_name(read_labels(tmp_path / "set" / part / "label.txt")[0])}
    assert len(names) == 6 and all(len(part.encode()) <= 204 for name in names for part in name.split("/"))
    events = sorted(name.split("/")[0] for name in names if name.startswith("ä"))
    assert len(events) == 3 and len(set(events)) == 2 and f"pictures/{'k' * 200}.jpg" in names


def test_pictures_that_exif_turns_are_written_upright(tmp_path):
    write_turned(tmp_path / "source" / "a.jpg", orientation=6)  # to be turned to the right
    (tmp_path / "source" / "a.txt").write_text("0 0.5 0.25 1 0.5")  # the upper half of the upright picture
    converted(tmp_path / "source", tmp_path / "set")
    [record] = read_labels(tmp_path / "set" / "train" / "label.txt")[0]
    picture = read_picture(record.path)
    assert picture.shape == (80, 60, 3) and record.boxes.tolist() == [[0, 0, 60, 40]]
    assert picture[:40].mean() < 2 and picture[40:].mean() > 253
    assert (read_picture(record.path, upright=True) == picture).all()


def test_a_damaged_picture_that_would_be_turned_is_left_out(tmp_path, capsys):
    write_turned(tmp_path / "source" / "a.jpg")
    path = tmp_path / "source" / "a.jpg"
    path.write_bytes(path.read_bytes()[:-40])
    write_yolo(tmp_path / "source", {"b.jpg": "0 0.5 0.5 0.5 0.5"})
    path.with_suffix(".txt").write_text("0 0.5 0.5 0.5 0.5")
    output = converted(tmp_path / "source", tmp_path / "set", "--val_share", 0, capsys=capsys)
    assert f"warning: {path} is damaged and was left out" in output
    assert "1 pictures to train on, 0 to measure AP on" in output
    assert len(read_labels(tmp_path / "set" / "train" / "label.txt")[0]) == 1


def test_complaints_name_file_and_line(tmp_path, capsys):
    rows = "0 0.5 0.5 0.5 0.5\n0 0.5 0.5 0 0.5\n0 0.5\n0 1.005 0.5 0.005 0.5\n"
    folder = write_yolo(tmp_path / "source", {"a.jpg": rows, "b.jpg": None})
    output = converted(folder, tmp_path / "set", capsys=capsys)
    for line in ("1 x box of zero or negative size: source/a.txt:2",
                 "1 x line of not 5, 15 or 20 numbers: source/a.txt:3", "1 x box outside its picture: source/a.txt:4",
                 "1 x picture without a text file (taken as one without faces): b.jpg"):
        assert line in output


@pytest.mark.parametrize(("lines", "side", "words"), [
    ("0 50 50 10 10\n", 60, r"none of the 30 faces .* can be used \(30 x box that is not in shares"),
    ("0 0.25 0.25 0.5 0.5\n", 2, "lie within 0 to 1"),
    (None, 60, "no text file"),
    ("", 60, "0 of 30 pictures .* have a face"),
])
def test_sets_that_cannot_be_right_stop(tmp_path, capsys, lines, side, words):
    folder = write_yolo(tmp_path / "source", {f"{i}.jpg": lines for i in range(30)}, side, side)
    assert re.search(words, mistake(capsys, folder, "--output", tmp_path / "set"))
    assert not (tmp_path / "set").exists()


def test_what_is_there_is_kept(tmp_path, capsys):
    folder = write_yolo(tmp_path / "source", {"a.jpg": "0 0.5 0.5 0.5 0.5"})
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "mine").write_text("mine")
    assert "is there already" in mistake(capsys, folder, "--output", tmp_path / "set")
    assert "is there already" in mistake(capsys, folder, "--output", tmp_path / "set" / "mine")
    assert [path.name for path in (tmp_path / "set").iterdir()] == ["mine"]
    (tmp_path / "set" / "mine").unlink()
    converted(folder, tmp_path / "set")
    assert (tmp_path / "set" / "train" / "label.txt").is_file()


def test_nothing_is_left_where_writing_fails(tmp_path, capsys, monkeypatch):
    folder = write_yolo(tmp_path / "source", {f"{i}.jpg": "0 0.5 0.5 0.5 0.5" for i in range(4)})

    def full_disk(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("data.layout_files.write_ground_truth_from", full_disk)
    assert "cannot write" in mistake(capsys, folder, "--output", tmp_path / "set")
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_parts_are_kept_apart(tmp_path, capsys):
    rows = "0 0.5 0.5 0.5 0.5"
    folder = write_yolo(tmp_path / "source", {"train/images/a.jpg": rows, "valid/images/b.jpg": rows})
    assert "holds train/ and valid/" in mistake(capsys, folder, "--output", tmp_path / "set")
    told = mistake(capsys, folder / "train", "--val_source", folder, "--output", tmp_path / "set")
    assert "1 pictures are for training and for validation" in told
    converted(folder / "train", tmp_path / "set", "--val_source", folder / "valid")
    assert list_pictures(tmp_path / "set" / "val") == ["pictures/b.jpg"]


def test_labels_that_are_mended_later_count_when_ap_is_measured(tmp_path):
    folder = write_yolo(tmp_path / "source", {f"{i}.jpg": "0 0.5 0.5 0.5 0.5" for i in range(4)})
    converted(folder, tmp_path / "set", "--val_share", "0.5")
    labels = tmp_path / "set" / "val" / "label.txt"
    assert not is_outdated(labels.with_name("ground_truth"), labels)
    labels.write_text(labels.read_text() + "1 2 30 40\n")
    assert is_outdated(labels.with_name("ground_truth"), labels)


def test_sources_that_cannot_be_read(tmp_path, capsys):
    def told(name):
        return mistake(capsys, tmp_path / name, "--output", tmp_path / "set")

    write_yolo(tmp_path, {"a.jpg": "0 0.5 0.5 0.5 0.5"})
    (tmp_path / "hello.txt").write_text("hello")
    assert "no file or folder" in told("absent")
    assert "one file of the format YOLO: give the folder" in told("a.txt")
    assert "in no format that is known" in told("hello.txt") and "in no format that is known" in told("a.jpg")
    (tmp_path / "a.xml").write_text("<annotation/>")
    assert "holds labels of Pascal VOC and YOLO" in told(".")
    for number in range(2):
        (tmp_path / "json").mkdir(exist_ok=True)
        (tmp_path / "json" / f"{number}.json").write_text("{}")
    assert "holds labels of 2 JSON files" in told("json")
    assert "argument --images" in mistake(capsys, tmp_path, "--output", "x", "--images", tmp_path / "absent")
