"""The flags of training and their defaults, and that docs/training.md states them."""

import re
from pathlib import Path

import pytest

from layers.criterion import RULES
from tests.helpers import ROOT
from training.flags import flag_parser, parse_args


def test_both_spellings_of_a_flag():
    options = parse_args(arguments=["--batch-size", "8", "--mixup_alpha", "0.5"])
    assert options.batch_size == 8 and options.mixup_alpha == 0.5


def test_the_defaults_are_those_promised():
    promised = dict(batch_size=32, lr=1e-3, epochs=400, warmup_epochs=5, temperature=4.0, alpha=0.7, feature_weight=0.1,
                    mixup_alpha=0.2, cutmix_prob=0.5, dropblock_prob=0.1, dropblock_size=3, gpu="auto", resume_net=None)
    options = vars(parse_args(arguments=[]))
    assert {name: options[name] for name in promised} == promised


def test_every_rule_of_assignment_can_be_chosen():
    [choices] = [action.choices for action in flag_parser()._actions if action.dest == "assignment"]
    assert list(choices) == list(RULES)


def flag_tables() -> dict[str, str]:
    """Flag -> its default as the tables "flag, default" of docs/training.md state it; a row may have several flags."""
    stated, is_table = {}, False
    for line in (ROOT / "docs" / "training.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("|") else []
        is_table = bool(cells) and (is_table or cells[:2] == ["flag", "default"])
        if is_table and (names := re.findall(r"`--(\w+)`", cells[0])):
            defaults = cells[1].split(", ") if len(names) > 1 else [cells[1]]
            assert cells[0] == ", ".join(f"`--{name}`" for name in names) and not stated.keys() & set(names), line
            stated |= dict(zip(names, defaults, strict=True))
    return stated


def is_stated(default, text: str) -> bool:
    """Whether a cell of the table says what a default of the parser is; words stand for what is decided later."""
    if default is None:
        return not re.match(r"[\d.]", text)
    if isinstance(default, bool):
        return text == ("on" if default else "off")
    if isinstance(default, int | float):
        return float(text) == default
    if isinstance(default, list) and len(default) > 1:
        return text == f"{'one two three four five six seven eight nine ten'.split()[len(default) - 1]}, " \
                       f"{min(default):g} to {max(default):g}"
    [value] = default if isinstance(default, list) else [default]
    return Path(text) == Path(value)


def test_the_manual_states_every_flag_and_its_default():
    defaults, stated = vars(parse_args(arguments=[])), flag_tables()
    assert set(stated) == set(defaults)
    wrong = {name: (text, defaults[name]) for name, text in stated.items() if not is_stated(defaults[name], text)}
    assert wrong == {}


@pytest.mark.parametrize(("default", "right", "wrong"), [
    (32, "32", "16"), (1e-3, "1e-3", "1e-2"), (False, "off", "on"), (None, "", "10"), ("vga", "vga", "original"),
    (Path("./weights/v2/"), "weights/v2/", "weights/v1/"), ([Path("./a/b.txt")], "a/b.txt", "a/c.txt"),
    ([0.3, 1.0, 2.0], "three, 0.3 to 2", "three, 0.3 to 1"),
])
def test_a_wrong_default_in_the_manual_is_seen(default, right, wrong):
    assert is_stated(default, right) and not is_stated(default, wrong)
