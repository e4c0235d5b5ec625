"""Both evaluation loops detect the same."""

from pathlib import Path

import pytest

from benchmarks import evaluation_loop
from benchmarks.baselines.published import as_published
from benchmarks.baselines.usual_loop import usual_loop
from benchmarks.consistency import find_pictures
from benchmarks.engines import ONNX_FLOAT
from benchmarks.evaluation_loop import Agreement, agreement_table, compare_detections, compare_loops, our_loop
from detection.face_detector import FaceDetector
from models import load_model
from tests.helpers import CPU, SHARED, detections_of, needs_shared, trained_network


@pytest.mark.parametrize("name", ["v1", "v2"])
def test_both_loops_detect_the_same(tmp_path, drawn_set, name):
    network, paths = trained_network(name), find_pictures(drawn_set(1, 2) / "val")
    theirs = usual_loop(as_published(network), paths, tmp_path / "theirs", CPU, as_ours=True)
    ours = our_loop(FaceDetector(network), paths, tmp_path / "ours", CPU, workers=0)
    agreement = compare_detections(ours, theirs)
    assert agreement.first > 100
    # A random network's boxes lie close together: where rounding decides which of two comes first, others follow.
    assert agreement.same >= 0.9 * max(agreement.first, agreement.second)
    as_it_is = usual_loop(as_published(network), paths, tmp_path / "theirs", CPU)
    assert compare_detections(ours, as_it_is).same < 0.5 * agreement.same
    assert sorted(path.name for path in (tmp_path / "theirs").glob("*/*.txt")) == sorted(
        path.name for path in (tmp_path / "ours").glob("*/*.txt"))


def test_half_the_time_is_twice_as_fast(monkeypatch, student_checkpoint):
    """The usual loop takes 80 ms for two pictures, ours in PyTorch 40, in ONNX Runtime 20."""
    for name in ("usual_loop", "our_loop"):
        monkeypatch.setattr(evaluation_loop, name, lambda *_, **__: [detections_of(), detections_of()])
    monkeypatch.setattr(evaluation_loop, "write_files", lambda *_: {ONNX_FLOAT: Path()})
    monkeypatch.setattr(evaluation_loop, "load_engine", lambda *_: None)
    monkeypatch.setattr(evaluation_loop, "take_turns", lambda runs, rounds, warmup: dict(
        zip(runs, ([80.0] * 3, [40.0] * 3, [20.0] * 3), strict=True)))
    rows, _, _ = compare_loops(student_checkpoint, [Path("a.jpg"), Path("b.jpg")], CPU, workers=0, rounds=3)
    assert [(row["loop"], row["ms/picture"], row["times as fast"]) for row in rows] == [
        ("usual", 40, 1), ("ours, PyTorch", 20, 2), ("ours, ONNX fp32", 10, 4)]


def test_differences_between_detections_are_counted():
    first = [detections_of([0, 0, 10, 10, 0.9], [20, 20, 30, 30, 0.7])]
    moved = [detections_of([0, 0, 10, 10.04, 0.9], [20, 20, 30, 30.2, 0.7], [50, 50, 60, 60, 0.3])]
    agreement = compare_detections(first, moved)
    assert (agreement.first, agreement.second, agreement.same) == (2, 3, 1)
    assert agreement.pixels == pytest.approx(0.2, abs=1e-5)
    scored = [detections_of([0, 0, 10, 10, 0.9], [20, 20, 30, 30, 0.701])]
    assert compare_detections(first, scored).same == 1
    assert compare_detections([detections_of()], [detections_of()])[:3] == (0, 0, 0)


def test_a_table_says_how_many_are_the_same_and_how_far_apart():
    [row] = agreement_table({"ours, PyTorch": Agreement(70, 71, 69, 6.2e-5, 8e-7)})
    assert list(row.values()) == ["ours, PyTorch", 70, 71, 69, "6e-05", "8e-07"]


@needs_shared
def test_the_published_teacher_detects_the_same_in_both_loops(tmp_path):
    network = load_model(SHARED / "weights" / "FeatherNetB_se.pth")
    paths = find_pictures(SHARED / "data" / "people" / "val", 2)
    theirs = usual_loop(as_published(network), paths, tmp_path / "theirs", CPU, as_ours=True)
    ours = our_loop(FaceDetector(network), paths, tmp_path / "ours", CPU, workers=0)
    agreement = compare_detections(ours, theirs)
    assert agreement.first == agreement.second == agreement.same > 0
