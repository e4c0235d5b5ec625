"""Hostile sets for data.convert: it ends with one line or a whole set, and leaves nothing half-written."""

import json
import os

import numpy as np
import pytest

from data import convert
from data.widerface import read_labels
from tests.data.formats.pictures import write_pictures
from tests.helpers import exit_code

BOX = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>30</xmax><ymax>30</ymax></bndbox>"

SOURCES = {
    "a.txt": b"0 0.5 0.5 0.5 0.5\n0 0.25 0.5 0.1 0.2\n",
    "a.xml": f"<annotation><filename>a.jpg</filename><object><name>face</name>{BOX}</object></annotation>".encode(),
    "faces.json": json.dumps({"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": [
        {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 30, 40]}]}).encode(),
    "wider_face_train_bbx_gt.txt": b"a.jpg\n1\n1 2 30 40 0 0 0 0 0 0 \n",
}


def convert_folder(folder, name, capsys):
    """Run it on the folder or file; returns whether a set was written, which then is whole."""
    source = folder if name in ("a.txt", "a.xml") else folder / name
    code = exit_code(convert.main, source, "--output", folder.parent / "set")
    errors = [line for line in capsys.readouterr().err.splitlines() if "picture/s]" not in line and line.strip()]
    if code is None:
        assert not errors
        records, report = read_labels(folder.parent / "set" / "train" / "label.txt")
        assert not report.problems and all(np.isfinite(record.boxes).all() for record in records)
        return True
    assert code == 2 and len(errors) == 1 and errors[0].startswith("error: ")
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]
    return False


@pytest.fixture
def folder(tmp_path):
    write_pictures(tmp_path / "source", "a.jpg")
    return tmp_path / "source"


@pytest.mark.parametrize("name", SOURCES)
def test_good_sources_are_written(folder, name, capsys):
    (folder / name).write_bytes(SOURCES[name])
    assert convert_folder(folder, name, capsys)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("name", SOURCES)
def test_damaged_bytes(folder, name, seed, capsys):
    rng = np.random.default_rng(seed)
    data = bytearray(SOURCES[name])
    for place in rng.integers(0, len(data), 1 + 4 * seed):
        data[place] = rng.integers(256)
    (folder / name).write_bytes(data[: rng.integers(1, len(data))] if seed % 2 else data)
    convert_folder(folder, name, capsys)


@pytest.mark.parametrize("data", [b"", b"\n\n", bytes(5000), b"9" * 5000, b"1 " * 100_000, b"<html>404</html>", b"{}",
                                  "0 0.5 0.5 0.1 0.1".encode("utf-16-le"), b"nan nan nan nan nan\n", b"0 inf 0 1 1\n",
                                  b"0 1e999 0.5 0.1 0.1\n", b"\xff\xfe\xfd"])
@pytest.mark.parametrize("name", SOURCES)
def test_what_is_no_label(folder, name, data, capsys):
    (folder / name).write_bytes(data)
    assert not convert_folder(folder, name, capsys)


@pytest.mark.parametrize("picture", [b"", b"no picture", b"\xff\xd8\xff", None])
@pytest.mark.parametrize("name", SOURCES)
def test_pictures_that_are_none(folder, name, picture, capsys):
    (folder / "a.jpg").unlink()
    if picture is not None:
        (folder / "a.jpg").write_bytes(picture)
    (folder / name).write_bytes(SOURCES[name])
    assert not convert_folder(folder, name, capsys)


def test_windows_line_ends_and_a_mark(folder, capsys):
    (folder / "a.txt").write_bytes(b"\xef\xbb\xbf" + SOURCES["a.txt"].replace(b"\n", b"\r\n"))
    assert convert_folder(folder, "a.txt", capsys)
    assert len(read_labels(folder.parent / "set" / "train" / "label.txt")[0][0].boxes) == 2


def test_five_hundred_faces_and_one_pixel(folder, capsys):
    write_pictures(folder, "one.png", height=1, width=1)
    (folder / "one.txt").write_text("")
    rows = "".join(f"0 {(i % 25 + 0.5) / 25} {(i // 25 + 0.5) / 20} 0.04 0.05\n" for i in range(500))
    (folder / "a.txt").write_text(rows)
    assert convert_folder(folder, "a.txt", capsys)
    records, _ = read_labels(folder.parent / "set" / "train" / "label.txt")
    assert sorted(len(record.boxes) for record in records) == [0, 500]


@pytest.mark.skipif(not hasattr(os, "symlink"), reason="needs links")
def test_folders_that_hold_themselves(folder, capsys):
    os.symlink(folder, folder / "again")
    os.symlink(folder / "absent", folder / "lost.jpg")
    (folder / "a.txt").write_bytes(SOURCES["a.txt"])
    assert convert_folder(folder, "a.txt", capsys)


@pytest.mark.skipif(os.name == "nt", reason="names are text there")
def test_names_that_are_no_text(folder, capsys):
    os.rename(folder / "a.jpg", os.fsencode(folder) + b"/caf\xe9\n.jpg")
    with open(os.fsencode(folder) + b"/caf\xe9\n.txt", "wb") as file:
        file.write(SOURCES["a.txt"])
    assert convert_folder(folder, "a.txt", capsys)
    [record] = read_labels(folder.parent / "set" / "train" / "label.txt")[0]
    assert record.path.isascii() and len(record.boxes) == 2


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
@pytest.mark.parametrize("name", ["a.txt", "a.xml", "faces.json"])
def test_pipes_are_not_waited_for(folder, name, capsys):
    os.mkfifo(folder / name)
    os.mkfifo(folder / "b.jpg")
    assert not convert_folder(folder, name, capsys)
