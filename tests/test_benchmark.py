"""What V2 gains over V1: turns, ratios, agreement of two detectors, the lineage's loop and ours, benchmark.py."""

import csv
import json
import subprocess
import sys

import numpy as np
import onnx
import pytest
import torch
from torch import nn

import benchmark
import train_v2
from benchmarks import comparison, engines, graphs
from benchmarks.comparison import STUDENT, TEACHER, Setting, speed_table, verdict
from benchmarks.consistency import compare_faces, find_pictures, match
from benchmarks.lineage_loop import as_published, detect_file, prior_boxes, suppress, write_text
from benchmarks.memory_format import FORMATS, compare_formats, in_format, record_blocks, tensors_of
from benchmarks.throughput import compare_detections, lineage_loop, loop_verdict, our_loop
from benchmarks.timing import ratio, take_turns
from benchmarks.training import measure_training
from benchmarks.training_step import build_steps
from data.drawn.demo_set import write_demo_set
from data.loader import Batch
from data.picture_files import write_picture
from data.pixels import normalize
from data.targets import FACE, Targets
from deployment.onnx_graph import export_graph
from detection.face_detector import FaceDetector
from detection.suppression import Detections, DetectionSettings
from layers.anchors import make_anchors
from models import build_model
from models.ledger import measure, total
from tests.paths import SHARED, needs_shared
from training.step import PHASES
from utils.errors import UserError

SETTINGS = DetectionSettings()
CPU = torch.device("cpu")


def trained_network(name, seed=0):
    """A network as if trained: BatchNorms that know their inputs, deformable convolutions that move, many faces.

    Heads and offsets are as small as in a trained one: larger ones multiply the rounding of float32 beyond a pixel.
    """
    torch.manual_seed(seed)
    network = build_model(name)
    for parameter_name, parameter in network.named_parameters():
        if "offsets" in parameter_name or "modulation" in parameter_name:
            nn.init.normal_(parameter, std=0.002)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        network(torch.rand(2, 3, 128, 160) * 255 - 115)
        for boxes, logits in zip(network.heads.boxes, network.heads.logits):
            nn.init.normal_(boxes.weight, std=0.02)
            nn.init.normal_(logits.weight, std=0.08)
    return network.eval()


def faces(*rows):
    """Rows x1 y1 x2 y2 score as Detections."""
    rows = np.array(rows, np.float32).reshape(-1, 5)
    return Detections(rows[:, :4], rows[:, 4], np.zeros((len(rows), 5, 2), np.float32))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Two drawn pictures in WIDER FACE's layout."""
    folder = tmp_path_factory.mktemp("benchmark") / "set"
    write_demo_set(folder, train_pictures=1, val_pictures=2)
    return folder / "val"


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """Two students: V1 takes its time."""
    paths = {role: tmp_path_factory.mktemp("checkpoints") / f"{role}.pth" for role in (TEACHER, STUDENT)}
    for seed, path in enumerate(paths.values()):
        torch.save({"model_name": "v2", "model": trained_network("v2", seed).state_dict()}, path)
    return paths


# Timing


def test_runs_take_turns_and_warm_up_does_not_count():
    now, calls, costs = 0.0, [], {"slow": iter([9, 9, 4, 6, 8]), "fast": iter([9, 9, 1, 2, 4])}

    def run(name):
        nonlocal now
        calls.append(name)
        now += next(costs[name])

    runs = {name: lambda name=name: run(name) for name in costs}
    times = take_turns(runs, rounds=3, warmup=2, clock=lambda: now)
    assert calls == ["slow", "fast"] * 5
    assert times == {"slow": [4000, 6000, 8000], "fast": [1000, 2000, 4000]}
    assert ratio(times["slow"], times["fast"]) == pytest.approx((2.5, 3, 3.5))


def test_ratios_are_taken_round_by_round():
    """A machine that is slow for one round is slow for both: the ratio of the medians would be 10."""
    assert ratio([10, 100, 1000], [5, 50, 10]).median == 2


# Consistency


def test_the_best_overlap_is_matched_first_and_each_box_once():
    first = np.float32([[0, 0, 10, 10], [0, 0, 10, 9]])
    second = np.float32([[0, 0, 10, 9.5], [50, 50, 60, 60], [0, 0, 10, 8]])
    pairs, overlaps = match(first, second)
    # IoU 9.5/10, 8/10 in the first row, 9/9.5, 8/9 in the second.
    assert pairs.tolist() == [[0, 0], [1, 2]]
    np.testing.assert_allclose(overlaps, [0.95, 8 / 9], rtol=1e-6)
    assert match(first[:1], np.float32([[0, 0, 10, 5]]))[0].tolist() == [[0, 0]]  # exactly one half
    assert match(first[:1], np.float32([[0, 0, 10, 4.9]]))[0].shape == (0, 2)
    assert match(first, np.zeros((0, 4), np.float32))[0].shape == (0, 2)


def test_agreement_by_hand():
    teacher = [faces([0, 0, 10, 10, 0.9], [20, 20, 30, 30, 0.7], [40, 40, 50, 50, 0.4]), faces([0, 0, 8, 8, 0.5]), None]
    student = [faces([0, 0, 10, 10, 0.8], [20, 20, 30, 28, 0.6], [40, 40, 50, 50, 0.9]), faces(), faces()]
    found = compare_faces(teacher, student, 0.5)
    assert (found["pictures"], found["teacher_faces"], found["student_faces"], found["matched"]) == (2, 3, 3, 2)
    assert found["agreement"] == 2 / 4
    assert found["recall_of_teacher"] == found["precision_against_teacher"] == 2 / 3
    assert found["mean_iou"] == pytest.approx(0.9)
    assert found["score_correlation"] == pytest.approx(1)
    lower = compare_faces(teacher, student, 0.3)
    scores = np.float32([[0.9, 0.7, 0.4], [0.8, 0.6, 0.9]])
    assert lower["score_correlation"] == pytest.approx(np.corrcoef(scores)[0, 1])


def test_what_is_not_defined_is_none_not_a_number():
    found = compare_faces([faces()], [faces()], 0.5)
    assert [found[name] for name in ("agreement", "recall_of_teacher", "mean_iou", "score_correlation")] == [None] * 4
    one = compare_faces([faces([0, 0, 9, 9, 0.9])], [faces([0, 0, 9, 9, 0.9])], 0.5)
    assert (one["agreement"], one["score_correlation"]) == (1, None)


def test_pictures_of_any_folder_are_found_and_evenly_thinned(tmp_path, pictures):
    for index in range(10):
        write_picture(tmp_path / "ünïcode" / f"{index}.PNG".lower(), np.zeros((2, 2, 3), np.uint8))
    (tmp_path / "notes.txt").write_text("no picture")
    assert [path.stem for path in find_pictures(tmp_path)] == [str(index) for index in range(10)]
    assert [path.stem for path in find_pictures(tmp_path, 4)] == ["0", "2", "5", "7"]
    assert len(find_pictures(pictures, 60)) == 2
    with pytest.raises(UserError, match="no pictures in"):
        find_pictures(tmp_path / "nowhere")


# The lineage's loop


@pytest.mark.parametrize(("height", "width"), [(1, 1), (33, 501), (96, 160), (257, 31)])
def test_the_lineages_priors_are_our_anchors(height, width):
    pixels = prior_boxes(height, width) * torch.tensor([width, height] * 2)
    torch.testing.assert_close(pixels, make_anchors(height, width), rtol=1e-5, atol=1e-3)


def test_the_lineages_plus_one_joins_boxes_that_ours_leaves():
    """IoU 16/48 of continuous boxes, 25/65 with the +1."""
    boxes, scores = np.float32([[0, 0, 4, 8], [0, 4, 4, 12]]), np.float32([0.5, 0.9])
    assert suppress(boxes, scores, 0.35, pixel=0) == [1, 0]
    assert suppress(boxes, scores, 0.35, pixel=1) == [1]
    assert suppress(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), 0.4, pixel=1) == []


@pytest.mark.parametrize("name", ["v1", "v2"])
def test_the_published_form_computes_the_same_and_leaves_the_network_alone(name):
    network = trained_network(name)
    before = [type(module).__name__ for module in network.modules()]
    published = as_published(network)
    kinds = [type(module).__name__ for module in published.modules()]
    assert kinds.count("TorchvisionDeformableConv") == (15 if name == "v1" else 0)
    assert [type(module).__name__ for module in network.modules()] == before
    images = torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8)
    with torch.no_grad():
        expected, found = network(normalize(images)), published(normalize(images))
        for field in ("boxes", "logits", "landmarks"):
            reference = getattr(expected, field)
            torch.testing.assert_close(getattr(found, field), reference, rtol=1e-3,
                                       atol=1e-4 * reference.abs().max().item())
        for result, other in zip(engines.PublishedDetector(network)(images), FaceDetector(network)(images)):
            torch.testing.assert_close(result, other, rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize("name", ["v1", "v2"])
def test_both_loops_detect_the_same(tmp_path, pictures, name):
    network, paths = trained_network(name), find_pictures(pictures)
    theirs = lineage_loop(as_published(network), paths, tmp_path / "theirs", CPU, as_ours=True)
    ours = our_loop(FaceDetector(network), paths, tmp_path / "ours", CPU, workers=0)
    agreement = compare_detections(ours, theirs)
    assert agreement.first > 100
    # A random network's boxes lie close together: where rounding decides which of two comes first, others follow.
    assert agreement.same >= 0.9 * max(agreement.first, agreement.second)
    as_it_is = lineage_loop(as_published(network), paths, tmp_path / "theirs", CPU)
    assert compare_detections(ours, as_it_is).same < 0.5 * agreement.same
    assert sorted(path.name for path in (tmp_path / "theirs").glob("*/*.txt")) == sorted(
        path.name for path in (tmp_path / "ours").glob("*/*.txt"))


def test_differences_between_detections_are_counted():
    first = [faces([0, 0, 10, 10, 0.9], [20, 20, 30, 30, 0.7])]
    moved = [faces([0, 0, 10, 10.04, 0.9], [20, 20, 30, 30.2, 0.7], [50, 50, 60, 60, 0.3])]
    agreement = compare_detections(first, moved)
    assert (agreement.first, agreement.second, agreement.same) == (2, 3, 1)
    assert agreement.pixels == pytest.approx(0.2, abs=1e-5)
    scored = [faces([0, 0, 10, 10, 0.9], [20, 20, 30, 30, 0.701])]
    assert compare_detections(first, scored).same == 1
    assert compare_detections([faces()], [faces()])[:3] == (0, 0, 0)


def test_the_lineages_text_file_is_whole_pixels(tmp_path):
    write_text(faces([10.7, 20.2, 30.9, 50.6, 0.75]), tmp_path / "event" / "a.txt")
    assert (tmp_path / "event" / "a.txt").read_text() == "a\n1\n10 20 20 30 0.75\n"


@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 200)])
def test_the_lineages_loop_takes_any_size(tmp_path, height, width):
    write_picture(tmp_path / "small.png", np.full((height, width, 3), 90, np.uint8))
    found = detect_file(as_published(trained_network("v2")), tmp_path / "small.png", SETTINGS, CPU)
    assert np.isfinite(found.boxes).all() and found.landmarks.shape[1:] == (5, 2)


def test_a_picture_the_lineage_stops_at_is_told(tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    with pytest.raises(UserError, match="broken.jpg"):
        detect_file(as_published(trained_network("v2")), tmp_path / "broken.jpg", SETTINGS, CPU)


# The verdicts


def row_of(role, engine, ms, ratio, to_published):
    return {
        "role": role, "engine": engine, "width": 640, "height": 480, "batch": 1, "threads": 2, "ms": ms,
        "ms lower quartile": ms, "ms upper quartile": ms, "ratio": ratio, "ratio lower quartile": ratio,
        "ratio upper quartile": ratio, "ratio to published": to_published,
    }


@pytest.mark.parametrize(("best", "answer"), [(5.0, "is 5 times"), (4.99, "is not 5 times")])
def test_the_verdict_compares_the_same_engine(best, answer):
    rows = [
        row_of(TEACHER, "PyTorch", 40.0, 1.0, 1.0), row_of(TEACHER, "ONNX fp32", 20.0, 1.0, 2.0),
        row_of(STUDENT, "PyTorch", 10.0, 4.0, 4.0), row_of(STUDENT, "ONNX fp32", 20 / best, best, 2 * best),
        row_of(STUDENT, "PyTorch compiled", 1.0, float("nan"), 3.0),
    ]
    told = verdict(rows)
    assert answer in told and f"at most {best:.2f} times (ONNX fp32, 640x480, batch 1)" in told
    assert f"as published {2 * best:.2f} times" in told and "\n" not in told
    table = speed_table(rows)
    assert [line["engine"] for line in table] == ["PyTorch", "ONNX fp32", "PyTorch compiled"]
    assert (table[0]["teacher ms"], table[0]["student ms"], table[0]["times as fast"]) == (40.0, 10.0, 4.0)


def test_the_verdict_on_loops_takes_the_best_of_ours():
    rows = [{"loop": "lineage", "times as fast": 1.0}, {"loop": "ours, PyTorch", "times as fast": 2.5},
            {"loop": "ours, ONNX fp32", "times as fast": 3.0}]
    assert "is 3 times as fast" in loop_verdict(rows) and "2.50 times (PyTorch)" in loop_verdict(rows)
    assert "is not 3 times as fast" in loop_verdict(rows[:2])


# The script


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["benchmark.py", *map(str, arguments), "--num_workers", "0", "--rounds", "2"])
    benchmark.main()


def test_the_script_compares_two_checkpoints(monkeypatch, capsys, tmp_path, pictures, checkpoints):
    setting = Setting(2, 64, 96)
    monkeypatch.setattr(benchmark, "SETTINGS", [setting, Setting(1, 64, 96)])
    monkeypatch.setattr(comparison, "peak_memory", lambda engine, path, height, width: 64e6)
    run(monkeypatch, "--teacher_model", checkpoints[TEACHER], "--trained_model", checkpoints[STUDENT],
        "--dataset_folder", pictures, "--output_folder", tmp_path)
    printed = capsys.readouterr().out
    with (tmp_path / "performance_comparison.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {(row["role"], row["checkpoint"], row["engine"], row["batch"]) for row in rows} == {
        (role, str(path), engine, batch)
        for role, path in checkpoints.items()
        for engine in (engines.PUBLISHED, engines.PYTORCH, engines.ONNX_FLOAT, engines.ONNX_INT8)
        for batch in "12"
    }
    assert {"parameters", "multiply-adds", "file MB", "peak memory MB", "width", "height", "threads", "rounds", "ms",
            "ms lower quartile", "ms upper quartile", "pictures/s", "ratio", "ratio to published"} <= set(rows[0])
    student = next(row for row in rows if row["role"] == STUDENT)
    assert int(student["parameters"]) == 254112
    assert int(student["multiply-adds"]) == total(measure(build_model("v2").eval(), 64, 96)).multiply_adds
    assert float(student["peak memory MB"]) == 64
    assert all(float(row["ratio"]) == 1 for row in rows if row["role"] == TEACHER)
    assert all(float(row["ms lower quartile"]) <= float(row["ms"]) <= float(row["ms upper quartile"]) for row in rows)
    assert "5 times as fast as the teacher" in printed
    assert (tmp_path / "performance_comparison.png").stat().st_size > 1000
    assert (tmp_path / "confidence_histogram.png").stat().st_size > 1000
    told = json.loads((tmp_path / "consistency.json").read_text())
    assert (told["pictures"], told["threshold"], told["iou"], told["protocol"]) == (2, 0.5, 0.5, "original")
    assert told["matched"] <= min(told["teacher_faces"], told["student_faces"])


def test_the_figure_has_ap_where_both_know_it_by_one_protocol(monkeypatch, tmp_path):
    from benchmarks import figures

    drawn = []
    monkeypatch.setattr(figures, "plot_precision", lambda axes, rows, precision: drawn.append(precision))
    rows = [row_of(role, "PyTorch", 10.0, 1.0, 1.0) | {"model": "v2"} for role in (TEACHER, STUDENT)]
    vga = {"protocol": "vga", "easy": 0.9, "medium": 0.8, "hard": 0.5}
    original = vga | {"protocol": "original"}
    figures.plot_comparison(rows, {TEACHER: [vga], STUDENT: [original]}, tmp_path / "a.png")
    figures.plot_comparison(rows, {TEACHER: [vga], STUDENT: []}, tmp_path / "a.png")
    assert drawn == []
    figures.plot_comparison(rows, {TEACHER: [original, vga], STUDENT: [vga]}, tmp_path / "a.png")
    assert drawn == [{TEACHER: vga, STUDENT: vga}]


def test_peak_memory_is_that_of_a_fresh_process(monkeypatch, checkpoints):
    """At least the weights and one map of the first layer."""
    grown = engines.peak_memory(engines.PYTORCH, checkpoints[STUDENT], 320, 320)
    assert 4 * (254112 + 8 * 160 * 160) < grown < 500e6
    failed = subprocess.CompletedProcess([], 2, "", "error: no file\n")
    monkeypatch.setattr(subprocess, "run", lambda *command, **options: failed)
    with pytest.raises(UserError, match="no file"):
        engines.peak_memory(engines.PYTORCH, checkpoints[STUDENT], 64, 64)


def test_where_torch_compile_fails_it_is_left_out_with_a_line(monkeypatch, capsys, checkpoints):
    def broken(images):
        raise RuntimeError("no C++ compiler\nand a hundred lines more")

    monkeypatch.setattr(torch, "compile", lambda run: broken)
    contenders = comparison.enter(STUDENT, checkpoints[STUDENT], {
        engines.PYTORCH: checkpoints[STUDENT], engines.COMPILED: checkpoints[STUDENT]})
    assert [contender.engine for contender in contenders] == [engines.PYTORCH]
    told = capsys.readouterr().out
    assert "no C++ compiler" in told and told.count("\n") == 1


def test_the_script_compares_the_loops(monkeypatch, capsys, tmp_path, pictures, checkpoints):
    run(monkeypatch, "--evaluation_loop", "--trained_model", checkpoints[STUDENT], "--dataset_folder", pictures,
        "--pictures", "1", "--output_folder", tmp_path)
    rows = json.loads((tmp_path / "evaluation_loop.json").read_text())
    assert [row["loop"] for row in rows] == ["lineage", "ours, PyTorch", "ours, ONNX fp32"]
    assert rows[0]["times as fast"] == 1 and {row["pictures"] for row in rows} == {1}
    assert "3 times as fast as the lineage's" in capsys.readouterr().out


@pytest.mark.parametrize(("wrong", "words"), [
    (["--teacher_model", "nowhere.pth"], "nowhere.pth"),
    (["--dataset_folder", "nowhere"], "no pictures in nowhere"),
    (["--evaluation_loop"], "--dataset_folder"),
    (["--gpu", "0"], "--evaluation_loop"),
    (["--rounds", "0"], "1 or more"),
    (["--table", "nowhere.json"], "nowhere.json"),
])
def test_mistakes_get_one_line(monkeypatch, capsys, checkpoints, wrong, words):
    arguments = ["--teacher_model", str(checkpoints[TEACHER]), "--trained_model", str(checkpoints[STUDENT]), *wrong]
    monkeypatch.setattr(sys, "argv", ["benchmark.py", *arguments])
    with pytest.raises(SystemExit) as stop:
        benchmark.run_script(benchmark.main)
    told = capsys.readouterr().err
    assert stop.value.code == 2 and words in told and told.count("\n") == 1


def test_a_teacher_is_asked_for(monkeypatch, capsys, checkpoints):
    with pytest.raises(SystemExit):
        benchmark.parse_args(["--trained_model", str(checkpoints[STUDENT])])
    assert "--teacher_model" in capsys.readouterr().err


@needs_shared
def test_the_published_teacher_detects_the_same_in_both_loops(tmp_path):
    from models import load_model

    network = load_model(SHARED / "weights" / "FeatherNetB_se.pth")
    paths = find_pictures(SHARED / "data" / "people" / "val", 2)
    theirs = lineage_loop(as_published(network), paths, tmp_path / "theirs", CPU, as_ours=True)
    ours = our_loop(FaceDetector(network), paths, tmp_path / "ours", CPU, workers=0)
    agreement = compare_detections(ours, theirs)
    assert agreement.first == agreement.second == agreement.same > 0


@pytest.fixture(scope="module")
def training_set(tmp_path_factory):
    folder = tmp_path_factory.mktemp("training")
    write_demo_set(folder / "set", train_pictures=12, val_pictures=12)
    torch.save({"model_name": "v1", "model": trained_network("v1").state_dict(), "ema": None}, folder / "v1.pth")
    return folder


def test_training_is_measured_on_its_own_flags_and_those_of_training(training_set, tmp_path, capsys):
    flags = ["--gpu", "cpu", "--training_dataset", str(training_set / "set" / "train" / "label.txt"),
             "--teacher_model", str(training_set / "v1.pth"), "--image_size", "64", "--batch_size", "2",
             "--save_folder", str(tmp_path / "none"), "--output_folder", str(tmp_path),
             "--rounds", "2", "--workers", "0", "--batches", "1", "--profile", str(tmp_path / "trace.json")]
    measure_training(flags)
    with open(tmp_path / "training_step.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["plain", "float32", "bfloat16"]
    for row in rows:
        assert float(row["pictures/s"]) > 0 and all(float(row[f"{phase}, ms"]) > 0 for phase in PHASES)
    assert (tmp_path / "training_loader.csv").is_file() and (tmp_path / "training_together.json").is_file()
    assert all(f'"{phase}"' in (tmp_path / "trace.json").read_text(encoding="utf-8") for phase in PHASES)
    assert not (tmp_path / "none").exists()
    with pytest.raises(SystemExit):
        measure_training([*flags, "--no_such_flag", "1"])
    assert "no_such_flag" in capsys.readouterr().err


def test_the_plain_step_has_the_losses_of_ours(training_set):
    """What it is measured against computes the same."""
    options = train_v2.parse_args(["--teacher_model", str(training_set / "v1.pth"), "--image_size", "64"])
    torch.manual_seed(0)
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    targets = Targets(torch.tensor([0]), torch.tensor([[10.0, 10.0, 40.0, 50.0]]), torch.zeros(1, 5, 2),
                      torch.tensor([False]), torch.tensor([FACE], dtype=torch.int8), torch.ones(1))
    options.init_backbone = "teacher"
    losses = {}
    for name, step in build_steps(options, CPU).items():
        step.model.train()
        losses[name] = step.backward(*step.prepare(Batch(images, targets, []), torch.Generator(), mixes=False))[0]
    for term, value in losses["plain"].items():
        torch.testing.assert_close(losses["float32"][term], value, rtol=1e-3, atol=1e-4)


def test_graphs_are_compared_in_turn_and_by_kind_of_node(capsys, tmp_path):
    path = tmp_path / "grüße.onnx"
    onnx.save(export_graph(FaceDetector(trained_network("v2")), float_input=False), path)
    threads = torch.get_num_threads()
    try:
        graphs.main([str(path), str(path), "--rounds", "2", "--height", "40", "--width", "33", "--threads", "1"])
    finally:
        torch.set_num_threads(threads)
    printed = capsys.readouterr().out
    assert f"2 rounds in turn, 1 threads, 1 pictures of 33x40\n\n{path}" in printed
    rows = {row["node"]: row for row in graphs.profile(path, torch.zeros(1, 3, 40, 33, dtype=torch.uint8), 2)}
    total = rows.pop("all")
    assert rows["Conv"]["nodes"] > 50 and all(row["ms"] >= 0 for row in rows.values())
    assert total["nodes"] == sum(row["nodes"] for row in rows.values()) > 100
    assert total["ms"] == pytest.approx(sum(row["ms"] for row in rows.values()))


def test_a_graph_that_is_not_there_gets_one_line(capsys):
    with pytest.raises(SystemExit) as stop:
        graphs.run_script(lambda: graphs.main(["nowhere.onnx"]))
    assert stop.value.code == 2 and "no graph at nowhere.onnx" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["v1", "v2"])
def test_blocks_give_the_same_in_both_memory_formats(name):
    network = build_model(name).eval()
    blocks = record_blocks(network, 50 * torch.randn(2, 3, 64, 64))
    counted = sum(p.numel() for recorded in blocks.values() for block in recorded for p in block.module.parameters())
    assert counted == sum(p.numel() for p in network.parameters())  # no part is forgotten, none there twice
    for module, inputs in (block for recorded in blocks.values() for block in recorded):
        first, last = (in_format(inputs, memory_format, False) for memory_format in FORMATS.values())
        assert all(x.is_contiguous(memory_format=torch.channels_last) for x in tensors_of(last))
        for one, other in zip(tensors_of(module(*first)), tensors_of(module(*last)), strict=True):
            assert torch.allclose(one, other, atol=1e-3, rtol=1e-4)
    rows = compare_formats(network, torch.randn(1, 3, 32, 32), True, torch.float32, rounds=1)
    assert [row["part"] for row in rows] == list(blocks) and all(row["times as fast"] > 0 for row in rows)
