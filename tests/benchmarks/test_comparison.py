"""Two detectors side by side."""

from pathlib import Path

import pytest
import torch

from benchmarks import comparison, engines
from benchmarks.comparison import STUDENT, TEACHER, Contender, Setting, compare_speed, speed_table
from tests.helpers import speed_row


@pytest.mark.parametrize("best", [5.0, 4.99])
def test_teacher_and_student_stand_side_by_side_in_one_engine(best):
    rows = [
        speed_row(TEACHER, "PyTorch", 40.0, 1.0, 1.0), speed_row(TEACHER, "ONNX fp32", 20.0, 1.0, 2.0),
        speed_row(STUDENT, "PyTorch", 10.0, 4.0, 4.0), speed_row(STUDENT, "ONNX fp32", 20 / best, best, 2 * best),
        speed_row(STUDENT, "PyTorch compiled", 1.0, float("nan"), 3.0),
    ]
    table = speed_table(rows)
    assert [line["engine"] for line in table] == ["PyTorch", "ONNX fp32", "PyTorch compiled"]
    assert (table[0]["teacher ms"], table[0]["student ms"], table[0]["times as fast"]) == (40.0, 10.0, 4.0)
    assert (table[1]["times as fast"], table[1]["against published"]) == (best, 2 * best)
    assert (table[1]["picture"], table[1]["batch"]) == ("640x480", "1")
    assert table[1]["ratio quartiles"] == f"{best:.2f}-{best:.2f}"
    assert table[2]["times as fast"] != table[2]["times as fast"] and table[2]["ratio quartiles"] == "-"
    assert table[2]["against published"] == 3.0


def test_half_the_time_is_twice_as_fast(monkeypatch):
    """As published the teacher takes 40 ms; in PyTorch it takes 10, the student 5; the student compiled takes 2."""
    milliseconds = {(TEACHER, engines.PUBLISHED): 40.0, (TEACHER, engines.PYTORCH): 10.0,
                    (STUDENT, engines.PYTORCH): 5.0, (STUDENT, engines.COMPILED): 2.0}
    monkeypatch.setattr(comparison, "take_turns", lambda runs, rounds, warmup: dict(
        zip(runs, ([passed] * rounds for passed in milliseconds.values()), strict=True)))
    contenders = [Contender(role, "v2", Path(), engine, Path(), id) for role, engine in milliseconds]
    setting = Setting(2, 4, 4)
    rows = compare_speed(contenders, [setting], rounds=3)
    told = [(row["ms"], row["pictures/s"], row["ratio"], row["ratio to published"]) for row in rows.values()]
    assert told[:3] == [(40, 50, 1, 1), (10, 200, 1, 4), (5, 400, 2, 8)]
    assert told[3][2] != told[3][2] and told[3][3] == 20  # no teacher in that engine


def test_where_torch_compile_fails_it_is_left_out_with_a_line(monkeypatch, capsys, student_checkpoint):
    def broken(images):
        raise RuntimeError("no C++ compiler\nand a hundred lines more")

    monkeypatch.setattr(torch, "compile", lambda run: broken)
    contenders = comparison.enter(STUDENT, student_checkpoint, {
        engines.PYTORCH: student_checkpoint, engines.COMPILED: student_checkpoint})
    assert [contender.engine for contender in contenders] == [engines.PYTORCH]
    told = capsys.readouterr().out
    assert "no C++ compiler" in told and told.count("\n") == 1
