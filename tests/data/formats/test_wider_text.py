"""WIDER FACE's official text files."""

import pytest

from data.formats.wider_text import parse_official_boxes, read_wider_text
from data.widerface import LabelReport
from tests.data.formats.pictures import OFFICIAL_BOXES, write_pictures
from utils.errors import UserError


def test_entries():
    assert list(parse_official_boxes(OFFICIAL_BOXES.split("\n"), "file")) == [
        ("0--Parade/a.jpg", [((10, 20, 30, 40), False, 3), ((1, 2, 3, 4), True, 4), ((5, 5, 0, 7), False, 5)]),
        ("0--Parade/empty.jpg", []),
        ("1--Handshaking/b.jpg", [((7, 8, 9, 10), False, 11)]),
    ]


@pytest.mark.parametrize("text, line", [
    ("0--Parade/a.jpg\n2\n1 2 3 4 0 0 0 0 0 0\n", 1),  # cut off
    ("0--Parade/a.jpg\n1\n1 2 3 4 0 0 0 0 0 0\n1 2 3 4 0 0 0 0 0 0\n", 4),  # a row too many
    ("0--Parade/a.jpg\n1\n1 2 3 4\n", 1),
    ("0--Parade/a.jpg\nmany\n", 1),
    ("\n0--Parade/a.jpg\n0\n0 0 0 0 0 0 0 0 0 0\n", 1),
])
def test_a_malformed_entry_is_told_with_its_line(text, line):
    with pytest.raises(UserError, match=f"^labels, line {line}:"):
        list(parse_official_boxes(text.splitlines(), "labels"))


@pytest.mark.parametrize("images", [None, "WIDER_train"])
def test_pictures_are_found_beside_the_labels(tmp_path, images):
    write_pictures(tmp_path / "WIDER_train" / "images", "0--Parade/a.jpg", "0--Parade/empty.jpg")
    path = tmp_path / "wider_face_split" / "wider_face_train_bbx_gt.txt"
    path.parent.mkdir()
    path.write_text(OFFICIAL_BOXES.replace("\n", "\r\n"), newline="")
    report = LabelReport()
    a, empty = read_wider_text(path, images and tmp_path / images, report)
    assert [annotation.ignored for annotation in a.annotations] == [False, True, False] and not empty.annotations
    assert a.annotations[0].numbers == [10, 20, 30, 40, *[-1] * 15]
    assert a.annotations[1].place == "wider_face_train_bbx_gt.txt:4"
    assert report.examples == {"missing picture": ["wider_face_train_bbx_gt.txt: 1--Handshaking/b.jpg"]}
