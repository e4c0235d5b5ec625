"""WIDER FACE AP: the published evaluator's numbers, cases worked out by hand, a slow twin, groups, the script."""

import json
import math
import os
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest

from tests.helpers import ROOT, SHARED, arrays, needs_shared, write_ground_truth, write_predictions
from widerface_evaluate.average_precision import (
    THRESHOLDS,
    bootstrap,
    evaluate,
    groups_by,
    match_detections,
    precision_recall,
    subset_groups,
)
from widerface_evaluate.wider_files import InputError, extent, load_ground_truth, read_predictions, remarks

SCRIPT = ROOT / "widerface_evaluate" / "evaluation.py"

OFFICIAL = SHARED / "data" / "wider_ground_truth"

REFERENCE = SHARED / "reference" / "wider_eval"

FACE = [10, 20, 30, 40]

FAR = [500, 500, 30, 40]


def run_python(*arguments, cwd=ROOT):
    return subprocess.run([sys.executable, *map(str, arguments)], cwd=cwd, capture_output=True, text=True,
                          encoding="utf-8", env=os.environ | {"PYTHONIOENCODING": "utf-8", "OMP_NUM_THREADS": "1"})


@pytest.fixture(scope="module", params=["7", "8"])
def reference(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("predictions")
    subprocess.run([sys.executable, REFERENCE / "make_predictions.py", folder, "--seed", request.param], check=True)
    return folder, json.loads((REFERENCE / "expected.json").read_text())[request.param]


@needs_shared
def test_official_set_gives_the_published_ap(reference):
    folder, expected = reference
    start = time.process_time()
    ground_truth = load_ground_truth(OFFICIAL)
    predictions = read_predictions(folder, ground_truth)
    read = time.process_time()
    result = evaluate(predictions, ground_truth)
    assert time.process_time() - read < 2.5 and time.process_time() - start < 5
    assert result == pytest.approx(expected, abs=1e-9, rel=0)


@needs_shared
@pytest.mark.parametrize("reference", ["7"], indirect=True)
def test_script_prints_and_writes_the_published_ap(reference, tmp_path):
    folder, expected = reference
    run = run_python(SCRIPT, "-p", folder, "-g", OFFICIAL, "--json", tmp_path / "new" / "ap.json")
    assert run.returncode == 0 and run.stderr == ""
    extent, *lines = run.stdout.splitlines()
    assert extent == "all 3,226 pictures, 61 events"
    printed = [line.split(" Val AP: ") for line in lines]
    assert [name for name, _ in printed] == ["Easy  ", "Medium", "Hard  "]
    assert [float(ap) for _, ap in printed] == pytest.approx(list(expected.values()), abs=1e-9, rel=0)
    written = json.loads((tmp_path / "new" / "ap.json").read_text(encoding="utf-8"))
    assert written.pop("pictures") == extent
    assert written == pytest.approx(expected, abs=1e-9, rel=0)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["ap.json"]


@needs_shared
def test_perfect_predictions_on_photographs():
    ground_truth = load_ground_truth(SHARED / "data" / "people" / "val" / "ground_truth")
    scores = np.linspace(1, 0.1, len(ground_truth.boxes))
    rows = np.column_stack([ground_truth.boxes, scores])
    predictions = {key: rows[ground_truth.picture == index] for index, key in enumerate(ground_truth.pictures)}
    assert evaluate(predictions, ground_truth) == pytest.approx({"easy": 1, "medium": 1, "hard": 1}, abs=1e-12)


ONE = ("0--A", "one")

TWO = ("0--A", "two")


def test_second_detection_of_a_face_is_a_false_alarm(tmp_path):
    ground_truth = write_ground_truth(tmp_path, {ONE: [FACE, FAR]})
    # Precision 1 up to half of the faces, then 2 of 3: 1/2 * 1 + 1/2 * 2/3.
    predictions = arrays({ONE: [[*FACE, 0.9], [*FACE, 0.6], [*FAR, 0.3]]})
    assert evaluate(predictions, ground_truth)["hard"] == pytest.approx(5 / 6)


def test_second_best_face_is_no_second_choice(tmp_path):
    near = [12, 20, 30, 40]
    ground_truth = write_ground_truth(tmp_path, {ONE: [FACE, near]})
    # Both faces overlap both detections by more than half, but both detections like the first face best.
    predictions = arrays({ONE: [[*FACE, 0.9], [10, 21, 30, 40, 0.3]]})
    assert evaluate(predictions, ground_truth)["hard"] == pytest.approx(1 / 2)


def test_ignored_face_makes_neither_hit_nor_false_alarm(tmp_path):
    ground_truth = write_ground_truth(tmp_path, {ONE: [FACE, FAR]}, easy={ONE: [2]})
    predictions = arrays({ONE: [[*FACE, 0.9], [*FACE, 0.8], [300, 9, 9, 9, 0.5], [*FAR, 0.3]]})
    result = evaluate(predictions, ground_truth)
    assert result["easy"] == pytest.approx(1 / 2)  # the false alarm at 0.5 before the only face
    assert result["hard"] == pytest.approx(1 / 2 + 1 / 2 * 2 / 4)


def test_false_alarms_count_beside_ignored_faces_and_in_pictures_without_faces(tmp_path):
    alarm = [[300, 9, 9, 9, 0.9], [300, 9, 9, 9, 0.1]]
    ground_truth = write_ground_truth(tmp_path, {ONE: [FACE], TWO: [FAR]}, easy={ONE: [1], TWO: []})
    assert evaluate(arrays({ONE: [[*FACE, 0.5]], TWO: alarm}), ground_truth)["easy"] == pytest.approx(1 / 2)
    ground_truth = write_ground_truth(tmp_path, {ONE: [FACE], TWO: []})
    assert evaluate(arrays({ONE: [[*FACE, 0.5]], TWO: alarm}), ground_truth)["easy"] == pytest.approx(1 / 2)
    no_box = replace(write_ground_truth(tmp_path, {ONE: [FACE]}), pictures=[ONE, TWO])  # as in no official file
    assert evaluate(arrays({ONE: [[*FACE, 0.5]], TWO: alarm}), no_box)["easy"] == 1


def test_edge_pixels_belong_to_a_box(tmp_path):
    ground_truth = write_ground_truth(tmp_path, {ONE: [[0, 0, 9, 9]]})
    # 10 x 10 pixels against 10 x 5: exactly half. One row less is no match.
    assert evaluate(arrays({ONE: [[0, 0, 9, 4, 0.9], [99, 99, 1, 1, 0.1]]}), ground_truth)["hard"] == 1
    assert evaluate(arrays({ONE: [[0, 0, 9, 3, 0.9], [99, 99, 1, 1, 0.1]]}), ground_truth)["hard"] == 0


def test_first_line_of_a_tie_takes_the_face(tmp_path):
    ground_truth = write_ground_truth(tmp_path, {ONE: [FACE]})
    loose = [10, 20, 30, 30]
    predictions = arrays({ONE: [[*loose, 0.9], [*FACE, 0.9], [*FAR, 0.1]]})
    assert list(match_detections(predictions, ground_truth).first) == [True, False, False]


def test_detections_are_sorted_by_score(tmp_path):
    ground_truth = write_ground_truth(tmp_path / "gt", {ONE: [FACE]})
    folder = write_predictions(tmp_path / "predictions", {ONE: [[*FAR, 0.1], [*FACE, 0.9]]})
    predictions = read_predictions(folder, ground_truth)
    assert evaluate(predictions, ground_truth)["hard"] == 1
    assert remarks(folder, predictions, ground_truth) == []


def test_scores_are_stretched_over_the_whole_set(tmp_path):
    ground_truth = write_ground_truth(tmp_path, {ONE: [FACE], TWO: []})
    # From 50 to 54, the score in the picture without faces: 52 becomes 0.5, 51 becomes 0.25.
    predictions = arrays({ONE: [[*FACE, 52], [*FAR, 51], [*FAR, 50]], TWO: [[*FAR, 54]]})
    thresholds = THRESHOLDS[match_detections(predictions, ground_truth).threshold]
    assert thresholds.tolist() == [0.5, 0.25, 0, 0.999]
    # None is above 0: from -4 to 0.
    predictions = arrays({ONE: [[*FACE, -1], [*FAR, -2], [*FAR, -4]], TWO: []})
    thresholds = THRESHOLDS[match_detections(predictions, ground_truth).threshold]
    assert thresholds.tolist() == [0.75, 0.5, 0]


@pytest.mark.parametrize(("factor", "offset"), [(1, 0), (100, 0), (5, 50), (0.5, 1000), (20, -10)])
def test_the_scale_of_scores_is_of_no_weight(tmp_path, factor, offset):
    """Percent, logits or 1000 to 1000.5: stretched alike, in files of their own."""
    predictions, ground_truth = random_set(tmp_path)
    steps = {key: np.column_stack([rows[:, :4], np.round(rows[:, 4] * 64) / 64]) for key, rows in predictions.items()}
    moved = {key: rows * (1, 1, 1, 1, factor) + (0, 0, 0, 0, offset) for key, rows in steps.items()}
    assert evaluate(moved, ground_truth) == pytest.approx(evaluate(steps, ground_truth), abs=1e-12)


def test_one_score_for_all_is_one_point(tmp_path):
    ground_truth = write_ground_truth(tmp_path, {ONE: [FACE]})
    predictions = arrays({ONE: [[*FAR, 0.7], [*FACE, 0.7]]})
    assert evaluate(predictions, ground_truth)["hard"] == pytest.approx(1 / 2)
    assert remarks(tmp_path, predictions, ground_truth) == ["all scores are equal, so the curve has one point"]


def test_nothing_found_and_nothing_to_find(tmp_path):
    ground_truth = write_ground_truth(tmp_path, {ONE: [FACE]}, easy={ONE: []})
    result = evaluate(arrays({ONE: []}), ground_truth)
    assert result["hard"] == 0 and math.isnan(result["easy"])
    ground_truth = write_ground_truth(tmp_path, {ONE: []})
    assert math.isnan(evaluate(arrays({ONE: [[*FACE, 0.5]]}), ground_truth)["hard"])


def slow_iou(box, face):
    left, top = max(box[0], face[0]), max(box[1], face[1])
    right = min(box[0] + box[2], face[0] + face[2])
    bottom = min(box[1] + box[3], face[1] + face[3])
    if right - left + 1 <= 0 or bottom - top + 1 <= 0:
        return 0
    shared = (right - left + 1) * (bottom - top + 1)
    return shared / ((box[2] + 1) * (box[3] + 1) + (face[2] + 1) * (face[3] + 1) - shared)


def slow_counts(rows, faces, kept, threshold):
    """Detections that count, and faces found, with all lines up to the last that reaches the threshold."""
    last = max((line for line, row in enumerate(rows) if row[4] >= threshold), default=-1)
    reported, found = 0, set()
    for row in rows[:last + 1]:
        overlaps = [slow_iou(row, face) for face in faces]
        best = overlaps.index(max(overlaps))
        if overlaps[best] < 0.5:
            reported += 1
        elif best + 1 in kept:
            reported += 1
            found.add(best)
    return reported, len(found)


def slow_ap(predictions, pictures, kept):
    scores = [row[4] for rows in predictions.values() for row in rows]
    low, high = min(scores), max(0, *scores)
    scaled = {key: sorted(([*row[:4], (row[4] - low) / (high - low)] for row in rows), key=lambda row: -row[4])
              for key, rows in predictions.items()}
    face_count = sum(map(len, kept.values()))
    points = []
    for step in range(1, 1001):
        counts = [slow_counts(scaled[key], faces or [[0, 0, 0, 0]], kept[key], 1 - step / 1000)
                  for key, faces in pictures.items()]
        reported, found = (sum(column) for column in zip(*counts))
        points.append((found / face_count, found / reported if reported else 0))
    ap, before = 0, 0
    for index, (recall, _) in enumerate(points):
        ap += (recall - before) * max(precision for _, precision in points[index:])
        before = recall
    return ap


@pytest.mark.parametrize("seed", range(6))
def test_agrees_with_the_slow_twin(seed, tmp_path):
    random = np.random.default_rng(seed)
    pictures, easy, predictions = {}, {}, {}
    for index in range(5):
        key = (f"{index // 3}--Event", f"picture_{index}")
        # Few places and sizes, so that equal overlaps, overlaps of exactly a half and equal scores all occur.
        faces = random.integers(1, 5, (random.integers(0, 4), 4)) * [6, 6, 4, 4] - [0, 0, 1, 1]
        rows = random.integers(1, 5, (random.integers(0, 9), 4)) * [6, 6, 4, 4] - [0, 0, 1, 1]
        scores = random.integers(1, 8, len(rows)) / random.choice([8, 5])
        if seed % 2:
            scores = -np.sort(-scores)
        pictures[key] = faces.tolist()
        easy[key] = [face for face in range(1, len(faces) + 1) if random.random() < 0.6]
        predictions[key] = np.column_stack([rows, scores]).tolist()
    pictures["9--Last", "sure"], easy["9--Last", "sure"] = [FACE], [1]
    predictions["9--Last", "sure"] = [[*FACE, 0.55], [*FAR, 0.05]]
    ground_truth = write_ground_truth(tmp_path, pictures, easy)
    result = evaluate(arrays(predictions), ground_truth)
    assert result["easy"] == pytest.approx(slow_ap(predictions, pictures, easy), abs=1e-12)
    everything = {key: range(1, len(faces) + 1) for key, faces in pictures.items()}
    assert result["hard"] == pytest.approx(slow_ap(predictions, pictures, everything), abs=1e-12)


def test_runs_as_script_and_as_module(small):
    outputs = [run_python(*command, "-p", small[1], "-g", small[0]).stdout
               for command in ([SCRIPT], ["-m", "widerface_evaluate.evaluation"])]
    assert outputs[0] == outputs[1] and outputs[0].startswith("all 2 pictures, 2 events\nEasy   Val AP: 0.")


def test_script_tells_a_mistake_in_one_line(small):
    ground_truth, folder = small
    (folder / "1--B" / "b.c_2.txt").write_text("b.c_2\n2\n10 20 30 40 0.9\n")
    run = run_python(SCRIPT, "-p", folder, "-g", ground_truth)
    assert run.returncode == 2 and run.stdout == ""
    assert run.stderr.startswith("error: ") and run.stderr.count("\n") == 1 and "b.c_2.txt, line 2" in run.stderr


def test_script_compares_models_and_draws(small, tmp_path):
    ground_truth, folder = small
    write_predictions(tmp_path / "worse", {("0--Fête", "naïve_1"): [[*FACE, 0.9]], ("1--B", "b.c_2"): []})
    run = run_python(SCRIPT, "-p", f"né={folder}", "-p", f"worse={tmp_path / 'worse'}", "-g", ground_truth,
                     "--bootstrap", "50", "--by", "event", "--json", "ap.json", "--plot", "curves", cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    assert "worse: 1 of 2 pictures have no detections" in run.stderr
    assert "worse minus né\neasy AP: " in run.stdout
    written = json.loads((tmp_path / "ap.json").read_text(encoding="utf-8"))
    assert list(written) == ["né", "worse"]
    assert {model["pictures"] for model in written.values()} == {"all 2 pictures, 2 events"}
    assert run.stdout.startswith("né, all 2 pictures, 2 events\n") and "\nworse, all 2 pictures, " in run.stdout
    assert written["worse"]["hard"] == pytest.approx(1 / 3) and written["worse"]["1--B"] == 0
    low, high = written["worse"]["intervals"]["hard"]
    assert low <= written["worse"]["hard"] <= high
    drawn = sorted((tmp_path / "curves").iterdir())
    assert [path.name for path in drawn] == [f"precision_recall_{name}.png" for name in ("easy", "hard", "medium")]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in drawn)


def test_import_needs_numpy_and_scipy_only():
    heavy = "{'torch', 'cv2', 'matplotlib'}"
    run = run_python("-c", f"import sys, widerface_evaluate.evaluation; sys.exit(bool({heavy} & set(sys.modules)))")
    assert run.returncode == 0, run.stderr


def test_groups_by_size_label_and_event(tmp_path):
    faces = {ONE: [[0, 0, 50, height] for height in (7, 8, 15, 16, 32)], ("1--B", "two"): [[0, 0, 50, 96], FACE]}
    labels = {"invalid": {ONE: [0, 0, 1, 0, 0], ("1--B", "two"): [0, 0]},
              "blur": {ONE: [0, 1, 2, 2, 2], ("1--B", "two"): [0, 1]}}
    ground_truth = write_ground_truth(tmp_path, faces, **labels)

    def chosen(kind):
        groups = groups_by(kind, ground_truth.subsets["hard"], ground_truth)
        return {name: np.flatnonzero(group.faces).tolist() for name, group in groups.items()}

    assert chosen("size") == {
        "under 8 px": [0], "8-16 px": [1], "16-32 px": [3], "32-96 px": [4, 6], "over 96 px": [5]}
    assert chosen("blur") == {"blur clear": [0, 5], "blur normal": [1, 6], "blur heavy": [2, 3, 4]}
    assert chosen("event") == {"0--A": [0, 1, 2, 3, 4], "1--B": [5, 6]}
    with pytest.raises(InputError, match="pose_label_list"):
        chosen("pose")


def test_the_empty_box_of_a_picture_without_faces_is_no_face_of_any_height(tmp_path):
    pictures = {("0--A", f"empty_{index}"): [] for index in range(10)} | {ONE: [FACE]}
    write_ground_truth(tmp_path / "truth", pictures)
    write_predictions(tmp_path / "found", {picture: [] for picture in pictures} | {ONE: [[*FACE, 0.9]]})
    lines = run_python(SCRIPT, "-p", tmp_path / "found", "-g", tmp_path / "truth", "--min_height", "0",
                       "--by", "size").stdout.splitlines()
    assert "at least 0 px AP: 1.0000, 1 faces" in lines
    assert "under 8 px AP: nan, 0 faces" in lines and "32-96 px AP: 1.0000, 1 faces" in lines
    assert ["0-6", "0", "nan", "nan", "-"] in [line.split() for line in lines]


def test_an_event_is_judged_by_its_own_pictures(tmp_path):
    key = ("1--B", "two")
    ground_truth = write_ground_truth(tmp_path, {ONE: [FACE], key: [FACE]})
    matches = match_detections(arrays({ONE: [[*FACE, 0.9]], key: [[*FAR, 0.95], [*FACE, 0.1]]}), ground_truth)
    aps = {name: precision_recall(matches, group, ground_truth).ap
           for name, group in groups_by("event", ground_truth.subsets["hard"], ground_truth).items()}
    assert aps == pytest.approx({"0--A": 1, "1--B": 1 / 2})


def test_faces_of_a_height_in_some_pictures(tmp_path):
    """Of six faces three are 9 px and more and valid; one of them is found, and a far face is a false alarm."""
    other = ("1--B", "two")
    faces = {ONE: [[0, 0, 50, 8], [100, 0, 50, 9], [200, 0, 50, 40]], other: [FACE, [300, 0, 50, 9], [400, 0, 50, 60]]}
    write_ground_truth(tmp_path / "truth", faces, invalid={ONE: [0, 0, 1], other: [0, 0, 1]})
    found = {ONE: [[100, 0, 50, 9, 0.9], [600, 0, 50, 50, 0.95]], other: [[*FACE, 0.8], [0, 600, 50, 50, 0.99]]}
    write_predictions(tmp_path / "found", found)
    (tmp_path / "first.txt").write_bytes(b"/0--A/one.jpg\r\n\r\n")
    command = [SCRIPT, "-p", tmp_path / "found", "-g", tmp_path / "truth", "--min_height", "9"]
    assert "\nat least 9 px AP: 0.3333, 3 faces\n" in run_python(*command).stdout  # 2 of 3, after 2 false alarms
    run = run_python(*command, "--by", "event", "--pictures", tmp_path / "first.txt")
    assert "\nat least 9 px AP: 0.5000, 1 faces\n0--A AP: 0.5000, 1 faces\n1--B AP: nan, 0 faces\n" in run.stdout
    (tmp_path / "first.txt").write_text("0--A/one.jpg\n0--A/none.jpg\n")
    run = run_python(*command, "--pictures", tmp_path / "first.txt")
    assert run.returncode == 2 and "first.txt:2: the ground truth has no picture '0--A/none.jpg'" in run.stderr


def test_predictions_of_a_part_need_no_files_of_the_rest(tmp_path):
    """The official ground truth and a list of a few events: what the list names must be there, nothing else."""
    other = ("1--B", "two")
    write_ground_truth(tmp_path / "truth", {ONE: [FACE], other: [FACE, FAR]})
    write_predictions(tmp_path / "found", {ONE: [[*FACE, 0.9], [*FAR, 0.95]]})
    (tmp_path / "list.txt").write_text("0--A/one.jpg\n")
    command = [SCRIPT, "-p", tmp_path / "found", "-g", tmp_path / "truth"]
    run = run_python(*command, "--pictures", tmp_path / "list.txt", "--json", tmp_path / "ap.json")
    assert "Hard   Val AP: 0.5\n" in run.stdout and run.stdout.startswith("1 of 2 pictures, 1 event\n")
    written = json.loads((tmp_path / "ap.json").read_text(encoding="utf-8"))
    assert written == {"pictures": "1 of 2 pictures, 1 event", "easy": 0.5, "medium": 0.5, "hard": 0.5}
    run = run_python(*command)
    assert run.returncode == 2 and "1--B is missing" in run.stderr
    (tmp_path / "list.txt").write_text("0--A/one.jpg\n1--B/two.jpg\n")
    run = run_python(*command, "--pictures", tmp_path / "list.txt")
    assert run.returncode == 2 and "1--B is missing" in run.stderr


def test_a_part_is_evaluated_as_if_there_were_no_others(tmp_path):
    other = ("1--B", "two")
    ground_truth = write_ground_truth(tmp_path, {ONE: [FACE, FAR], other: [FACE]}, easy={ONE: [2], other: [1]})
    part = ground_truth.part(np.array([False, True]))
    assert part.pictures == [other] and part.picture.tolist() == [0] and part.boxes.tolist() == [FACE]
    assert part.subsets["easy"].tolist() == [True]
    # On the scale of both pictures the sure false alarm of the first would push these to one threshold.
    predictions = arrays({other: [[*FACE, 0.2], [*FAR, 0.1]]})
    assert evaluate(predictions, part)["hard"] == 1
    assert extent(part, 2) == "1 of 2 pictures, 1 event" and extent(ground_truth, 2) == "all 2 pictures, 2 events"


def test_sizes_at_the_network(tmp_path):
    """A face of 40 px, scaled by 0.25, is one of 10; its box is twice as wide and 1.28 as high: seen, not matched."""
    other = ("1--B", "two")
    write_ground_truth(tmp_path / "truth", {ONE: [[100, 100, 40, 40]], other: [[0, 0, 30, 70]]})
    found = {ONE: [[90, 95, 80, 51.2, 0.9]], other: [[0, 0, 30, 70, 0.8]]}
    write_predictions(tmp_path / "found", found)
    (tmp_path / "found" / "scales.csv").write_text("0--A/one,0.25\n1--B/two,1\n")
    command = [SCRIPT, "-p", tmp_path / "found", "-g", tmp_path / "truth", "--by", "size"]
    rows = {line.split("  ")[0]: line.split()[-4:] for line in run_python(*command).stdout.splitlines()}
    assert rows["8-12"] == ["1", "0.0000", "1.0000", "1.60"]
    assert rows["over 64"] == ["1", "0.5000", "1.0000", "1.00"]  # behind the false alarm that the first box is at 0.5
    (tmp_path / "found" / "scales.csv").write_text("0--A/one,large\n")
    assert "scales.csv:1: should be EVENT/NAME,SCALE" in run_python(*command).stderr
    (tmp_path / "found" / "scales.csv").unlink()
    assert "32-64                    1   0.0000   1.0000       1.60" in run_python(*command).stdout


@pytest.mark.parametrize("change, told", [
    (lambda box: box / 1000, "are they in 0..1?"),
    (lambda box: np.array([box[0], box[1], box[0] + box[2], box[1] + box[3]]), "read as x1 y1 x2 y2"),
    (lambda box: np.array([box[0] + box[2] / 2, box[1] + box[3] / 2, box[2], box[3]]), "read as the centre"),
    (lambda box: box + 500, "no box overlaps a face"),
    (lambda box: box, ""),
])
def test_boxes_in_another_format_are_told(tmp_path, change, told):
    rng = np.random.default_rng(0)
    faces = {("0--A", str(index)): rng.uniform([50, 50, 20, 20], [200, 200, 60, 60], (3, 4)) for index in range(5)}
    write_ground_truth(tmp_path / "truth", {key: boxes.tolist() for key, boxes in faces.items()})
    found = {key: [[*change(box), 0.9 - place / 100] for place, box in enumerate(boxes)]
             for key, boxes in faces.items()}
    write_predictions(tmp_path / "found", found)
    run = run_python(SCRIPT, "-p", tmp_path / "found", "-g", tmp_path / "truth")
    assert run.returncode == 0 and "Hard   Val AP" in run.stdout
    assert told in run.stderr and (told == "") == ("expected are" not in run.stderr)


def random_set(tmp_path, pictures=60):
    random = np.random.default_rng(5)
    faces = {("0--A", str(index)): random.uniform(0, 900, (3, 4)) // [1, 1, 9, 9] + 8 for index in range(pictures)}
    ground_truth = write_ground_truth(tmp_path, {key: boxes.tolist() for key, boxes in faces.items()})
    predictions = {}
    for key, boxes in faces.items():
        rows = np.vstack([boxes[: random.integers(0, 4)], random.uniform(0, 900, (2, 4))])
        predictions[key] = np.column_stack([rows, -np.sort(-random.random(len(rows)))])
    return predictions, ground_truth


def test_bootstrap_is_the_ap_of_the_drawn_pictures(tmp_path):
    predictions, ground_truth = random_set(tmp_path)
    matches = match_detections(predictions, ground_truth)
    group = subset_groups(ground_truth)["hard"]
    # Weight two must count as a second copy of the picture would. The picture of weight zero stays, with one ignored
    # face that all its detections fit: their scores belong to the range.
    weights = np.ones(len(ground_truth.pictures))
    weights[:2] = 0, 2
    drawn = precision_recall(matches, group, ground_truth, weights)
    left_out, doubled = ground_truth.pictures[:2]
    faces = {key: ground_truth.boxes[ground_truth.picture == index].tolist()
             for index, key in enumerate(ground_truth.pictures)}
    copy = ("0--A", "copy")
    counted = {key: [1, 2, 3] for key in [*faces, copy]} | {left_out: []}
    twin = write_ground_truth(tmp_path, faces | {left_out: [FACE], copy: faces[doubled]}, easy=counted)
    ignored = np.array([[*FACE, score] for score in predictions[left_out][:, 4]])
    expected = evaluate(predictions | {copy: predictions[doubled], left_out: ignored}, twin)
    assert drawn.ap == pytest.approx(expected["easy"], abs=1e-12)


def test_bootstrap_interval_holds_the_ap_and_repeats(tmp_path):
    predictions, ground_truth = random_set(tmp_path)
    matches = match_detections(predictions, ground_truth)
    group = subset_groups(ground_truth)["hard"]
    samples = bootstrap(matches, group, ground_truth, 600)
    low, high = np.percentile(samples, [2.5, 97.5])
    assert samples.shape == (600,) and low < evaluate(predictions, ground_truth)["hard"] < high
    assert 0.02 < high - low < 0.4
    assert (samples == bootstrap(matches, group, ground_truth, 600)).all()


def test_curve_runs_over_the_thresholds(tmp_path):
    predictions, ground_truth = random_set(tmp_path)
    matches = match_detections(predictions, ground_truth)
    curve = precision_recall(matches, subset_groups(ground_truth)["hard"], ground_truth)
    assert curve.precision.shape == curve.recall.shape == THRESHOLDS.shape == (1000,)
    assert (np.diff(curve.recall) >= 0).all() and THRESHOLDS[0] == 0.999 and THRESHOLDS[-1] == 0
