"""Pascal VOC's XML files."""

import pytest

from data.formats.voc import read_voc
from data.widerface import LabelReport
from tests.data.formats.pictures import write_pictures, write_turned

BOX = "<bndbox><xmin>10</xmin><ymin>12.5</ymin><xmax>30</xmax><ymax>40</ymax></bndbox>"


def annotation(name="a.jpg", objects="", size="<size><width>80</width><height>60</height></size>"):
    return f"<annotation>\n<filename>{name}</filename>\n{size}\n{objects}\n</annotation>\n"


def write(folder, **texts):
    for name, text in texts.items():
        (folder / "Annotations").mkdir(exist_ok=True)
        (folder / "Annotations" / f"{name}.xml").write_text(text, encoding="utf-8")
    return folder


def read(folder):
    report = LabelReport()
    return read_voc(folder, None, report), report


def test_objects(tmp_path):
    write_pictures(tmp_path / "JPEGImages", "a.jpg", "empty.jpg")
    objects = (f"<object><name>face</name>{BOX}</object><!-- <object> -->\n"
               f"<object><name> mask </name><difficult>1</difficult>{BOX}</object>")
    folder = write(tmp_path, a=f'<?xml version="1.0"?>\n{annotation(objects=objects)}', empty=annotation("empty.jpg"))
    for given in (folder, folder / "Annotations"):
        (a, empty), report = read(given)
        assert [one.numbers for one in a.annotations] == [[10, 12.5, 20, 27.5, *[-1] * 15]] * 2
        assert [(one.kind, one.ignored, one.place) for one in a.annotations] == [
            ("face", False, "a.xml:5"), ("mask", True, "a.xml:6")]
        assert not empty.annotations and not report.problems


def test_a_picture_is_called_as_the_file_says_or_like_the_file(tmp_path):
    write_pictures(tmp_path / "one", "a.jpg", "c.png")
    write_pictures(tmp_path / "two", "a.jpg")
    for folder in ("one", "two"):
        (tmp_path / folder / "a.xml").write_text(annotation())
    (tmp_path / "one" / "c.xml").write_text(annotation("renamed.jpg"))
    (tmp_path / "one" / "b.xml").write_text(annotation("C:\\photos\\a.jpg"))
    pictures, report = read(tmp_path)
    assert [str(picture.path.relative_to(tmp_path)) for picture in pictures] == [
        "one/a.jpg", "one/a.jpg", "one/c.png", "two/a.jpg"]
    assert not report.problems


def test_what_cannot_be_used_is_told(tmp_path):
    write_pictures(tmp_path / "JPEGImages", "a.jpg", "b.jpg", "small.jpg", "one/d.jpg", "two/d.jpg")
    objects = f"<object><name>face</name></object>\n<object>{BOX.replace('30', 'x')}</object>"
    write(tmp_path, a=annotation(objects=objects),
          b="<annotation>\n<filename>", gone=annotation("gone.jpg"), d=annotation("d.jpg"),
          small=annotation("small.jpg", size="<size><width>8</width><height>6</height></size>"))
    [picture], report = read(tmp_path)
    assert not picture.annotations and report.face_lines == 2
    assert report.examples == {
        "object without xmin, ymin, xmax and ymax": ["a.xml:4", "a.xml:5"],
        "file that is no XML": ["b.xml:2"],
        "picture of which there are several": ["d.xml: d.jpg"],
        "missing picture": ["gone.xml: gone.jpg"],
        "picture of another size than its labels say": [f"small.xml: {tmp_path / 'JPEGImages' / 'small.jpg'}"],
    }


@pytest.mark.parametrize(("size", "turn"), [("<size><width>60</width><height>80</height></size>", True),
                                            ("<size><width>80</width><height>60</height></size>", False),
                                            ("<size><width>0</width><height>0</height></size>", True), ("", True)])
def test_the_declared_size_tells_whether_exif_counts(tmp_path, size, turn):
    write_turned(tmp_path / "a.jpg")
    [picture], _ = read(write(tmp_path, a=annotation(size=size)))
    assert picture.turn == turn
