"""Tables for the eye, for a spreadsheet and for a program, from the same rows."""

import csv
import math
from pathlib import Path

from utils.files import atomic_path, write_json

Row = dict[str, str | int | float]


def columns(rows: list[Row]) -> list[str]:
    """Every column that a row has, in the order of their first appearance."""
    return list(dict.fromkeys(column for row in rows for column in row))


def cell(value: str | int | float) -> str:
    """Thousands marked; four digits behind the point, one from 10 on; a dash for what could not be measured."""
    if isinstance(value, float):
        return "-" if math.isnan(value) else f"{value:.1f}" if value >= 10 else f"{value:.4f}"
    return f"{value:,}" if isinstance(value, int) else value


def print_table(rows: list[Row]) -> None:
    """Columns as wide as their widest cell, text to the left, numbers to the right."""
    names = columns(rows)
    cells = [names] + [[cell(row.get(name, "")) for name in names] for row in rows]
    widths = [max(len(line[column]) for line in cells) for column in range(len(names))]
    is_text = [all(isinstance(row.get(name, ""), str) for row in rows) for name in names]
    for line in cells:
        aligned = (text.ljust(width) if left else text.rjust(width) for text, width, left in zip(line, widths, is_text))
        print("  ".join(aligned).rstrip())


def without_nan(rows: list[Row]) -> list[dict]:
    """As JSON has them: None for what could not be measured."""
    return [{name: None if value != value else value for name, value in row.items()} for row in rows]


def write_table(rows: list[Row], path: Path) -> None:
    """PATH.csv and PATH.json, with all digits; NaN is empty in the first and null in the second."""
    known = without_nan(rows)
    # Names of folders that are no UTF-8 become \xe9 and the like.
    options = {"newline": "", "encoding": "utf-8", "errors": "backslashreplace"}
    with atomic_path(path.with_suffix(".csv")) as temporary, temporary.open("w", **options) as file:
        writer = csv.DictWriter(file, columns(rows))
        writer.writeheader()
        writer.writerows(known)
    write_json(path.with_suffix(".json"), known)
