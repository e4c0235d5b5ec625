"""Our training loader against the usual one: the same pictures, in turn, pictures a second by number of processes.

    python -m benchmarks.training_loader --training_dataset data/widerface/train/label.txt
    python -m benchmarks.training_loader --longer_side 1024     # drawn pictures, where there are no others

Writes training_loader.csv and .json to --output_folder. "Decoding alone" reads and decodes each picture whole. "Usual"
stands for the loaders of RetinaFace's PyTorch port and its descendants (benchmarks/baselines/) and hands over float32
batches without their mean; "ours" uint8 batches and the colours that the device will give them; "ours, ready" is what
the training loop gets, on its device and recoloured there, without a GPU by the same core. A pass is all pictures once,
in batches; passes take turns. Everything runs with one thread a process: without loader processes it is what one core
does.
"""

import tempfile
from argparse import Namespace
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import cv2
import torch

from benchmarks.baselines import USUAL
from benchmarks.baselines.usual_loader import build_usual_loader
from benchmarks.rows import for_the_eye, pictures_per_second, report, times_as_fast
from benchmarks.timing import synchronize
from data.augment import training_augmentations
from data.config import CACHES, DEVICE, FILES, RAM
from data.drawn.demo_set import write_demo_set
from data.loader import TrainingDataset, TrainingLoader
from data.picture_files import encode_picture, read_picture
from data.pictures import open_pictures
from data.sampler import EpochBatchSampler
from data.widerface import Record, read_labels
from utils.arguments import ArgumentParser, number
from utils.distributed import parse_devices
from utils.errors import UserError, run_script
from utils.files import check_folder_is_writable
from utils.tables import Row
from utils.turns import take_turns

DECODING, OURS, READY = "decoding alone", "ours", "ours, ready"

#: Of pictures that are scaled and encoded anew.
JPEG_QUALITY = 90

SEED = 0
CPU = torch.device("cpu")


def choose_records(label_paths: list[Path], pictures: int, longer_side: int | None, folder: Path) -> list[Record]:
    """Readable pictures with faces, evenly spread over the sets, or drawn ones without a set.

    longer_side: to which each is scaled, as a JPEG of JPEG_QUALITY in `folder`.
    """
    if not label_paths:
        write_demo_set(folder / "drawn", train_pictures=pictures * 5 // 4 + 1, val_pictures=12)  # some without faces
        label_paths = [folder / "drawn" / "train" / "label.txt"]
    records = [record for path in label_paths for record in read_labels(path)[0]]
    with_faces = [record for record in records if not record.ignored.all()]
    chosen = with_faces[:: max(1, len(with_faces) // pictures)][:pictures]
    if longer_side is None:
        return chosen
    return [_scale(record, longer_side, folder / f"{place}.jpg") for place, record in enumerate(chosen)]


def _scale(record: Record, longer_side: int, path: Path) -> Record:
    picture = read_picture(record.path)
    if picture is None:
        raise UserError(f"cannot read {record.path}: leave it out of the set that is measured")
    factor = longer_side / max(picture.shape[:2])
    interpolation = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    resized = cv2.resize(picture, None, fx=factor, fy=factor, interpolation=interpolation)
    data = encode_picture(resized, ".jpg", [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    if data is None:
        raise UserError(f"--longer_side {longer_side} is more than a JPEG holds")
    path.write_bytes(data)
    return replace(record, path=str(path), boxes=record.boxes * factor, landmarks=record.landmarks * factor)


def compare_loaders(
    records: list[Record], image_size: int, batch_size: int, workers: list[int], rounds: int, device: torch.device
) -> list[Row]:
    """A row for each loader and number of loader processes; all see the same pictures, in whole batches.

    device: where "ours, ready" delivers, and where --cache device keeps its pictures if it is a GPU.
    """
    batch_size = min(batch_size, len(records))
    records = records[: len(records) // batch_size * batch_size]
    caches = (FILES, RAM) if device.type == "cpu" else CACHES
    rows = []
    with one_thread():
        pictures = {cache: open_pictures([record.path for record in records], cache, device) for cache in caches}
        for count in workers:
            passes = {DECODING: partial(decode_all, records)} if count == 0 else {}
            passes[USUAL] = partial(exhaust, build_usual_loader(records, image_size, batch_size, count))
            for cache in caches:
                augmentations = training_augmentations(image_size)
                dataset = TrainingDataset(records, pictures[cache], image_size, SEED, augmentations)
                loader = TrainingLoader(dataset, EpochBatchSampler(len(records), batch_size, SEED), count, device)
                if cache != DEVICE:  # whose processes hand over no pixels
                    passes[name_of(OURS, cache)] = partial(exhaust, loader.loaded)
                passes[name_of(READY, cache)] = partial(exhaust, loader, device)
            rows += loader_rows(take_turns(passes, rounds), {
                "workers": count, "pictures": len(records), "image size": image_size, "batch size": batch_size,
                "device": str(device), "rounds": rounds,
            })
    return rows


def loader_rows(times: dict[str, list[float]], setting: Row) -> list[Row]:
    """A row for each loader from the milliseconds of its passes; setting: columns all have, "pictures" of a pass."""
    return [{
        "loader": name, **setting, **pictures_per_second(milliseconds, setting["pictures"]),
        **times_as_fast(times[USUAL], milliseconds),
    } for name, milliseconds in times.items()]


@contextmanager
def one_thread() -> Iterator[None]:
    """OpenCV and PyTorch with one thread in this process, for a while."""
    before = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        cv2.setNumThreads(before[1])


def name_of(loader: str, cache: str) -> str:
    return loader if cache == FILES else f"{loader}, --cache {cache}"


def decode_all(records: list[Record]) -> None:
    for record in records:
        read_picture(record.path)


def exhaust(loader: Iterable, device: torch.device = CPU) -> None:
    """Take every batch, and wait until the device has the last."""
    for _ in loader:
        pass
    synchronize(device)


def loader_table(rows: list[Row]) -> list[Row]:
    """For the eye: those columns of compare_loaders that tell most."""
    return for_the_eye(rows, "loader", "workers", "pictures/s", "quartiles", "times as fast", "ratio quartiles")


def loader_note(rows: list[Row]) -> str:
    """What stands below that table."""
    first = rows[0]
    return (f"medians and quartiles of {first['rounds']} passes in turn over {first['pictures']} pictures, batches of "
            f"{first['batch size']}, samples of {first['image size']} px, one thread a process; times as fast as the "
            "usual loader")


def parse_args(arguments: list[str] | None = None) -> Namespace:
    parser = ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--training_dataset", type=Path, nargs="+", default=[], metavar="LABELS",
        help="label.txt with images/ beside it, one or several; without any, pictures drawn for it")
    add("--longer_side", type=number(int, 64, 2**14), help="scale the pictures to this and encode them anew")
    add("--pictures", type=number(int, 1), default=64, help="of the set, evenly spread, whole batches of them")
    add("--image_size", type=number(int, 64, 4096), default=640, help="side of the training pictures")
    add("--batch_size", type=number(int, 1, 2**16), default=32)
    add("--workers", type=number(int, 0, 2**8), nargs="+", default=[0],
        help="numbers of loader processes, each measured")
    add("--rounds", type=number(int, 1), default=7)
    add("--gpu", default="auto", help="what gets the batches: GPU number, cpu, or auto: GPU 0, else the CPU")
    add("--output_folder", type=Path, default="./results/v2/")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    options = parse_args(arguments)
    check_folder_is_writable(options.output_folder)
    with tempfile.TemporaryDirectory() as folder:
        records = choose_records(options.training_dataset, options.pictures, options.longer_side, Path(folder))
        device = parse_devices(options.gpu)[0]
        rows = compare_loaders(
            records, options.image_size, options.batch_size, options.workers, options.rounds, device
        )
    report(rows, options.output_folder / "training_loader", [loader_table(rows)], loader_note(rows))


if __name__ == "__main__":
    run_script(main)
