"""The weights of a package, and the AP they are known by."""

import json

import torch

import export
import test_widerface
from data.config import MEAN_BGR
from deployment.page import _table
from deployment.weights_file import PRECISION_COLUMNS, known_precision
from detection.text_files import DetectionFolder
from layers.anchors import STRIDES
from models import load_model
from tests.helpers import call, save_checkpoint, trained_network
from utils.files import fingerprint


def test_the_weights_load_without_running_code_and_say_what_they_are(package, student):
    path = package / "featherface_v2_deployment.pth"
    state = torch.load(path, weights_only=True)
    assert state["model_name"] == "v2" and state["parameter_count"] == 254112
    assert state["preprocessing"]["mean"] == MEAN_BGR and state["config"]["strides"] == STRIDES
    assert state["average_precision"] == [] and state["versions"]["torch"] == str(torch.__version__)
    assert "licence" in state
    loaded = load_model(path).state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in student.state_dict().items())


def test_the_ap_comes_from_the_table_of_this_very_checkpoint(tmp_path, student_checkpoint, validation_set):
    call(test_widerface.main, "--trained_model", student_checkpoint, "--dataset_folder", validation_set,
         "--save_folder", tmp_path / "measured", "--protocol", "vga", "--cpu", "--num_workers", "0")
    table = tmp_path / "measured" / "table.json"
    [row] = json.loads(table.read_text())
    call(export.main, "--trained_model", student_checkpoint, "--output_folder", tmp_path / "out", "--table", table)
    [told] = torch.load(tmp_path / "out/featherface_v2_deployment.pth", weights_only=True)["average_precision"]
    assert (told["dataset"], told["protocol"], told["hard"]) == (row["dataset"], "vga", row["hard"])
    assert f"{row['hard']:.4f}" in (tmp_path / "out/README.md").read_text(encoding="utf-8")

    changed = trained_network("v2")
    changed.heads.logits[0].bias.data += 0.5
    assert known_precision(save_checkpoint(tmp_path / student_checkpoint.name, changed), table) == []
    assert known_precision(tmp_path / "out/featherface_v2_deployment.pth", None) == [told]


def test_a_table_adds_to_the_ap_that_weights_tell_of_themselves(tmp_path):
    row = {column: "x" for column in PRECISION_COLUMNS} | {"easy": 0.5, "medium": 0.4, "hard": 0.3}
    checkpoint, table = tmp_path / "m.pth", tmp_path / "table.json"
    torch.save({"model": {}, "average_precision": [row]}, checkpoint)
    again, elsewhere = row | {"easy": 0.1}, row | {"dataset": "mine/val"}
    table.write_text(json.dumps([one | {"model": "m"} for one in (again, elsewhere)]))
    DetectionFolder(tmp_path / "m_x", [], {"checkpoint": fingerprint(checkpoint)})
    assert known_precision(checkpoint, table) == [row, elsewhere]
    assert known_precision(checkpoint, None) == [row]


def test_ap_of_older_weights_stands_beside_what_tables_tell_today(tmp_path):
    row = {column: "x" for column in PRECISION_COLUMNS}
    row |= {"easy": 0.5, "medium": 0.4, "hard": 0.3, "subsets": "by height"}
    old = {column: row[column] for column in row if column not in ("pictures", "subsets")}
    checkpoint = tmp_path / "m.pth"
    torch.save({"model": {}, "average_precision": [old, row | {"dataset": "mine/val"}]}, checkpoint)
    rows = known_precision(checkpoint, None)
    assert "subsets" not in rows[0] and rows[1]["subsets"] == "by height"
    head, _, first, second = _table(rows)
    assert head.count("|") == first.count("|") == second.count("|") and "| by height |" in second
