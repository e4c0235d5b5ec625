"""Flags: what is mistaken for them, and what was meant."""

from pathlib import Path

import pytest

from utils.arguments import HABITS, ArgumentParser, number


def parser():
    made = ArgumentParser(prog="x.py")
    made.add_argument("source", metavar="SOURCE", nargs="+")
    for name in ("confidence_threshold", "nms_threshold", "trained_model", "gpu", "save", "json", "shift"):
        made.add_argument(f"--{name}")
    made.add_argument("--cpu", action="store_true")
    return made


@pytest.mark.parametrize(("arguments", "told"), [
    (["--conf", "0.3", "a.jpg"], "there is no --conf: did you mean --confidence_threshold?"),
    (["--conf=0.3"], "there is no --conf: did you mean --confidence_threshold?"),
    (["a.jpg", "--conf-thres", "0.3"], "there is no --conf-thres: did you mean --confidence_threshold?"),
    (["a.jpg", "--IoU", "0.3"], "there is no --IoU: did you mean --nms_threshold?"),
    (["--source", "a.jpg"], "there is no --source: give SOURCE without a flag"),
    (["--weights", "a.pth", "a.jpg"], "there is no --weights: did you mean --trained_model?"),
    (["a.jpg", "--device", "0"], "there is no --device: did you mean --gpu?"),
    (["a.jpg", "--trained-modell", "x"], "there is no --trained-modell: did you mean --trained_model?"),
    (["a.jpg", "--jsn", "x"], "there is no --jsn: did you mean --json?"),
    (["a.jpg", "-conf", "x"], "there is no -conf: did you mean --confidence_threshold?"),
    (["a.jpg", "--xyzzy"], "there is no --xyzzy"),
    (["a.jpg", "--x\ny" + "z" * 100], "there is no --x\\ny"),
    (["a.jpg", "--"], None), (["--", "--conf"], None), (["a.jpg", "--shift", "-1"], None), (["-1"], None),
    (["-"], None), (["a.jpg", "--json", "--c d"], None), (["a.jpg", "--nms-threshold=--"], None),
])
def test_a_flag_that_is_not_there_is_told_with_the_one_that_was_meant(capsys, arguments, told):
    if told is None:
        parser().parse_args(arguments)
        return
    with pytest.raises(SystemExit) as stop:
        parser().parse_args(arguments)
    err = capsys.readouterr().err
    assert stop.value.code == 2 and err.startswith(f"error: {told}") and err.count("\n") == 1 and len(err) < 150


def test_no_habit_is_listed_twice():
    habits = [habit for names, _ in HABITS for habit in names.split()]
    assert len(habits) == len(set(habits))


@pytest.mark.parametrize("text", ["nan", "inf", "1.5", "-0.1", "", "x" * 99])
def test_numbers_have_bounds(capsys, text):
    made = ArgumentParser()
    made.add_argument("--share", type=number(float, 0, 1))
    with pytest.raises(SystemExit):
        made.parse_args(["--share", text])
    assert capsys.readouterr().err.count("\n") == 1


def test_a_mistake_is_one_line_whatever_is_in_it(capsys):
    with pytest.raises(SystemExit):
        parser().error("a\nb")
    assert capsys.readouterr().err == "error: a\\nb (see x.py --help)\n"


@pytest.mark.parametrize(("arguments", "name"), [
    (["--nms_threshold", "0.4"], "nms_threshold"), (["--nms-threshold=0.4"], "nms_threshold"),
    (["--save", "-", "--json=x"], "json"),
])
def test_a_flag_that_would_change_nothing_is_refused_whatever_its_value(capsys, arguments, name):
    parser().refuse(["a.jpg", "--save", "json", "--cpu"], ("nms_threshold", "json"), "unused")
    with pytest.raises(SystemExit) as stop:
        parser().refuse(arguments, ("nms_threshold", "json"), "it goes with --x")
    told = capsys.readouterr().err
    assert stop.value.code == 2 and told == f"error: argument --{name}: it goes with --x (see x.py --help)\n"


def test_help_shows_every_default_and_lists_as_they_are_typed(capsys):
    made = ArgumentParser(prog="x.py")
    made.add_argument("--rounds", type=number(int, 1), default=7)
    made.add_argument("--scales", nargs="+", default=[0.5, Path("a%b")], help="of what")
    made.add_argument("--classes", nargs="+", default=[], help="all of them")
    made.add_argument("--output", help="a folder")
    with pytest.raises(SystemExit):
        made.parse_args(["--help"])
    told = " ".join(capsys.readouterr().out.split())
    assert "--rounds ROUNDS default: 7 --scales" in told and "of what (default: 0.5 a%b)" in told
    assert "all of them --output" in told and told.endswith("a folder")
