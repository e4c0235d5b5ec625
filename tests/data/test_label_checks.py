"""Label sets that cannot be right stop before the run; those that may be do not."""

from pathlib import Path

import numpy as np
import pytest

from data.label_checks import check_label_sets
from data.picture_files import write_picture
from data.widerface import read_labels
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
