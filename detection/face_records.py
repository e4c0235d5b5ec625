"""Faces as records, the same in JSON and in CSV: one face, one record."""

import csv
import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TextIO

from detection.suppression import Detections
from utils.files import atomic_path, output_errors

#: In the order of the networks' outputs; left and right as seen in the picture.
LANDMARKS = ("left_eye", "right_eye", "nose", "left_mouth", "right_mouth")

FIELDS = (
    "source", "frame", "x", "y", "width", "height", "score",
    *(f"{landmark}_{axis}" for landmark in LANDMARKS for axis in "xy"),
)

FaceRecord = dict[str, str | int | float | None]


def records_of(source: str, frame: int | None, detections: Detections) -> list[FaceRecord]:
    """One record of FIELDS a face, best first, in pixels of the upright picture from its upper left corner.

    frame: counted from 0 in a video, None for a picture. A box may reach beyond the picture's edge.
    """
    records = []
    for (left, top, right, bottom), score, landmarks in zip(*(field.astype(float) for field in detections)):
        places = [left, top, right - left, bottom - top]
        values = [*(round(place, 2) for place in places), round(score, 6), *landmarks.flatten().round(2).tolist()]
        records.append(dict(zip(FIELDS, [source, frame, *values])))
    return records


class RecordFiles:
    """Records written as they come, so that memory does not grow with the length of a video.

    Paths are those the files will have. UserError where a disk is full.
    """

    def __init__(
        self, json_path: Path | None, json_file: TextIO | None, csv_path: Path | None, csv_file: TextIO | None
    ):
        self.json_path, self.json_file = json_path, json_file
        self.csv_path = csv_path
        self.table = csv.DictWriter(csv_file, FIELDS) if csv_file else None
        self.is_empty = True
        if self.table:
            self.table.writeheader()

    def write(self, records: list[FaceRecord]) -> None:
        for record in records:
            if self.json_file:
                line = json.dumps(record, ensure_ascii=False)
                with output_errors(self.json_path):
                    self.json_file.write(f"{'[' if self.is_empty else ','}\n {line}")
            if self.table:
                with output_errors(self.csv_path):
                    self.table.writerow(record)
            self.is_empty = False

    def finish(self) -> None:
        if self.json_file:
            with output_errors(self.json_path):
                self.json_file.write("[]\n" if self.is_empty else "\n]\n")


@contextmanager
def record_files(json_path: Path | None, csv_path: Path | None) -> Iterator[RecordFiles]:
    """The files of records that are asked for; they are there once the block has ended without an error."""
    with ExitStack() as files:

        def create(path: Path | None, **options) -> TextIO | None:
            if path is None:
                return None
            temporary = files.enter_context(atomic_path(path))
            return files.enter_context(temporary.open("w", encoding="utf-8", **options))

        records = RecordFiles(json_path, create(json_path), csv_path, create(csv_path, newline=""))
        yield records
        records.finish()
