"""WIDER FACE from its official zips: resumed, verified, unpacked whole or not at all, and readable by the training."""

import hashlib
import re
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from data import download
from data.download import arrange, extract
from data.widerface import read_labels
from tests.data.formats.pictures import OFFICIAL_BOXES
from tests.helpers import exit_code
from utils.errors import UserError

LANDMARKS = "12 14 0 18 14 0 15 17 1 13 20 0 17 20 0 0.8"

RETINAFACE_LABELS = f"# 0--Parade/a.jpg\n10 20 30 40 {LANDMARKS}\n# 1--Handshaking/b.jpg\n"

TRAINING_PICTURES = ("0--Parade/a.jpg", "0--Parade/empty.jpg", "1--Handshaking/b.jpg")

MAT_FILES = [f"wider_{name}_val.mat" for name in ("face", "easy", "medium", "hard")]


def write_zip(path, files):
    """A zip of {name: content}, with entries for its folders as the official ones have."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for folder in dict.fromkeys(name.rpartition("/")[0] for name in files):
            archive.writestr(f"{folder}/", b"")
        for name, content in files.items():
            archive.writestr(name, content)


def write_archives(folder):
    noise = np.random.default_rng(0).bytes(150_000)  # more than one read of the network
    write_zip(folder / "WIDER_train.zip", {f"WIDER_train/images/{name}": noise for name in TRAINING_PICTURES})
    write_zip(folder / "WIDER_val.zip", {"WIDER_val/images/1--Handshaking/d.jpg": b"d",
                                         "WIDER_val/images/0--Parade/c.jpg": b"c"})
    write_zip(folder / "WIDER_test.zip", {"WIDER_test/images/0--Parade/e.jpg": b"e"})
    write_zip(folder / "wider_face_split.zip", {"wider_face_split/wider_face_train_bbx_gt.txt": OFFICIAL_BOXES,
                                                "wider_face_split/wider_face_val_bbx_gt.txt": "not read"})
    write_zip(folder / "eval_tools.zip", {"eval_tools/wider_eval.m": "%"} | {
        f"eval_tools/ground_truth/{name}": name for name in MAT_FILES})


@pytest.fixture
def archives(tmp_path):
    """A folder that has all official zips, in small."""
    write_archives(tmp_path / "archives")
    return tmp_path / "archives"


class Host(ThreadingHTTPServer):
    """Serves a folder; closes a connection after `limit` bytes of a file, and answers 503 while it is broken."""

    def __init__(self, folder):
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder, self.limit, self.broken = folder, None, False
        self.breaks_for_good = False  # after the first connection it closed
        self.has_ranges = True
        self.requests = []  # (file, first byte asked for)


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        name, host = self.path[1:], self.server
        start = int(self.headers.get("Range", "bytes=0-")[len("bytes="):-1])
        host.requests.append((name, start))
        if host.broken or not (host.folder / name).exists():
            return self.send_error(503 if host.broken else 404)
        content = (host.folder / name).read_bytes()
        if start >= len(content):
            return self.send_error(416)
        partly = start and host.has_ranges
        content = content[start if partly else 0 :]
        self.send_response(206 if partly else 200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: host.limit])
        if host.limit and host.limit < len(content):
            host.broken = host.breaks_for_good

    def log_message(self, *_):
        pass


@pytest.fixture
def host(tmp_path, monkeypatch):
    """The official hosts, played by this machine."""
    write_archives(tmp_path / "host")
    server = Host(tmp_path / "host")
    url = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(download, "ARCHIVES", {
        path.name: (url, hashlib.sha256(path.read_bytes()).hexdigest()) for path in server.folder.iterdir()})
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def files_of(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_folder_from_archives_at_hand(tmp_path, archives, capsys):
    folder = tmp_path / "sét"  # not ASCII
    assert exit_code(download.main, "--folder", folder, "--archives", archives) is None
    assert set(files_of(folder)) == {
        *(f"train/images/{name}" for name in TRAINING_PICTURES), "train/label.txt", "train/ignore.txt",
        "val/images/0--Parade/c.jpg", "val/images/1--Handshaking/d.jpg", "val/wider_val.txt",
        *(f"val/ground_truth/{name}" for name in MAT_FILES)}
    assert (folder / "val/wider_val.txt").read_text() == "/0--Parade/c.jpg\n/1--Handshaking/d.jpg\n"
    assert (folder / "val/images/1--Handshaking/d.jpg").read_bytes() == b"d"

    records, report = read_labels(folder / "train" / "label.txt")
    assert not report.problems
    assert [record.boxes.tolist() for record in records] == [[[10, 20, 40, 60], [1, 2, 4, 6]], [], [[7, 8, 16, 18]]]
    assert [record.ignored.tolist() for record in records] == [[False, True], [], [False]]
    output = capsys.readouterr().out
    assert "3 pictures (1 without faces), 2 faces (0 with landmarks), 1 ignored regions" in output
    assert "--labels retinaface_gt_v1.1.zip" in output and "insightface" in output


def test_second_run_needs_and_changes_nothing(tmp_path, host):
    folder = tmp_path / "set"
    arrange(folder, tmp_path / "fetched", None, with_test=True)
    assert {name for name, _ in host.requests} == set(download.ARCHIVES)
    assert (folder / "test/images/0--Parade/e.jpg").read_bytes() == b"e"
    for path in (tmp_path / "fetched").iterdir():
        path.unlink()
    before, host.broken = files_of(folder), True
    arrange(folder, tmp_path / "fetched", None, with_test=True)
    assert files_of(folder) == before


def test_fetches_only_what_is_missing(tmp_path, host, archives):
    (archives / "WIDER_val.zip").unlink()
    arrange(tmp_path / "set", archives, None, with_test=False)
    assert host.requests == [("WIDER_val.zip", 0)]


def test_broken_connection_is_taken_up_again(tmp_path, host):
    host.limit = 100_000
    arrange(tmp_path / "set", tmp_path / "fetched", None, with_test=False)
    starts = [start for name, start in host.requests if name == "WIDER_train.zip"]
    assert starts == [0, 100_000, 200_000, 300_000, 400_000]
    assert files_of(tmp_path / "fetched")["WIDER_train.zip"] == (host.folder / "WIDER_train.zip").read_bytes()


@pytest.mark.parametrize("has_ranges", [True, False])
def test_interrupted_download_goes_on_in_the_next_run(tmp_path, host, has_ranges):
    url = f"{download.ARCHIVES['WIDER_train.zip'][0]}/WIDER_train.zip"
    expected, path = download.ARCHIVES["WIDER_train.zip"][1], tmp_path / "WIDER_train.zip"
    host.limit, host.breaks_for_good = 100_000, True
    with pytest.raises(UserError, match=f"{re.escape(url)}.*503.*{re.escape(str(path))}"):
        download.download(url, expected, path)
    assert not path.exists() and path.with_name("WIDER_train.zip.part").stat().st_size == 100_000

    host.limit, host.broken, host.has_ranges, host.requests = None, False, has_ranges, []
    download.download(url, expected, path)
    assert host.requests == [("WIDER_train.zip", 100_000)]
    assert path.read_bytes() == (host.folder / "WIDER_train.zip").read_bytes()
    assert not path.with_name("WIDER_train.zip.part").exists()


def test_whole_part_file_is_only_renamed(tmp_path, host):
    """As a run leaves it that is killed after the last byte."""
    content = (host.folder / "eval_tools.zip").read_bytes()
    (tmp_path / "eval_tools.zip.part").write_bytes(content)
    origin, expected = download.ARCHIVES["eval_tools.zip"]
    download.download(f"{origin}/eval_tools.zip", expected, tmp_path / "eval_tools.zip")
    assert (tmp_path / "eval_tools.zip").read_bytes() == content


def test_other_content_than_published_is_refused(tmp_path, host):
    origin, expected = download.ARCHIVES["eval_tools.zip"]
    (host.folder / "eval_tools.zip").write_bytes(b"<html>moved</html>")
    with pytest.raises(UserError, match="did not give the published file"):
        download.download(f"{origin}/eval_tools.zip", expected, tmp_path / "eval_tools.zip")
    assert not list(tmp_path.glob("eval_tools.zip*"))


def test_no_network(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(download, "ARCHIVES", {name: ("http://127.0.0.1:1", "") for name in download.ARCHIVES})
    assert exit_code(download.main, "--folder", tmp_path / "set") == 2
    output = capsys.readouterr()
    error = output.err.strip().splitlines()
    assert len(error) == 1 and error[0].startswith("error: cannot fetch http://127.0.0.1:1/wider_face_split.zip (")
    assert error[0].endswith(f"put it to {tmp_path / 'set' / 'archives' / 'wider_face_split.zip'}")
    assert "http://127.0.0.1:1/WIDER_train.zip" in output.out  # all that is needed, at once


def test_file_url(tmp_path, archives):
    path = archives / "eval_tools.zip"
    download.download(path.as_uri(), hashlib.sha256(path.read_bytes()).hexdigest(), tmp_path / "copy.zip")
    assert (tmp_path / "copy.zip").read_bytes() == path.read_bytes()


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty"])
def test_damaged_zip_leaves_nothing_half_unpacked(tmp_path, archives, damage):
    path, target = archives / "WIDER_train.zip", tmp_path / "train" / "images"
    content = bytearray(path.read_bytes())
    content[200_000] ^= 255  # in the second picture: the first is unpacked when it is found
    path.write_bytes({"truncated": content[:300_000], "flipped": content, "empty": b""}[damage])
    with pytest.raises(UserError, match="WIDER_train.zip is damaged"):
        extract(path, "WIDER_train/images/", target)
    assert not list(target.parent.iterdir())


def test_unpacking_starts_anew_after_a_kill(tmp_path, archives):
    leftover = tmp_path / "train" / ".images.4711.partial" / "0--Parade"
    leftover.mkdir(parents=True)
    (leftover / "half.jpg").write_bytes(b"ha")
    (tmp_path / "train" / "images").mkdir()  # made by hand, empty
    extract(archives / "WIDER_train.zip", "WIDER_train/images/", tmp_path / "train" / "images")
    assert set(files_of(tmp_path / "train")) == {f"images/{name}" for name in TRAINING_PICTURES}


@pytest.mark.parametrize("name", ["../../evil.jpg", "/evil.jpg", "0--Parade/../../../evil.jpg"])
def test_no_file_outside_the_folder(tmp_path, name):
    write_zip(tmp_path / "bad.zip", {"images/a.jpg": b"a", f"images/{name}": b"evil"})
    with pytest.raises(UserError, match="outside its folder"):
        extract(tmp_path / "bad.zip", "images/", tmp_path / "a" / "b")
    assert not list(tmp_path.rglob("*.jpg"))


def test_other_zip_under_an_official_name(tmp_path, archives):
    with pytest.raises(UserError, match="has no files in WIDER_val/images/"):
        extract(archives / "WIDER_train.zip", "WIDER_val/images/", tmp_path / "images")


def test_full_disk_is_told_before_unpacking(tmp_path, archives, monkeypatch):
    usage = download.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(download.shutil, "disk_usage", lambda _: usage._replace(free=449_999))
    with pytest.raises(UserError, match="make room"):
        extract(archives / "WIDER_train.zip", "WIDER_train/images/", tmp_path / "images")
    monkeypatch.setattr(download.shutil, "disk_usage", lambda _: usage._replace(free=450_000))
    extract(archives / "WIDER_train.zip", "WIDER_train/images/", tmp_path / "images")


@pytest.mark.parametrize("packed", [False, True])
def test_retinaface_labels_replace_boxes_only(tmp_path, archives, capsys, packed):
    train, labels = tmp_path / "set" / "train", tmp_path / "label.txt"
    arrange(tmp_path / "set", archives, None, with_test=False)
    official = (train / "label.txt").read_text()
    if packed:
        labels = tmp_path / "retinaface_gt_v1.1.zip"
        write_zip(labels, {"val/label.txt": "# 0--Parade/c.jpg\n", "train/label.txt": RETINAFACE_LABELS})
    else:
        labels.write_text(RETINAFACE_LABELS)

    assert exit_code(download.main, "--folder", tmp_path / "set", "--archives", archives, "--labels", labels) is None
    output = capsys.readouterr().out
    assert "1 faces (1 with landmarks), 0 ignored regions" in output and "retinaface_gt" not in output
    assert (train / "label.txt").read_text() == RETINAFACE_LABELS
    assert (train / "label.txt.old").read_text() == official
    (train / "ignore.txt").write_text("# 0--Parade/a.jpg\n1 2 3 4\n")  # the user's own, for these labels
    before = files_of(tmp_path / "set")
    arrange(tmp_path / "set", archives, labels, with_test=False)
    assert files_of(tmp_path / "set") == before


def test_retinaface_labels_need_no_official_boxes(tmp_path, archives):
    (archives / "wider_face_split.zip").unlink()
    (tmp_path / "label.txt").write_text(RETINAFACE_LABELS)
    arrange(tmp_path / "set", archives, tmp_path / "label.txt", with_test=False)
    assert (tmp_path / "set/train/label.txt").read_text() == RETINAFACE_LABELS


def test_wrong_labels_stop_before_anything_else(tmp_path, host):
    (tmp_path / "label.txt").write_text("<html>#top</html>")
    write_zip(tmp_path / "label.zip", {"readme/label.txt": RETINAFACE_LABELS})
    for labels in (tmp_path / "label.txt", tmp_path / "label.zip"):
        with pytest.raises(UserError, match="label"):
            arrange(tmp_path / "set", tmp_path / "fetched", labels, with_test=False)
    assert not host.requests and not (tmp_path / "set").exists()


@pytest.mark.parametrize("flag", ["--archives", "--labels"])
def test_paths_that_are_not_there(tmp_path, capsys, flag):
    assert exit_code(download.main, "--folder", tmp_path / "set", flag, tmp_path / "absent") == 2
    assert f"error: argument {flag}: {tmp_path / 'absent'} is no" in capsys.readouterr().err


def test_stopped_by_the_user(tmp_path, monkeypatch, capsys):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(download, "urlopen", interrupt)
    assert exit_code(download.main, "--folder", tmp_path / "set") == 130
    assert capsys.readouterr().err == "stopped; the same command goes on from here\n"
