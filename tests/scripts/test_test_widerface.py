"""test_widerface.py: detections, the AP they get, stopped runs, mistakes."""

import csv
import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

import test_widerface
from data.picture_files import read_picture
from data.widerface import list_pictures
from detection.face_detector import FaceDetector
from detection.protocols import PROTOCOLS
from detection.validation import open_validation_set, predict
from models import load_model
from tests.edges.running import held_by_another
from tests.helpers import CPU, ROOT, call, exit_code
from widerface_evaluate.average_precision import evaluate
from widerface_evaluate.wider_files import load_ground_truth, read_predictions

SHIPPED = ROOT / "weights" / "FeatherFaceV2.pth"


def run(*arguments):
    call(test_widerface.main, *arguments, "--cpu", "--num_workers", "0")


def test_the_script_writes_detections_and_the_ap_they_get(capsys, validation_set, tmp_path):
    run("--trained_model", SHIPPED, "--dataset_folder", validation_set, "--save_folder", tmp_path, "--save_image")
    printed = capsys.readouterr().out
    truth = load_ground_truth(validation_set / "ground_truth")
    found = predict(FaceDetector(load_model(SHIPPED)), open_validation_set(validation_set), "original", CPU, 0)
    written = read_predictions(tmp_path / "FeatherFaceV2_original", truth)
    for picture, rows in found.items():  # to the digits that are written
        assert len(rows) > 0
        np.testing.assert_allclose(written[picture][:, :4], rows[:, :4], rtol=0, atol=0.0051)
        np.testing.assert_allclose(written[picture][:, 4], rows[:, 4], rtol=0, atol=6e-7)
    in_memory = evaluate(found, truth)
    assert min(in_memory.values()) > 0.1
    [row] = json.loads((tmp_path / "table.json").read_text())
    assert [row[name] for name in in_memory] == pytest.approx(list(in_memory.values()), abs=2e-3)
    assert row["dataset"] == f"{validation_set.parent.name}/{validation_set.name}"
    assert (row["protocol"], row["scale"], row["threshold"], row["NMS"], row["top-k"]) == (
        "original", "original size", "> 0.02", "0.4", "5000 to 750")
    assert "original size" in printed and f"{row['easy']:.4f}" in printed
    with (tmp_path / "table.csv").open(newline="") as file:
        assert [float(line["easy"]) for line in csv.DictReader(file)] == [row["easy"]]
    assert (tmp_path / "FeatherFaceV2_original.jpg").stat().st_size > 1000
    assert len(list(tmp_path.glob("FeatherFaceV2_original/*/*.txt"))) == len(list_pictures(validation_set))


def test_every_protocol_is_a_row(tmp_path, drawn_set, student_checkpoint):
    run("--trained_model", student_checkpoint, "--dataset_folder", drawn_set(1, 1) / "val", "--save_folder",
               tmp_path / "out", "--protocol", "all")
    rows = json.loads((tmp_path / "out/table.json").read_text())
    assert [row["protocol"] for row in rows] == list(PROTOCOLS)
    assert len({row["scale"] for row in rows}) == 4 and "voting" in rows[-1]["NMS"]


def test_a_stopped_run_goes_on_and_another_checkpoint_or_set_starts_anew(
        monkeypatch, validation_set, student_checkpoint, tmp_path):
    arguments = ["--dataset_folder", validation_set, "--save_folder", tmp_path / "out", "--protocol", "vga"]
    run("--trained_model", student_checkpoint, *arguments)
    written = sorted((tmp_path / "out").glob("Student_vga/*/*.txt"))
    whole = {path: path.read_text() for path in written}
    written[0].unlink()
    seen = []
    monkeypatch.setattr(test_widerface, "detect_files", spy(test_widerface.detect_files, seen))
    run("--trained_model", student_checkpoint, *arguments)
    assert seen == [[written[0].stem]]
    assert {path: path.read_text() for path in written} == whole

    other = tmp_path / "Student.pth"
    state = torch.load(student_checkpoint, weights_only=True)
    state["ema"]["heads.logits.0.bias"][::2] += 1
    torch.save(state, other)
    run("--trained_model", other, *arguments)
    assert len(seen[1]) == len(written)
    assert all(path.read_text() != whole[path] for path in written)

    arguments[1] = shutil.copytree(validation_set, tmp_path / "pictures of the same names")
    run("--trained_model", other, *arguments)
    assert len(seen[2]) == len(written)

    first, second, *_ = list_pictures(arguments[1])  # another picture under a name that is known
    shutil.copy(arguments[1] / "images" / second, arguments[1] / "images" / first)
    run("--trained_model", other, *arguments)
    assert seen[3] == [Path(first).stem]


def spy(detect_files, seen):
    """detect_files that notes the names of the pictures it is given."""

    def noted(detector, paths, *rest):
        seen.append([path.stem for path in paths])
        return detect_files(detector, paths, *rest)

    return noted


def test_an_unreadable_picture_gets_an_empty_file_and_is_named_by_every_run(
        capsys, tmp_path, validation_set, student_checkpoint):
    folder = shutil.copytree(validation_set, tmp_path / "val")
    name = list_pictures(folder)[0]
    (folder / "images" / name).write_bytes(b"no picture")
    for _ in range(2):
        run("--trained_model", student_checkpoint, "--dataset_folder", folder, "--save_folder", tmp_path / "o")
        assert f"cannot read {folder / 'images' / name}" in capsys.readouterr().out
    written = (tmp_path / "o/Student_original" / name).with_suffix(".txt").read_text()
    assert written.split() == [Path(name).stem, "0"]


def test_the_test_split_becomes_a_zip_of_text_files(capsys, tmp_path, validation_set, student_checkpoint):
    folder = tmp_path / "test"
    shutil.copytree(validation_set / "images", folder / "images")
    run("--trained_model", student_checkpoint, "--dataset_folder", folder, "--split", "test",
        "--save_folder", tmp_path / "o")
    printed = capsys.readouterr().out
    assert "Student_original.zip" in printed and "no AP" not in printed
    with zipfile.ZipFile(tmp_path / "o/Student_original.zip") as packed:
        names = {Path(name).with_suffix(".txt").as_posix() for name in list_pictures(validation_set)}
        assert set(packed.namelist()) == names
        first = min(names)
        assert packed.read(first).decode() == (tmp_path / "o/Student_original" / first).read_text()


@pytest.mark.parametrize(("flags", "protocol"), [
    ([], None), (["--origin_size", "False"], "1600"), (["--origin-size", "true"], "original"),
    (["--protocol", "vga"], "vga"),
])
def test_origin_size_is_a_real_choice(flags, protocol):
    assert test_widerface.parse_args(["--trained_model", "x.pth", *flags]).protocol == protocol


@pytest.mark.parametrize(("wrong", "words"), [
    (["--network", "v1"], "holds v2, not v1"),
    (["--trained_model", "nowhere.pth"], "nowhere.pth"),
    (["--dataset_folder", "nowhere"], "wider_val.txt"),
    (["--nms_threshold", "2"], "0 to 1"),
    (["--origin_size", "maybe"], "neither true nor false"),
    (["--origin_size", "true", "--protocol", "vga"], "give one of them"),
    (["--split", "test", "--dataset_folder", "nowhere"], "--test"),
])
def test_mistakes_get_one_line(capsys, validation_set, student_checkpoint, wrong, words):
    code = exit_code(test_widerface.main, "--trained_model", student_checkpoint, "--dataset_folder", validation_set,
                     "--cpu", *wrong)
    told = capsys.readouterr().err
    assert code == 2 and words in told and "Traceback" not in told


def test_a_part_of_the_set_by_size(capsys, tmp_path, validation_set, student_checkpoint):
    folder = shutil.copytree(validation_set, tmp_path / "val")
    names = list_pictures(folder)[:3]
    (folder / "wider_val.txt").write_text("".join(f"/{name}\n" for name in names))
    run("--trained_model", student_checkpoint, "--dataset_folder", folder, "--save_folder", tmp_path / "out",
        "--protocol", "vga", "--by", "size")
    printed = capsys.readouterr().out
    assert "16-32 px AP" in printed and "box/label" in printed
    [row] = json.loads((tmp_path / "out/table.json").read_text())
    assert row["pictures"].startswith("3 of 8 pictures") and row["pictures"] in printed
    lines = (tmp_path / "out/Student_vga/scales.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines] == [name.removesuffix(".jpg") for name in names]
    height, width = read_picture(folder / "images" / names[0]).shape[:2]
    assert float(lines[0].split(",")[1]) == pytest.approx(640 / max(height, width), rel=1e-5)


def test_subsets_by_height_are_told_by_every_run(capsys, tmp_path, validation_set, student_checkpoint):
    """A ground truth made from label.txt is told by each run and in each table; the drawn set has its own subsets."""
    folder = shutil.copytree(validation_set, tmp_path / "val")
    arguments = ("--trained_model", student_checkpoint, "--dataset_folder", folder, "--save_folder", tmp_path / "out",
                 "--protocol", "vga")

    def subsets():
        run(*arguments)
        [row] = json.loads((tmp_path / "out/table.json").read_text())
        with (tmp_path / "out/table.csv").open(newline="") as file:
            assert [line["subsets"] for line in csv.DictReader(file)] == [row["subsets"]]
        return row["subsets"], "easy from 50, medium from 24, hard from 10 pixels" in capsys.readouterr().out

    assert subsets() == ("of the ground truth", False)
    shutil.rmtree(folder / "ground_truth")
    assert subsets() == subsets() == ("by height: 50, 24, 10 px", True)


def test_absent_pictures_stop_the_run_before_the_first(tmp_path, validation_set, student_checkpoint, capsys):
    folder = shutil.copytree(validation_set, tmp_path / "val")
    shutil.rmtree(folder / "images")
    assert exit_code(test_widerface.main, "--trained_model", student_checkpoint, "--dataset_folder", folder,
                     "--save_folder", tmp_path / "out", "--cpu") == 2
    assert "none of the 8 pictures" in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_two_runs_in_one_folder_do_not_mix(tmp_path, validation_set, student_checkpoint, capsys):
    folder = tmp_path / "out"
    folder.mkdir()
    with held_by_another(folder, test_widerface.LOCK):
        arguments = ("--trained_model", student_checkpoint, "--dataset_folder", validation_set, "--save_folder", folder)
        assert exit_code(test_widerface.main, *arguments, "--cpu") == 2
        assert "another run" in capsys.readouterr().err and not list(folder.glob("*/*"))
    run(*arguments)
    assert (folder / "table.json").is_file()
