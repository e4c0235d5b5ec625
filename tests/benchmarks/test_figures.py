"""Figures of the comparison."""

from benchmarks import figures
from benchmarks.comparison import STUDENT, TEACHER
from tests.helpers import speed_row


def test_the_figure_has_ap_where_both_know_it_of_the_same_pictures_by_one_protocol(monkeypatch, tmp_path):
    drawn = []
    monkeypatch.setattr(figures, "plot_precision", lambda axes, rows, precision: drawn.append(precision))
    rows = [speed_row(role, "PyTorch", 10.0, 1.0, 1.0) | {"model": "v2"} for role in (TEACHER, STUDENT)]
    vga = {"dataset": "a/val", "protocol": "vga", "easy": 0.9, "medium": 0.8, "hard": 0.5}
    original = vga | {"protocol": "original"}
    figures.plot_comparison(rows, {TEACHER: [vga], STUDENT: [original]}, tmp_path / "a.png")
    figures.plot_comparison(rows, {TEACHER: [vga], STUDENT: []}, tmp_path / "a.png")
    figures.plot_comparison(rows, {TEACHER: [vga], STUDENT: [vga | {"dataset": "b/val"}]}, tmp_path / "a.png")
    figures.plot_comparison(rows, {TEACHER: [vga], STUDENT: [vga | {"pictures": "half"}]}, tmp_path / "a.png")
    assert drawn == []
    figures.plot_comparison(rows, {TEACHER: [original, vga], STUDENT: [vga]}, tmp_path / "a.png")
    assert drawn == [{TEACHER: vga, STUDENT: vga}]
