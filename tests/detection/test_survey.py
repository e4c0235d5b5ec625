"""What runs of detect.py leave in a folder, and what they say at their end."""

import cv2
import pytest
from PIL import Image

import detect as script
from data.picture_files import write_picture
from detection import finder
from tests.helpers import exit_code, red_crowd, red_squares

PLACES = [(8, 8), (72, 8), (136, 8)]


@pytest.fixture(autouse=True)
def red_detector(monkeypatch):
    monkeypatch.setattr(finder, "load_detector", lambda path, device: red_squares)


def run(*arguments):
    """The exit code of detect.py on the CPU."""
    return exit_code(script.main, *arguments, "--cpu")


def files_in(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def write_video(path, counts):
    """A video with so many red squares in each frame."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 12.5, (192, 64))
    for count in counts:
        writer.write(red_crowd(64, 192, 32, PLACES[:count]))
    writer.release()


def test_cut_out_faces_of_an_earlier_run_are_those_of_no_later_one(tmp_path):
    """Neither of a picture nor of a video; those of other sources and what else lies there stay."""
    folder, out = tmp_path / "in", tmp_path / "out"
    for name, count in (("a.png", 3), ("a.png_1.png", 2), ("b.png", 2)):
        write_picture(folder / name, red_crowd(64, 192, 32, PLACES[:count]))
    write_video(folder / "a.avi", [1, 2, 1])
    assert run(folder, "--crop", out) == 0
    stems = ["a.png_0", "a.png_1", "a.png_2", "a.png_1.png_0", "a.png_1.png_1", "b.png_0", "b.png_1",
             "a.avi_000000_0", "a.avi_000001_0", "a.avi_000001_1", "a.avi_000002_0"]
    assert files_in(out) == sorted(f"{part}/{stem}.png" for part in ("crops", "aligned") for stem in stems)
    (out / "crops/a.png_note.png").touch()
    before = set(files_in(out))
    write_picture(folder / "a.png", red_crowd(64, 192, 32, PLACES[:1]))
    write_video(folder / "a.avi", [0, 1])
    assert run(folder / "a.png", folder / "a.avi", "--crop", out) == 0
    gone = ("a.png_1", "a.png_2", "a.avi_000000_0", "a.avi_000001_1", "a.avi_000002_0")
    assert before - set(files_in(out)) == {f"{part}/{stem}.png" for part in ("crops", "aligned") for stem in gone}
    write_picture(folder / "b.png", red_crowd(64, 192, 32, []))
    assert run(folder, "--crop", out) == 0
    assert not [name for name in files_in(out) if "/b.png" in name]


def test_pages_that_are_not_looked_at_are_told(capsys, tmp_path):
    page = Image.fromarray(red_crowd(64, 192, 32, PLACES)[..., ::-1])
    page.save(tmp_path / "one.tif")
    assert run(tmp_path, "--json", tmp_path / "f.json") == 0
    assert "note" not in capsys.readouterr().out
    for name in ("three.tif", "two.tif"):
        page.save(tmp_path / name, save_all=True, append_images=[page] * (2 if name == "three.tif" else 1))
    assert run(tmp_path, "--json", tmp_path / "f.json") == 0
    told = f"2 pictures with more, such as {(tmp_path / 'three.tif').as_posix()}"
    assert capsys.readouterr().out.splitlines()[1:] == [f"note: of a TIFF only the first page is looked at: {told}"]
