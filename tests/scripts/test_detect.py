"""detect.py: what it looks at, what it writes, what it says where something is wrong."""

import csv
import json
import struct
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image, features

import detect as script
from data.picture_files import read_picture, write_picture
from detection import finder, frames, survey
from detection.face_detector import FaceDetector
from detection.finder import FaceFinder
from detection.inference import detect, detect_pictures
from detection.protocols import PROTOCOLS
from detection.suppression import DetectionSettings
from tests.helpers import ROOT, RedBoxes, exit_code, picture_of_noise, red_crowd, red_picture, red_squares

BOX = (40, 30, 80, 90)

CENTER = [60.0, 60.0]


def run(*arguments):
    """The exit code of detect.py on the CPU."""
    return exit_code(script.main, *arguments, "--cpu")


@pytest.fixture(autouse=True)
def red_detector(monkeypatch):
    monkeypatch.setattr(finder, "load_detector", lambda path, device: FaceDetector(RedBoxes()))


def write_red(path, height=120, width=160, box=BOX):
    write_picture(path, red_picture(height, width, box))
    return path


def moved_box(index):
    """A box on blocks of 16 px, whose edges lossy video keeps."""
    left = 16 * (index % 7)
    return left, 32, left + 48, 80


def write_video(path, count=5, rate=12.5, codec="mp4v"):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), rate, (160, 112))
    for index in range(count):
        writer.write(red_picture(112, 160, moved_box(index)))
    writer.release()
    return path


def read_video(path):
    """Frames, and the frame rate the file says."""
    capture = cv2.VideoCapture(str(path))
    images = []
    while (frame := capture.read())[0]:
        images.append(frame[1])
    return images, capture.get(cv2.CAP_PROP_FPS)


def xywh(record):
    return [record[name] for name in ("x", "y", "width", "height")]


def files_in(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_records_are_the_faces_in_json_and_in_csv(capsys, tmp_path):
    first, second = write_red(tmp_path / "ä, b.png"), write_red(tmp_path / "c.png", 201, 333, (100, 50, 171, 131))
    assert run(first, second, "--json", tmp_path / "ö.json", "--csv", tmp_path / "new/ö.csv") == 0
    records = json.loads((tmp_path / "ö.json").read_text(encoding="utf-8"))
    assert [record["source"] for record in records] == [first.as_posix(), second.as_posix()]
    assert [record["frame"] for record in records] == [None, None]
    np.testing.assert_allclose([xywh(record) for record in records], [[40, 30, 40, 60], [100, 50, 71, 81]], atol=0.02)
    assert records[0]["score"] == pytest.approx(1 / (1 + np.exp(-4)), abs=1e-6)
    for landmark in ("left_eye", "right_eye", "nose", "left_mouth", "right_mouth"):
        np.testing.assert_allclose([records[0][f"{landmark}_{axis}"] for axis in "xy"], CENTER, atol=0.02)
    with (tmp_path / "new/ö.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [{name: "" if value is None else str(value) for name, value in record.items()} for record in records] == rows
    assert "2 faces in 2 pictures" in capsys.readouterr().out


def test_no_face_is_an_empty_list_and_an_unchanged_picture(capsys, tmp_path):
    path = write_red(tmp_path / "a.png", 1, 1, (0, 0, 1, 1))
    arguments = ["--confidence_threshold", "0.99", "--json", tmp_path / "f.json", "--csv", tmp_path / "f.csv"]
    assert run(path, *arguments, "--save", tmp_path / "out") == 0
    assert json.loads((tmp_path / "f.json").read_text()) == []
    assert len((tmp_path / "f.csv").read_text().splitlines()) == 1
    assert np.array_equal(read_picture(tmp_path / "out/a.png"), read_picture(path))
    assert run(path, "--confidence-threshold", "0.99") == 0
    assert f"{path.as_posix()}: no face\n0 faces in 1 picture\n" in capsys.readouterr().out


def test_a_line_a_face_where_no_flag_says_more(capsys, tmp_path):
    picture, video = write_red(tmp_path / "a.png"), write_video(tmp_path / "b.avi", 2, codec="MJPG")
    assert run(tmp_path) == 0
    *lines, summary = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{picture.as_posix()}: face 0.98 at x 40, y 30, 40 x 60"
    assert [line.split(" at ")[0] for line in lines[1:]] == [f"{video.as_posix()} frame {i}: face 0.98" for i in (0, 1)]
    assert summary == "3 faces in 1 picture and 2 frames"


def test_the_faces_of_a_checkpoint_are_those_of_the_same_protocol(monkeypatch, tmp_path, student, student_checkpoint):
    monkeypatch.undo()
    picture = np.random.default_rng(0).integers(0, 255, (97, 131, 3), dtype=np.uint8)
    write_picture(tmp_path / "a.png", picture)
    expected = detect(FaceDetector(student), picture, PROTOCOLS["vga"],
                      DetectionSettings(0.6, nms_threshold=0.3), torch.device("cpu"))
    assert run(tmp_path / "a.png", "--trained_model", student_checkpoint, "--protocol", "vga",
               "--confidence_threshold", "0.6", "--nms_threshold", "0.3", "--json", tmp_path / "f.json") == 0
    records = json.loads((tmp_path / "f.json").read_text())
    assert len(expected.scores) > 1
    np.testing.assert_allclose([record["score"] for record in records], expected.scores, atol=1e-5)
    np.testing.assert_allclose([xywh(record)[:2] for record in records], expected.boxes[:, :2], atol=0.02)


def test_exif_rotation_is_honoured(tmp_path):
    """Orientation 6: the stored picture is turned by 90 degrees clockwise to be seen."""
    data = cv2.imencode(".jpg", red_picture(120, 160, (40, 32, 80, 96)), [cv2.IMWRITE_JPEG_QUALITY, 100])[1].tobytes()
    directory = struct.pack("<2sHIHHHIHHI", b"II", 42, 8, 1, 0x0112, 3, 1, 6, 0, 0)  # TIFF: one tag, the orientation
    segment = b"Exif\0\0" + directory
    path = tmp_path / "telefon.jpg"
    path.write_bytes(data[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + data[2:])
    assert read_picture(path).shape == (120, 160, 3)
    assert run(path, "--json", tmp_path / "f.json", "--save", tmp_path / "out") == 0
    [record] = json.loads((tmp_path / "f.json").read_text())
    seen = np.rot90(red_picture(120, 160, (40, 32, 80, 96)), -1)
    y, x = np.nonzero(seen[..., 2] == 255)
    expected = [x.min(), y.min(), x.max() + 1 - x.min(), y.max() + 1 - y.min()]
    np.testing.assert_allclose(xywh(record), expected, atol=2)
    for upright in (False, True):  # no viewer turns the drawn copy once more
        assert read_picture(tmp_path / "out/telefon.jpg", upright).shape == (160, 120, 3)


def test_a_folder_keeps_its_structure_and_an_unreadable_file_is_named(capsys, tmp_path):
    photos = tmp_path / "photos"
    names = ["a.png", "süd/a.png", "süd/日本/a.JPG"]
    for name in names:
        write_red(photos / name)
    for name in ("süd/broken.jpg", "empty.png", "phone.heic", "cut.mp4"):
        (photos / name).write_bytes(b"" if name == "empty.png" else b"no picture")
    for name in ("notes.txt", ".a.123.partial.png", ".hidden/a.png"):
        (photos / name).parent.mkdir(exist_ok=True)
        (photos / name).write_bytes(b"no picture")
    assert run(photos, "--save", photos / "drawn", "--json", tmp_path / "f.json") == 1
    assert files_in(photos / "drawn") == sorted(names)
    told = capsys.readouterr().err
    for name in ("süd/broken.jpg", "empty.png", "phone.heic", "cut.mp4"):
        why = {"empty.png": "the file is empty", "cut.mp4": "no frame of it can be decoded: damaged, or no video"}
        why = why.get(name, "no picture, or of an unknown format")
        assert f"warning: cannot read {(photos / name).as_posix()} ({why}): skipped\n" in told
    assert told.count("cannot read") == 4
    assert len(json.loads((tmp_path / "f.json").read_text())) == 3
    # What the first run drew is no source of the second.
    assert run(photos, "--save", photos / "drawn", "--json", tmp_path / "f.json") == 1
    assert files_in(photos / "drawn") == sorted(names)


def test_a_drawn_picture_has_the_box(tmp_path):
    path = write_red(tmp_path / "a.png")
    assert run(path, "--save", tmp_path / "out") == 0
    drawn, picture = read_picture(tmp_path / "out/a.png"), read_picture(path)
    assert (drawn != picture).any(axis=-1)[BOX[1], BOX[0]:BOX[2]].all()
    assert not (drawn != picture).any(axis=-1)[BOX[3] + 2:].any()


def test_a_picture_of_unknown_suffix_is_read_and_drawn_as_png(tmp_path):
    write_red(tmp_path / "a.png").rename(tmp_path / "a.scan")
    assert run(tmp_path / "a.scan", "--save", tmp_path / "out") == 0
    assert files_in(tmp_path / "out") == ["a.scan.png"]


@pytest.mark.parametrize(("name", "codec", "drawn_name"), [
    ("clip.mp4", "mp4v", "clip.mp4"), ("clïp.avi", "MJPG", "clïp.avi"), ("clip.wmv", "mp4v", "clip.wmv.mp4"),
])
def test_a_video_keeps_its_frames_size_and_rate(tmp_path, name, codec, drawn_name):
    written = write_video(tmp_path / f"x{'.avi' if codec == 'MJPG' else '.mp4'}", codec=codec)
    written.rename(tmp_path / name)
    assert run(tmp_path / name, "--save", tmp_path / "out", "--json", tmp_path / "f.json") == 0
    assert files_in(tmp_path / "out") == [drawn_name]
    drawn, rate = read_video(tmp_path / "out" / drawn_name)
    originals, _ = read_video(tmp_path / name)
    assert [image.shape for image in drawn] == [(112, 160, 3)] * 5 and rate == 12.5
    records = json.loads((tmp_path / "f.json").read_text())
    assert [record["frame"] for record in records] == list(range(5))
    for index, record in enumerate(records):
        left, top, right, bottom = moved_box(index)
        np.testing.assert_allclose(xywh(record), [left, top, right - left, bottom - top], atol=2.5)
        middle = (slice(top + 10, bottom - 10), left)  # on the left edge of the box
        assert np.abs(drawn[index][middle].astype(int) - originals[index][middle]).mean() > 20


def test_a_damaged_video_is_named_and_what_it_has_is_kept(capsys, tmp_path):
    data = write_video(tmp_path / "whole.avi", 40, codec="MJPG").read_bytes()
    (tmp_path / "cut.avi").write_bytes(data[:len(data) // 2])
    assert run(tmp_path / "cut.avi", "--save", tmp_path / "out") == 1
    count = len(read_video(tmp_path / "out/cut.avi")[0])
    assert 0 < count < 36
    assert f"cut.avi is damaged: {count} of its 40 frames could be read" in capsys.readouterr().err


def test_a_run_that_ends_in_the_middle_leaves_nothing(monkeypatch, tmp_path):
    video = write_video(tmp_path / "clip.mp4")
    out, calls = tmp_path / "out", []

    def interrupted(detector, pictures, *arguments):
        calls.append([path for path in files_in(out) if not Path(path).name.startswith(".")])
        if len(calls) == 3:
            raise KeyboardInterrupt
        return detect_pictures(detector, pictures, *arguments)

    monkeypatch.setattr(finder, "detect_pictures", interrupted)
    assert run(video, "--save", out, "--json", out / "f.json", "--csv", out / "f.csv") == 130
    assert calls == [[], [], []] and files_in(out) == []


class Camera:
    """Two frames, then Ctrl-C; it does not know its frame rate."""

    def __init__(self):
        self.count = 0

    def read(self):
        self.count += 1
        if self.count > 2:
            raise KeyboardInterrupt
        return True, red_picture(112, 160, moved_box(self.count))

    def get(self, _):
        return 0.0

    def release(self):
        pass


def test_a_webcam_is_ended_by_hand_and_its_files_are_whole(monkeypatch, tmp_path):
    read_file = cv2.VideoCapture
    camera = Camera()
    monkeypatch.setattr(frames.cv2, "VideoCapture", lambda place: camera if place == 3 else read_file(place))
    monkeypatch.setattr(frames, "monotonic", lambda: 2 * camera.count / frames.USUAL_RATE)
    assert run("3", "--save", tmp_path, "--json", tmp_path / "f.json") == 0
    monkeypatch.undo()
    images, rate = read_video(tmp_path / "webcam_3.mp4")
    assert len(images) == 2 and rate == frames.USUAL_RATE
    records = json.loads((tmp_path / "f.json").read_text())
    assert [(record["source"], record["frame"]) for record in records] == [("webcam 3", 0), ("webcam 3", 1)]


@pytest.mark.parametrize(("key", "visible", "seen"), [(ord("q"), 1, 1), (-1, 0, 1), (ord(" "), 1, 3)])
def test_a_window_is_stopped_by_q_or_closed_and_goes_on_by_a_key(monkeypatch, tmp_path, key, visible, seen):
    for name in "abc":
        write_red(tmp_path / f"{name}.png", 1200, 2560)
    shown = []
    monkeypatch.setattr(survey, "check_display", lambda: None)
    monkeypatch.setattr(survey.cv2, "imshow", lambda title, image: shown.append(image.shape))
    monkeypatch.setattr(survey.cv2, "waitKey", lambda _: key)
    monkeypatch.setattr(survey.cv2, "getWindowProperty", lambda *_: visible)
    assert run(tmp_path, "--show", "--save", tmp_path / "out", "--json", tmp_path / "f.json") == 0
    assert shown == [(600, 1280, 3)] * seen
    assert len(files_in(tmp_path / "out")) == len(json.loads((tmp_path / "f.json").read_text())) == seen


@pytest.mark.skipif(sys.platform != "linux", reason="a display that is not there")
def test_no_display_is_told_in_one_line(monkeypatch, capsys, tmp_path):
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setenv("DISPLAY", ":99999")
    assert run(write_red(tmp_path / "a.png"), "--show") == 2
    assert capsys.readouterr().err.startswith("error: --show: OpenCV can open no window here")


def test_blur_leaves_the_picture_around_the_face(tmp_path):
    picture = np.random.default_rng(0).integers(0, 80, (120, 160, 3), dtype=np.uint8)
    left, top, right, bottom = BOX
    picture[top:bottom, left:right, 2] += 170
    write_picture(tmp_path / "a.png", picture)
    assert run(tmp_path / "a.png", "--blur", "--save", tmp_path / "out") == 0
    blurred = read_picture(tmp_path / "out/a.png")
    noise = (slice(top, bottom), slice(left, right), slice(2))  # the face's blue and green
    assert blurred[noise].std() < picture[noise].std() / 10
    changed = (blurred != picture).any(axis=-1)
    assert changed[top:bottom, left:right].mean() > 0.99
    changed[top - 16:bottom + 16, left - 11:right + 11] = False
    assert not changed.any()


@pytest.mark.parametrize(("arguments", "words"), [
    ([], "SOURCE"),
    (["nowhere.jpg"], "there is no nowhere.jpg"),
    (["https://example.org/a.jpg?x=1"], "https://example.org/a.jpg?x=1 is an address: save what is there"),
    (["rtsp://10.0.0.1/live"], "is an address"),
    (["--source", "a.png"], "give SOURCE without a flag"),
    (["a.png", "--conf", "0.3"], "did you mean --confidence_threshold?"),
    (["a.png", "--device", "cpu"], "did you mean --gpu?"),
    (["a.png", "--img-size", "640"], "did you mean --protocol?"),
    (["a.png", "--weights", "a.pth"], "did you mean --trained_model?"),
    (["a.png", "--tile", "32"], "must be 64 or more"),
    (["a.png", "--crop", "a.png"], "cannot write a.png"),
    (["nö*/**"], "matches no picture and no video"),
    (["empty"], "empty holds no pictures"),
    (["a.png", "0"], "0 is a webcam"),
    (["77", "--cpu"], "webcam 77 is not there"),
    (["a.png", "--blur"], "--save DIR or --show"),
    (["a.png", "--json", "a.png"], "must be a file that ends in .json"),
    (["a.png", "--csv", "folder.csv"], "must be a file that ends in .csv"),
    (["a.png", "--save", "a.png"], "cannot write a.png"),
    (["a.png", "--save", "."], "would overwrite a.png"),
    ([".", "--save", "empty/.."], "would overwrite a.png"),
    (["a.png", "--confidence_threshold", "1.5"], "0 to 1"),
    (["a.png", "--protocol", "none"], "invalid choice"),
    (["a.png", "--gpu", "99"], "GPU 99 is not there"),
])
def test_mistakes_get_one_line(monkeypatch, capfd, tmp_path, arguments, words):
    monkeypatch.chdir(tmp_path)
    write_red(tmp_path / "a.png")
    for folder in ("empty", "folder.csv"):
        (tmp_path / folder).mkdir()
    code = exit_code(script.main, *arguments)
    told = capfd.readouterr().err
    assert code == 2 and words in told and told.count("\n") == 1
    assert (tmp_path / "a.png").stat().st_size > 100


def test_a_missing_checkpoint_is_told(monkeypatch, capsys, tmp_path):
    monkeypatch.undo()
    path = write_red(tmp_path / "a.png")
    assert run(path, "--trained_model", "weights/nowhere.pth") == 2
    told = capsys.readouterr().err
    assert "weights/nowhere.pth" in told and told.count("\n") == 1


def test_the_shipped_weights_are_found_from_any_folder(monkeypatch, capsys, tmp_path):
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    assert run(ROOT / "docs" / "detections.jpg") == 0
    assert "2 faces in 1 picture" in capsys.readouterr().out


def test_python_gets_the_faces_of_the_records(monkeypatch, tmp_path, student_checkpoint):
    """Of a panorama, too, which is looked at in tiles."""
    monkeypatch.undo()
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    write_picture(paths[0], picture_of_noise())
    write_picture(paths[1], picture_of_noise(60, 1500))
    assert run(*paths, "--trained_model", student_checkpoint, "--json", tmp_path / "f.json") == 0
    records = json.loads((tmp_path / "f.json").read_text())
    faces = FaceFinder(student_checkpoint, "cpu")(paths)
    assert [path.as_posix() for path, found in zip(paths, faces) for _ in found.scores] == [
        record["source"] for record in records]
    assert len(records) > 2
    np.testing.assert_allclose([record["score"] for record in records],
                               np.concatenate([found.scores for found in faces]), atol=1e-5)


@pytest.mark.parametrize(("height", "width", "flags"), [
    (200, 12_000, []), (12_000, 200, []), (2000, 3000, ["--tile", "320"]), (500, 500, []),
])
def test_nobody_stays_visible(monkeypatch, tmp_path, height, width, flags):
    """Faces wherever a picture is cut: each is found once, and none keeps its outline."""
    monkeypatch.setattr(finder, "load_detector", lambda path, device: red_squares)
    places = [(x, y) for x in range(3, width - 15, 61) for y in range(3, height - 15, 97)]
    picture = red_crowd(height, width, 12, places)
    write_picture(tmp_path / "a.png", picture)
    assert run(tmp_path / "a.png", *flags, "--blur", "--save", tmp_path / "out", "--json", tmp_path / "f.json") == 0
    assert len(json.loads((tmp_path / "f.json").read_text())) == len(places)
    changed = (read_picture(tmp_path / "out/a.png") != picture).any(axis=-1)
    assert all(changed[y, x:x + 12].all() and changed[y:y + 12, x].all() for x, y in places)


def test_faces_are_cut_out_and_aligned(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(finder, "load_detector", lambda path, device: red_squares)
    for name in ("a.png", "süd/a.png"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        write_picture(tmp_path / "in" / name, red_crowd(90, 120, 20, [(5, 8), (60, 40)]))
    write_picture(tmp_path / "in/none.png", red_crowd(90, 120, 20, []))
    written = [f"{folder}/{name}_{number}.png" for folder in ("aligned", "crops") for name in ("a.png", "süd/a.png")
               for number in (0, 1)]
    for _ in range(2):  # what the first run cut out is no source of the second
        assert run(tmp_path / "in", "--crop", tmp_path / "in/faces") == 0
        assert "4 faces in 3 pictures; written: " in capsys.readouterr().out
        assert files_in(tmp_path / "in/faces") == sorted(written)
    assert read_picture(tmp_path / "in/faces/crops/a.png_1.png").shape == (20, 20, 3)
    aligned = read_picture(tmp_path / "in/faces/aligned/a.png_1.png")
    assert aligned.shape == (112, 112, 3) and (aligned[10:-10, 10:-10] == (0, 0, 255)).all()
    write_picture(tmp_path / "o/crops/b.png", red_crowd(90, 120, 20, []))
    assert run(tmp_path / "o/crops/b.png", "--crop", tmp_path / "o") == 2
    assert "could overwrite" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "AVIF", "GIF"])
def test_a_picture_that_moves_is_a_video(tmp_path, kind):
    """By what it holds, whatever its suffix."""
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow reads no AVIF")
    images = [Image.fromarray(red_picture(112, 160, moved_box(index))[..., ::-1]) for index in range(4)]
    path = tmp_path / f"a.{kind.lower()}"
    images[0].save(path, kind, save_all=True, append_images=images[1:], duration=80)
    assert run(path, "--save", tmp_path / "out", "--json", tmp_path / "f.json") == 0
    records = json.loads((tmp_path / "f.json").read_text())
    assert [record["frame"] for record in records] == [0, 1, 2, 3]
    for index, record in enumerate(records):
        left, top, right, bottom = moved_box(index)
        np.testing.assert_allclose(xywh(record), [left, top, right - left, bottom - top], atol=2.5)
    assert files_in(tmp_path / "out") == [f"a.{kind.lower()}.mp4"]
    assert len(read_video(tmp_path / f"out/a.{kind.lower()}.mp4")[0]) == 4


def test_what_a_drawn_copy_loses_is_said(capsys, tmp_path):
    path = write_red(tmp_path / "a.png")
    deep = read_picture(path).astype(np.uint16) * 257
    (tmp_path / "b.png").write_bytes(cv2.imencode(".png", deep)[1].tobytes())
    clear = np.dstack([read_picture(path), np.full((120, 160), 128, np.uint8)])
    for suffix, name in ((".jp2", "c.jp2"), (".jp2", "d.jp2"), (".png", "f.png")):
        (tmp_path / name).write_bytes(cv2.imencode(suffix, clear)[1].tobytes())
    opaque = np.dstack([read_picture(path), np.full((120, 160), 255, np.uint8)])
    (tmp_path / "e.png").write_bytes(cv2.imencode(".png", opaque)[1].tobytes())
    assert run(tmp_path, "--json", tmp_path / "f.json") == 0
    assert "note" not in capsys.readouterr().out
    assert run(tmp_path, "--save", tmp_path / "out") == 0
    folder = tmp_path.as_posix()
    assert capsys.readouterr().out.splitlines()[1:] == [
        f"note: drawn copies are 8-bit BGR: 1 picture lost bits beyond 8 a channel, such as {folder}/b.png",
        f"note: drawn copies are 8-bit BGR: 2 pictures lost transparency, such as {folder}/c.jp2",
    ]


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif"])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_a_drawn_copy_is_as_transparent_as_its_source(capsys, tmp_path, suffix, kind):
    """But where something is drawn; a blurred face that was hidden stays so."""
    if kind == np.uint16 and suffix == ".webp":
        pytest.skip("WebP has 8 bits")
    alpha = np.tile(np.linspace(0, 255, 160).astype(np.uint8), (120, 1))
    clear = np.dstack([red_picture(120, 160, BOX), alpha]).astype(kind) * (257 if kind == np.uint16 else 1)
    path = tmp_path / f"a{suffix}"
    path.write_bytes(cv2.imencode(suffix, clear)[1].tobytes())
    assert run(path, "--save", tmp_path / "drawn") == run(path, "--save", tmp_path / "blurred", "--blur") == 0
    told = capsys.readouterr().out
    assert "transparency" not in told and ("bits beyond" in told) == (kind == np.uint16)
    drawn, blurred = (cv2.imread(str(tmp_path / folder / path.name), cv2.IMREAD_UNCHANGED)
                      for folder in ("drawn", "blurred"))
    np.testing.assert_array_equal(blurred[..., 3], alpha)
    is_drawn = (drawn[..., :3] != red_picture(120, 160, BOX)).any(axis=2) & (alpha > 0)  # what is not seen, may be lost
    assert is_drawn.sum() > 100
    np.testing.assert_array_equal(drawn[..., 3], np.where(is_drawn, 255, alpha))


def test_a_large_photograph(tmp_path):
    path = write_red(tmp_path / "a.jpg", 3000, 4000, (1600, 1200, 1696, 1328))
    assert run(path, "--json", tmp_path / "f.json", "--save", tmp_path / "out") == 0
    [record] = json.loads((tmp_path / "f.json").read_text())
    np.testing.assert_allclose(xywh(record), [1600, 1200, 96, 128], atol=2 * 4000 / 1280)
    assert read_picture(tmp_path / "out/a.jpg").shape == (3000, 4000, 3)
