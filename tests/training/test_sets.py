"""The label sets of a run are compared with their pictures before it starts."""

import pytest

from tests.data.formats.pictures import write_pictures, write_turned
from training.sets import read_training_sets
from utils import distributed
from utils.errors import UserError


def write_set(folder, rows):
    """One picture of 80 x 60 pixels."""
    write_pictures(folder, "images/e/a.jpg")
    (folder / "label.txt").write_text(f"# e/a.jpg\n{rows}\n")
    return folder / "label.txt"


def test_a_set_in_another_frame_stops_beside_a_good_one(tmp_path):
    good, bad = write_set(tmp_path / "good", "30 20 9 9\n" * 50), write_set(tmp_path / "bad", "300 200 90 90")
    assert read_training_sets([good])[1] == [1]
    with pytest.raises(UserError, match="1 of 1 faces looked at in .*bad.label.txt have their centre outside"):
        read_training_sets([good, bad])


def test_of_several_processes_the_first_looks(tmp_path, monkeypatch):
    bad = write_set(tmp_path, "300 200 90 90")
    monkeypatch.setattr(distributed, "rank", lambda: 1)
    assert read_training_sets([bad])[1] == [1]


def test_warnings_are_said(tmp_path, capsys):
    labels = write_set(tmp_path, "30 20 9 9")
    write_turned(tmp_path / "images" / "e" / "a.jpg")
    read_training_sets([labels])
    assert "\nwarning: 1 of 1 pictures with faces" in capsys.readouterr().out
