"""One way from measurements to rows, tables and files."""

import json

import pytest

from benchmarks.rows import for_the_eye, measured, pictures_per_second, quartiles, report, times_as_fast, write_tables
from benchmarks.timing import spread


def test_a_median_stands_beside_its_quartiles():
    row = {"loop": "a", **measured("ms", spread([1.0, 2.0, 3.0]), "ms "), **times_as_fast([8, 8, 8], [1, 2, 4])}
    assert row == {"loop": "a", "ms": 2, "ms lower quartile": 1.5, "ms upper quartile": 2.5, "times as fast": 4,
                   "ratio lower quartile": 3, "ratio upper quartile": 6}
    assert for_the_eye([row], "loop", "ms quartiles", "ratio quartiles") == [
        {"loop": "a", "ms quartiles": "1.50-2.50", "ratio quartiles": "3.00-6.00"}]
    assert pictures_per_second([100.0, 200.0, 400.0], 4) == {
        "pictures/s": 20, "lower quartile": 15, "upper quartile": 30}


@pytest.mark.parametrize(("lower", "upper", "told"), [
    (1.234, 9.876, "1.23-9.88"), (9.876, 12.34, "9.9-12.3"), (99.6, 1234.5, "100-1234"), (float("nan"),) * 2 + ("-",),
])
def test_quartiles_are_told_in_three_digits(lower, upper, told):
    assert quartiles({"lower quartile": lower, "upper quartile": upper}) == told


def test_all_is_written_and_what_tells_most_is_printed(capsys, tmp_path):
    report([{"a": 1, "b": 2.5}], tmp_path / "numbers", [[{"a": 1}], [{"b": 2.5}]], "by hand")
    assert json.loads((tmp_path / "numbers.json").read_text()) == [{"a": 1, "b": 2.5}]
    assert (tmp_path / "numbers.csv").is_file()
    written = f"written: {tmp_path / 'numbers'}.csv and .json"
    assert capsys.readouterr().out.splitlines() == ["a", "1", "", "     b", "2.5000", "", "by hand", written]


def test_one_file_holds_several_tables_and_what_they_were_measured_with(tmp_path):
    write_tables({"torch": "2", "flags": {"set": [tmp_path]}}, {"step": [{"a": float("nan")}], "loader": []},
                 tmp_path / "all.json")
    assert json.loads((tmp_path / "all.json").read_text()) == {
        "torch": "2", "flags": {"set": [str(tmp_path)]}, "step": [{"a": None}], "loader": []}
