"""label.txt -> records -> samples -> batches: nothing is lost without a word, and every draw can be repeated."""

import numpy as np
import pytest
import torch

from data.augment import training_augmentations
from data.config import MEAN_BGR
from data.targets import FACE, IGNORED
from data.widerface import EpochBatchSampler, WiderFaceDataset, collate, make_loader, read_labels
from tests.paths import SHARED, needs_shared
from utils.files import write_picture
from utils.log import UserError

LANDMARKS = "12 14 0 18 14 0 15 17 1 13 20 0 17 20 0"
NO_LANDMARKS = " ".join(["-1"] * 15)


@pytest.fixture
def write_set(tmp_path):
    """Write label.txt (bytes or text), pictures by name and optionally ignore.txt; returns the path of label.txt."""

    def write(label, pictures=("0--Event/a.jpg", "0--Event/b.jpg"), ignore=None):
        rng = np.random.default_rng(0)
        for name in pictures:
            write_picture(tmp_path / "images" / name, rng.integers(0, 256, (60, 80, 3), dtype=np.uint8))
        (tmp_path / "label.txt").write_bytes(label if isinstance(label, bytes) else label.encode())
        if ignore is not None:
            (tmp_path / "ignore.txt").write_text(ignore)
        return tmp_path / "label.txt"

    return write


def test_line_formats(write_set):
    path = write_set(
        "# 0--Event/a.jpg\n"
        "10 12 10 14\n"
        f"10.5 12 10 14 {LANDMARKS}\n"
        f"10 12 10 14 {LANDMARKS} 0.82\n"
        f"10 12 10 14 {NO_LANDMARKS} 0.4\n"
        "# 0--Event/b.jpg\n"
    )
    records, report = read_labels(path)
    assert [len(record.boxes) for record in records] == [4, 0]
    face, empty = records
    np.testing.assert_array_equal(face.boxes[:2], [[10, 12, 20, 26], [10.5, 12, 20.5, 26]])
    assert face.has_landmarks.tolist() == [False, True, True, False]
    np.testing.assert_array_equal(face.landmarks[1], [[12, 14], [18, 14], [15, 17], [13, 20], [17, 20]])
    assert (face.landmarks[~face.has_landmarks] == 0).all()
    assert not face.ignored.any()
    for record in records:
        assert record.boxes.dtype == record.landmarks.dtype == np.float32
        assert record.has_landmarks.dtype == record.ignored.dtype == bool
        rows = len(record.boxes)
        assert record.boxes.shape == (rows, 4) and record.landmarks.shape == (rows, 5, 2)
    assert not report.problems
    assert "2 pictures (1 without faces), 4 faces (2 with landmarks)" in str(report)


def test_windows_files_and_foreign_names(write_set):
    name = "1--Fête 人/ü ñ.jpg"
    text = f"# {name}\r\n1 2 30 40 \r\n\r\n \t\r\n# 0--Event/a.jpg\r\n5\t6  30 40\r\n\r\n"
    records, report = read_labels(write_set(b"\xef\xbb\xbf" + text.encode(), pictures=[name, "0--Event/a.jpg"]))
    assert [record.boxes.tolist() for record in records] == [[[1, 2, 31, 42]], [[5, 6, 35, 46]]]
    assert not report.problems
    dataset = WiderFaceDataset(records, 32, 0, training_augmentations(32))
    assert not dataset[(0, 0)].unreadable


def test_everything_unusable_is_counted_and_named(write_set):
    lines = [
        "1 2 3 4",  # 1: before any picture
        "# 0--Event/a.jpg",
        "1 2 0 4",  # 3: no width
        "1 2 3 -4",  # 4: negative height
        "nan 2 3 4",  # 5
        "1 2 inf 4",  # 6
        "1e300 2 3 4",  # 7: no float32
        "1 2 3",  # 8
        "1 2 3 x",  # 9
        f"10 12 10 14 {LANDMARKS.replace('15 17', '-1 -1')}",  # 10: a face, without landmarks
        f"10 12 10 14 {LANDMARKS.replace('15 17', 'nan 17')}",  # 11: likewise
        "10 12 10 14",
        "# 0--Event/gone.jpg",  # 13
        "1 2 3 4",
        "#",  # 15
        "1 2 3 4",  # 16: belongs to nothing
        "# 0--Event/b.jpg",
        "# 0--Event/a.jpg",  # 18: again
        "20 22 10 14",
        "# nowhere/" + "x" * 300,  # 20: no possible file name
    ]
    records, report = read_labels(write_set("\n".join(lines)))
    assert [len(record.boxes) for record in records] == [4, 0]
    assert not records[0].has_landmarks.any() and np.isfinite(records[0].landmarks).all()
    assert dict(report.problems) == {
        "face line without a picture": 2,
        "face line of not 4, 19 or 20 numbers": 1,
        "face line with text in it": 1,
        "picture line without a name": 1,
        "picture listed again (its faces are joined)": 1,
        "box with NaN or infinity": 3,
        "box of zero or negative size": 2,
        "face with incomplete landmarks (taken as a face without)": 2,
        "missing picture": 2,
    }
    text = str(report)
    for line in (1, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 16, 18, 20):
        assert f"label.txt:{line}" in text
    assert "0--Event/gone.jpg" in text


def test_summary_stays_short(write_set):
    report = read_labels(write_set("# 0--Event/a.jpg\n" + "1 2 0 0\n" * 5000))[1]
    assert "5000 x box of zero or negative size: label.txt:2, label.txt:3, label.txt:4, ..." in str(report)
    assert len(str(report)) < 500


def test_ignore_file(write_set):
    path = write_set(
        f"# 0--Event/a.jpg\n10 12 10 14 {LANDMARKS}\n# 0--Event/b.jpg\n",
        ignore="# 0--Event/b.jpg\n1 1 5 5\n2 2 0 5\n# 0--Event/a.jpg\n3 3 6 6\n# 0--Event/other.jpg\n1 1 5 5\n",
    )
    (a, b), report = read_labels(path)
    assert a.boxes.tolist() == [[10, 12, 20, 26], [3, 3, 9, 9]]
    assert a.ignored.tolist() == [False, True] and a.has_landmarks.tolist() == [True, False]
    assert b.boxes.tolist() == [[1, 1, 6, 6]] and b.ignored.tolist() == [True]
    assert dict(report.problems) == {"picture not in label.txt": 1, "box of zero or negative size": 1}
    assert "ignore.txt:6: 0--Event/other.jpg" in str(report) and "ignore.txt:3" in str(report)
    assert "1 without faces" in str(report) and "2 ignored regions" in str(report)


def test_nothing_to_train_on_is_an_error(tmp_path, write_set):
    with pytest.raises(UserError, match="cannot read .*absent.*label.txt.*images/EVENT/NAME.jpg"):
        read_labels(tmp_path / "absent" / "label.txt")
    with pytest.raises(UserError, match="cannot read"):
        read_labels(tmp_path)
    for empty in (b"", b"\n\n", b"1 2 3 4\n", b"\x00\xff\xfe\x80"):
        with pytest.raises(UserError, match="names no picture"):
            read_labels(write_set(empty))
    with pytest.raises(UserError, match="none of the 1 pictures .*gone.jpg"):
        read_labels(write_set("# 0--Event/gone.jpg\n1 2 3 4\n"))


@pytest.fixture
def dataset(write_set):
    names = [f"{i % 3}--Event/{i}.jpg" for i in range(11)]
    label = "".join(f"# {name}\n" + f"10 12 30 24 {LANDMARKS}\n" * (i % 4) for i, name in enumerate(names))
    ignore = "# 0--Event/0.jpg\n2 2 50 50\n"
    records = read_labels(write_set(label, names, ignore))[0]
    return WiderFaceDataset(records, 64, 5, training_augmentations(64))


def assert_same(a, b):
    assert torch.equal(a.images, b.images)
    assert all(torch.equal(x, y) for x, y in zip(a.targets, b.targets))


def test_sample_depends_on_seed_epoch_and_index_alone(dataset):
    first = dataset[(2, 4)]
    dataset[(0, 1)]
    np.random.seed(99)
    again = dataset[(2, 4)]
    np.testing.assert_array_equal(first.image, again.image)
    np.testing.assert_array_equal(first.boxes, again.boxes)
    other_seed = WiderFaceDataset(dataset.records, 64, 6, dataset.augmentations)
    for other in (dataset[(3, 4)], dataset[(2, 4 + 11)], other_seed[(2, 4)]):
        assert not np.array_equal(first.image, other.image)


def test_sample_does_not_change_the_record(dataset):
    before = [record.boxes.copy() for record in dataset.records]
    for index in range(len(dataset)):
        dataset[(0, index)]
    assert all(np.array_equal(record.boxes, boxes) for record, boxes in zip(dataset.records, before))


def test_unreadable_picture_is_blank_and_named(dataset):
    bad = dataset.records[5]
    with open(bad.path, "wb") as file:
        file.write(b"no picture")
    batch = collate([dataset[(0, 5)], dataset[(0, 6)]])
    assert batch.unreadable == [bad.path]
    assert (batch.images[0] == torch.tensor(MEAN_BGR, dtype=torch.uint8)[:, None, None]).all()
    assert (batch.targets.picture == 1).all()


@pytest.mark.parametrize("pictures, batch_size", [(64, 8), (67, 8), (8, 8)])
def test_epoch_sees_every_picture_at_most_once(pictures, batch_size):
    sampler = EpochBatchSampler(pictures, batch_size, seed=1)
    sampler.set_epoch(3)
    batches = list(sampler)
    assert len(batches) == len(sampler) == pictures // batch_size
    assert all(len(batch) == batch_size for batch in batches)
    keys = [key for batch in batches for key in batch]
    assert {epoch for epoch, _ in keys} == {3}
    indices = [index for _, index in keys]
    assert len(set(indices)) == len(indices) and set(indices) <= set(range(pictures))
    assert list(sampler) == batches
    sampler.set_epoch(4)
    assert [[index for _, index in batch] for batch in sampler] != [[index for _, index in batch] for batch in batches]


def test_set_smaller_than_a_batch_is_repeated_with_other_draws(dataset):
    sampler = EpochBatchSampler(len(dataset), 32, seed=1)
    (batch,) = list(sampler)
    assert len(sampler) == 1 and sorted(index for _, index in batch) == list(range(32))
    pictures = [index % len(dataset) for _, index in batch]
    assert set(pictures) == set(range(11))
    assert collate([dataset[key] for key in batch]).images.unique(dim=0).shape[0] == 32


@pytest.mark.parametrize("world_size", [2, 4])
def test_processes_share_what_one_would_see(world_size):
    one = list(EpochBatchSampler(50, 8, seed=1))
    parts = [list(EpochBatchSampler(50, 8, seed=1, rank=rank, world_size=world_size)) for rank in range(world_size)]
    assert [sum(batches, []) for batches in zip(*parts)] == one


def test_batch_must_be_divisible():
    with pytest.raises(UserError, match="batch of 9 .* 2 processes"):
        EpochBatchSampler(50, 9, seed=1, world_size=2)


def test_collate(dataset):
    batch = collate([dataset[(0, index)] for index in range(11)])
    assert batch.images.shape == (11, 3, 64, 64) and batch.images.dtype == torch.uint8
    assert np.array_equal(batch.images[2].permute(1, 2, 0).numpy(), dataset[(0, 2)].image)
    targets = batch.targets
    faces = len(targets.picture)
    assert faces > 5
    shapes = [tuple(field.shape) for field in targets]
    assert shapes == [(faces,), (faces, 4), (faces, 5, 2), (faces,), (faces,), (faces,)]
    types = [field.dtype for field in targets]
    assert types == [torch.int64, torch.float32, torch.float32, torch.bool, torch.int8, torch.float32]
    for index in range(11):
        rows = targets.picture == index
        sample = dataset[(0, index)]
        np.testing.assert_array_equal(targets.boxes[rows].numpy(), sample.boxes)
        assert targets.role[rows].tolist() == [IGNORED if ignored else FACE for ignored in sample.ignored]
    assert (targets.weights == 1).all()


def test_collate_without_faces(dataset):
    batch = collate([dataset[(0, 4)]] * 3)
    assert batch.targets.boxes.shape == (0, 4) and batch.targets.landmarks.shape == (0, 5, 2)
    assert batch.targets.picture.dtype == torch.int64 and batch.targets.role.dtype == torch.int8


def test_workers_see_the_same_pictures_as_the_main_process(dataset):
    def epochs(num_workers):
        sampler = EpochBatchSampler(len(dataset), 4, seed=1)
        loader = make_loader(dataset, sampler, num_workers)
        for epoch in (0, 1):
            sampler.set_epoch(epoch)
            yield from loader

    state = torch.get_rng_state()
    alone, with_workers = list(epochs(0)), list(epochs(2))
    assert len(alone) == len(with_workers) == 4
    for a, b in zip(alone, with_workers):
        assert_same(a, b)
    assert not torch.equal(alone[0].images, alone[2].images)
    assert torch.equal(torch.get_rng_state(), state)


@needs_shared
def test_real_photographs():
    records, report = read_labels(SHARED / "data" / "people" / "train" / "label.txt")
    assert (report.pictures, report.faces, report.pictures_without_faces) == (3457, 46083, 268)
    assert report.ignored_regions == 92807 and not report.problems
    val, report = read_labels(SHARED / "data" / "people" / "val" / "label.txt")
    assert len(val) == 427 + 103 + 347 and report.faces_with_landmarks == 0
