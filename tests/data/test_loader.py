"""Records -> samples -> batches: every draw can be repeated, whoever makes it and wherever the pictures lie."""

import pickle
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch

from data import loader, pictures
from data.augment import training_augmentations
from data.config import CACHES, DEVICE, FILES, MEAN_BGR, RAM
from data.loader import TrainingDataset, TrainingLoader
from data.picture_files import write_picture
from data.pictures import open_pictures
from data.pixels import blend
from data.sampler import EpochBatchSampler
from data.targets import FACE, IGNORED
from data.widerface import Record
from tests.helpers import CPU
from utils.errors import UserError

#: Of a level, between pictures in main memory and on the device.
SAME_PIXELS = 2

#: Height and width of the pictures; the last two lead to decoding at reduced scale.
SHAPES = [(60, 80), (90, 51), (64, 64), (1, 1), (33, 200), (61, 83), (300, 400), (701, 523)]


def smooth_picture(height: int, width: int, seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), 2)


def make_record(path, faces: int, height: int, width: int) -> Record:
    rng = np.random.default_rng(faces)
    corners = rng.random((faces, 2)) * (width, height) * 0.6
    boxes = np.concatenate([corners, corners + rng.uniform(0.1, 0.4, (faces, 2)) * (width, height)], axis=1)
    inner = np.array([[0.3, 0.4], [0.7, 0.4], [0.5, 0.6], [0.4, 0.8], [0.6, 0.8]])
    landmarks = boxes[:, None, :2] + inner * (boxes[:, None, 2:] - boxes[:, None, :2])
    ignored = np.arange(faces) % 3 == 2
    return Record(str(path), boxes.astype(np.float32), landmarks.astype(np.float32), ~ignored, ignored)


@pytest.fixture
def records(tmp_path):
    """Pictures of all kinds: none and 500 faces, one pixel, a file that is no picture, a name beyond ASCII."""
    made = []
    for place, (height, width) in enumerate(SHAPES):
        suffix = ".png" if place == 6 else ".jpg"
        path = tmp_path / "1--Fête 人" / f"ü{place}{suffix}"
        picture = smooth_picture(height, width, place)
        write_picture(path, picture[..., 0] if place == 2 else picture)  # the third is grey
        made.append(make_record(path, (0, 3, 1, 1, 2, 500, 4, 5)[place], height, width))
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"\xff\xd8\xff\xe0 no picture")
    return [*made, make_record(broken, 2, 60, 80), make_record(tmp_path / "absent.jpg", 1, 60, 80)]


def make_dataset(records, place=FILES, seed=5, side=64) -> TrainingDataset:
    pictures = open_pictures([record.path for record in records], place, CPU)
    return TrainingDataset(records, pictures, side, seed, training_augmentations(side, mask_probability=0.5))


def make_loader(dataset, batch_size=4, num_workers=0, device=CPU) -> TrainingLoader:
    return TrainingLoader(dataset, EpochBatchSampler(len(dataset), batch_size, seed=1), num_workers, device)


def whole_epochs(loader, epochs=(0, 1)) -> list:
    batches = []
    for epoch in epochs:
        loader.loaded.sampler.sampler.set_epoch(epoch)
        batches += list(loader)
    return batches


def assert_same(a, b, levels=0):
    assert (a.images.int() - b.images.int()).abs().max() <= levels
    assert all(torch.equal(x, y) for x, y in zip(a.targets, b.targets))
    assert a.unreadable == b.unreadable


def test_sample_depends_on_seed_epoch_and_index_alone(records):
    dataset = make_dataset(records)
    first = dataset[[(2, 7)]]
    dataset[[(0, 1)]]
    np.random.seed(99)
    again = dataset[[(2, 1), (2, 7)]]
    assert torch.equal(first.images[0], again.images[1]) and torch.equal(first.colours[0], again.colours[1])
    assert torch.equal(first.targets.boxes, again.targets.boxes[again.targets.picture == 1])
    for other in (dataset[[(3, 7)]], dataset[[(2, 7 + len(records))]], make_dataset(records, seed=6)[[(2, 7)]]):
        assert not torch.equal(first.images, other.images)


def test_sample_does_not_change_the_record(records):
    dataset = make_dataset(records)
    before = [record.boxes.copy() for record in records]
    dataset[[(0, index) for index in range(len(records))]]
    assert all(np.array_equal(record.boxes, boxes) for record, boxes in zip(records, before))


@pytest.mark.parametrize("place", CACHES)
def test_unreadable_picture_is_blank_and_named(records, place):
    dataset = make_dataset(records, place)
    (batch,) = make_loader(dataset, len(records))
    assert sorted(batch.unreadable) == sorted(record.path for record in records[-2:])
    blank = (batch.images == torch.tensor(MEAN_BGR, dtype=torch.uint8)[:, None, None]).all(dim=(1, 2, 3))
    assert blank.sum() == 2 and not blank[batch.targets.picture].any()


@pytest.mark.parametrize("place", [RAM, DEVICE])
def test_caches_see_what_the_files_show(records, place):
    """To the device's rounding; JPEGs of reduced scale are averaged by the decoder, so they only look alike."""
    lossless = [records[place] for place in (0, 1, 2, 3, 4, 5, 6, 8, 9)]
    files, cached = (make_dataset(lossless, each) for each in (FILES, place))
    for a, b in zip(whole_epochs(make_loader(files, 3)), whole_epochs(make_loader(cached, 3)), strict=True):
        assert_same(a, b, levels=SAME_PIXELS)


def test_decoding_at_reduced_scale_shows_the_same_part(tmp_path):
    """Against the whole picture, whose blocks are averaged; smooth, because the two filters differ on sharp edges."""
    reductions = set()
    for height, width in [(701, 523), (333, 517), (1203, 901)]:
        path = tmp_path / f"{height}.jpg"
        picture = cv2.GaussianBlur(smooth_picture(height, width, 0), (0, 0), 6)
        write_picture(path, cv2.normalize(picture, None, 0, 255, cv2.NORM_MINMAX))
        record = make_record(path, 3, height, width)
        files, ram = make_dataset([record]), make_dataset([record], RAM)
        for index in range(30):
            drawn = files.plan((0, index), height, width)
            reductions.add(drawn.cut.reduction)
            a, b = files[[(0, index)]], ram[[(0, index)]]
            assert torch.equal(a.targets.boxes, b.targets.boxes)
            assert (a.images.int() - b.images.int()).abs().max() <= 4
    assert reductions >= {2, 4, 8}


def test_a_huge_picture_is_cut_like_any_other(tmp_path):
    write_picture(tmp_path / "huge.jpg", np.full((4000, 6000, 3), 90, np.uint8))
    record = make_record(tmp_path / "huge.jpg", 3, 4000, 6000)
    (batch,) = make_loader(make_dataset([record]), 2)
    assert batch.images.shape == (2, 3, 64, 64) and not batch.unreadable


def test_a_set_without_any_readable_picture(records):
    for place in CACHES:
        (batch,) = make_loader(make_dataset(records[-2:], place), 2)
        assert len(batch.unreadable) == 2 and len(batch.targets.boxes) == 0


def test_the_device_gets_the_colours_that_were_drawn(records):
    dataset = make_dataset(records[:4])
    keys = [(0, index) for index in range(4)]
    (drawn,), (batch,) = [dataset[keys]], make_loader(dataset)
    order = [index for _, index in next(iter(EpochBatchSampler(4, 4, seed=1)))]
    blend(drawn.images, drawn.masks)
    assert drawn.masks and drawn.colours.unique(dim=0).shape[0] == 4
    for place, index in enumerate(order):
        image = drawn.images[index].permute(1, 2, 0).numpy()
        painted = cv2.transform(image, drawn.colours[index].numpy())
        np.testing.assert_array_equal(batch.images[place].permute(1, 2, 0).numpy(), painted)


def test_without_a_change_of_colours_they_stay(records):
    dataset = make_dataset(records[:4])
    dataset.augmentations = dataset.augmentations[:1]
    (batch,) = make_loader(dataset)
    order = next(iter(EpochBatchSampler(4, 4, seed=1)))
    assert torch.equal(batch.images, dataset[order].images)


def test_set_smaller_than_a_batch_is_repeated_with_other_draws(records):
    dataset = make_dataset(records[4:8])
    sampler = EpochBatchSampler(len(dataset), 16, seed=1)
    (batch,) = list(sampler)
    assert len(sampler) == 1 and sorted(index for _, index in batch) == list(range(16))
    (batch,) = make_loader(dataset, 16)
    assert batch.images.unique(dim=0).shape[0] == 16


def test_targets_are_one_flat_list(records):
    dataset = make_dataset(records)
    keys = [(0, index) for index in range(len(records))]
    batch = dataset[keys]
    assert batch.images.shape == (len(records), 3, 64, 64) and batch.images.dtype == torch.uint8
    assert batch.images.is_contiguous(memory_format=torch.channels_last)
    targets = batch.targets
    faces = len(targets.picture)
    assert faces > 5
    shapes = [tuple(field.shape) for field in targets]
    assert shapes == [(faces,), (faces, 4), (faces, 5, 2), (faces,), (faces,), (faces,)]
    types = [field.dtype for field in targets]
    assert types == [torch.int64, torch.float32, torch.float32, torch.bool, torch.int8, torch.float32]
    for index, (height, width) in enumerate(SHAPES):
        rows = targets.picture == index
        sample = dataset.plan((0, index), height, width)
        np.testing.assert_array_equal(targets.boxes[rows].numpy(), sample.boxes)
        assert targets.role[rows].tolist() == [IGNORED if ignored else FACE for ignored in sample.ignored]
    assert (targets.weights == 1).all()


def test_targets_without_faces(records):
    batch = make_dataset(records[:1])[[(0, 0), (0, 1), (0, 2)]]
    assert batch.targets.boxes.shape == (0, 4) and batch.targets.landmarks.shape == (0, 5, 2)
    assert batch.targets.picture.dtype == torch.int64 and batch.targets.role.dtype == torch.int8


@pytest.mark.parametrize("place", CACHES)
def test_workers_see_the_same_pictures_as_the_main_process(records, place):
    dataset = make_dataset(records, place)
    state = torch.get_rng_state()
    alone, with_workers = (whole_epochs(make_loader(dataset, num_workers=count)) for count in (0, 2))
    assert len(alone) == len(with_workers) == 4
    for a, b in zip(alone, with_workers):
        assert_same(a, b)
    assert not torch.equal(alone[0].images, alone[2].images)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_an_epoch_on_a_gpu_takes_the_memory_of_the_one_before(records):
    loader = make_loader(make_dataset(records), device=torch.device("cuda", 0))
    reserved = []
    for _ in range(5):
        whole_epochs(loader, epochs=(0,))
        torch.cuda.synchronize()
        reserved.append(torch.cuda.memory_reserved())
    assert len(set(reserved[1:])) == 1


@pytest.mark.parametrize("place", CACHES)
@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_preview_shows_the_first_pictures_and_moves_nothing(records, place, num_workers):
    expected = whole_epochs(make_loader(make_dataset(records, place)), epochs=(3,))
    loader = make_loader(make_dataset(records, place), num_workers=num_workers)
    loader.loaded.sampler.sampler.set_epoch(3)
    torch.manual_seed(0)
    preview, state = loader.preview(3), torch.get_rng_state()
    torch.manual_seed(0)
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(preview.images, expected[0].images[:3])
    faces = expected[0].targets.picture < 3
    for found, whole in zip(preview.targets, expected[0].targets):
        assert torch.equal(found, whole[faces])
    assert len(loader.preview(99).images) == 4
    for found, whole in zip(whole_epochs(loader, epochs=(3,)), expected, strict=True):
        assert_same(found, whole)


def test_loader_processes_get_nothing_that_lies_on_the_device(records):
    dataset = make_dataset(records, DEVICE)
    assert len(pickle.dumps(dataset.pictures.for_loaders())) < 1000 < dataset.pictures.buffer.numel()


def test_too_little_shared_memory_is_told(records, monkeypatch):
    monkeypatch.setattr(loader.shutil, "disk_usage", lambda folder: SimpleNamespace(free=1000))
    monkeypatch.setattr(loader, "SHARED_MEMORY", Path(records[0].path).parent)
    with pytest.raises(UserError, match="--num_workers 2 needs 0 MB in .*, 0 MB are free: .*--shm-size"):
        make_loader(make_dataset(records), num_workers=2)
    make_loader(make_dataset(records), num_workers=0)


def test_batches_outlive_the_canvases_they_were_drawn_on(records):
    """There are fewer canvases than batches here."""
    dataset = make_dataset(records[:8])
    batches = whole_epochs(make_loader(dataset, 1, num_workers=1))
    again = whole_epochs(make_loader(dataset, 1))
    for a, b in zip(batches, again, strict=True):
        assert_same(a, b)


def test_memory_that_is_not_there_is_refused_before_anything_is_decoded(records, monkeypatch):
    paths = [record.path for record in records]
    needed = 3 * sum(height * width for height, width in SHAPES)
    monkeypatch.setattr(pictures, "read_picture", lambda path: None)
    monkeypatch.setattr(pictures, "free_memory", lambda place: needed - 1)
    for place in (RAM, DEVICE):
        with pytest.raises(UserError, match=rf"--cache {place} needs 0.0 GB for 10 pictures, and 0.0 GB are free"):
            open_pictures(paths, place, CPU)
    monkeypatch.setattr(pictures, "free_memory", lambda place: needed)
    open_pictures(paths, RAM, CPU)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")  # two processes fill two buffers
    with pytest.raises(UserError, match="in 2 processes"):
        open_pictures(paths, RAM, CPU)


def test_the_memory_needed_is_said(records, capsys, monkeypatch):
    monkeypatch.setattr(pictures, "free_memory", lambda place: None)
    open_pictures([record.path for record in records], RAM, CPU)
    assert "--cache ram needs 0.0 GB for 10 pictures; how much is free" in capsys.readouterr().out
