"""From measurements to rows, and from rows to tables and files: one way for all that is measured.

A median has a column of its own, the quartiles around it two more, "lower quartile" and "upper quartile", with a word
before them where a row has several. A table for the eye has one column of text for the two, "quartiles".
"""

import platform
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.timing import Spread, ratio, spread
from utils.cores import usable_cores
from utils.files import write_json
from utils.tables import Row, print_table, without_nan, write_table

QUARTILES = "quartiles"


def measured(column: str, values: Spread, word: str = "") -> Row:
    """A median and its quartiles; word: before the names of the quartiles, with a space behind it."""
    return {column: values.median, f"{word}lower quartile": values.lower, f"{word}upper quartile": values.upper}


def pictures_per_second(milliseconds: Sequence[float], pictures: int) -> Row:
    """Of runs over that many pictures each."""
    return measured("pictures/s", spread([1000 * pictures / passed for passed in milliseconds]))


def times_as_fast(slow: Sequence[float], fast: Sequence[float], column: str = "times as fast") -> Row:
    """How many times faster the second is, round by round."""
    return measured(column, ratio(slow, fast), "ratio ")


def quartiles(row: Row, word: str = "") -> str:
    """Both in three digits, for the eye; a dash where nothing was measured."""
    lower, upper = row[f"{word}lower quartile"], row[f"{word}upper quartile"]
    if upper != upper:
        return "-"
    digits = 2 if upper < 10 else 1 if upper < 100 else 0
    return f"{lower:.{digits}f}-{upper:.{digits}f}"


def for_the_eye(rows: list[Row], *columns: str) -> list[Row]:
    """Some columns of the rows, of which "quartiles", with any word before it, is the text of two."""
    return [{
        column: quartiles(row, column.removesuffix(QUARTILES)) if column.endswith(QUARTILES) else row[column]
        for column in columns
    } for row in rows]


def in_turn(rounds: int) -> str:
    """What numbers of this process are, to begin a note with."""
    return f"medians and quartiles of {rounds} rounds in turn, {torch.get_num_threads()} threads"


def machine(device: torch.device) -> dict[str, str | int]:
    """What numbers of this process were measured on."""
    is_gpu = device.type == "cuda"
    return {
        "machine": f"{platform.platform()}, {torch.backends.cpu.get_cpu_capability()}", "cores": usable_cores(),
        "threads": torch.get_num_threads(), "torch": torch.__version__,
        "device": torch.cuda.get_device_name(device) if is_gpu else str(device),
    }


def report(rows: list[Row], path: Path, tables: list[list[Row]], note: str) -> None:
    """Write all numbers as PATH.csv and PATH.json; show those for the eye."""
    write_table(rows, path)
    show(tables, note)
    print(f"written: {path}.csv and .json")


def show(tables: list[list[Row]], note: str) -> None:
    """Print tables and the note below them."""
    for table in tables:
        print_table(table)
        print()
    print(note)


def write_tables(setting: dict, tables: dict[str, list[Row]], path: Path) -> None:
    """One file of all tables by name, with all digits and null for NaN, and of what they were measured with."""
    write_json(path, setting | {name: without_nan(rows) for name, rows in tables.items()})
