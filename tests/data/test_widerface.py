"""label.txt and wider_val.txt -> records and names: nothing is lost without a word."""

import numpy as np
import pytest

from data.picture_files import write_picture
from data.pictures import PictureFiles
from data.widerface import list_pictures, read_labels
from tests.helpers import SHARED, needs_shared
from utils.errors import UserError

LANDMARKS = "12 14 0 18 14 0 15 17 1 13 20 0 17 20 0"

NO_LANDMARKS = " ".join(["-1"] * 15)


@pytest.fixture
def write_set(tmp_path):
    """Write label.txt (bytes or text), pictures by name and optionally ignore.txt; returns the path of label.txt."""

    def write(label, pictures=("0--Event/a.jpg", "0--Event/b.jpg"), ignore=None):
        rng = np.random.default_rng(0)
        for name in pictures:
            write_picture(tmp_path / "images" / name, rng.integers(0, 256, (60, 80, 3), dtype=np.uint8))
        (tmp_path / "label.txt").write_bytes(label if isinstance(label, bytes) else label.encode())
        if ignore is not None:
            (tmp_path / "ignore.txt").write_text(ignore)
        return tmp_path / "label.txt"

    return write


def test_line_formats(write_set):
    path = write_set(
        "# 0--Event/a.jpg\n"
        "10 12 10 14\n"
        f"10.5 12 10 14 {LANDMARKS}\n"
        f"10 12 10 14 {LANDMARKS} 0.82\n"
        f"10 12 10 14 {NO_LANDMARKS} 0.4\n"
        "# 0--Event/b.jpg\n"
    )
    records, report = read_labels(path)
    assert [len(record.boxes) for record in records] == [4, 0]
    face, empty = records
    np.testing.assert_array_equal(face.boxes[:2], [[10, 12, 20, 26], [10.5, 12, 20.5, 26]])
    assert face.has_landmarks.tolist() == [False, True, True, False]
    np.testing.assert_array_equal(face.landmarks[1], [[12, 14], [18, 14], [15, 17], [13, 20], [17, 20]])
    assert (face.landmarks[~face.has_landmarks] == 0).all()
    assert not face.ignored.any()
    for record in records:
        assert record.boxes.dtype == record.landmarks.dtype == np.float32
        assert record.has_landmarks.dtype == record.ignored.dtype == bool
        rows = len(record.boxes)
        assert record.boxes.shape == (rows, 4) and record.landmarks.shape == (rows, 5, 2)
    assert not report.problems
    assert "2 pictures (1 without faces), 4 faces (2 with landmarks)" in str(report)


def test_windows_files_and_foreign_names(write_set):
    name = "1--Fête 人/ü ñ.jpg"
    text = f"# {name}\r\n1 2 30 40 \r\n\r\n \t\r\n# 0--Event/a.jpg\r\n5\t6  30 40\r\n\r\n"
    records, report = read_labels(write_set(b"\xef\xbb\xbf" + text.encode(), pictures=[name, "0--Event/a.jpg"]))
    assert [record.boxes.tolist() for record in records] == [[[1, 2, 31, 42]], [[5, 6, 35, 46]]]
    assert not report.problems
    picture = PictureFiles([record.path for record in records]).open(0)
    assert (picture.height, picture.width) == (60, 80)


def test_everything_unusable_is_counted_and_named(write_set):
    lines = [
        "1 2 3 4",  # 1: before any picture
        "# 0--Event/a.jpg",
        "1 2 0 4",  # 3: no width
        "1 2 3 -4",  # 4: negative height
        "nan 2 3 4",  # 5
        "1 2 inf 4",  # 6
        "1e300 2 3 4",  # 7: no float32
        "1 2 3",  # 8
        "1 2 3 x",  # 9
        f"10 12 10 14 {LANDMARKS.replace('15 17', '-1 -1')}",  # 10: a face, without landmarks
        f"10 12 10 14 {LANDMARKS.replace('15 17', 'nan 17')}",  # 11: likewise
        "10 12 10 14",
        "# 0--Event/gone.jpg",  # 13
        "1 2 3 4",
        "#",  # 15
        "1 2 3 4",  # 16: belongs to nothing
        "# 0--Event/b.jpg",
        "# 0--Event/a.jpg",  # 18: again
        "20 22 10 14",
        "# nowhere/" + "x" * 300,  # 20: no possible file name
    ]
    records, report = read_labels(write_set("\n".join(lines)))
    assert [len(record.boxes) for record in records] == [4, 0]
    assert not records[0].has_landmarks.any() and np.isfinite(records[0].landmarks).all()
    assert dict(report.problems) == {
        "face line without a picture": 2,
        "face line of not 4, 19 or 20 numbers": 1,
        "face line with text in it": 1,
        "picture line without a name": 1,
        "picture listed again (its faces are joined)": 1,
        "box with NaN or infinity": 3,
        "box of zero or negative size": 2,
        "face with incomplete landmarks (taken as a face without)": 2,
        "missing picture": 2,
    }
    text = str(report)
    for line in (1, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 16, 18, 20):
        assert f"label.txt:{line}" in text
    assert "0--Event/gone.jpg" in text


def test_summary_stays_short(write_set):
    report = read_labels(write_set("# 0--Event/a.jpg\n" + "1 2 0 0\n" * 5000))[1]
    assert "5000 x box of zero or negative size: label.txt:2, label.txt:3, label.txt:4, ..." in str(report)
    assert len(str(report)) < 500


def test_ignore_file(write_set):
    path = write_set(
        f"# 0--Event/a.jpg\n10 12 10 14 {LANDMARKS}\n# 0--Event/b.jpg\n",
        ignore="# 0--Event/b.jpg\n1 1 5 5\n2 2 0 5\n# 0--Event/a.jpg\n3 3 6 6\n# 0--Event/other.jpg\n1 1 5 5\n",
    )
    (a, b), report = read_labels(path)
    assert a.boxes.tolist() == [[10, 12, 20, 26], [3, 3, 9, 9]]
    assert a.ignored.tolist() == [False, True] and a.has_landmarks.tolist() == [True, False]
    assert b.boxes.tolist() == [[1, 1, 6, 6]] and b.ignored.tolist() == [True]
    assert dict(report.problems) == {"picture not in label.txt": 1, "box of zero or negative size": 1}
    assert "ignore.txt:6: 0--Event/other.jpg" in str(report) and "ignore.txt:3" in str(report)
    assert "1 without faces" in str(report) and "2 ignored regions" in str(report)


def test_nothing_to_train_on_is_an_error(tmp_path, write_set):
    with pytest.raises(UserError, match="cannot read .*absent.*label.txt.*images/EVENT/NAME.jpg"):
        read_labels(tmp_path / "absent" / "label.txt")
    with pytest.raises(UserError, match="cannot read"):
        read_labels(tmp_path)
    for empty in (b"", b"\n\n", b"1 2 3 4\n"):
        with pytest.raises(UserError, match="names no picture"):
            read_labels(write_set(empty))
    with pytest.raises(UserError, match="none of the 1 pictures .*gone.jpg"):
        read_labels(write_set("# 0--Event/gone.jpg\n1 2 3 4\n"))


@needs_shared
def test_real_photographs():
    records, report = read_labels(SHARED / "data" / "people" / "train" / "label.txt")
    assert (report.pictures, report.faces, report.pictures_without_faces) == (3457, 46083, 268)
    assert report.ignored_regions == 92807 and not report.problems
    val, report = read_labels(SHARED / "data" / "people" / "val" / "label.txt")
    assert len(val) == 427 + 103 + 347 and report.faces_with_landmarks == 0


@pytest.mark.parametrize(("text", "words"), [("\n", "names no picture"), ("/EVENT/a.jpg\nb.jpg\n", "'b.jpg'"),
                                           ("/EVENT/a.jpg\n/A/B/x.jpg\n", "wider_val.txt:2 is 'A/B/x.jpg': write it")])
def test_a_broken_list_of_pictures_is_told(tmp_path, text, words):
    (tmp_path / "wider_val.txt").write_text(text)
    with pytest.raises(UserError, match=words):
        list_pictures(tmp_path)
