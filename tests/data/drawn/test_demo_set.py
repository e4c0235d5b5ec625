"""The demo set: WIDER FACE's layout to the last cell, labels that fit the pixels, the same set from the same seed."""

import json
from collections import namedtuple

import numpy as np
import pytest
from scipy.io import loadmat

from data.drawn import demo_set as demo
from data.picture_files import read_picture
from tests.helpers import SHARED, needs_shared
from utils.errors import UserError

TRAIN, VAL, SEED = 30, 20, 3

DemoSet = namedtuple("DemoSet", "folder train val")

Labelled = namedtuple("Labelled", "path numbers")  # numbers: one row per face


def read_labels(path) -> list[Labelled]:
    pictures = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("# "):
            pictures.append(Labelled(line[2:], []))
        else:
            pictures[-1].numbers.append([float(number) for number in line.split()])
    return pictures


@pytest.fixture(scope="module")
def demo_set(tmp_path_factory) -> DemoSet:
    folder = tmp_path_factory.mktemp("sets") / "démo set"
    demo.write_demo_set(folder, TRAIN, VAL, SEED)
    return DemoSet(folder, read_labels(folder / "train" / "label.txt"), read_labels(folder / "val" / "label.txt"))


def truth(demo_set: DemoSet, name: str) -> dict:
    return loadmat(demo_set.folder / "val" / "ground_truth" / f"wider_{name}_val.mat")


def in_cells(ground_truth: dict, key: str) -> list[np.ndarray]:
    """The entries of all pictures, read as the WIDER FACE evaluation reads them."""
    return [picture[0] for event in ground_truth[key] for picture in event[0]]


def test_a_picture_depends_on_seed_and_index_only(demo_set, tmp_path):
    picture = demo.draw_picture(tmp_path, [SEED, 0], 5)
    again = (tmp_path / "images" / picture.path).read_bytes()
    assert again == (demo_set.folder / "train" / "images" / picture.path).read_bytes()
    labels = {picture.path: picture.numbers for picture in demo_set.train}
    written = [[float(number) for number in line.split()] for line in demo.training_lines(picture)[1:]]
    assert written == labels[picture.path]


def test_more_pictures_keep_the_earlier_ones(demo_set, tmp_path):
    demo.write_demo_set(tmp_path / "small", 3, 2, SEED)
    for split, labels in (("train", demo_set.train), ("val", demo_set.val)):
        for picture in read_labels(tmp_path / "small" / split / "label.txt"):
            assert picture in labels
            small, large = tmp_path / "small", demo_set.folder
            jpeg = f"{split}/images/{picture.path}"
            assert (small / jpeg).read_bytes() == (large / jpeg).read_bytes()


def test_another_seed_and_another_split_draw_other_pictures(demo_set, tmp_path):
    drawn = []
    for seed in ([SEED, 0], [SEED, 1], [SEED + 1, 0]):
        picture = demo.draw_picture(tmp_path / str(seed), seed, 0)
        drawn.append((tmp_path / str(seed) / "images" / picture.path).read_bytes())
    assert len(set(drawn)) == 3


@pytest.mark.parametrize("split, count", [("train", TRAIN), ("val", VAL)])
def test_every_picture_is_labelled_and_every_box_lies_in_it(demo_set, split, count):
    pictures = getattr(demo_set, split)
    images = demo_set.folder / split / "images"
    assert len(pictures) == count
    assert sorted(picture.path for picture in pictures) == sorted(
        path.relative_to(images).as_posix() for path in images.rglob("*.jpg")
    )
    for picture in pictures:
        height, width = read_picture(images / picture.path).shape[:2]
        assert 320 <= max(height, width) <= 640
        assert len(picture.numbers) <= 60
        for x, y, w, h, *_ in picture.numbers:
            assert 0 <= x and 0 <= y and x + w <= width + 0.1 and y + h <= height + 0.1
            assert 5.9 <= max(w, h) <= 300.1 and min(w, h) > 0


def test_the_set_spans_what_it_promises(demo_set):
    pictures = demo_set.train + demo_set.val
    counts = [len(picture.numbers) for picture in pictures]
    longer_sides = [max(numbers[2:4]) for picture in pictures for numbers in picture.numbers]
    assert min(counts) == 0 and max(counts) >= 30
    assert min(longer_sides) < 10 and max(longer_sides) > 150
    assert len({picture.path.split("/")[0] for picture in demo_set.train}) >= 4


def test_landmarks_are_five_points_on_the_face_or_none(demo_set):
    faces = np.array([numbers for picture in demo_set.train for numbers in picture.numbers])
    assert faces.shape[1] == 20
    boxes, points = faces[:, :4], faces[:, 4:19].reshape(-1, 5, 3)
    without = (points == -1).all(axis=(1, 2))
    assert 0 < without.sum() < len(faces) / 2
    assert without[boxes[:, 2:].max(axis=1) < 9.9].all()
    boxes, points = boxes[~without], points[~without]
    assert (points[..., 2] == 0).all()
    margin = 0.1 * boxes[:, None, 2:]
    assert (points[..., :2] >= boxes[:, None, :2] - margin).all()
    assert (points[..., :2] <= boxes[:, None, :2] + boxes[:, None, 2:] + margin).all()
    left_eye, right_eye, _, left_mouth, right_mouth = np.moveaxis(points[..., :2], 1, 0)
    assert (left_eye[:, 0] < right_eye[:, 0]).all() and (left_mouth[:, 0] < right_mouth[:, 0]).all()


def test_nobody_is_hidden_by_those_in_front():
    rng = np.random.default_rng(0)
    crowd = next(event for event in demo.EVENTS if event.name == "4--Crowd")
    stage = demo.arrange(crowd, 300, 400, rng)
    assert len(stage.people) >= 10
    assert (stage.visible(stage.owner) >= 0.4).all()
    assert not stage.hide([np.array([(0, 0), (400, 0), (400, 300), (0, 300)], float)])


def test_ground_truth_names_the_pictures_of_the_folder(demo_set):
    main = truth(demo_set, "face")
    events = [event[0][0] for event in main["event_list"]]
    names = [f"/{event}/{picture[0][0]}.jpg" for event, files in zip(events, main["file_list"]) for picture in files[0]]
    assert names == (demo_set.folder / "val" / "wider_val.txt").read_text(encoding="utf-8").splitlines()
    assert names == [f"/{picture.path}" for picture in demo_set.val]


def test_ground_truth_boxes_are_the_labels(demo_set):
    for boxes, picture in zip(in_cells(truth(demo_set, "face"), "face_bbx_list"), demo_set.val, strict=True):
        assert boxes.tolist() == (picture.numbers or [[0, 0, 0, 0]])


def test_subsets_nest_and_hold_the_faces_of_their_size(demo_set):
    main = truth(demo_set, "face")
    members = {name: in_cells(truth(demo_set, name), "gt_list") for name in demo.SUBSET_HEIGHTS}
    blur, occlusion = in_cells(main, "blur_label_list"), in_cells(main, "occlusion_label_list")
    for number, boxes in enumerate(in_cells(main, "face_bbx_list")):
        easy, medium, hard = (set(members[name][number].ravel().tolist()) for name in ("easy", "medium", "hard"))
        assert easy <= medium <= hard
        assert hard == set(1 + np.flatnonzero(boxes[:, 3] >= 10))
        assert medium == set(1 + np.flatnonzero(boxes[:, 3] >= 24))
        clear = (blur[number] < 2) & (occlusion[number] < 2)
        assert easy == set(1 + np.flatnonzero((boxes[:, 3] >= 50) & clear[:, 0]))
    assert 0 < sum(map(len, members["easy"])) < sum(map(len, members["medium"])) < sum(map(len, members["hard"]))


def layouts(value: np.ndarray, nesting=()) -> set:
    """How the cells nest around each entry that holds something, without the numbers of events, pictures and faces."""
    if value.dtype == object:
        return set().union(*(layouts(cell, (*nesting, value.shape[1:])) for cell in value.ravel()))
    return {(nesting, value.dtype.kind in "iuf", value.shape[1:])} if value.size else set()


@needs_shared
@pytest.mark.parametrize("name", ["face", "easy", "medium", "hard"])
def test_ground_truth_nests_as_the_official_files_do(demo_set, name):
    official = loadmat(SHARED / "data" / "wider_ground_truth" / f"wider_{name}_val.mat")
    ours = truth(demo_set, name)
    assert {key for key in ours if key[0] != "_"} == {key for key in official if key[0] != "_"}
    for key, value in official.items():
        if key[0] != "_":
            assert layouts(ours[key]) == layouts(value) != set(), key


def test_the_same_set_is_not_drawn_again(demo_set):
    stamp = demo_set.folder / demo.STAMP
    before = stamp.stat().st_mtime_ns
    demo.write_demo_set(demo_set.folder, TRAIN, VAL, SEED)
    assert stamp.stat().st_mtime_ns == before


def test_an_older_demo_set_is_replaced(tmp_path):
    (tmp_path / "old.txt").write_text("old")
    (tmp_path / demo.STAMP).write_text(json.dumps({"maker": demo.MAKER, "version": 0}))
    demo.write_demo_set(tmp_path, 1, 1, 0)
    assert not (tmp_path / "old.txt").exists()
    assert len(read_labels(tmp_path / "train" / "label.txt")) == 1


def test_a_failure_leaves_nothing_behind(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError("no space left")

    monkeypatch.setattr(demo, "write_ground_truth", fail)
    with pytest.raises(UserError, match="no space left"):
        demo.write_demo_set(tmp_path / "set", 1, 1, 0)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("train, val, seed", [(0, 1, 0), (1, 0, 0), (1, 1, -1)])
def test_impossible_sizes_are_refused(tmp_path, train, val, seed):
    with pytest.raises(UserError):
        demo.write_demo_set(tmp_path / "set", train, val, seed)
