"""From pictures to detections and to AP: scaling, padding, batching, suppression, the test script."""

import csv
import json
import shutil
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import test_widerface
from data.drawn.demo_set import write_demo_set
from data.picture_files import read_picture, write_picture
from data.pixels import normalize
from data.widerface import list_pictures
from deployment.onnx_layout import BlockedDetector
from detection.face_detector import Candidates, FaceDetector
from detection.inference import detect, detect_files, looks_at, pad_picture
from detection.protocols import PROTOCOLS
from detection.suppression import DetectionSettings, suppress, vote
from detection.text_files import DetectionFolder
from detection.validation import measure_ap, predict
from layers.anchors import STRIDES, make_anchors
from layers.box_coder import decode_boxes, decode_landmarks, encode_boxes, encode_landmarks
from layers.matcher import assign
from models import build_model
from models.blocks import Heads
from tests.test_assignment import make_targets
from utils.errors import UserError
from widerface_evaluate.evaluation import evaluate
from widerface_evaluate.wider_files import load_ground_truth

SETTINGS = DetectionSettings()
CPU = torch.device("cpu")


class RedBoxes(nn.Module):
    """A network that finds the one red rectangle of a picture: its maps are the code of its true box, 16 channels an
    anchor, and its heads pass them on."""

    name = "red"

    def __init__(self):
        super().__init__()
        self.heads = Heads(2 * 16)
        first = 0
        for convs, values in ((self.heads.boxes, 4), (self.heads.logits, 2), (self.heads.landmarks, 10)):
            rows = torch.eye(16)[first : first + values]
            for conv in convs:
                conv.weight.data = torch.block_diag(rows, rows)[..., None, None]
                nn.init.zeros_(conv.bias)
            first += values

    def pyramid(self, images):
        height, width = images.shape[2:]
        anchors = make_anchors(height, width)
        rows = []
        for picture, image in enumerate(images):
            red = (image[2] > 60) & (image[1] < -60)
            y, x = red.nonzero().unbind(1)
            rows.append((picture, (x.min(), y.min(), x.max() + 1, y.max() + 1), 1))
        result = assign(make_targets(rows), anchors, len(images))
        logits = torch.where(result.positive[..., None], torch.tensor([0.0, 4.0]), torch.tensor([9.0, 0.0]))
        boxes, landmarks = encode_boxes(result.boxes, anchors), encode_landmarks(result.landmarks, anchors)
        cells = torch.cat([boxes, logits, landmarks], dim=-1).unflatten(1, (-1, 2)).flatten(2)
        sizes = [(height // stride, width // stride) for stride in STRIDES]
        levels = cells.split([rows * columns for rows, columns in sizes], dim=1)
        return [level.transpose(1, 2).unflatten(2, size) for level, size in zip(levels, sizes)], ()


def red_picture(height, width, box):
    picture = np.full((height, width, 3), 90, np.uint8)
    left, top, right, bottom = box
    picture[top:bottom, left:right] = (0, 0, 255)
    return picture


def trained_network():
    """V2 whose random head calls many anchors faces."""
    torch.manual_seed(0)
    network = build_model("v2").eval()
    nn.init.normal_(network.heads.logits[0].weight, std=0.02)
    return network


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_boxes_come_back_in_the_pixels_of_the_file_whatever_the_protocol(tmp_path, protocol):
    paths, boxes = [], []
    for index, (height, width) in enumerate([(333, 501), (1201, 800), (64, 64), (501, 333), (333, 501)]):
        box = (width // 4, height // 4, width // 2, height // 2 + 3)
        paths.append(tmp_path / f"ünïcode {index}.png")
        write_picture(paths[-1], red_picture(height, width, box))
        boxes.append(box)
    found = dict(detect_files(FaceDetector(RedBoxes()), paths, protocol, SETTINGS, CPU))
    assert sorted(found) == list(range(len(paths)))
    for index, box in enumerate(boxes):
        height, width = read_picture(paths[index]).shape[:2]
        smallest = min(PROTOCOLS[protocol].factors(height, width))
        pixel = 0.01 if protocol == "original" else max(1.0, 1 / smallest)
        assert len(found[index].boxes) == 1
        assert np.abs(found[index].boxes[0] - box).max() <= pixel
        center = np.float32([(box[0] + box[2]) / 2, (box[1] + box[3]) / 2])
        assert np.abs(found[index].landmarks[0] - center).max() <= pixel


@pytest.mark.parametrize(("protocol", "height", "width", "sides"), [
    ("original", 33, 501, [(33, 501)]),
    ("vga", 480, 1280, [(240, 640)]),
    ("vga", 100, 50, [(640, 320)]),
    ("1600", 800, 1000, [(1600, 2000)]),
    ("1600", 1000, 3000, [(717, 2150)]),
    ("multiscale", 1000, 1400, [(500, 700), (800, 1120), (1100, 1540), (1400, 1960), (1700, 2380)]),
    ("multiscale", 200, 100, [(750, 375), (1200, 600), (1650, 825), (2100, 1050), (2550, 1275)]),
])
def test_each_protocol_looks_at_the_sizes_it_names(protocol, height, width, sides):
    looks = looks_at(np.zeros((height, width, 3), np.uint8), PROTOCOLS[protocol])
    looked = [(round(look.scales[0] * height), round(look.scales[1] * width)) for look in looks]
    assert looked == [size for size in sides for _ in range(2 if protocol == "multiscale" else 1)]
    assert [look.is_mirrored for look in looks] == ([False, True] * 5 if protocol == "multiscale" else [False])
    assert all(side % 32 == 0 for look in looks for side in look.image.shape[1:])


def test_a_picture_is_padded_right_and_below_with_the_mean():
    padded = pad_picture(np.zeros((33, 64, 3), np.uint8))
    assert padded.shape == (3, 64, 64) and not padded[:, :33].any()
    assert (padded[:, 33:] == torch.tensor([104, 117, 123])[:, None, None]).all()


def test_the_detector_pads_as_the_loader_does():
    picture = np.random.default_rng(0).integers(0, 256, (45, 70, 3), dtype=np.uint8)
    detector = FaceDetector(trained_network())
    whole = detector(pad_picture(picture)[None])
    for images in (torch.from_numpy(picture.transpose(2, 0, 1)[None].copy()), pad_picture(picture)[None].double()):
        for field, expected in zip(detector(images), whole):
            torch.testing.assert_close(field, expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("size", [(1, 1, 1), (1, 32, 97), (2, 61, 90), (3, 160, 31)])
@pytest.mark.parametrize("name", ["v1", "v2"])
@pytest.mark.parametrize("form", [FaceDetector, lambda network: BlockedDetector(FaceDetector(network))])
def test_rewriting_changes_nothing_but_the_number_of_steps(name, size, form):
    """Against the network itself and plain decoding, with running statistics and factors unlike the start's."""
    torch.manual_seed(1)
    network = build_model(name)
    for norm in (module for module in network.modules() if isinstance(module, nn.BatchNorm2d)):
        for values in (norm.weight, norm.bias):
            values.data.uniform_(0.5, 1.5)
        norm.momentum = None  # the mean over all that is seen
    for parameter_name, parameter in network.named_parameters():
        if parameter_name.startswith("heads."):
            parameter.data.normal_(std=0.01)
    with torch.no_grad():
        network(torch.randn(2, 3, 160, 160) * 60)
    network.eval()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    count, height, width = size
    images = torch.randint(0, 256, (count, 3, height, width), dtype=torch.uint8)
    with torch.no_grad():
        found = form(network)(images)
        padded = F.pad(normalize(images), (0, -width % 32, 0, -height % 32))
        outputs = network(padded)
    anchors = make_anchors(*padded.shape[2:])
    expected = (
        decode_boxes(outputs.boxes, anchors), outputs.logits.softmax(-1)[..., 1],
        decode_landmarks(outputs.landmarks, anchors),
    )
    for field, reference in zip(found, expected, strict=True):
        assert field.shape == reference.shape and field.is_contiguous()
        torch.testing.assert_close(field, reference, rtol=1e-3, atol=1e-4 * reference.abs().max().item())
    assert expected[1].std() > 1e-3  # else agreement would say nothing
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


@pytest.mark.parametrize("name", ["v1", "v2"])
def test_no_norm_is_left_that_could_be_folded(name):
    network = build_model(name)
    detector = FaceDetector(network)
    assert detector.parameter_count == sum(parameter.numel() for parameter in network.parameters())
    folded = sum(isinstance(module, nn.BatchNorm2d) for module in detector.modules())
    assert folded == (0 if name == "v2" else 15)  # those behind V1's deformable convolutions stay
    assert any(isinstance(module, nn.BatchNorm2d) for module in network.modules())


@pytest.mark.parametrize("protocol", ["original", "vga"])
def test_one_pixel_and_an_enormous_strip(tmp_path, protocol):
    paths = [tmp_path / "one.png", tmp_path / "strip.png"]
    write_picture(paths[0], np.zeros((1, 1, 3), np.uint8))
    write_picture(paths[1], np.zeros((2, 4000, 3), np.uint8))
    for _, detections in detect_files(FaceDetector(build_model("v2")), paths, protocol, SETTINGS, CPU):
        assert np.isfinite(detections.boxes).all()


def test_a_picture_that_cannot_be_read_is_named_not_dropped(tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    paths = [tmp_path / "broken.jpg", tmp_path / "absent.jpg"]
    assert dict(detect_files(FaceDetector(RedBoxes()), paths, "vga", SETTINGS, CPU)) == {0: None, 1: None}


@pytest.mark.parametrize("waiting", [1 << 26, 20000])
def test_batches_give_what_single_pictures_give(tmp_path, monkeypatch, waiting):
    """Whether all pictures wait together or two at a time."""
    monkeypatch.setattr("detection.inference.WAITING_PIXELS", waiting)
    detector = FaceDetector(trained_network())
    rng = np.random.default_rng(0)
    paths = [tmp_path / f"{index}.png" for index in range(5)]
    for index, path in enumerate(paths):
        write_picture(path, rng.integers(0, 256, (90 - index, 120, 3), dtype=np.uint8))
    together = dict(detect_files(detector, paths, "original", SETTINGS, CPU))
    for index, path in enumerate(paths):
        alone = detect(detector, read_picture(path), PROTOCOLS["original"], SETTINGS, CPU)
        assert len(alone.boxes) > 0
        np.testing.assert_allclose(together[index].scores, alone.scores, atol=1e-4)


def candidates_of(rows):
    """Rows x1 y1 x2 y2 score as Candidates, each with its landmarks at its top left corner."""
    rows = torch.tensor(rows, dtype=torch.float32).reshape(-1, 5)
    return Candidates(rows[:, :4], rows[:, 4], rows[:, None, :2].expand(-1, 5, 2))


def test_suppression_keeps_the_best_of_overlapping_boxes():
    """By hand, with the areas of continuous boxes: IoU 0.41 goes, 0.39 stays."""
    candidates = candidates_of([[0, 0, 100, 100, 0.9], [0, 61, 100, 100, 0.5], [0, 0, 100, 41, 0.7]])
    found = suppress(candidates, SETTINGS)
    np.testing.assert_allclose(found.boxes, candidates.boxes[[0, 1]].numpy())
    np.testing.assert_allclose(found.scores, [0.9, 0.5])
    assert len(suppress(candidates, DetectionSettings(keep_top_k=1)).boxes) == 1
    assert len(suppress(candidates, DetectionSettings(top_k=1)).boxes) == 1
    none = suppress(candidates, DetectionSettings(confidence_threshold=0.999))
    assert none.boxes.shape == (0, 4) and none.landmarks.shape == (0, 5, 2)


def test_suppression_is_greedy_without_the_lineages_plus_one():
    """Against a plain loop over boxes of whole pixels, where the "+1" would decide otherwise."""
    rng = np.random.default_rng(0)
    corners = rng.integers(0, 60, (400, 2))
    boxes = np.hstack([corners, corners + rng.integers(2, 20, (400, 2))]).astype(np.float64)
    scores = rng.permutation(400) / 400 * 0.9 + 0.05

    def greedy(one):
        area = (boxes[:, 2] - boxes[:, 0] + one) * (boxes[:, 3] - boxes[:, 1] + one)
        kept = []
        for index in np.argsort(-scores):
            sides = np.minimum(boxes[index, 2:], boxes[kept, 2:]) - np.maximum(boxes[index, :2], boxes[kept, :2]) + one
            shared = np.clip(sides, 0, None).prod(axis=1)
            if not (shared / (area[index] + area[kept] - shared) > 0.4123).any():
                kept.append(index)
        return scores[kept]

    # No ratio of small whole numbers is the threshold: rounding decides nothing.
    settings = DetectionSettings(nms_threshold=0.4123)
    found = suppress(candidates_of(np.column_stack([boxes, scores]).tolist()), settings)
    np.testing.assert_allclose(found.scores, greedy(0), rtol=1e-6)
    assert len(greedy(1)) != len(greedy(0))


def test_votes_are_means_weighed_by_score():
    """Two boxes that overlap join by hand; the third and one without area stand alone."""
    rows = [[0, 0, 100, 100, 0.6], [10, 0, 110, 100, 0.3], [500, 500, 520, 530, 0.5], [300, 300, 300, 300, 0.4]]
    found = vote(candidates_of(rows), SETTINGS)
    np.testing.assert_allclose(found.scores, [0.6, 0.5, 0.4])
    expected = [[10 / 3, 0, 310 / 3, 100], [500, 500, 520, 530], [300, 300, 300, 300]]
    np.testing.assert_allclose(found.boxes, expected, rtol=1e-5)
    np.testing.assert_allclose(found.landmarks[:, 3], np.array(expected)[:, :2], rtol=1e-5)
    none = vote(candidates_of([]), SETTINGS)
    assert none.boxes.shape == (0, 4) and none.landmarks.shape == (0, 5, 2)


@pytest.fixture(scope="module")
def validation_set(tmp_path_factory):
    folder = tmp_path_factory.mktemp("validation") / "set"
    write_demo_set(folder, train_pictures=1, val_pictures=8)
    return folder / "val"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("checkpoint") / "Student.pth"
    torch.save({"model_name": "v2", "model": trained_network().state_dict(), "ema": None}, path)
    return path


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["test_widerface.py", *map(str, arguments), "--cpu", "--num_workers", "0"])
    test_widerface.main()


def test_the_script_writes_detections_and_the_ap_they_get(monkeypatch, capsys, validation_set, checkpoint, tmp_path):
    run(monkeypatch, "--trained_model", checkpoint, "--dataset_folder", validation_set, "--save_folder", tmp_path,
               "--save_image")
    printed = capsys.readouterr().out
    truth = load_ground_truth(validation_set / "ground_truth")
    network = FaceDetector(trained_network())
    in_memory = evaluate(predict(network, validation_set, "original", CPU, 0), truth)
    [row] = json.loads((tmp_path / "table.json").read_text())
    assert [row[name] for name in in_memory] == pytest.approx(list(in_memory.values()), abs=2e-3)
    assert row["dataset"] == f"{validation_set.parent.name}/{validation_set.name}"
    assert (row["protocol"], row["scale"], row["threshold"], row["NMS"], row["top-k"]) == (
        "original", "original size", "> 0.02", "0.4", "5000 to 750")
    assert "original size" in printed and f"{row['easy']:.4f}" in printed
    with (tmp_path / "table.csv").open(newline="") as file:
        assert [float(line["easy"]) for line in csv.DictReader(file)] == [row["easy"]]
    assert (tmp_path / "Student_original.jpg").stat().st_size > 1000
    assert len(list(tmp_path.glob("Student_original/*/*.txt"))) == len(list_pictures(validation_set))


def test_every_protocol_is_a_row(monkeypatch, tmp_path, checkpoint):
    write_demo_set(tmp_path / "set", train_pictures=1, val_pictures=1)
    run(monkeypatch, "--trained_model", checkpoint, "--dataset_folder", tmp_path / "set/val", "--save_folder",
               tmp_path / "out", "--protocol", "all")
    rows = json.loads((tmp_path / "out/table.json").read_text())
    assert [row["protocol"] for row in rows] == list(PROTOCOLS)
    assert len({row["scale"] for row in rows}) == 4 and "voting" in rows[-1]["NMS"]


def test_a_stopped_run_goes_on_and_another_checkpoint_starts_anew(monkeypatch, validation_set, checkpoint, tmp_path):
    arguments = ["--dataset_folder", validation_set, "--save_folder", tmp_path / "out", "--protocol", "vga"]
    run(monkeypatch, "--trained_model", checkpoint, *arguments)
    written = sorted((tmp_path / "out").glob("Student_vga/*/*.txt"))
    whole = {path: path.read_text() for path in written}
    written[0].unlink()
    seen = []
    monkeypatch.setattr(test_widerface, "detect_files", spy(test_widerface.detect_files, seen))
    run(monkeypatch, "--trained_model", checkpoint, *arguments)
    assert seen == [[written[0].stem]]
    assert {path: path.read_text() for path in written} == whole

    other = tmp_path / "Student.pth"
    state = torch.load(checkpoint, weights_only=True)
    state["model"]["heads.logits.0.bias"][::2] += 1
    torch.save(state, other)
    run(monkeypatch, "--trained_model", other, *arguments)
    assert len(seen[1]) == len(written)
    assert all(path.read_text() != whole[path] for path in written)


def spy(detect_files, seen):
    """detect_files that notes the names of the pictures it is given."""

    def noted(detector, paths, *rest):
        seen.append([path.stem for path in paths])
        return detect_files(detector, paths, *rest)

    return noted


def test_an_unreadable_picture_gets_an_empty_file_and_is_named_by_every_run(
        monkeypatch, capsys, tmp_path, validation_set, checkpoint):
    folder = shutil.copytree(validation_set, tmp_path / "val")
    name = list_pictures(folder)[0]
    (folder / "images" / name).write_bytes(b"no picture")
    for _ in range(2):
        run(monkeypatch, "--trained_model", checkpoint, "--dataset_folder", folder, "--save_folder", tmp_path / "o")
        assert f"cannot read {folder / 'images' / name}" in capsys.readouterr().out
    written = (tmp_path / "o/Student_original" / name).with_suffix(".txt").read_text()
    assert written.split() == [Path(name).stem, "0"]


def test_the_test_split_becomes_a_zip_of_text_files(monkeypatch, capsys, tmp_path, validation_set, checkpoint):
    folder = tmp_path / "test"
    shutil.copytree(validation_set / "images", folder / "images")
    run(monkeypatch, "--trained_model", checkpoint, "--dataset_folder", folder, "--split", "test",
               "--save_folder", tmp_path / "o")
    printed = capsys.readouterr().out
    assert "Student_original.zip" in printed and "no AP" not in printed
    with zipfile.ZipFile(tmp_path / "o/Student_original.zip") as packed:
        names = {Path(name).with_suffix(".txt").as_posix() for name in list_pictures(validation_set)}
        assert set(packed.namelist()) == names
        first = min(names)
        assert packed.read(first).decode() == (tmp_path / "o/Student_original" / first).read_text()


def test_files_that_were_never_finished_are_made_again(tmp_path):
    folder = DetectionFolder(tmp_path, ["e/a.jpg", "e/b.jpg"], {"checkpoint": "1"})
    (tmp_path / "e").mkdir()
    (tmp_path / "e/a.txt").write_text("")
    (tmp_path / "e/b.txt").write_text("b\n1\n1 2 3 4 0.5\n")
    assert folder.unfinished() == ["e/a.jpg"]


@pytest.mark.parametrize(("flags", "protocol"), [
    ([], None), (["--origin_size", "False"], "1600"), (["--origin-size", "true"], "original"),
    (["--protocol", "vga"], "vga"),
])
def test_origin_size_is_a_real_choice(flags, protocol):
    assert test_widerface.parse_args(["--trained_model", "x.pth", *flags]).protocol == protocol


def test_ap_while_training_is_that_of_the_same_detections(validation_set):
    truth = load_ground_truth(validation_set / "ground_truth")
    network = trained_network()
    predictions = predict(FaceDetector(network), validation_set, "vga", CPU, 0)
    assert set(predictions) == set(truth.pictures)
    expected = {f"ap_{name}": value for name, value in evaluate(predictions, truth).items()}
    expected["ap_mean"] = np.nanmean(list(expected.values()))
    assert measure_ap(network, validation_set, "vga", CPU, 0) == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize(("wrong", "words"), [
    (["--network", "v1"], "holds v2, not v1"),
    (["--trained_model", "nowhere.pth"], "nowhere.pth"),
    (["--dataset_folder", "nowhere"], "wider_val.txt"),
    (["--nms_threshold", "2"], "0 to 1"),
    (["--origin_size", "maybe"], "neither true nor false"),
    (["--origin_size", "true", "--protocol", "vga"], "give one of them"),
    (["--split", "test", "--dataset_folder", "nowhere"], "--test"),
])
def test_mistakes_get_one_line(monkeypatch, capsys, validation_set, checkpoint, wrong, words):
    arguments = ["--trained_model", str(checkpoint), "--dataset_folder", str(validation_set), "--cpu", *wrong]
    monkeypatch.setattr(sys, "argv", ["test_widerface.py", *arguments])
    with pytest.raises(SystemExit) as stop:
        test_widerface.run_script(test_widerface.main)
    told = capsys.readouterr().err
    assert stop.value.code == 2 and words in told and "Traceback" not in told


@pytest.mark.parametrize(("text", "words"), [("\n", "names no picture"), ("/EVENT/a.jpg\nb.jpg\n", "'b.jpg'")])
def test_a_broken_list_of_pictures_is_told(tmp_path, text, words):
    (tmp_path / "wider_val.txt").write_text(text)
    with pytest.raises(UserError, match=words):
        list_pictures(tmp_path)


def test_pictures_the_ground_truth_does_not_have_are_told(tmp_path, validation_set):
    folder = shutil.copytree(validation_set, tmp_path / "val")
    with (folder / "wider_val.txt").open("a") as file:
        file.write("/0--Nowhere/a.jpg\n")
    with pytest.raises(UserError, match="Nowhere"):
        measure_ap(build_model("v2"), folder, "vga", CPU, 0)
