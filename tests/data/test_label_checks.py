"""Label sets that cannot be right stop before the run; those that may be do not."""

from pathlib import Path

import numpy as np
import pytest

from data.label_checks import LOOKED_AT, check_frames, check_label_sets, landmark_warnings
from data.picture_files import write_picture
from data.widerface import Record, read_labels
from tests.data.formats.pictures import write_pictures, write_turned
from utils.errors import UserError


@pytest.fixture
def report_of(tmp_path):
    """What read_labels reports of a label.txt in a folder of its own, with pictures e/0.jpg, e/1.jpg ..."""

    def read(text, name="set", pictures=1):
        for number in range(pictures):
            write_picture(tmp_path / name / "images" / "e" / f"{number}.jpg", np.zeros((8, 8, 3), np.uint8))
        (tmp_path / name / "label.txt").write_text(text)
        return {Path(name, "label.txt"): read_labels(tmp_path / name / "label.txt")[1]}

    return read


@pytest.mark.parametrize(("rows", "words"), [
    ("1 2 0 4\n1 2 3 x\n", r"none of the 2 faces in set/label.txt can be used \(1 x face line with text in it: "
     r"label.txt:3; 1 x box of zero or negative size: label.txt:2\): a face is a line x y w h in pixels$"),
    ("0.1 0.2 0.3 0.4\n0 0 1 1\n", "all 2 boxes in set/label.txt lie within 0 to 1.*python -m data.convert"),
    ("", "0 of 1 pictures in set/label.txt have a face"),
])
def test_what_cannot_be_right_is_told_in_a_line(report_of, rows, words):
    with pytest.raises(UserError, match=words) as told:
        check_label_sets(report_of(f"# e/0.jpg\n{rows}"))
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("rows", ["0 0 1 2", "0.1 0.2 0.3 0.4\n5 5 0.5 0.5", "1 2 0 4\n1 2 3 4", "0.5 -3 0.4 0.4"])
def test_what_may_be_right_passes(report_of, rows):
    check_label_sets(report_of(f"# e/0.jpg\n{rows}\n"))


@pytest.mark.parametrize(("with_faces", "passes"), [(1, False), (2, True)])
def test_two_in_a_hundred_must_have_a_face(report_of, with_faces, passes):
    names = "".join(f"# e/{i}.jpg\n" + "1 1 5 5\n" * (i < with_faces) for i in range(100))
    report = report_of(names, pictures=100)
    if passes:
        check_label_sets(report)
    else:
        with pytest.raises(UserError, match="1 of 100 pictures"):
            check_label_sets(report)


def test_a_set_of_backgrounds_may_stand_beside_another(report_of):
    check_label_sets(report_of("# e/0.jpg\n1 1 5 5\n", "faces") | report_of("# e/0.jpg\n", "none"))


@pytest.mark.parametrize(("text", "found"), [
    ("0 0.5 0.5 0.1 0.1\n", "YOLO"), ('{"images": []}', "COCO"), ("<annotation>", "Pascal VOC"),
    ("e/0.jpg\n1\n1 2 3 4 0 0 0 0 0 0\n", "WIDER FACE's official text"),
])
def test_labels_of_other_formats_name_the_converter(report_of, text, found):
    with pytest.raises(UserError, match=f"the format {found}: python -m data.convert") as told:
        report_of(text)
    assert "\n" not in str(told.value)


# Labels against pictures


def record(path, *xywh, landmarks=None, ignored=False):
    boxes = np.array(xywh, np.float32).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    points = np.zeros((len(boxes), 5, 2), np.float32) if landmarks is None else np.array(landmarks, np.float32)
    return Record(str(path), boxes, points, np.full(len(boxes), landmarks is not None), np.full(len(boxes), ignored))


IN, OUT = (40, 30, 20, 20), (65, 30, 32, 20)


@pytest.mark.parametrize("out", [(65, 30, 32, 20), (5, 45, 20, 32), (-25, 5, 48, 9), (400, 300, 200, 200)])
def test_one_in_ten_faces_may_have_its_centre_outside(tmp_path, out):
    write_pictures(tmp_path, "a.jpg", "ü.jpg")  # 80 x 60 pixels
    first, rows = record(tmp_path / "a.jpg", *[IN] * 4), [out, *[IN] * 5]
    assert check_frames(tmp_path, [first, record(tmp_path / "ü.jpg", *rows)]) == []
    with pytest.raises(UserError, match=r"2 of 11 faces looked at in .*such as x y w h .* in .*ü.jpg of 80 x 60 "
                                        r"pixels: .*another size, corners .*EXIF .*\(0 of 2 are turned\)\?$") as told:
        check_frames(tmp_path, [first, record(tmp_path / "ü.jpg", out, *rows)])
    assert "\n" not in str(told.value)


def test_what_cannot_be_compared_is_passed_over(tmp_path):
    """Missing and damaged pictures, those without faces, ignored regions."""
    write_pictures(tmp_path, "a.jpg")
    (tmp_path / "damaged.jpg").write_bytes(b"none")
    records = [record(tmp_path / "missing.jpg", OUT), record(tmp_path / "damaged.jpg", OUT), record(tmp_path / "a.jpg"),
               record(tmp_path / "a.jpg", OUT, ignored=True)]
    assert check_frames(tmp_path, records) == check_frames(tmp_path, []) == []


def test_a_few_headers_are_read_from_all_over_the_set(tmp_path, monkeypatch):
    read = []
    monkeypatch.setattr("data.label_checks.picture_size_of", lambda path: read.append(int(path)) or (60, 80))
    assert check_frames(tmp_path, [record(number, IN) for number in range(5000)]) == []
    assert len(read) == LOOKED_AT and (read[0], read[-1]) == (0, 4999) and set(np.diff(read)) == {10, 11}


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_that_exif_turns_are_counted(tmp_path, orientation):
    write_turned(tmp_path / "turned.jpg", orientation)
    write_pictures(tmp_path, "a.jpg")
    warnings = check_frames(tmp_path, [record(tmp_path / name, IN) for name in ("a.jpg", "turned.jpg")])
    assert len(warnings) == (orientation != 1)
    for warning in warnings:
        assert warning.startswith("1 of 2 pictures with faces") and "turned.jpg" in warning
        assert "python -m data.convert" in warning


EYES = [(45, 35), (55, 35), (50, 40), (46, 45), (54, 45)]


def test_landmarks_far_from_their_box_are_counted(tmp_path):
    near = [*EYES[:4], (79, 45)]  # 19 pixels outside of a box of 20
    far = [*EYES[:4], (81, 45)]
    assert landmark_warnings(tmp_path, [record("a.jpg", IN, landmarks=[near]), record("b.jpg", IN)]) == []
    [warning] = landmark_warnings(tmp_path, [record("a.jpg", IN, landmarks=[EYES]), record("b.jpg"),
                                             record("c.jpg", IN, IN, landmarks=[far, EYES])])
    assert warning.startswith("1 of 3 faces with landmarks") and "such as in c.jpg" in warning


@pytest.mark.parametrize(("mirrored", "count"), [(1, 0), (2, 0), (3, 1)])
def test_eyes_of_most_faces_in_the_wrong_order_are_told(tmp_path, mirrored, count):
    faces = [EYES] * (4 - mirrored) + [[EYES[1], EYES[0], *EYES[2:]]] * mirrored
    warnings = landmark_warnings(tmp_path, [record("a.jpg", *[IN] * 4, landmarks=faces)])
    assert len(warnings) == count and all(text.startswith("3 of 4 faces") for text in warnings)
