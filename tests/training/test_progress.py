"""The bar, the lines in a log, and the words at the end of a run."""

import io
import re
import sys
from pathlib import Path

import pytest

from training import progress
from training.flags import parse_args


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def go_through(shown, clock=lambda: None) -> None:
    with shown as bar:
        for epoch in (2, 3):
            bar.set_description(f"epoch {epoch}/3")
            for _ in range(10):
                clock()
                bar.update()
                bar.set_postfix(loss="1.5")
            bar.write(f"row {epoch}")


def test_a_terminal_gets_a_bar_with_epoch_and_time_left(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stderr", Terminal())
    go_through(progress.show_progress(30, 10))
    last = sys.stderr.getvalue().strip().split("\r")[-1]
    assert re.match(r"epoch 3/3: 100%.* 30/30 \[\d+:\d+<00:00, .*loss=1.5\]", last)
    assert capsys.readouterr().out == "row 2\nrow 3\n"


def test_a_log_gets_a_line_a_minute(monkeypatch, capsys):
    seconds = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: seconds[0])
    monkeypatch.setattr(sys, "stderr", io.StringIO())

    def clock() -> None:
        seconds[0] += 25

    go_through(progress.show_progress(30, 10), clock)
    lines = sys.stderr.getvalue().splitlines()
    assert len(lines) == 20 // 3
    assert lines[0] == "epoch 2/3, step 13 of 30, 01:15 gone, 07:05 left, loss 1.5"
    assert lines[-1] == "epoch 3/3, step 28 of 30, 07:30 gone, 00:50 left, loss 1.5"
    assert capsys.readouterr().out == "row 2\nrow 3\n"


def test_another_process_shows_nothing(monkeypatch):
    monkeypatch.setenv("RANK", "1")
    for stream in (Terminal(), io.StringIO()):
        monkeypatch.setattr(sys, "stderr", stream)
        shown = progress.show_progress(1, 0)
        shown.update()
        shown.close()
        assert stream.getvalue() == ""


ROWS = [{"epoch": 1, "ap_easy": 0.7, "ap_medium": 0.6, "ap_hard": 0.5, "ap_mean": 0.6}, {"epoch": 2},
        {"epoch": 3, "ap_easy": 0.8, "ap_medium": 0.4, "ap_hard": 0.3, "ap_mean": 0.5}]


@pytest.mark.parametrize(("rows", "expected"), [
    ([], ["weights: FINAL, AP not known", "try them: python detect.py docs/detections.jpg --trained_model FINAL"]),
    (ROWS[:2], ["weights: FINAL, AP not known",
                "best, after epoch 1: BEST, AP easy 0.7000, medium 0.6000, hard 0.5000 (vga)",
                "try them: python detect.py docs/detections.jpg --trained_model BEST"]),
    (ROWS[1:], ["weights: FINAL, AP easy 0.8000, medium 0.4000, hard 0.3000 (vga)",
                "try them: python detect.py docs/detections.jpg --trained_model FINAL"]),
    (ROWS, ["weights: FINAL, AP easy 0.8000, medium 0.4000, hard 0.3000 (vga)",
            "best, after epoch 1: BEST, AP easy 0.7000, medium 0.6000, hard 0.5000 (vga)",
            "try them: python detect.py docs/detections.jpg --trained_model BEST"]),
])
def test_the_end_says_where_the_weights_are_and_how_to_try_them(rows, expected, monkeypatch):
    monkeypatch.setattr(progress, "epochs_of", lambda path: 1)
    options = parse_args(arguments=["--save_folder", "runs/mine"])
    told = progress.last_words(rows, options)
    for name in ("final", "best"):
        told = told.replace(str(Path("runs/mine") / f"FeatherFaceV2_{name}.pth"), name.upper())
    assert told.splitlines() == expected


@pytest.mark.parametrize("kept", [None, 3])
def test_the_end_names_no_best_checkpoint_that_is_not_there_or_of_another_epoch(kept, monkeypatch):
    monkeypatch.setattr(progress, "epochs_of", lambda path: kept)
    told = progress.last_words(ROWS, parse_args(arguments=["--save_folder", "runs/mine"]))
    assert "best" not in told and told.endswith("FeatherFaceV2_final.pth")
