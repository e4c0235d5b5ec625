"""The judge of tests/hostile_training.py notices what is wrong, and a share of its cases is met as it should be."""

import random

import pytest

from tests import hostile_training
from tests.hostile_training import Case, fault_of, flags, label_files, logs
from tests.tiny_training import write_pictures
from utils.errors import UserError


def fail(error: BaseException):
    raise error


@pytest.mark.parametrize(("read", "is_right", "fault"), [
    (lambda: fail(ValueError("no")), None, "ValueError"),
    (lambda: fail(UserError("two\nlines")), None, "refused"),
    (lambda: fail(UserError("")), None, "refused"),
    (lambda: fail(SystemExit(1)), None, "refused"),
    (lambda: 1, None, "wrong success"),
    (lambda: 1, lambda read: read == 2, "wrong success"),
    (lambda: fail(TimeoutError()), None, "hangs"),
])
def test_every_fault_is_noticed(read, is_right, fault):
    assert fault in fault_of(Case("", "", read, is_right))


def test_what_is_right_has_no_fault():
    assert fault_of(Case("", "", lambda: fail(UserError("one line")), None)) is None
    assert fault_of(Case("", "", lambda: 2, lambda read: read == 2)) is None
    assert fault_of(Case("", "", lambda: fail(UserError("one line")), None, may_refuse=False))


def test_a_reader_that_hangs_is_ended(monkeypatch):
    monkeypatch.setattr(hostile_training, "PATIENCE", 1)

    def loop():
        while True:
            pass

    assert fault_of(Case("", "", loop, None)) == "hangs"


def test_files_and_flags_of_another_seed_are_met(tmp_path):
    for name in ("labels", "logs"):
        (tmp_path / name).mkdir()
    labels, draw = write_pictures(tmp_path / "set"), random.Random(1)
    cases = [*label_files(tmp_path / "labels", draw, labels), *logs(tmp_path / "logs", draw), *flags()]
    assert len(cases) > 250
    assert {case.name: fault for case in cases if (fault := fault_of(case))} == {}
