"""Graphs compared in turn."""

from pathlib import Path

import onnx
import pytest
import torch

from benchmarks import graphs
from deployment.onnx_graph import export_graph
from detection.face_detector import FaceDetector
from tests.helpers import exit_code


def test_graphs_are_compared_in_turn_and_by_kind_of_node(capsys, tmp_path, student):
    path = tmp_path / "grüße.onnx"
    onnx.save(export_graph(FaceDetector(student), float_input=False), path)
    threads = torch.get_num_threads()
    try:
        graphs.main([str(path), str(path), "--rounds", "2", "--height", "40", "--width", "33", "--threads", "1"])
    finally:
        torch.set_num_threads(threads)
    printed = capsys.readouterr().out
    assert f"2 rounds in turn, 1 threads, 1 pictures of 33x40\n\n1 {path}\n" in printed and f"\n2 {path}\n" in printed
    rows = {row["node"]: row for row in graphs.profile(path, torch.zeros(1, 3, 40, 33, dtype=torch.uint8), 2)}
    total = rows.pop("all")
    assert rows["Conv"]["nodes"] > 50 and all(row["ms"] >= 0 for row in rows.values())
    assert total["nodes"] == sum(row["nodes"] for row in rows.values()) > 100
    assert total["ms"] == pytest.approx(sum(row["ms"] for row in rows.values()))


def test_half_the_time_is_twice_as_fast(monkeypatch):
    monkeypatch.setattr(graphs, "open_session", lambda path, device: None)
    monkeypatch.setattr(graphs, "take_turns", lambda runs, rounds, warmup: dict(zip(runs, ([8.0] * 3, [4.0] * 3))))
    for second in ("b.onnx", "a.onnx"):  # the same file twice is measured twice
        rows = graphs.latency([Path("a.onnx"), Path(second)], torch.zeros(1), rounds=3)
        assert [(row["graph"], row["ms"], row["times as fast"]) for row in rows] == [
            ("1 a.onnx", 8, 1), (f"2 {second}", 4, 2)]


def test_a_graph_that_is_not_there_gets_one_line(capsys):
    assert exit_code(graphs.main, "nowhere.onnx") == 2
    assert "no graph at nowhere.onnx" in capsys.readouterr().err
