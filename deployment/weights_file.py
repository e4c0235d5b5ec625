"""The weights as they are handed over: one file that says what it holds and how to feed it."""

import json
from pathlib import Path

import torch
from torch import nn

from data.config import MEAN_BGR
from detection.text_files import read_stamp
from layers.anchors import ANCHOR_SIZES, STRIDES
from layers.box_coder import MAX_LOG_SIZE, VARIANCES
from utils.errors import UserError, reason
from utils.files import fingerprint
from utils.pth_files import read_checkpoint
from utils.tables import Row
from widerface_evaluate.wider_files import SUBSETS

#: Raised when the entries of the file change their meaning.
FORMAT = 1

LICENCE = (
    "No licence is granted by this file. Before you use the weights, look up the terms of the pictures and of the "
    "weights they were trained from: WIDER FACE is CC BY-NC-ND 4.0, not for commercial use."
)

#: Columns of test_widerface.py's table that say what an AP is: on which pictures, and under which protocol.
PRECISION_COLUMNS = ("dataset", "pictures", "subsets", "protocol", "scale", "threshold", "NMS", "top-k", *SUBSETS)
#: Of these, what the tables of weights exported before do not tell.
TOLD_LATER = ("pictures", "subsets")


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
    """The AP of a checkpoint: what it says itself, and what a table.json of test_widerface.py has beyond that.

    The detections beside the table tell which file they were made with, so that no row of another file of the same
    name is taken. UserError where the table cannot be read.
    """
    try:
        told = [_row_of(row) for row in read_checkpoint(checkpoint).get("average_precision") or []]
    except (KeyError, TypeError) as error:
        raise UserError(f"{checkpoint} holds an AP that is no table ({reason(error)}): export it again") from None
    if table is None:
        return told
    try:
        # A pipe would be waited for.
        rows = json.loads(table.read_text(encoding="utf-8")) if table.is_file() else None
        made_by = fingerprint(checkpoint)
        measured = [
            _row_of(row) for row in rows
            if "easy" in row and _checkpoint_of(table.parent / f"{row['model']}_{row['protocol']}") == made_by
        ]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{table} is no table.json of test_widerface.py ({reason(error)}): give its path with --table, "
                        "or move it away") from None
    known = {measured_by(row) for row in told}
    return told + [row for row in measured if measured_by(row) not in known]


def measured_by(row: Row) -> tuple[str, ...]:
    """What two AP must have in common to be compared: the pictures and the protocol."""
    return tuple(row.get(column, "") for column in ("dataset", "pictures", "protocol"))


def _row_of(row: Row) -> Row:
    """The PRECISION_COLUMNS of a row; KeyError where one is missing, TypeError where it is not what the page shows."""
    columns = [column for column in PRECISION_COLUMNS if column in row or column not in TOLD_LATER]
    for column in columns:
        kinds = (int, float, type(None)) if column in SUBSETS else str
        if not isinstance(row[column], kinds):
            raise TypeError(f"{column} is {row[column]!r}")
    return {column: row[column] for column in columns}


def _checkpoint_of(folder: Path) -> str | None:
    """Fingerprint of the checkpoint that made a folder of detections; None where the folder does not tell."""
    return (read_stamp(folder) or {}).get("checkpoint")
