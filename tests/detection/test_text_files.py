"""Folders of detections as text files."""

import os

from detection.text_files import DetectionFolder


def test_files_that_were_never_finished_are_made_again(tmp_path):
    folder = DetectionFolder(tmp_path, ["e/a.jpg", "e/b.jpg"], {"checkpoint": "1"})
    (tmp_path / "e").mkdir()
    (tmp_path / "e/a.txt").write_text("")
    (tmp_path / "e/b.txt").write_text("b\n1\n1 2 3 4 0.5\n")
    assert folder.unfinished() == ["e/a.jpg"]


def test_detections_of_a_picture_that_has_changed_are_made_again(tmp_path):
    """Of it alone; also where the size is the same, and after a list without it."""
    names = ["e/a.jpg", "e/b.jpg", os.fsdecode(b"e/caf\xe9.jpg") if os.name != "nt" else "e/c.jpg"]
    paths = [tmp_path / "images" / name for name in names]
    paths[0].parent.mkdir(parents=True)
    for path in paths:
        path.write_text("old")

    def unfinished(count):
        folder = DetectionFolder(tmp_path / "out", names[:count], {"checkpoint": "1"}, paths[:count])
        found = folder.unfinished()
        for name in found:
            (tmp_path / "out" / "e").mkdir(exist_ok=True)
            folder.path(name).write_text("x\n1\n1 2 3 4 0.5\n")
        return found

    assert unfinished(3) == names and unfinished(3) == []
    os.utime(paths[1], ns=(0, 1))
    assert unfinished(1) == [] and unfinished(3) == [names[1]] and unfinished(3) == []
    paths[2].write_text("other")
    os.utime(paths[2], ns=(0, 2))
    os.unlink(paths[0])
    assert unfinished(3) == [names[0], names[2]] and unfinished(3) == []
    (tmp_path / "out" / "pictures.json").write_text("[")
    assert unfinished(3) == names
