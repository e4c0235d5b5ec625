"""What a script imports before it answers --help, tells a mistake or says its first words, and Ctrl-C meanwhile."""

import json
import os
import subprocess
import sys

import pytest

from tests.edges.running import interruptible
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


def run_with_torch(folder, text: str, command: list[str]) -> subprocess.CompletedProcess:
    """A script in whose imports PyTorch is the module of that text."""
    (folder / "torch.py").write_text(text)
    return subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True, timeout=120,
                          preexec_fn=interruptible, env={**os.environ, "PYTHONPATH": str(folder)})


MODEL = ["--trained_model", "none.pth"]


@pytest.mark.skipif(os.name == "nt", reason="signals of Unix")
@pytest.mark.parametrize("command", [
    ["train_v2.py"], ["export.py", *MODEL], ["test_widerface.py", *MODEL], ["detect.py", "a.jpg"],
    ["benchmark.py", *MODEL, "--teacher_model", "none.pth"], ["benchmark.py", "--train"],
], ids=" ".join)
def test_ctrl_c_during_the_imports_is_one_line(tmp_path, command):
    interrupt = "import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(60)"
    done = run_with_torch(tmp_path, interrupt, command)
    assert (done.returncode, done.stderr) == (130, "stopped\n")


@pytest.mark.skipif(os.name == "nt", reason="signals of Unix")
def test_a_training_speaks_before_pytorch_is_loaded(tmp_path):
    end = "raise SystemExit(7)"
    done = run_with_torch(tmp_path, end, ["train_v2.py", "--epochs", "3"])
    assert (done.returncode, done.stderr) == (7, "")
    assert done.stdout == "3 epochs of v2, to be written to weights/v2; loading PyTorch ...\n"
    done = run_with_torch(tmp_path, end, ["train_v2.py", "--resume_net", "a.pth"])
    assert done.stdout == "a run goes on from a.pth; loading PyTorch ...\n"
