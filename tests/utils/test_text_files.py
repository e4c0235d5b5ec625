"""Text files: what is written is what is read."""

from utils.text_files import read_lines, write_lines


def test_lines_are_written_as_the_same_bytes_everywhere(tmp_path):
    write_lines(tmp_path / "a.txt", (f"/0--Fête/{name}.jpg" for name in ("人", "b\udcff")))
    assert (tmp_path / "a.txt").read_bytes() == "/0--Fête/人.jpg\n/0--Fête/b".encode() + b"\xff.jpg\n"
    write_lines(tmp_path / "a.txt", ["# 0--A/ü.jpg", "1 2 3 4"])
    assert read_lines(tmp_path / "a.txt") == ["# 0--A/ü.jpg", "1 2 3 4", ""]
    write_lines(tmp_path / "a.txt", [])
    assert (tmp_path / "a.txt").read_bytes() == b""
