"""training_log.csv: a row an epoch, kept whole whatever happens to the run; the same numbers for TensorBoard."""

import csv
import importlib
from pathlib import Path
from types import ModuleType

from utils.errors import UserError, reason
from utils.files import atomic_path
from utils.text_files import read_lines


class TrainingLog:
    """Rows of named numbers in a CSV file that is replaced as a whole after each epoch.

    Continuing a run keeps the rows up to `epochs_done` and drops what was logged after the checkpoint. A file that
    another program has saved in its own way is set aside, and `note` says so: a run goes on from its checkpoint.
    With `tensorboard` each row goes to TensorBoard, too, under the names of its columns, in the folder of the file.
    """

    def __init__(self, path: str | Path, epochs_done: int = 0, tensorboard: bool = False):
        self.path = Path(path)
        self.rows: list[dict] = []
        self.note = ""
        # What was written there after the checkpoint is hidden.
        self.board = import_tensorboard().SummaryWriter(self.path.parent, purge_step=epochs_done + 1) if tensorboard \
            else None
        if epochs_done and self.path.is_file():
            try:
                self.rows = [row for row in read_log(self.path) if row["epoch"] <= epochs_done]
            except UserError as error:
                aside = _free_name(self.path)
                self.path.rename(aside)
                self.note = f"note: {error}; it was set aside as {aside.name}, and a new log begins"

    def append(self, row: dict) -> None:
        """Add the row of an epoch; a column may be missing where nothing was measured."""
        self.rows.append(row)
        columns = list(dict.fromkeys(name for logged in self.rows for name in logged))
        with atomic_path(self.path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(self.rows)
        if self.board is not None:
            for name, value in row.items():
                self.board.add_scalar(name, value, row["epoch"])
            self.board.flush()


def best_row(rows: list[dict]) -> dict | None:
    """The row of highest mean AP, of equal ones the first, as _best.pth is written; None where no AP was measured."""
    return max((row for row in rows if "ap_mean" in row), key=lambda row: row["ap_mean"], default=None)


def import_tensorboard() -> ModuleType:
    """torch.utils.tensorboard; UserError where the package that it needs is not installed."""
    try:
        return importlib.import_module("torch.utils.tensorboard")
    except ImportError as error:
        raise UserError(f"argument --tensorboard: {reason(error)}; pip install tensorboard, or leave the flag out "
                        "(--no-tensorboard)") from None


def read_log(path: str | Path) -> list[dict]:
    """Rows of a training_log.csv as {column: number}, `epoch` a whole one; a column may be missing in a row.

    UserError, with the line, where the file is not as TrainingLog writes it. The order of its columns is free.
    """
    rows = []
    reader = csv.DictReader(read_lines(path))
    try:
        for row in reader:
            numbers = {name: float(value) for name, value in row.items() if value}
            numbers["epoch"] = int(row["epoch"])
            if rows and numbers["epoch"] <= rows[-1]["epoch"]:
                raise ValueError
            rows.append(numbers)
    except (ValueError, TypeError, KeyError, csv.Error):  # text, cells without a column, no epochs or no order of them
        raise UserError(f"{path}:{max(2, reader.line_num)} is no row of a training log (numbers by comma, epochs in "
                        "order)") from None
    return rows


def _free_name(path: Path) -> Path:
    """A name beside `path` that nothing has yet."""
    number = 1
    while (name := path.with_name(f"{path.stem}_set_aside_{number}{path.suffix}")).exists():
        number += 1
    return name
