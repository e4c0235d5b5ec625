"""The weights as they are handed over: one file that says what it holds and how to feed it."""

import json
from pathlib import Path

import torch
from torch import nn

from data.config import MEAN_BGR
from detection.text_files import STAMP
from layers.anchors import ANCHOR_SIZES, STRIDES
from layers.box_coder import MAX_LOG_SIZE, VARIANCES
from utils.errors import UserError
from utils.files import fingerprint
from utils.pth_files import read_checkpoint
from utils.tables import Row

#: Raised when the entries of the file change their meaning.
FORMAT = 1

LICENCE = (
    "No licence is granted by this file. Before you use the weights, look up the terms of the pictures and of the "
    "weights they were trained from: WIDER FACE is CC BY-NC-ND 4.0, not for commercial use."
)

#: Columns of test_widerface.py's table that say what an AP is: on which pictures, and under which protocol.
PRECISION_COLUMNS = ("dataset", "pictures", "protocol", "scale", "threshold", "NMS", "top-k", "easy", "medium", "hard")


def deployment_state(network: nn.Module, parameter_count: int, precision: list[Row]) -> dict:
    """All that a deployment .pth holds, in plain types. `precision`: rows of PRECISION_COLUMNS, AP in 0..1."""
    return {
        "format": FORMAT,
        "model_name": network.name,
        "model": network.state_dict(),
        "config": {
            "strides": STRIDES, "anchor_sizes": ANCHOR_SIZES, "variances": VARIANCES, "max_log_size": MAX_LOG_SIZE,
            "neck_channels": network.neck_channels,
        },
        "preprocessing": {
            "channel_order": "BGR", "range": (0, 255), "mean": MEAN_BGR, "scale": 1.0,
            "pad_to_multiple_of": STRIDES[-1], "padding": "the mean, right and below",
        },
        "parameter_count": parameter_count,
        "average_precision": precision,
        "versions": {"torch": str(torch.__version__)},
        "licence": LICENCE,
    }


def known_precision(checkpoint: Path, table: Path | None) -> list[Row]:
    """The AP of a checkpoint by protocol: what it says itself, else its rows in a table.json of test_widerface.py.

    The detections beside the table tell which file they were made with, so that no row of another file of the same
    name is taken. UserError where the table cannot be read.
    """
    told = read_checkpoint(checkpoint).get("average_precision")
    if told or table is None:
        return told or []
    try:
        rows = json.loads(table.read_text(encoding="utf-8"))
        made_by = fingerprint(checkpoint)
        return [
            {column: row[column] for column in PRECISION_COLUMNS}
            for row in rows
            if "easy" in row and _checkpoint_of(table.parent / f"{row['model']}_{row['protocol']}") == made_by
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{table} is no table.json of test_widerface.py ({error}): give its path") from None


def _checkpoint_of(folder: Path) -> str | None:
    """Fingerprint of the checkpoint that made a folder of detections; None where the folder is gone."""
    path = folder / STAMP
    return json.loads(path.read_text(encoding="utf-8"))["checkpoint"] if path.is_file() else None
