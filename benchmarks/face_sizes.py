"""How high the faces are that training shows, and those that an evaluation asks for.

    python -m benchmarks.face_sizes data/widerface/train/label.txt data/widerface/val

A row for one epoch of training samples (seed 0; --image_size and --crop_scales as of train_v2.py), one for the training
pictures as they are, and one for each protocol of the validation set: shares of the faces by their height at the
network, and faces a picture. No pixel is read, only the sizes of the pictures. The table of
docs/experiments/2026-11-27-sizes-shown.md.
"""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data.augment import CROP_SCALES, training_augmentations
from data.loader import TrainingDataset
from data.picture_files import picture_size_of
from data.pictures import PictureFiles
from data.widerface import Record, read_labels
from detection.protocols import PROTOCOLS
from detection.validation import ValidationSet, open_validation_set
from utils.arguments import ArgumentParser, number
from utils.errors import UserError, run_script
from utils.tables import Row, print_table

SEED = 0

#: Pixels at which the bins begin; the last one has no end.
HEIGHTS = (0, 6, 8, 12, 16, 24, 32, 64, 128, 256)

#: Of those, the ones that show a picture once.
SHOWN = ("original", "vga")


def training_heights(records: list[Record], image_size: int, crop_scales: list[float]) -> np.ndarray:
    """Heights in pixels of all faces of one epoch; ignored regions are none."""
    augmentations = training_augmentations(image_size, crop_scales)
    dataset = TrainingDataset(records, PictureFiles([]), image_size, SEED, augmentations)
    samples = [dataset.plan((0, index), *size_of(record.path)) for index, record in enumerate(records)]
    return np.concatenate([heights(sample.boxes[~sample.ignored]) for sample in samples])


def evaluated_heights(pictures: ValidationSet, protocols: Sequence[str]) -> dict[str, np.ndarray]:
    """Heights at the network of all faces that count as hard, by protocol."""
    sizes = {Path(name).with_suffix("").as_posix(): size_of(path) for name, path in zip(pictures.names, pictures.paths)}
    truth = pictures.truth
    counts = truth.subsets["hard"]
    found = {}
    for name in protocols:
        factors = [PROTOCOLS[name].factors(*sizes["/".join(picture)])[0] for picture in truth.pictures]
        found[name] = (truth.boxes[:, 3] * np.array(factors)[truth.picture])[counts]
    return found


def heights(boxes: np.ndarray) -> np.ndarray:
    """Of boxes [n, 4] xyxy."""
    return boxes[:, 3] - boxes[:, 1]


def size_of(path: str | Path) -> tuple[int, int]:
    """Height and width of a picture; UserError where it cannot be read."""
    size = picture_size_of(path)
    if size is None:
        raise UserError(f"cannot read {path}")
    return size


def share_row(name: str, values: np.ndarray, pictures: int) -> Row:
    """Shares of heights by bin, and how many there are a picture."""
    counts = np.histogram(values, [*HEIGHTS, math.inf])[0] / max(1, len(values))
    return {"faces": name, "a picture": len(values) / pictures} | {
        f"from {height} px": float(share) for height, share in zip(HEIGHTS, counts)
    }


def main(arguments: list[str] | None = None) -> None:
    parser = ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("label_path", metavar="LABEL_TXT", type=Path, help="training set, with images/ beside it")
    add("val_folder", metavar="VAL", type=Path, help="validation set")
    add("--image_size", type=number(int, 32), default=640, help="side of the training samples")
    add("--crop_scales", type=number(float, 0.01, 100), nargs="+", default=list(CROP_SCALES), metavar="SCALE")
    options = parser.parse_args(arguments)
    records, _ = read_labels(options.label_path)
    pictures = open_validation_set(options.val_folder)
    rows = [
        share_row("training samples", training_heights(records, options.image_size, options.crop_scales), len(records)),
        share_row("training pictures", np.concatenate([heights(r.boxes[~r.ignored]) for r in records]), len(records)),
        *(share_row(f"validation, {name}", found, len(pictures.names))
          for name, found in evaluated_heights(pictures, SHOWN).items()),
    ]
    print_table(rows)
    print(f"one epoch of samples of {options.image_size} px, seed {SEED}; validation: faces that count as hard, "
          f"{pictures.extent}")


if __name__ == "__main__":
    run_script(main)
