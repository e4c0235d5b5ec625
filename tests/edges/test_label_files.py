"""label.txt and ignore.txt from anywhere: other encodings, names that leave the folder, what is no file."""

import os

import numpy as np
import pytest

from data.picture_files import write_picture
from data.widerface import read_labels
from utils.errors import UserError
from utils.text_files import inner_name, read_lines


@pytest.fixture
def folder(tmp_path):
    """A training folder of one picture, whose label.txt is to be written."""
    write_picture(tmp_path / "images" / "0--Event" / "ü.png", np.zeros((8, 8, 3), np.uint8))
    return tmp_path


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_label_files_in_unicode_are_read(folder, encoding, end):
    (folder / "label.txt").write_bytes(end.join(["# 0--Event/ü.png", "1 2 3 4", ""]).encode(encoding))
    records, report = read_labels(folder / "label.txt")
    assert records[0].boxes.tolist() == [[1, 2, 4, 6]] and not report.problems


@pytest.mark.parametrize("encoding", ["latin-1", "gbk", "utf-16-le"])
@pytest.mark.parametrize("name", ["label.txt", "ignore.txt"])
def test_another_encoding_is_told_with_its_line(folder, encoding, name):
    (folder / "label.txt").write_bytes("# 0--Event/ü.png\n1 2 3 4\n".encode())
    (folder / name).write_bytes("\n# 0--Event/ü.png\n".encode(encoding))
    with pytest.raises(UserError, match=rf"{name}:2 .*save the file as UTF-8") as error:
        read_labels(folder / "label.txt")
    assert "\n" not in str(error.value)


def test_utf_16_without_its_mark_is_told(folder):
    (folder / "label.txt").write_bytes("# 0--Event/a.png\n1 2 3 4\n".encode("utf-16-le"))
    with pytest.raises(UserError, match="label.txt:1 .*UTF-16 without a mark.*save the file as UTF-8"):
        read_labels(folder / "label.txt")


@pytest.mark.parametrize("name", ["/0--Event/a.jpg", "/../../x.jpg", "a/../../x.jpg", "..", "../x.jpg", "C:/x.jpg",
                                  "c:x.jpg", "\\x.jpg", "..\\..\\x.jpg", "\\\\server\\share\\x.jpg", ""])
def test_names_that_leave_their_folder_are_refused(name):
    with pytest.raises(UserError, match="list.txt:3: .*leaves its folder"):
        inner_name(name, "list.txt:3")


@pytest.mark.parametrize("name", ["0--Event/a.jpg", "a.jpg", "a..b/c...jpg", "1--Fête 人/ü ñ.jpg", "./a.jpg"])
def test_names_below_their_folder_stay_as_they_are(name):
    assert inner_name(name, "") == name


@pytest.mark.parametrize("file", ["label.txt", "ignore.txt"])
def test_names_in_label_files_stay_below_images(folder, file):
    write_picture(folder.parent / "secret.png", np.zeros((8, 8, 3), np.uint8))
    (folder / "label.txt").write_text("# 0--Event/ü.png\n1 2 3 4\n", encoding="utf-8")
    (folder / file).write_text("# 0--Event/ü.png\n1 2 3 4\n# ../../secret.png\n", encoding="utf-8")
    with pytest.raises(UserError, match=rf"{file}:3: the name '../../secret.png' leaves its folder"):
        read_labels(folder / "label.txt")


def test_what_is_no_file_is_told(folder):
    (folder / "label.txt").write_text("# 0--Event/ü.png\n", encoding="utf-8")
    (folder / "ignore.txt").mkdir()
    with pytest.raises(UserError, match="cannot read .*ignore.txt .*no file"):
        read_labels(folder / "label.txt")
    with pytest.raises(UserError, match="cannot read .*: check the path"):
        read_lines(folder / ("x" * 300))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_not_waited_for(folder):
    os.mkfifo(folder / "label.txt")
    with pytest.raises(UserError, match="no file"):
        read_labels(folder / "label.txt")
