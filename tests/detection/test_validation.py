"""The AP of a network on a validation folder."""

import errno
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.widerface import list_pictures
from detection.face_detector import FaceDetector
from detection.validation import measure_ap, open_validation_set, predict
from tests.helpers import CPU
from utils.errors import UserError
from widerface_evaluate.average_precision import evaluate
from widerface_evaluate.wider_files import load_ground_truth


def test_ap_while_training_is_that_of_the_same_detections(validation_set, student):
    truth = load_ground_truth(validation_set / "ground_truth")
    pictures = open_validation_set(validation_set)
    predictions = predict(FaceDetector(student), pictures, "vga", CPU, 0)
    assert set(predictions) == set(truth.pictures)
    expected = {f"ap_{name}": value for name, value in evaluate(predictions, truth).items()}
    expected["ap_mean"] = np.nanmean(list(expected.values()))
    assert measure_ap(student, pictures, "vga", CPU, 0) == pytest.approx(expected, nan_ok=True)


def test_pictures_the_ground_truth_does_not_have_are_told(tmp_path, validation_set):
    folder = shutil.copytree(validation_set, tmp_path / "val")
    with (folder / "wider_val.txt").open("a") as file:
        file.write("/0--Nowhere/a.jpg\n")
    pictures = open_validation_set(folder)
    assert any("0--Nowhere/a.jpg" in remark for remark in pictures.remarks)
    assert pictures.names == list_pictures(validation_set)
    (folder / "wider_val.txt").write_text("/0--Nowhere/a.jpg\n")
    with pytest.raises(UserError, match="Nowhere"):
        open_validation_set(folder)


def test_pictures_that_are_not_there_are_left_out_of_the_ap(tmp_path, validation_set):
    folder = shutil.copytree(validation_set, tmp_path / "val")
    first, *others = list_pictures(folder)
    (folder / "images" / first).unlink()
    pictures = open_validation_set(folder)
    assert pictures.names == others and len(pictures.truth.pictures) == len(others)
    assert pictures.extent.startswith(f"{len(others)} of {len(others) + 1} pictures")
    assert pictures.remarks[0].startswith("1 of 8 pictures") and first in pictures.remarks[0]
    shutil.rmtree(folder / "images")
    with pytest.raises(UserError, match="none of the 8 pictures"):
        open_validation_set(folder)


def test_a_shorter_list_is_a_smaller_set(tmp_path, validation_set):
    folder = shutil.copytree(validation_set, tmp_path / "val")
    names = list_pictures(folder)[:3]
    (folder / "wider_val.txt").write_text("".join(f"/{name}\n" for name in names))
    pictures = open_validation_set(folder)
    assert not pictures.remarks and pictures.extent.startswith("3 of 8 pictures")
    assert [f"{event}/{name}.jpg" for event, name in pictures.truth.pictures] == names


@pytest.fixture
def labelled_folder(tmp_path, validation_set):
    """The eight pictures with label.txt alone."""
    folder = shutil.copytree(validation_set, tmp_path / "val")
    shutil.rmtree(folder / "ground_truth")
    (folder / "wider_val.txt").unlink()
    return folder


def test_ground_truth_is_made_from_labels(labelled_folder, validation_set):
    first = open_validation_set(labelled_folder, needs_truth=False)
    assert sorted(first.names) == sorted(list_pictures(validation_set))
    official = load_ground_truth(validation_set / "ground_truth")
    assert first.truth.pictures == official.pictures
    np.testing.assert_allclose(first.truth.boxes, official.boxes, atol=0.011)
    for subset in ("medium", "hard"):  # easy faces of the drawn set are clear, too
        assert (first.truth.subsets[subset] == official.subsets[subset]).all()
    assert len(first.remarks) == 1 and "ground_truth was made from" in first.remarks[0]
    assert "easy from 50, medium from 24, hard from 10 pixels" in first.remarks[0]
    again = open_validation_set(labelled_folder)  # what the numbers stand on is told by every run
    assert again.remarks == first.remarks and again.truth.pictures == official.pictures
    assert first.subsets == again.subsets == "by height: 50, 24, 10 px"
    assert sorted(path.name for path in labelled_folder.iterdir()) == ["ground_truth", "images", "label.txt"]


def test_ground_truth_made_from_labels_is_made_again_when_they_change(labelled_folder):
    """By their content: labels that are only copied or touched are the same."""
    labels = labelled_folder / "label.txt"
    first = open_validation_set(labelled_folder)
    before = first.truth
    labels.touch()
    assert open_validation_set(labelled_folder).remarks == first.remarks
    lines = [line if line.startswith("#") else f"{float(line.split()[0]) + 40} {line.split(' ', 1)[1]}"
             for line in labels.read_text().splitlines()]
    labels.write_text("\n".join(lines))
    moved = open_validation_set(labelled_folder)
    assert len(moved.remarks) == 1 and "ground_truth was made again from" in moved.remarks[0]
    faces = before.boxes[:, 2] > 0  # a picture without any has an empty box
    np.testing.assert_allclose(moved.truth.boxes[faces], before.boxes[faces] + (40, 0, 0, 0), atol=0.011)
    assert open_validation_set(labelled_folder).remarks == first.remarks
    name = next(line for line in lines if line.startswith("#"))
    (labelled_folder / "ignore.txt").write_text(f"{name}\n1 2 30 40\n")
    assert open_validation_set(labelled_folder, needs_truth=False).truth.labels["invalid"].sum() == 1
    labels.unlink()  # what it was made from may go
    (labelled_folder / "wider_val.txt").write_text("\n".join(line[2:] for line in lines if line.startswith("#")))
    last = open_validation_set(labelled_folder)
    assert len(last.truth.pictures) == 8 and last.subsets.startswith("by height") and len(last.remarks) == 1


def test_ground_truth_that_was_not_made_here_stays(tmp_path, validation_set):
    folder = shutil.copytree(validation_set, tmp_path / "val")
    name = list_pictures(folder)[0]
    (folder / "label.txt").write_text(f"# {name}\n1 2 30 40\n")
    pictures = open_validation_set(folder)
    assert not pictures.remarks and pictures.subsets == "of the ground truth"
    assert (pictures.truth.boxes == load_ground_truth(validation_set / "ground_truth").boxes).all()


def test_where_nothing_can_be_written_ground_truth_serves_one_run(labelled_folder, monkeypatch):
    make_folder = Path.mkdir

    def mkdir(path, *arguments, **options):
        if path.parent == labelled_folder:
            raise OSError(errno.EROFS, "Read-only file system", str(path))
        make_folder(path, *arguments, **options)

    monkeypatch.setattr(Path, "mkdir", mkdir)
    pictures = open_validation_set(labelled_folder)
    assert len(pictures.truth.pictures) == 8 and pictures.subsets == "by height: 50, 24, 10 px"
    assert len(pictures.remarks) == 1 and "cannot be written (Read-only file system)" in pictures.remarks[0]
    assert sorted(path.name for path in labelled_folder.iterdir()) == ["images", "label.txt"]


def test_labels_that_make_no_ground_truth_leave_nothing(labelled_folder):
    labels, text = labelled_folder / "label.txt", (labelled_folder / "label.txt").read_text()
    name = next(line for line in text.splitlines() if line.startswith("#"))
    labels.write_text("\n".join(line for line in text.splitlines() if line.startswith("#")))
    assert open_validation_set(labelled_folder, needs_truth=False).truth is None
    with pytest.raises(UserError, match="0 of 8 pictures .* have a face"):
        open_validation_set(labelled_folder)
    twin = (labelled_folder / "images" / name[2:]).with_suffix(".png")
    shutil.copy(labelled_folder / "images" / name[2:], twin)
    labels.write_text(f"{text}\n{name[:-4]}.png\n1 2 30 40\n")
    with pytest.raises(UserError, match="2 pictures are called"):
        open_validation_set(labelled_folder)
    labels.write_text("# a.jpg\n1 2 3 4\n")
    with pytest.raises(UserError, match="label.txt:1 is 'a.jpg': write it as"):
        open_validation_set(labelled_folder)
    assert sorted(path.name for path in labelled_folder.iterdir()) == ["images", "label.txt"]


def test_what_stands_in_the_place_of_ground_truth_is_kept(labelled_folder):
    (labelled_folder / "ground_truth").write_text("mine")
    with pytest.raises(UserError, match="is missing"):
        open_validation_set(labelled_folder)
    assert (labelled_folder / "ground_truth").read_text() == "mine"


def test_problems_of_labels_are_remarks(labelled_folder):
    with (labelled_folder / "label.txt").open("a") as file:
        file.write("1 2 0 4\n")
    remarks = open_validation_set(labelled_folder).remarks
    assert len(remarks) == 2 and "1 x box of zero or negative size: label.txt:" in remarks[0]


@pytest.mark.parametrize("line", ["100,100,60,60", "1 2 3 4 5 6 7 8 9 10", "1 2 0 4"])
def test_the_reason_why_no_line_of_the_labels_is_a_face_is_told(labelled_folder, line):
    labels = labelled_folder / "label.txt"
    names = [text for text in labels.read_text().splitlines() if text.startswith("#")]
    labels.write_text("".join(f"{name}\n{line}\n" for name in names))
    with pytest.raises(UserError, match=r"none of the 8 faces in .*label.txt can be used \(8 x .*label.txt:2"):
        open_validation_set(labelled_folder, needs_truth=False)


def test_boxes_of_another_frame_stop_before_the_run(labelled_folder):
    """In labels of which ground truth is made, and in one that is there."""
    labels = labelled_folder / "label.txt"
    labels.write_text("\n".join(
        line if line.startswith("#") else " ".join(f"{4 * float(number):g}" for number in line.split()[:4])
        for line in labels.read_text().splitlines()))
    for _ in range(2):
        with pytest.raises(UserError, match="faces looked at in .*val have their centre outside of their picture"):
            open_validation_set(labelled_folder, needs_truth=False)


def test_pictures_that_exif_turns_are_a_remark(labelled_folder):
    open_validation_set(labelled_folder)
    for path in (labelled_folder / "images").glob("*/*.jpg"):
        exif = Image.Exif()
        exif[0x0112] = 3  # upside down, with the same sides
        with Image.open(path) as picture:
            picture.save(path, exif=exif)
    [_, remark] = open_validation_set(labelled_folder).remarks
    assert "pictures with faces looked at" in remark and "turned by EXIF" in remark


def test_a_name_that_the_ground_truth_cannot_hold_is_told(labelled_folder):
    labels = labelled_folder / "label.txt"
    name = next(line for line in labels.read_text().splitlines() if line.startswith("#"))[2:]
    event = name.split("/")[0]
    (labelled_folder / "images" / name).rename(labelled_folder / "images" / event / "12:30.jpg")
    labels.write_text(labels.read_text().replace(name, f"{event}/12:30.jpg"))
    with pytest.raises(UserError, match=f"no picture '12:30' .{event}/12:30.: rename the picture"):
        open_validation_set(labelled_folder)
    assert sorted(path.name for path in labelled_folder.iterdir()) == ["images", "label.txt"]
