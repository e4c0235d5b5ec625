"""What ends a script before it has begun."""

import subprocess
import sys

import pytest

from tests.helpers import ROOT

RUN = """
import runpy, sys
sys.modules[sys.argv[1]] = None  # as if it were not there
sys.argv = ["detect.py", "docs/detections.jpg", "--cpu"]
runpy.run_path("detect.py", run_name="__main__")
"""


@pytest.mark.parametrize("package", ["tqdm", "torch", "cv2"])
def test_a_package_that_is_not_installed_is_told_in_one_line(package):
    done = subprocess.run([sys.executable, "-c", RUN, package], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and not done.stdout
    assert done.stderr == f"error: the package {package} is not installed: pip install -r requirements.txt\n"


def test_a_missing_part_of_this_repository_is_a_traceback():
    done = subprocess.run([sys.executable, "-c", RUN, "models.network"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.startswith("Traceback") and "models.network" in done.stderr
