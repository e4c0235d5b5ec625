"""training_log.csv: a row an epoch, kept whole whatever happens to the run."""

import csv
from pathlib import Path

from utils.files import atomic_path


class TrainingLog:
    """Rows of named numbers in a CSV file that is replaced as a whole after each epoch.

    Continuing a run keeps the rows up to `epochs_done` and drops what was logged after the checkpoint.
    """

    def __init__(self, path: str | Path, epochs_done: int = 0):
        self.path = Path(path)
        self.rows: list[dict] = []
        if epochs_done and self.path.is_file():
            self.rows = [row for row in read_log(self.path) if row["epoch"] <= epochs_done]

    def append(self, row: dict) -> None:
        """Add the row of an epoch; a column may be missing where nothing was measured."""
        self.rows.append(row)
        columns = list(dict.fromkeys(name for logged in self.rows for name in logged))
        with atomic_path(self.path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(self.rows)


def read_log(path: str | Path) -> list[dict]:
    """Rows of a training_log.csv as {column: float}; columns without a value in a row are left out of it."""
    with open(path, newline="", encoding="utf-8") as file:
        return [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]
