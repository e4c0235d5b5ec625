"""What a script imports before it answers --help, or tells a mistake: nothing that takes seconds."""

import json
import subprocess
import sys

import pytest

from tests.helpers import ROOT

#: Runs a script or, with -m, a module as a person would, then prints which modules are loaded.
PROBE = """
import json, os, runpy, sys
_, how, name, *sys.argv[1:] = sys.argv
sys.argv[0] = name
sys.path[0] = os.path.dirname(os.path.abspath(name)) if how == "script" else os.getcwd()
try:
    run = runpy.run_path if how == "script" else runpy.run_module
    run(name, run_name="__main__")
except SystemExit as stop:
    print()
    print(json.dumps([stop.code, sorted(sys.modules)]))
"""


def loaded_by(how: str, name: str, *arguments: str) -> tuple[int, set[str]]:
    """Exit code of a script, and the modules it has loaded by then."""
    done = subprocess.run([sys.executable, "-c", PROBE, how, name, *arguments], cwd=ROOT, capture_output=True,
                          text=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    code, modules = json.loads(done.stdout.splitlines()[-1])
    return code, set(modules)


@pytest.mark.parametrize(("how", "name", "heavy"), [
    ("script", "detect.py", {"torch", "torchvision", "matplotlib"}),
    ("script", "train_v2.py", {"torch", "torchvision", "matplotlib"}),
    ("script", "benchmark.py", {"torch", "torchvision", "matplotlib"}),
    ("script", "widerface_evaluate/evaluation.py", {"torch"}),
    ("module", "data.download", {"torch"}),
])
def test_help_is_told_without_what_is_heavy(how, name, heavy):
    code, modules = loaded_by(how, name, "--help")
    assert code == 0 and "argparse" in modules
    assert modules & heavy == set()


@pytest.mark.parametrize("name", ["detect.py", "train_v2.py"])
def test_a_mistaken_flag_is_told_without_what_is_heavy(name):
    code, modules = loaded_by("script", name, "--no_such_flag")
    assert code == 2
    assert modules & {"torch", "torchvision", "matplotlib"} == set()
