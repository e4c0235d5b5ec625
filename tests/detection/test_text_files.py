"""Folders of detections as text files."""

from detection.text_files import DetectionFolder


def test_files_that_were_never_finished_are_made_again(tmp_path):
    folder = DetectionFolder(tmp_path, ["e/a.jpg", "e/b.jpg"], {"checkpoint": "1"})
    (tmp_path / "e").mkdir()
    (tmp_path / "e/a.txt").write_text("")
    (tmp_path / "e/b.txt").write_text("b\n1\n1 2 3 4 0.5\n")
    assert folder.unfinished() == ["e/a.jpg"]
