"""What tiles find: validation pictures pasted side by side into one, looked at in several ways.

    python -m benchmarks.tiles --dataset_folder data/widerface/val                                # 12,000 x 200 pixels
    python -m benchmarks.tiles --dataset_folder data/widerface/val --size 5400 3600 --row 300     # rows of 300 pixels

Each picture is scaled to the height of a row. Faces under --smallest pixels do not count, neither as found nor as
missed. The picture is the same for the same folder, size and seed.
"""

from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.consistency import match
from data.config import MEAN_BGR
from data.picture_files import read_picture, write_picture
from detection import defaults
from detection.finder import FaceFinder
from detection.inference import scale_picture
from detection.shipped import SHIPPED
from detection.tiles import whole
from detection.validation import ValidationSet, open_validation_set
from utils.arguments import ArgumentParser, number
from utils.distributed import choose_device
from utils.errors import UserError, run_script
from utils.tables import Row, print_table


def paste(pictures: ValidationSet, size: tuple[int, int], row: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """One picture uint8 [H, W, 3] of validation pictures in rows, and its faces float64 [n, 4] xyxy in its pixels."""
    width, height = size
    canvas = np.full((height, width, 3), MEAN_BGR, np.uint8)
    faces = [np.zeros((0, 4))]
    x = y = 0
    by_name = {name: index for index, name in enumerate(pictures.truth.pictures)}
    for name in np.random.default_rng(seed).permutation(pictures.names):
        picture = read_picture(pictures.folder / "images" / name)
        if picture is None:
            continue
        scaled = scale_picture(picture, row / picture.shape[0])
        if x + scaled.shape[1] > width:
            x, y = 0, y + row
        if y + row > height:
            break
        part = canvas[y : y + row, x : x + scaled.shape[1]]
        part[:] = scaled[: part.shape[0], : part.shape[1]]
        event, _, file = name.rpartition("/")
        boxes = pictures.truth.boxes[pictures.truth.picture == by_name[event, Path(file).stem]] * row / len(picture)
        faces.append(np.column_stack([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]]) + (x, y, x, y))
        x += scaled.shape[1]
    return canvas, np.concatenate(faces)


def look(find: FaceFinder, name: str, picture: np.ndarray, faces: np.ndarray, smallest: float) -> Row:
    """How many of the faces are found, an IoU of 0.5 or more, and how many boxes are of none."""
    found = find(picture)
    rows, columns = match(faces.astype(np.float32), found.boxes)[0].T
    large = faces[:, 3] - faces[:, 1] >= smallest
    return {"looked at": name, "faces": int(large.sum()), "found": int(large[rows].sum()),
            "boxes of no face": len(found.boxes) - len(columns)}


def parse_args() -> Namespace:
    parser = ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--dataset_folder", type=Path, required=True, help="pictures in WIDER FACE's validation layout")
    add("--trained_model", type=Path, default=SHIPPED, help="checkpoint, .pth or .onnx")
    add("--size", type=number(int, 64, 30_000), nargs=2, default=[12_000, 200], metavar=("WIDTH", "HEIGHT"))
    add("--row", type=number(int, 32), default=200, help="height of the pictures")
    add("--tile", type=number(int, 64), default=640)
    add("--smallest", type=number(float, 0), default=10, help="height of the smallest face that counts, pixels")
    add("--seed", type=number(int, 0), default=0)
    add("--save", type=Path, metavar="FILE", help="write the pasted picture")
    add("--gpu", default="auto", help="GPU number, cpu, or auto: GPU 0, else the CPU")
    return parser.parse_args()


def main() -> None:
    options = parse_args()
    device = choose_device(options.gpu)
    picture, faces = paste(open_validation_set(options.dataset_folder), options.size, options.row, options.seed)
    if not len(faces):
        raise UserError(f"no picture of {options.dataset_folder} fits into {' x '.join(map(str, options.size))} pixels")
    if options.save:
        write_picture(options.save, picture)
    fitted = FaceFinder(options.trained_model, device)
    fitted.protocol = replace(fitted.protocol, tiles=whole)
    finders = {
        "whole, longer side 1280": fitted,
        "as detect.py does": FaceFinder(options.trained_model, device),
        "--protocol original": FaceFinder(options.trained_model, device, protocol="original"),
        f"--tile {options.tile}": FaceFinder(options.trained_model, device, tile=options.tile),
    }
    print_table([look(find, name, picture, faces, options.smallest) for name, find in finders.items()])
    print(f"{picture.shape[1]} x {picture.shape[0]} pixels, faces of {options.smallest:g} px in height and more, score "
          f"above {defaults.CONFIDENCE_THRESHOLD}, IoU 0.5; on {device}")


if __name__ == "__main__":
    run_script(main)
