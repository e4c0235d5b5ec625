"""python -m data.demo."""

import subprocess
import sys

from tests.helpers import ROOT


def test_files_of_the_user_are_kept(tmp_path):
    (tmp_path / "mine.jpg").write_text("mine")
    command = [sys.executable, "-m", "data.demo", "--output", str(tmp_path)]
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert finished.returncode == 2
    assert finished.stderr.startswith("error: ") and finished.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["mine.jpg"]
