"""Figures of the comparison."""

import numpy as np
from matplotlib.figure import Figure

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


def test_bars_reach_from_quartile_to_quartile():
    rows = [speed_row(TEACHER, "PyTorch", 9.0, 1.0, 1.0) | {"ms lower quartile": 8.0, "ms upper quartile": 12.0},
            speed_row(STUDENT, "PyTorch", 5.0, 1.0, 1.0) | {"ms lower quartile": 4.0, "ms upper quartile": 5.5}]
    axes = Figure().subplots()
    figures.plot_latency(axes, [row | {"model": "v2"} for row in rows])
    spans = [[point[0] for point in segment] for bars in axes.collections for segment in bars.get_segments()]
    assert spans == [[8, 12], [4, 5.5]] and [bar.get_width() for bar in axes.patches] == [9, 5]


def test_a_subset_without_faces_has_no_point(tmp_path):
    rows = [speed_row(role, "PyTorch", ms, 1.0, 1.0) | {"model": "v2"} for role, ms in ((TEACHER, 9), (STUDENT, 5))]
    part = {"dataset": "a/val", "protocol": "vga", "easy": None, "medium": 0.8, "hard": 0.5}
    axes = Figure().subplots()
    figures.plot_precision(axes, rows, {TEACHER: part, STUDENT: part | {"medium": 0.75}})
    points = {line.get_label(): line.get_xydata().tolist() for line in axes.lines}
    assert points["medium"] == [[9, 0.8], [5, 0.75]] and points["hard"] == [[9, 0.5], [5, 0.5]]
    assert np.isnan(axes.lines[0].get_ydata(orig=False)).all()
    assert [text.xy for text in axes.texts] == [(9, 0.8), (5, 0.75)]
    nothing = part | {"medium": None, "hard": None}
    figures.plot_comparison(rows, {TEACHER: [nothing], STUDENT: [nothing]}, tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 1000
