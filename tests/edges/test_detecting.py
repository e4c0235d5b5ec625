"""detect.py and names, formats, disks and sources that are not as they should be."""

import json
import os
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest
import torch

import detect as script
from data import picture_files
from data.picture_files import encode_picture, read_bytes, read_picture
from detection import finder, frames, inference, survey
from detection.face_detector import Candidates
from detection.frames import count_frames
from detection.inference import detect_files, windows
from detection.protocols import PROTOCOLS
from detection.sources import PICTURE_SUFFIXES, VIDEO_SUFFIXES, find_sources
from detection.suppression import DetectionSettings
from tests.edges.running import interruptible, largest_file, run
from tests.helpers import ROOT
from utils.errors import UserError

CPU = torch.device("cpu")
posix = pytest.mark.skipif(os.name == "nt", reason="Windows has no such files")

#: é in Latin-1, 人 in GBK, 顔 in Shift-JIS.
NAMES = (b"caf\xe9", "人".encode("gbk"), "顔".encode("shift-jis"))


def one_face(images):
    """A detector that sees one face in every picture."""
    count = len(images)
    return Candidates(torch.tensor([[[4.0, 4, 20, 24]]]).expand(count, 1, 4), torch.full((count, 1), 0.9),
                      torch.full((count, 1, 5, 2), 10.0))


@pytest.fixture(autouse=True)
def detector(monkeypatch):
    monkeypatch.setattr(finder, "load_detector", lambda path, device: one_face)


def detect(*arguments):
    return run(script.main, *arguments, "--cpu")


def write(path, height=32, width=48, suffix=".png"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_picture(np.full((height, width, 3), 99, np.uint8), suffix))
    return path


def write_video(path, count=5, size=(64, 48), codec="mp4v"):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), 12.5, size)
    for index in range(count):
        writer.write(np.full((size[1], size[0], 3), 40 * index % 256, np.uint8))
    writer.release()
    return path


def names_in(folder):
    return sorted(os.listdir(os.fsencode(folder)))


@posix
def test_pictures_and_videos_of_any_name_are_looked_at_and_drawn(tmp_path):
    video = write_video(tmp_path / "clip.mp4").read_bytes()
    (tmp_path / "clip.mp4").unlink()
    sources, drawn = os.fsencode(tmp_path / "in"), tmp_path / os.fsdecode(b"drawn\xe9")
    os.mkdir(sources)
    for name in NAMES:
        write(tmp_path / "in" / os.fsdecode(name + b".jpg"), suffix=".jpg")
        (tmp_path / "in" / os.fsdecode(name + b".mp4")).write_bytes(video)
    write(tmp_path / "in" / os.fsdecode(b"x.\xe9"))  # a suffix too; not looked for in a folder
    results = ["--save", drawn, "--json", tmp_path / os.fsdecode(b"\xe9.json"), "--csv", tmp_path / "f.csv"]
    outcome = detect(tmp_path / "in", tmp_path / "in" / os.fsdecode(b"x.\xe9"), *results)
    assert outcome.code == 0 and outcome.err == ""
    assert "19 faces in 4 pictures and 15 frames" in outcome.out
    expected = [name + suffix for name in NAMES for suffix in (b".jpg", b".mp4")] + [b"x.\xe9.png"]
    assert names_in(drawn) == sorted(expected)
    assert count_frames(drawn / os.fsdecode(b"caf\xe9.mp4")) == 5
    records = json.loads((tmp_path / os.fsdecode(b"\xe9.json")).read_text(encoding="utf-8"))
    assert records[0]["source"].endswith(r"in/caf\xe9.jpg") and len(records) == 19
    assert len((tmp_path / "f.csv").read_text(encoding="utf-8").splitlines()) == 20


@pytest.mark.parametrize("text", ["99999999999", "9" * 250, "9" * 5000])
def test_digits_that_no_webcam_has_are_a_name(tmp_path, monkeypatch, text):
    monkeypatch.chdir(tmp_path)
    outcome = detect(text)
    assert outcome.code == 2 and outcome.err.startswith("error: there is no 9999") and outcome.err.count("\n") == 1
    if len(text) < 255:
        write(tmp_path / "a.png").rename(tmp_path / text)
        assert f"{text}: face" in detect(text).out


@posix
def test_a_name_of_any_encoding_that_cannot_be_read_is_named(tmp_path):
    for name in NAMES:
        for suffix in (b".jpg", b".avi"):
            (tmp_path / os.fsdecode(name + suffix)).write_bytes(b"nothing")
    outcome = detect(tmp_path)
    assert outcome.code == 1 and outcome.err.count("warning: cannot read") == 6
    assert r"caf\xe9.avi (no frame of it can be decoded: damaged, or no video): skipped" in outcome.err
    assert r"caf\xe9.jpg (no picture, or of an unknown format): skipped" in outcome.err


@posix
def test_a_name_of_two_lines_is_one_line_and_true_in_the_records(tmp_path):
    write(tmp_path / "a\nb\x1b[2J.png")
    (tmp_path / "c\nd.png").touch()
    outcome = detect(tmp_path)
    assert outcome.code == 1 and r"a\nb\x1b[2J.png: face" in outcome.out and outcome.out.count("\n") == 2
    assert outcome.err == f"warning: cannot read {tmp_path}/c\\nd.png (the file is empty): skipped\n"
    detect(tmp_path, "--json", tmp_path / "f.json")
    [record] = json.loads((tmp_path / "f.json").read_text(encoding="utf-8"))
    assert record["source"] == (tmp_path / "a\nb\x1b[2J.png").as_posix()


def test_a_name_is_no_address(tmp_path, monkeypatch):
    write_video(tmp_path / "a.mp4").rename(tmp_path / "12:30 party.mp4")
    monkeypatch.chdir(tmp_path)
    assert "5 faces in 5 frames" in detect("12:30 party.mp4", "--json", "f.json").out


@pytest.mark.parametrize("suffix", sorted(PICTURE_SUFFIXES - {".heic", ".heif", ".jxl"}))
def test_a_folder_is_searched_for_all_that_is_read(tmp_path, suffix):
    """And what is drawn of it can be read, under a name that says its format."""
    own = encode_picture(np.full((64, 64, 3), 99, np.uint8), suffix)
    write(tmp_path / f"a{suffix}", 64, 64, suffix if own else ".jpg")
    assert [source.place.name for source in find_sources([str(tmp_path)])] == [f"a{suffix}"]
    outcome = detect(tmp_path, "--save", tmp_path / "out")
    assert outcome.code == 0 and "1 face in 1 picture" in outcome.out
    [drawn] = (tmp_path / "out").iterdir()
    assert drawn.name == f"a{suffix}" if own else f"a{suffix}.png"
    assert read_picture(drawn).shape == (64, 64, 3)


def test_every_format_that_is_written_is_looked_for():
    others = {suffix for suffix in (".apng", ".avif", ".bmp", ".dib", ".exr", ".gif", ".hdr", ".jp2", ".jpe", ".jpeg",
              ".jpg", ".pam", ".pfm", ".pic", ".png", ".pnm", ".ppm", ".ras", ".sr", ".tif", ".tiff", ".webp")
              if encode_picture(np.zeros((64, 64, 3), np.uint8), suffix)}
    assert others <= PICTURE_SUFFIXES | VIDEO_SUFFIXES


@pytest.mark.parametrize(("name", "height", "width"), [
    ("grey.pgm", 32, 48), ("grey.pbm", 32, 48), ("wide.jpg", 2, 66_000), ("high.jpeg", 66_000, 2),
    ("wide.webp", 2, 17_000), ("one.jp2", 1, 1),
])
def test_what_its_own_format_cannot_hold_is_drawn_as_png(tmp_path, name, height, width):
    write(tmp_path / "in" / name, height, width)
    outcome = detect(tmp_path / "in", "--save", tmp_path / "out", "--json", tmp_path / "f.json")
    assert outcome.code == 0 and json.loads((tmp_path / "f.json").read_text())  # one a tile
    assert names_in(tmp_path / "out") == [f"{name}.png".encode()]
    assert read_picture(tmp_path / "out" / f"{name}.png").shape == (height, width, 3)


def test_a_copy_that_no_format_holds_is_named_and_the_rest_is_written(tmp_path, monkeypatch):
    for name in ("a.png", "b.png", "c.png"):
        write(tmp_path / "in" / name, 32 if name == "b.png" else 48)
    monkeypatch.setattr(frames, "encode_picture",
                        lambda image, suffix: None if len(image) == 32 else encode_picture(image, suffix))
    outcome = detect(tmp_path / "in", "--save", tmp_path / "out", "--json", tmp_path / "f.json")
    assert outcome.code == 1 and outcome.err.count("\n") == 1
    assert f"warning: cannot write {tmp_path / 'out' / 'b.png'}: no format holds 48 x 32 pixels" in outcome.err
    assert names_in(tmp_path / "out") == [b"a.png", b"c.png"]
    assert len(json.loads((tmp_path / "f.json").read_text())) == 3


def test_a_video_that_no_codec_takes_is_named_and_its_faces_are_written(tmp_path):
    data = encode_picture(np.zeros((1, 1, 3), np.uint8), ".gif")
    if data is None:
        pytest.skip("OpenCV writes GIF from 4.11 on")
    (tmp_path / "one.gif").write_bytes(data)
    outcome = detect(tmp_path / "one.gif", "--save", tmp_path / "out", "--json", tmp_path / "f.json")
    assert outcome.code == 1 and "OpenCV makes no video of 1 x 1 pixels" in outcome.err
    assert names_in(tmp_path / "out") == [] and len(json.loads((tmp_path / "f.json").read_text())) == 1


def test_a_drawn_name_that_becomes_too_long_is_named(tmp_path):
    write(tmp_path / "in" / "a.png")
    write(tmp_path / "in" / ("n" * 250 + ".pgm"))
    outcome = detect(tmp_path / "in", "--save", tmp_path / "out", "--json", tmp_path / "f.json")
    assert outcome.code == 1 and "File name too long" in outcome.err and outcome.err.count("\n") == 1
    assert names_in(tmp_path / "out") == [b"a.png"] and len(json.loads((tmp_path / "f.json").read_text())) == 2


def test_a_face_whose_name_becomes_too_long_is_named(tmp_path):
    write(tmp_path / "in" / "a.png")
    write(tmp_path / "in" / ("n" * 250 + ".png"))
    outcome = detect(tmp_path / "in", "--crop", tmp_path / "out", "--json", tmp_path / "f.json")
    assert outcome.code == 1 and "File name too long" in outcome.err and outcome.err.count("\n") == 1
    assert names_in(tmp_path / "out" / "aligned") == [b"a.png_0.png"]
    assert len(json.loads((tmp_path / "f.json").read_text())) == 2


@posix
def test_faces_of_pictures_of_any_name_are_cut_out(tmp_path):
    for name in NAMES:
        write(tmp_path / "in" / os.fsdecode(name + b".jpg"), suffix=".jpg")
    assert detect(tmp_path / "in", "--crop", tmp_path / "out").code == 0
    assert names_in(tmp_path / "out" / "crops") == sorted(name + b".jpg_0.png" for name in NAMES)


def test_no_copy_replaces_another_source_or_another_copy(tmp_path):
    for name in ("a.pgm", "a.pgm.png"):
        write(tmp_path / name)
    outcome = detect(tmp_path, "--save", tmp_path)
    assert outcome.code == 2 and "a.pgm.png: give another folder" in outcome.err
    outcome = detect(tmp_path, "--save", tmp_path / "out")
    assert outcome.code == 2 and "would have one name" in outcome.err and not (tmp_path / "out").exists()
    write(tmp_path / "b" / "c.webp", 2, 17_000)  # becomes a .png only when it is written
    write(tmp_path / "b" / "c.webp.png")
    assert detect(tmp_path / "b", "--save", tmp_path / "out").code == 0
    assert names_in(tmp_path / "out") == [b"c.webp.png", b"c.webp.png.png"]
    assert read_picture(tmp_path / "out" / "c.webp.png").shape == (32, 48, 3)


@posix
def test_a_folder_under_two_names_is_one(tmp_path, monkeypatch):
    """No original is replaced through a link, and what an earlier run has written is found under neither name."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "photos" / "a.png")
    original = (tmp_path / "photos" / "a.png").read_bytes()
    os.symlink("photos", "album")
    (tmp_path / "mixed").mkdir()
    os.symlink("../photos/a.png", "mixed/a.png")
    for source, folder in (("photos/a.png", "album"), ("album", "photos"), ("photos", "mixed"), ("mixed", "photos")):
        outcome = detect(source, "--save", folder)
        assert outcome.code == 2 and f"--save {folder} would overwrite {source.split('/')[0]}/a.png" in outcome.err
    for source, folder in (("photos", "album/drawn"), ("album/*", "photos/drawn"), ("album", "album/drawn")):
        for flag in ("--save", "--crop"):
            assert "1 face in 1 picture" in detect(source, flag, folder).out
    write(tmp_path / "photos" / "crops" / "b.png")
    outcome = detect("photos/crops/b.png", "--crop", "album")
    assert outcome.code == 2 and "--crop album could overwrite photos/crops/b.png" in outcome.err
    assert (tmp_path / "photos" / "a.png").read_bytes() == original and os.path.islink("mixed/a.png")


@pytest.mark.parametrize("codec", ["mp4v", "MJPG"])
def test_a_video_on_a_full_disk_is_an_error_and_no_file(tmp_path, codec):
    suffix = ".avi" if codec == "MJPG" else ".mp4"
    rng = np.random.default_rng(0)
    writer = cv2.VideoWriter(str(tmp_path / f"a{suffix}"), cv2.VideoWriter_fourcc(*codec), 12.5, (64, 48))
    for _ in range(30):
        writer.write(rng.integers(0, 255, (48, 64, 3), dtype=np.uint8))
    writer.release()
    with largest_file(20_000):
        outcome = detect(tmp_path / f"a{suffix}", "--save", tmp_path / "out", "--json", tmp_path / "f.json")
    assert outcome.code == 2 and outcome.err.count("\n") == 1
    assert "of 30 frames arrived; is the disk full?" in outcome.err
    assert names_in(tmp_path / "out") == [] and not (tmp_path / "f.json").exists()


def test_frames_that_change_their_size_are_all_written(tmp_path):
    shown = frames.Frames(iter(()), (64, 48), 2, 25.0)
    with frames.frame_writer(tmp_path / "a.mp4", shown, set()) as write_frame:
        for width in (64, 90, 64):
            write_frame(np.zeros((48, width, 3), np.uint8))
    assert count_frames(tmp_path / "a.mp4") == 3


@pytest.mark.parametrize("flag", ["--json", "--csv", "--save", "--crop"])
@pytest.mark.parametrize("place", ["file/x", "/proc/x/x", "n" * 256])
def test_results_that_cannot_be_written_are_told_before_the_first_picture(tmp_path, monkeypatch, flag, place):
    (tmp_path / "file").touch()
    write(tmp_path / "a.png")
    monkeypatch.setattr(survey, "read_frames", lambda source: pytest.fail("a picture was read"))
    target = tmp_path / (place if flag in ("--save", "--crop") else f"{place}{flag.replace('--', '.')}")
    outcome = detect(tmp_path / "a.png", flag, target)
    assert outcome.code == 2 and outcome.err.startswith("error: cannot write ") and outcome.err.count("\n") == 1


@posix
@pytest.mark.parametrize("suffix", ["json", "csv"])
def test_a_full_disk_names_the_file_that_is_not_written(tmp_path, suffix):
    for index in range(40):
        write(tmp_path / "in" / f"{index}.png")
    both = ["--json", tmp_path / "f.json", "--csv", tmp_path / "f.csv"]
    with largest_file(1500 if suffix == "csv" else 9000):  # of a CSV less is written
        outcome = detect(tmp_path / "in", *(both if suffix == "json" else both[2:]))
    assert outcome.code == 2 and f"cannot write {tmp_path / f'f.{suffix}'} (File too large)" in outcome.err
    assert not (tmp_path / f"f.{suffix}").exists() and not list(tmp_path.glob(".*"))


@posix
def test_pipes_devices_and_links_to_nothing_are_not_waited_for(tmp_path):
    for name in ("a.jpg", "a.mp4"):
        os.mkfifo(tmp_path / name)
    os.symlink("nowhere", tmp_path / "link.png")
    os.symlink("/dev/zero", tmp_path / "zero.png")
    write(tmp_path / "b.png")
    outcome = detect(tmp_path, "--json", tmp_path / "f.json")
    assert outcome.code == 1 and "1 face in 1 picture" in outcome.out
    for name in ("a.jpg", "a.mp4", "link.png", "zero.png"):
        why = "a link to nothing" if name == "link.png" else "a pipe or a device, no file"
        assert f"warning: cannot read {tmp_path / name} ({why}): skipped\n" in outcome.err
        alone = detect(tmp_path / name)
        assert alone.code == 2 and alone.err.startswith(f"error: {tmp_path / name} is ") and alone.err.count("\n") == 1
    assert read_bytes(tmp_path / "a.jpg") is None and read_bytes(tmp_path) is None


def test_a_picture_that_memory_does_not_suffice_for_is_named(tmp_path, monkeypatch):
    write(tmp_path / "a.png", 9000, 10_000)
    write(tmp_path / "b.png")
    monkeypatch.setattr(picture_files, "free_main_memory", lambda: 9000 * 10_000 * 3 - 1)
    monkeypatch.setattr(picture_files, "decode_picture", refuse_large(picture_files.decode_picture))
    outcome = detect(tmp_path, "--json", tmp_path / "f.json")
    assert outcome.code == 1 and "1 face in 1 picture" in outcome.out
    assert outcome.err == f"warning: cannot read {tmp_path / 'a.png'} (too large for the memory left): skipped\n"


def refuse_large(decode):
    def guarded(data, *options):
        assert len(data) < 10_000
        return decode(data, *options)

    return guarded


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"),
                                   cv2.error("Insufficient memory (Failed to allocate 9 bytes)")])
def test_a_picture_too_large_for_the_network_is_named_and_the_others_are_done(tmp_path, monkeypatch, error):
    def find(detector, pictures, *rest):
        [picture] = pictures
        if picture.shape[0] == 99:
            raise error
        return inference.detect_pictures(detector, [picture], *rest)

    monkeypatch.setattr(finder, "detect_pictures", find)
    for name in "abc":
        write(tmp_path / f"{name}.png", 99 if name == "b" else 32)
    outcome = detect(tmp_path, "--json", tmp_path / "f.json")
    assert outcome.code == 1 and outcome.err.startswith(f"warning: {tmp_path / 'b.png'}, 48 x 99 pixels, is too large")
    assert len(json.loads((tmp_path / "f.json").read_text())) == 2


def test_a_measured_picture_too_large_for_the_network_counts_as_unreadable(tmp_path):
    paths = [write(tmp_path / f"{side}.png", side, side) for side in (32, 3200, 64)]

    def detector(images):
        if images.shape[2] == 3200:
            raise RuntimeError("CUDA out of memory. Tried to allocate 9 GiB")
        return one_face(images)

    found = dict(detect_files(detector, paths, "original", DetectionSettings(), CPU))
    assert [found[index] is None for index in range(3)] == [False, True, False]


def test_what_waits_is_bounded_by_number_too(tmp_path):
    [look] = inference.looks_at(np.zeros((32, 32, 3), np.uint8), PROTOCOLS["original"])
    small = [(index, [look] * 2) for index in range(500)]
    groups = list(windows(small))
    assert [index for group in groups for index, _ in group] == list(range(500))
    assert max(sum(len(looks) for _, looks in group) for group in groups) <= inference.WAITING_LOOKS + 2


@posix
def test_many_small_pictures_pass_with_few_handles(tmp_path):
    resource = pytest.importorskip("resource")
    paths = [write(tmp_path / "a.png")] * 600
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    held = len(os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(256, held + 226), limits[1]))
    try:
        found = dict(detect_files(one_face, paths, "original", DetectionSettings(), CPU, workers=2))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert len(found) == 600 and all(len(faces.scores) == 1 for faces in found.values())


@posix
def test_ctrl_c_is_one_line_and_leaves_nothing(tmp_path):
    """In a run of its own, as a terminal interrupts it: with its child processes."""
    write(tmp_path / "a.png")
    write_video(tmp_path / "clip.mp4", 4000)
    command = [sys.executable, "detect.py", tmp_path / "a.png", tmp_path / "clip.mp4", "--cpu", "--save",
               tmp_path / "out", "--json", tmp_path / "f.json"]
    running = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               start_new_session=True, preexec_fn=interruptible)
    until = time.monotonic() + 120
    while not (tmp_path / "out" / "a.png").exists() and time.monotonic() < until:
        time.sleep(0.05)
    os.killpg(running.pid, signal.SIGINT)
    out, err = running.communicate(timeout=60)
    assert (running.returncode, out, err) == (130, "", "stopped\n")
    assert names_in(tmp_path) == [b"a.png", b"clip.mp4", b"out"] and names_in(tmp_path / "out") == [b"a.png"]


def test_protocols_hold_pictures_of_one_row():
    """Factors never give a side of no pixels."""
    for protocol in PROTOCOLS.values():
        for shape in ((1, 3000, 3), (3000, 1, 3)):
            looks = inference.looks_at(np.zeros(shape, np.uint8), protocol)
            assert all(min(look.image.shape[1:]) >= 32 for look in looks)


def test_a_text_over_all_lengths_names_nothing(tmp_path):
    outcome = detect(tmp_path / ("n" * 5000))
    assert outcome.code == 2 and outcome.err.count("\n") == 1
    with pytest.raises(UserError):
        find_sources(["n" * 300 + ".jpg"])
