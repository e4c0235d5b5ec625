"""python -m data.demo."""

import subprocess
import sys

import pytest

from data import demo
from tests.helpers import ROOT, exit_code


def test_files_of_the_user_are_kept(tmp_path):
    (tmp_path / "mine.jpg").write_text("mine")
    command = [sys.executable, "-m", "data.demo", "--output", str(tmp_path)]
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert finished.returncode == 2
    assert finished.stderr.startswith("error: ") and finished.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["mine.jpg"]


@pytest.mark.parametrize("wrong", [["--seed", "-1"], ["--train", "0"], ["--val", "nan"]])
def test_numbers_that_make_no_set_are_told(wrong, capsys):
    assert exit_code(demo.main, "--output", "nowhere", *wrong) == 2
    assert wrong[0] in capsys.readouterr().err
