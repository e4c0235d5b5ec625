"""data.download and data.demo: bombs, pipes, downloads without an end, names, disks."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
import zipfile
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from data import demo, download
from data.drawn.demo_set import STAMP, write_demo_set
from data.widerface import read_labels
from tests.edges.running import interruptible, run
from tests.helpers import ROOT
from utils.errors import UserError

LABELS = "# 0--Parade/a.jpg\n1 2 3 4\n"
posix = pytest.mark.skipif(os.name == "nt", reason="Windows has no pipes among files")


def zip_of(path, **members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", "/").replace("_txt", ".txt"), content)
    return path


def arranged(folder):
    """A set in which all but the labels is there."""
    for name in ("train/images/0--Parade/a.jpg", "val/images/0--Parade/b.jpg", "val/ground_truth/x.mat"):
        (folder / name).parent.mkdir(parents=True)
        (folder / name).touch()
    return folder


def test_labels_go_through_memory_piece_by_piece(tmp_path, monkeypatch):
    """20 MB of them, packed to 20 kB."""
    path = zip_of(tmp_path / "labels.zip", train__label_txt=LABELS + "1 2 3 4\n" * 2_500_000)
    tracemalloc.start()
    download.check_retinaface_labels(path)
    download.write_retinaface_labels(path, tmp_path / "train")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4e6 and (tmp_path / "train" / "label.txt").stat().st_size == len(LABELS) + 20_000_000


@pytest.mark.parametrize("packed", [True, False])
def test_labels_that_never_end_are_refused(tmp_path, monkeypatch, packed):
    monkeypatch.setattr(download, "LARGEST_LABELS", 1 << 20)
    text = LABELS + "1 2 3 4\n" * 200_000
    path = tmp_path / "labels"
    zip_of(path, train__label_txt=text) if packed else path.write_text(text)
    outcome = run(download.main, "--folder", tmp_path / "set", "--labels", path)
    assert outcome.code == 2 and "labels has more than 1 MB" in outcome.err and not (tmp_path / "set").exists()


def test_boxes_that_never_end_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(download, "LARGEST_LABELS", 1 << 20)
    path = zip_of(tmp_path / "a.zip", wider_face_split__wider_face_train_bbx_gt_txt="1 2 3 4\n" * 200_000)
    with pytest.raises(UserError, match="a.zip has more than 1 MB"):
        download.write_official_labels(path, tmp_path / "train")


class Endless(BaseHTTPRequestHandler):
    """Gives bytes without saying how many, and, asked for the rest, says too many."""

    def do_GET(self):  # noqa: N802
        self.send_response(200)
        if "claims" in self.path:
            self.send_header("Content-Length", str(1 << 50))
        if "nonsense" in self.path:
            self.send_header("Content-Length", "many")
        self.end_headers()
        try:
            for _ in range(1000):
                self.wfile.write(b"x" * 65536)
        except OSError:
            self.server.cut_off.set()

    def log_message(self, *_):
        pass


@pytest.mark.parametrize("name", ["silent", "nonsense", "claims"])
def test_a_download_has_an_end(tmp_path, monkeypatch, name):
    monkeypatch.setattr(download, "LARGEST_ARCHIVE", 1 << 20)
    monkeypatch.setattr(download, "check_space", lambda *_: None)
    with HTTPServer(("127.0.0.1", 0), Endless) as server:
        server.cut_off = threading.Event()
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        with pytest.raises(UserError, match="has more than 1 MB"):
            download.download(f"http://127.0.0.1:{server.server_port}/{name}", "", tmp_path / "a.zip")
        server.shutdown()
        thread.join()
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 1.2 * (1 << 20)


@posix
@pytest.mark.parametrize("place", ["archives/WIDER_val.zip", "labels", "train/label.txt", "train/ignore.txt"])
def test_pipes_are_refused(tmp_path, place):
    folder = arranged(tmp_path / "set")
    (folder / "train" / "label.txt").write_text(LABELS)
    (folder / "archives").mkdir()
    pipe = tmp_path / "set" / place
    pipe.unlink(missing_ok=True)
    os.mkfifo(pipe)
    if "val" in place:
        shutil.rmtree(folder / "val" / "images")
    outcome = run(download.main, "--folder", folder, *(["--labels", pipe] if place == "labels" else []))
    assert outcome.code == 2 and outcome.err.count("\n") == 1 and str(pipe) in outcome.err


@posix
def test_a_pipe_in_place_of_a_half_download_is_refused(tmp_path):
    os.mkfifo(tmp_path / "a.zip.part")
    with pytest.raises(UserError, match="a.zip.part is no ordinary file"):
        download.download("http://127.0.0.1:1/a.zip", "", tmp_path / "a.zip")


@posix
def test_names_in_any_encoding_are_listed_byte_by_byte(tmp_path):
    folder = arranged(tmp_path / "set")
    (folder / "train" / "label.txt").write_text(LABELS)
    (folder / "val" / "images" / "0--Parade" / os.fsdecode(b"caf\xe9.jpg")).touch()
    assert run(download.main, "--folder", folder).code is None
    assert (folder / "val" / "wider_val.txt").read_bytes() == b"/0--Parade/b.jpg\n/0--Parade/caf\xe9.jpg\n"


@posix
def test_linked_labels_and_pictures_stay_where_they_are(tmp_path):
    """The labels that were there are kept beside those that a link leads to, as *.old."""
    (tmp_path / "disk" / "pictures").mkdir(parents=True)
    (tmp_path / "disk" / "labels").write_text("# 0--Parade/a.jpg\n5 6 7 8\n")
    (tmp_path / "set").mkdir()
    os.symlink("../disk/labels", tmp_path / "set" / "label.txt")
    os.symlink("../disk/pictures", tmp_path / "set" / "images")
    (tmp_path / "new.txt").write_text(LABELS)
    download.write_retinaface_labels(tmp_path / "new.txt", tmp_path / "set")
    download.extract(zip_of(tmp_path / "a.zip", in__a_txt="x"), "in/", tmp_path / "set" / "images")
    assert all((tmp_path / "set" / name).is_symlink() for name in ("label.txt", "images"))
    assert (tmp_path / "set" / "label.txt").read_text() == LABELS
    assert "5 6 7 8" in (tmp_path / "disk" / "labels.old").read_text()
    assert os.listdir(tmp_path / "disk" / "pictures") == ["a.txt"]


def test_a_file_in_the_way_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    labels = tmp_path / "label.txt"
    labels.write_text(LABELS)
    folder = arranged(tmp_path / "set")
    (folder / "train" / "label.txt").mkdir()
    for outcome in (
        run(download.main, "--folder", folder, "--labels", labels),
        run(demo.main, "--output", tmp_path / "file"),
        run(demo.main, "--output", tmp_path / "file" / "deep" / "set"),
        run(demo.main, "--output", "/proc/x/set"),
        run(demo.main, "--output", tmp_path / ("n" * 256)),
    ):
        assert outcome.code == 2 and outcome.err.startswith("error: ") and outcome.err.count("\n") == 1


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff\xfe", b"[" * 100_000, b'{"maker": 1}'])
def test_a_damaged_stamp_of_the_demo_set_is_one_line(tmp_path, content):
    (tmp_path / STAMP).write_bytes(content)
    outcome = run(demo.main, "--output", tmp_path)
    assert outcome.code == 2 and "exists and is no demo set" in outcome.err and outcome.err.count("\n") == 1


@posix
def test_a_pipe_for_a_stamp_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / STAMP)
    with pytest.raises(UserError, match="no demo set"):
        write_demo_set(tmp_path, 1, 1)


@posix
def test_ctrl_c_while_drawing_is_one_line_and_leaves_nothing(tmp_path):
    """With its processes, as a terminal interrupts it; the next run removes what a kill left."""
    target = tmp_path / "set"
    command = [sys.executable, "-m", "data.demo", "--output", target, "--train", "60000"]

    def start():
        running = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                   start_new_session=True, preexec_fn=interruptible)
        until = time.monotonic() + 60
        while not list(tmp_path.glob(".set.*/train/images/*/*.jpg")) and time.monotonic() < until:
            time.sleep(0.05)
        return running

    killed = start()
    os.killpg(killed.pid, signal.SIGKILL)
    killed.communicate()
    [left] = tmp_path.iterdir()
    running = start()
    until = time.monotonic() + 60
    while left.exists() and time.monotonic() < until:
        time.sleep(0.05)
    time.sleep(1)
    os.killpg(running.pid, signal.SIGINT)
    out, err = running.communicate(timeout=60)
    assert (running.returncode, out, err) == (130, "", "stopped\n") and not list(tmp_path.iterdir())


def test_the_demo_set_is_replaced_as_a_whole(tmp_path):
    write_demo_set(tmp_path / "set", 1, 1, 0)
    write_demo_set(tmp_path / "set", 1, 1, 1)
    assert json.loads((tmp_path / "set" / STAMP).read_text())["seed"] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["set"]
    assert read_labels(tmp_path / "set" / "train" / "label.txt")[1].pictures == 1
