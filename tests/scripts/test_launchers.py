"""train_v2.sh and train_v2.bat: the same flags, the values of the parser, the same demo."""

import ast
import os
import re
import shlex
import shutil
import subprocess
import sys

import pytest

from tests.helpers import ROOT
from training.flags import parse_args

LAUNCHERS = ("train_v2.sh", "train_v2.bat")


def text_of(launcher: str) -> str:
    return (ROOT / launcher).read_bytes().decode().replace("\r", "")


def flags_of(launcher: str) -> list[str]:
    """The words between train_v2.py and the flags that a person adds."""
    command = re.search(r"python train_v2\.py( [\^\\]\n.*?)(\"\$@\"|%\*)", text_of(launcher), re.DOTALL).group(1)
    return shlex.split(re.sub(r"[\^\\]\s*\n", " ", command))


@pytest.mark.parametrize("script", LAUNCHERS)
def test_the_launch_scripts_spell_the_defaults(script):
    flags = flags_of(script)
    assert len(flags) > 20
    assert vars(parse_args(arguments=flags)) == vars(parse_args(arguments=[]))


def test_both_launchers_spell_the_same_flags():
    assert flags_of("train_v2.sh") == flags_of("train_v2.bat")


@pytest.mark.parametrize("script", LAUNCHERS)
def test_a_flag_of_the_command_line_overrides_that_of_the_launcher(script):
    flags = flags_of(script)
    names = [flag for flag in flags if flag.startswith("--")]
    assert len(names) == len(set(names))
    options = parse_args(arguments=[*flags, "--epochs", "3", "--gpu", "cpu"])
    assert (options.epochs, options.gpu) == (3, "cpu")


@pytest.mark.parametrize("script", LAUNCHERS)
def test_a_run_that_goes_on_gets_no_flag_of_the_launcher(script):
    """They would win over those of the checkpoint."""
    text = text_of(script)
    bare = re.search(r'^.*python train_v2\.py ("\$@"|%\*)', text, re.MULTILINE)
    assert bare and "--resume_net" in text and "--resume-net" in text


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize("words", [["--resume_net", "a b.pth"], ["--epochs", "3", "--resume-net=a.pth"]])
def test_the_shell_launcher_hands_a_run_that_goes_on_its_words_alone(tmp_path, words):
    for name, text in (("python", f'#!/bin/sh\n{sys.executable} -c "import sys; print(sys.argv[1:])" "$@"\n'),
                       ("environment.sh", ""), ("train_v2.sh", text_of("train_v2.sh"))):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    done = subprocess.run(["bash", tmp_path / "train_v2.sh", *words], capture_output=True, text=True,
                          env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"})
    assert ast.literal_eval(done.stdout) == ["train_v2.py", *words]


@pytest.mark.parametrize("script", LAUNCHERS)
def test_the_demo_is_that_of_demo_py(script):
    text = text_of(script)
    assert re.search(r'^if .*"--demo"', text, re.MULTILINE)
    assert re.search(r"^\s*(exec )?python demo\.py ", text, re.MULTILINE)  # and what else is given, to be told of


def test_the_batch_file_jumps_to_labels_that_are_there_and_ends_with_the_code_of_what_it_ran():
    lines = text_of("train_v2.bat").splitlines()
    jumps = {name for line in lines for name in re.findall(r"\bgoto (\w+)", line)}
    assert jumps == {line[1:] for line in lines if line.startswith(":")}
    for number, line in enumerate(lines):
        if line.startswith("python ") and "train_v2.py ^" not in line and " && goto " not in line:
            assert "|| exit /b 2" in line or lines[number + 1] == "exit /b %ERRORLEVEL%"
    assert "    %*\nexit /b %ERRORLEVEL%\n" in text_of("train_v2.bat")


def test_the_batch_file_is_checked_out_with_the_line_ends_of_windows():
    """Without them cmd.exe misses labels."""
    rules = (ROOT / ".gitattributes").read_text(encoding="utf-8").splitlines()
    assert "*.bat text eol=crlf" in rules
