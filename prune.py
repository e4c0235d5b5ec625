#!/usr/bin/env python3
"""Make a trained V2 smaller and faster: take whole channels out of it, those with the smallest BatchNorm scales.

    python prune.py --trained_model weights/FeatherFaceV2.pth --keep 0.75 --output weights/pruned.pth
    python train_v2.py --init_weights weights/pruned.pth --teacher_model weights/FeatherFaceV2.pth \\
        --save_folder weights/pruned/    # further, with the network it was made from as its teacher

All parts of the network become narrower alike. Multiples of 8 channels stay, at least 8, because runtimes compute in
blocks of so many: the share that is kept is met as nearly as that allows. A pruned network must be trained further
before it is of use. It is a checkpoint like any other: detect.py, test_widerface.py, export.py, benchmark.py and this
script take it.
"""

from utils.errors import stop_quietly

if __name__ == "__main__":
    stop_quietly()

from argparse import Namespace
from pathlib import Path

import torch

from models import load_model
from models.featherface_v2 import FeatherFaceV2
from models.ledger import measure, total
from models.pruning import prune, share_of
from utils.arguments import ArgumentParser, number
from utils.errors import UserError, run_script
from utils.files import atomic_path
from utils.tables import print_table

#: The smallest --keep: below, so little is left that a small network is better trained from its start.
SMALLEST_SHARE = 0.1

#: Of the picture whose multiply-adds are told, in pixels.
HEIGHT = WIDTH = 640


def parse_args(arguments: list[str] | None = None) -> Namespace:
    parser = ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--trained_model", type=Path, required=True, help="checkpoint of a V2, pruned before or not")
    add("--keep", type=number(float, SMALLEST_SHARE, 1), default=0.75, help="share of the channels that stay")
    add("--output", type=Path, required=True, help="checkpoint to write")
    return parser.parse_args(arguments)


def main() -> None:
    options = parse_args()
    if options.output.exists() and options.trained_model.exists() and options.output.samefile(options.trained_model):
        raise UserError(f"--output {options.output} would overwrite the network that is pruned: give another name")
    network = load_model(options.trained_model)
    if not isinstance(network, FeatherFaceV2):
        raise UserError(f"{options.trained_model} is of model {network.name}: only {FeatherFaceV2.name} can be pruned")
    pruned = prune(network, share_of(network.widths, options.keep))
    with atomic_path(options.output) as temporary:
        torch.save({"model_name": pruned.name, "model": pruned.state_dict()}, temporary)
    rows = []
    for path, model in ((options.trained_model, network), (options.output, pruned)):
        cost = total(measure(model, HEIGHT, WIDTH))
        rows.append({"network": str(path), "parameters": cost.parameters, "multiply-adds": cost.multiply_adds})
    print_table(rows)
    print(f"Multiply-adds at {HEIGHT} x {WIDTH} pixels. Train it further: python train_v2.py --init_weights "
          f"{options.output} --teacher_model {options.trained_model} --save_folder "
          f"{options.output.with_name(f'{options.output.stem}_trained')}")


if __name__ == "__main__":
    run_script(main)
