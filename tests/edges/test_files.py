"""Files that are written: what stands in the way is one line, what a killed run leaves goes, nothing is half there."""

import errno
import io
import os
import subprocess
import sys

import pytest
import torch
from tqdm import tqdm

from tests.edges.running import largest_file, run
from tests.helpers import ROOT
from utils import files
from utils.errors import UserError, exit_code, run_script
from utils.files import as_text, atomic_folder, atomic_path, check_folder_is_writable, is_text, name_in_utf8

#: Of a process that lives no longer: more than Linux gives.
DEAD = 4_194_305

posix = pytest.mark.skipif(os.name == "nt", reason="Windows has neither such names nor such locks")


@pytest.mark.parametrize("place", ["file/x.json", "file/deep/x.json", "/proc/x/f.json", "folder", f"{'n' * 256}.csv"])
def test_an_output_that_cannot_be_written_is_one_line_with_its_path_at_once(tmp_path, place):
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    entered = False
    with pytest.raises(UserError) as told, atomic_path(tmp_path / place):
        entered = True
    assert not entered and str(told.value).startswith(f"cannot write {tmp_path / place}")
    assert "\n" not in str(told.value)


@posix
def test_a_device_is_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe.json")
    with pytest.raises(UserError, match="no ordinary file is there"), atomic_path(tmp_path / "pipe.json"):
        pass
    assert (tmp_path / "pipe.json").is_fifo()


def test_a_full_disk_is_one_line_and_what_was_there_stays(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(UserError, match=r"a.txt \(No space left on device\): make room"), atomic_path(path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


@posix
def test_weights_on_a_full_disk_are_one_line(tmp_path):
    with largest_file(1000), pytest.raises(UserError, match="write .*w.pth"), atomic_path(tmp_path / "w.pth") as w:
        torch.save({"a": torch.zeros(10_000)}, w)
    assert not list(tmp_path.iterdir())


def test_an_error_of_another_file_is_not_blamed_on_the_output(tmp_path):
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "a.txt"):
        open(tmp_path / "other.txt")
    with pytest.raises(BrokenPipeError), atomic_path(tmp_path / "a.txt"):
        raise BrokenPipeError


@pytest.mark.parametrize("name", ["n" * 251 + ".png", "ü" * 125 + ".png", "a." + "s" * 250, "n" * 255])
def test_a_name_as_long_as_the_system_takes_is_written(tmp_path, name):
    with atomic_path(tmp_path / name) as temporary:
        temporary.write_text("x")
    assert (tmp_path / name).read_text() == "x" and len(list(tmp_path.iterdir())) == 1


def test_the_suffix_of_what_is_written_stays_last(tmp_path):
    for name in ("a.png", "n" * 251 + ".png"):
        with atomic_path(tmp_path / name) as temporary:
            assert temporary.suffix == ".png"


@posix
def test_what_a_killed_run_left_goes_with_the_next_of_the_same_output(tmp_path):
    ours, others = tmp_path / f".a.{DEAD}.partial.png", tmp_path / f".b.{DEAD}.partial.png"
    keep = [others, tmp_path / f".a.{DEAD}.partial.jpg", tmp_path / ".a.b.partial.png", tmp_path / "a.1.partial.png"]
    for path in (ours, *keep):
        path.write_text("half")
    with atomic_path(tmp_path / "a.png"):
        assert not ours.exists()
    assert all(path.exists() for path in keep)


@posix
def test_what_a_running_process_writes_stays(tmp_path):
    script = ("import sys, time; from utils.files import atomic_path\n"
              "with atomic_path(sys.argv[1]) as t: t.write_text('half'); print(t, flush=True); time.sleep(600)")
    with subprocess.Popen([sys.executable, "-c", script, tmp_path / "a.txt"], stdout=subprocess.PIPE, text=True,
                          cwd=ROOT) as running:
        temporary = running.stdout.readline().strip()
        files._partial_files.cache_clear()
        with atomic_path(tmp_path / "a.txt"):
            assert os.path.exists(temporary)
        running.kill()
    files._partial_files.cache_clear()
    with atomic_path(tmp_path / "a.txt"):
        assert not os.path.exists(temporary)


@posix
def test_a_folder_appears_whole_and_replaces_the_old_one(tmp_path):
    (tmp_path / f".set.{DEAD}.partial").mkdir()
    (tmp_path / f".set.{DEAD}.partial" / "half").touch()
    for name in ("first", "second"):
        with atomic_folder(tmp_path / "set") as temporary:
            (temporary / name).touch()
            assert not (tmp_path / "set" / name).exists()
    assert [path.name for path in tmp_path.iterdir()] == ["set"]
    assert [path.name for path in (tmp_path / "set").iterdir()] == ["second"]
    with pytest.raises(ValueError), atomic_folder(tmp_path / "set"):
        raise ValueError
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


@posix
@pytest.mark.parametrize("target", ["disk/a.txt", "disk/none.txt", "disk/new/deep/none", "second.json"])
def test_a_link_is_written_through(tmp_path, target):
    """What it leads to is replaced at once, as any file, or made where it is not there."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "a.txt").write_text("old")
    os.symlink("disk/behind_two.json", tmp_path / "second.json")
    os.symlink(target, tmp_path / "out.json")
    end = (tmp_path / "out.json").resolve()
    with pytest.raises(ValueError), atomic_path(tmp_path / "out.json"):
        raise ValueError
    with atomic_path(tmp_path / "out.json") as temporary:
        temporary.write_text("new")
        assert temporary.parent == end.parent and temporary.suffix == ".json"
        assert not end.exists() or end.read_text() == "old"
    assert os.readlink(tmp_path / "out.json") == target and end.read_text() == "new"
    assert not list(end.parent.glob(".*"))
    with pytest.raises(UserError, match=r"cannot write .*out.json \(No space left"), atomic_path(tmp_path / "out.json"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(temporary))


@posix
@pytest.mark.parametrize("target", ["disk/full", "disk/empty", "disk/none"])
def test_a_linked_folder_is_replaced_where_it_lies(tmp_path, target):
    for name in ("disk/full/sub", "disk/empty"):
        (tmp_path / name).mkdir(parents=True)
    before = sorted({*os.listdir(tmp_path / "disk"), target.removeprefix("disk/")})
    os.symlink(target, tmp_path / "images")
    with atomic_folder(tmp_path / "images") as temporary:
        assert temporary.parent == tmp_path.resolve() / "disk"
        (temporary / "a").touch()
    assert os.readlink(tmp_path / "images") == target and os.listdir(tmp_path / target) == ["a"]
    assert sorted(os.listdir(tmp_path / "disk")) == before


@posix
def test_results_go_to_the_folder_that_a_link_to_nothing_promises(tmp_path):
    os.symlink("disk/results", tmp_path / "out")
    check_folder_is_writable(tmp_path / "out")
    os.symlink("disk/others", tmp_path / "again")
    with atomic_path(tmp_path / "again" / "a.txt") as temporary:
        temporary.write_text("x")
    assert os.listdir(tmp_path / "disk" / "results") == [] and os.listdir(tmp_path / "disk" / "others") == ["a.txt"]


@posix
@pytest.mark.parametrize("write", [atomic_path, atomic_folder, check_folder_is_writable])
@pytest.mark.parametrize("link", ["itself", "two", "below"])
def test_a_link_that_leads_in_a_circle_is_one_line(tmp_path, write, link):
    for name, target in (("itself", "itself"), ("two", "one"), ("one", "two"), ("below", "itself/a")):
        os.symlink(target, tmp_path / name)
    with pytest.raises(UserError, match=f"^cannot write {tmp_path / link}: it is a link that leads in a circle"):
        with write(tmp_path / link):
            pass
    assert len(os.listdir(tmp_path)) == 4


def test_a_folder_replaces_no_file_and_no_disk(tmp_path, monkeypatch):
    (tmp_path / "a").write_text("old")
    with pytest.raises(UserError, match="a: a file is there"), atomic_folder(tmp_path / "a"):
        pass
    (tmp_path / "disk").mkdir()
    monkeypatch.setattr(os.path, "ismount", lambda path: path == tmp_path / "disk")
    with pytest.raises(UserError, match="disk is where a disk is mounted"), atomic_folder(tmp_path / "disk"):
        pass
    assert sorted(os.listdir(tmp_path)) == ["a", "disk"] and (tmp_path / "a").read_text() == "old"


def test_a_folder_of_results_is_tried_before_the_work(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot write .*x \(.*file: File exists\)|Not a directory"):
        check_folder_is_writable(tmp_path / "file" / "x")
    check_folder_is_writable(tmp_path / "new" / "x")
    assert not list((tmp_path / "new" / "x").iterdir())


@posix
def test_a_name_in_any_encoding_has_one_that_libraries_take(tmp_path):
    for name in (b"caf\xe9.txt", "顔.txt".encode("shift-jis"), "脸".encode("gbk") + b".\xe9"):
        path = tmp_path / os.fsdecode(name)
        path.write_text("x")
        assert not is_text(str(path)) and as_text(str(path)).isprintable()
        with name_in_utf8(path) as text:
            assert is_text(text)
            with open(text, "w") as file:  # through the link
                file.write("y")
        assert path.read_text() == "y" and not os.path.exists(text)
    with name_in_utf8("顔 12:30.mp4") as text:
        assert os.path.isabs(text) and text.endswith("顔 12:30.mp4")
    assert as_text(os.fsdecode(b"caf\xe9")) == r"caf\xe9"


@pytest.mark.parametrize(("error", "code", "line"), [
    (UserError("no x"), 2, "error: no x\n"),
    (UserError("no \x1b[31m\rcaf\udce9"), 2, "error: no \\x1b[31m\\rcaf\\udce9\n"),
    (UserError("no a\nb"), 2, "error: no a\\nb\n"),
    (UserError("no a", " b"), 2, "error: no a\n b\n"),
    (PermissionError(errno.EACCES, "Permission denied", "a/b"), 2, "error: Permission denied: a/b\n"),
    (BrokenPipeError(errno.EPIPE, "Broken pipe"), 2, "error: Broken pipe\n"),
    (KeyboardInterrupt(), 130, "stopped\n"),
    (KeyboardInterrupt("stopped; go on"), 130, "stopped; go on\n"),
    (MemoryError(), 2, "error: out of memory (MemoryError): take fewer or smaller pictures at once, or free some\n"),
    (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), 2, None),
    (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), 2, None),
])
def test_every_way_to_fail_is_one_line(error, code, line):
    def main():
        raise error

    outcome = run(main)
    assert outcome.code == code and outcome.out == ""
    assert outcome.err == line or line is None and outcome.err.count("\n") == 1


def test_a_mistake_of_this_code_is_not_hidden():
    def main():
        raise ValueError("bug")

    with pytest.raises(ValueError):
        exit_code(main)


def test_an_error_does_not_hang_on_a_progress_bar():
    def main():
        for number in tqdm(range(9), leave=True, file=sys.stderr):
            if number == 4:
                raise UserError("no x")

    *_, bar, line, rest = run(main).err.replace("\r", "\n").split("\n")
    assert (line, rest) == ("error: no x", "") and "it/s" in bar


@posix
def test_a_name_that_is_no_text_can_be_printed(monkeypatch):
    assert run(lambda: print(os.fsdecode(b"caf\xe9"))).out == "caf\\udce9\n"
    strict = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", strict)
    with pytest.raises(SystemExit):
        run_script(lambda: print("ü"))
    assert strict.buffer.getvalue() == b"\\xfc\n"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_behind_stdout_is_one_line():
    with open("/dev/full", "w") as full:
        script = "from utils.errors import run_script; run_script(lambda: print(1))"
        done = subprocess.run([sys.executable, "-c", script], stdout=full, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    assert (done.returncode, done.stderr) == (2, "error: No space left on device\n")
