"""Which format labels are in."""

import pytest

from data.formats.recognise import COCO, VOC, WIDER, YOLO, format_of, is_picture


@pytest.mark.parametrize(("text", "expected"), [
    ("0 0.5 0.5 0.1 0.1", YOLO), (f"0 {' '.join(['0.5'] * 14)}", YOLO), (f"0 {' '.join(['0.5'] * 19)}", YOLO),
    ("images/a.jpg\nimages/b.jpg", YOLO), ("train: a\nval: b\n\nnc: 1\n", YOLO), ("path: x\nnames:\n  0: face", YOLO),
    ('\n{"images": []}', COCO), ("[{", COCO), ("<annotation>", VOC), ('<?xml version="1.0"?>', VOC),
    ("0--Parade/a.jpg\n1\n1 2 3 4 0 0 0 0 0 0", WIDER),
    ("", None), ("# a/b.jpg", None), ("1 2 3 4", None), ("<html>", None), ("hello", None), ("\n\n", None),
])
def test_formats(text, expected):
    assert format_of(text.split("\n")) == expected


@pytest.mark.parametrize(("name", "expected"), [
    ("a.jpg", True), ("B/Ü.JFIF", True), ("a.heic", True), ("# a.jpg", False), ("a.txt", False), ("jpg", False),
])
def test_pictures_are_known_by_their_names(name, expected):
    """HEIC among them: what cannot be read is to be told, not passed over."""
    assert is_picture(name) == expected
