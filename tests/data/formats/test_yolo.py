"""YOLO's text files: boxes and landmarks in pixels, and what cannot be used told with file and line."""

import pytest

from data.formats.yolo import read_yolo
from data.widerface import LabelReport
from tests.data.formats.pictures import write_pictures, write_turned
from utils.errors import UserError

NO_LANDMARKS = [-1.0] * 15


@pytest.fixture
def write_set(tmp_path):
    """Pictures of 80 x 60 pixels and text files by their names; returns the folder."""

    def write(labels: dict, *pictures: str):
        write_pictures(tmp_path, *pictures)
        for name, text in labels.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes(text.encode() if isinstance(text, str) else text)
        return tmp_path

    return write


def read(folder):
    report = LabelReport()
    return read_yolo(folder, None, report), report


def test_boxes_and_landmarks_in_pixels(write_set):
    points = "0.5 0.5 0.6 0.5 0.55 0.6 0.5 0.7 0.6 0.7"
    pose = "0.5 0.5 2 0.6 0.5 1 0.55 0.6 2 0.5 0.7 2 0.6 0.7 2"
    folder = write_set({"a.txt": "\n".join([
        "0 0.5 0.5 0.25 0.5",
        f"1 0.5 0.5 0.25 0.5 {points}",
        f"0.0 0.5 0.5 0.25 0.5 {pose}",
        f"0 0.5 0.5 0.25 0.5 {' '.join(['-1'] * 10)}",
        f"0 0.5 0.5 0.25 0.5 {pose.replace('0.6 0.5 1', '0 0 0')}",
    ])}, "a.jpg")
    [picture], report = read(folder)
    box, landmarks = [30, 15, 20, 30], [40, 30, 0, 48, 30, 0, 44, 36, 0, 40, 42, 0, 48, 42, 0]
    found = picture.annotations
    assert [annotation.kind for annotation in found] == ["0", "1", "0", "0", "0"]
    assert found[0].numbers == found[3].numbers == [*box, *NO_LANDMARKS]
    assert found[1].numbers == found[2].numbers == pytest.approx([*box, *landmarks])
    assert found[4].numbers[7:10] == [-1, -1, -1] and found[4].numbers[4:7] == [40, 30, 0]
    assert report.face_lines == 5 and not report.problems


@pytest.mark.parametrize(("picture", "label"), [
    ("a.jpg", "a.txt"), ("images/train/a.png", "labels/train/a.txt"), ("train/images/a.jpg", "train/labels/a.txt"),
    ("Fête 人/ü.jpg", "Fête 人/ü.txt"), ("images/images/a.jpg", "images/labels/a.txt"),
])
def test_text_files_are_found(write_set, picture, label):
    pictures, report = read(write_set({label: "0 0.5 0.5 0.1 0.1\r\n\r\n"}, picture))
    assert [len(one.annotations) for one in pictures] == [1] and pictures[0].name == picture and not report.problems


def test_the_folder_of_the_labels_or_pictures_will_do(write_set):
    folder = write_set({"labels/a.txt": "0 0.5 0.5 0.1 0.1"}, "images/a.jpg")
    for given in ("labels", "images"):
        pictures, report = read(folder / given)
        assert [len(picture.annotations) for picture in pictures] == [1] and not report.problems


def test_what_cannot_be_used_is_told(write_set):
    folder = write_set({
        "labels/a.txt": "0 0.5 0.5 0.1\n0 x 0.5 0.1 0.1\n0 50 50 10 10\n0 nan 0.5 0.1 0.1\n0 0.5 0.5 0.1 0.1",
        "labels/gone.txt": "0 0.5 0.5 0.1 0.1", "labels/latin.txt": "0 0.5 0.5 0.1 0.1 é".encode("latin-1"),
        "labels/empty.txt": "", "classes.txt": "face\n", "README.txt": "Exported.\n", "broken.jpg": "no picture",
    }, "images/a.jpg", "images/b.jpg", "images/latin.jpg", "images/empty.jpg")
    pictures, report = read(folder)
    assert {picture.name: len(picture.annotations) for picture in pictures} == {
        "images/a.jpg": 1, "images/b.jpg": 0, "images/empty.jpg": 0}
    assert report.face_lines == 5
    latin = report.examples.pop("picture whose text file cannot be read")
    assert "latin.txt:1 is not UTF-8" in latin[0]
    assert report.examples == {
        "line of not 5, 15 or 20 numbers": ["labels/a.txt:1"],
        "line with text in it": ["labels/a.txt:2"],
        "box that is not in shares of the picture (0 to 1)": ["labels/a.txt:3", "labels/a.txt:4"],
        "picture without a text file (taken as one without faces)": ["images/b.jpg"],
        "text file without a picture": ["labels/gone.txt"],
        "picture that cannot be read": [f"broken.jpg: {folder / 'broken.jpg'}"],
    }


def test_shares_are_of_the_picture_as_exif_turns_it(tmp_path):
    write_turned(tmp_path / "a.jpg")
    (tmp_path / "a.txt").write_text("0 0.5 0.25 1 0.5")
    [picture], _ = read(tmp_path)
    assert picture.turn and (picture.height, picture.width) == (80, 60)
    assert picture.annotations[0].numbers[:4] == [0, 0, 60, 40]


def test_a_folder_without_labels_is_told(write_set):
    with pytest.raises(UserError, match="no text file NAME.txt"):
        read(write_set({}, "a.jpg"))
    with pytest.raises(UserError, match="--images"):
        read_yolo(write_set({"a.txt": "0 0.5 0.5 0.1 0.1"}, "a.jpg"), write_set({}), LabelReport())
