"""The notebook as it is committed, and the settings it runs with. .ci/run executes it."""

import ast
import json
import re
from pathlib import Path

import numpy as np
import pytest

import demo
from data.picture_files import read_picture, write_picture
from notebooks import walkthrough
from tests.helpers import ROOT
from training.flags import parse_args
from training.run_folder import checkpoint_path
from utils.commands import flags

NOTEBOOK = ROOT / "notebooks" / "03_train_evaluate_featherface_v2.ipynb"


@pytest.fixture(scope="module")
def cells():
    return json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]


def test_it_is_committed_without_outputs_in_demo_mode(cells):
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in code)
    assert "".join(code[0]["source"]).startswith('MODE = "demo"')


def test_it_has_its_eleven_sections_in_order(cells):
    text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    titles = ("Environment setup", "Data set and weights", "Training configuration", "Architecture comparison",
              "Training process", "Training monitoring", "Model evaluation", "Direct evaluation",
              "Performance analysis", "Model export", "Tips and troubleshooting")
    assert re.findall(r"^## (.*)", text, re.MULTILINE) == [f"{i}. {title}" for i, title in enumerate(titles, start=1)]


def test_it_holds_no_logic_of_its_own(cells):
    """No function, no class, no loop; the one branch prepares the demo."""
    source = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    nodes = list(ast.walk(ast.parse(source)))
    assert not [node for node in nodes if isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.For, ast.While))]
    assert sum(isinstance(node, ast.If) for node in nodes) <= 2


@pytest.mark.parametrize(("mode", "epochs"), [("demo", 30), ("quick", 5), ("full", 400)])
def test_its_settings_are_flags_of_the_training(mode, epochs):
    config = walkthrough.settings(mode)
    options = parse_args(arguments=flags(config["training"]))
    assert options.epochs == epochs and options.alpha == 0.7 and options.temperature == 4
    assert str(checkpoint_path(options, "final")) == config["student"]
    if mode == "demo":
        teacher = parse_args(arguments=flags(config["teacher_training"]))
        assert str(checkpoint_path(teacher, "final")) == config["teacher"]
    if mode == "full":
        defaults = vars(parse_args(arguments=[]))
        assert Path(options.teacher_model) == Path(defaults["teacher_model"])
        assert {name for name in defaults if vars(options)[name] != defaults[name]} <= {"gpu", "teacher_model"}


def test_its_recipe_is_that_of_the_parser():
    """What a reader of the notebook is shown, and what the demo changes, are flags; no value is a second copy."""
    defaults = vars(parse_args(arguments=[]))
    assert walkthrough.RECIPE == {name: defaults[name] for name in walkthrough.SHOWN}
    assert walkthrough.SMALL.keys() <= defaults.keys()
    shown = walkthrough.settings("full")["training"]
    assert {name: shown[name] for name in walkthrough.SHOWN} == walkthrough.RECIPE


@pytest.mark.parametrize("mode", walkthrough.MODES)
def test_a_value_that_a_reader_changes_reaches_the_training(cells, monkeypatch, tmp_path, mode):
    """The changes that section 3 shows as comments, made: they are saved, and flags of the command of section 5."""
    monkeypatch.chdir(tmp_path)
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    [saving] = [text for text in code if "save_settings(config)" in text]
    [training] = [text for text in code if 'config["training"]))' in text]
    commands = []
    names = {"config": walkthrough.settings(mode), "save_settings": walkthrough.save_settings, "flags": flags,
             "run": lambda *command: commands.append(command)}
    exec(re.sub("^# (?=config)", "", saving, flags=re.MULTILINE), names)
    exec(training, names)
    [(script, *arguments)] = commands
    options = parse_args(arguments=arguments)
    changed = {"batch_size": 16, "num_workers": 8, "mixup_alpha": 0, "cutmix_prob": 0, "dropblock_prob": 0}
    assert script == "train_v2.py" and {name: vars(options)[name] for name in changed} == changed
    [saved] = tmp_path.rglob("notebook_config.json")
    values = json.loads(saved.read_text())["training"]
    assert {name: values[name] for name in changed} == changed and changed.keys() <= set(walkthrough.SHOWN)


def test_its_demo_leaves_the_files_of_all_others_alone(cells, monkeypatch, tmp_path):
    """Every folder that a command of the demo writes to is its own: not that of another mode, of demo.py, or in one."""
    monkeypatch.chdir(tmp_path)
    config = walkthrough.settings("demo")
    page = Path(config["results_folder"], "README.md")
    page.parent.mkdir(parents=True)
    page.touch()
    commands = []
    names = {"MODE": "demo", "Path": Path, "flags": flags, "run": lambda *command: commands.append(command)}
    names |= {name: getattr(walkthrough, name) for name in ("settings", "clear_demo", "files_needed", "save_settings")}
    names |= dict.fromkeys(("Image", "Markdown", "display", "side_by_side"), lambda *_, **__: "")
    for cell in cells:
        text = "".join(cell["source"])
        if cell["cell_type"] == "code" and ("settings(" in text or 'run("' in text):
            exec(text, names)
    writing = [command for command in commands if command[:2] != ("-m", "models")]
    to = {"--output", "--output_folder", "--save_folder", "--save"}
    assert len(writing) == 9 and all(to & set(command) for command in writing)
    written = {Path(command[i + 1]) for command in writing for i, word in enumerate(command) if word in to | {"--json"}}
    others = {Path(walkthrough.settings(mode)[name]) for mode in ("quick", "full")
              for name in ("data_folder", "save_folder", "results_folder")} | {Path(demo.DATA), demo.RESULTS}
    assert not [(path, other) for path in {*written, page.parent} for other in others
                if path.is_relative_to(other) or other.is_relative_to(path)]


def test_shipped_weights_stand_beside_the_trained_ones(cells, monkeypatch):
    """Wherever a network is looked at: evaluation, detection, performance."""
    monkeypatch.chdir(ROOT)
    assert (ROOT / walkthrough.settings("demo")["shipped"]).is_file()
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    for script in ("test_widerface.py", "detect.py", "benchmark.py"):
        [cell] = [text for text in code if f'run("{script}"' in text]
        assert 'config["student"]' in cell and 'config["shipped"]' in cell


def test_pictures_of_two_folders_stand_side_by_side(tmp_path):
    for folder, value in (("left", 50), ("right", 200)):
        for name in ("a/1.jpg", "b/ü.jpg"):
            write_picture(tmp_path / folder / name, np.full((40, 60, 3), value, np.uint8))
    sheet = read_picture(walkthrough.side_by_side(tmp_path / "left", tmp_path / "right", tmp_path / "sheet.png"))
    assert sheet.shape == (1120, 1120, 3)
    assert (sheet[100::560, 100] == 50).all() and (sheet[100::560, 660] == 200).all()


def test_an_unknown_mode_is_told():
    with pytest.raises(ValueError, match="demo, quick, full"):
        walkthrough.settings("fast")


def test_what_is_missing_is_named_with_its_source(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    config = walkthrough.settings("full")
    text = "\n".join(walkthrough.files_needed(config))
    assert text.count("MISSING") == 6 and "http" in text
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights/FeatherNetB_se.pth").touch()
    assert "there    weights/FeatherNetB_se.pth" in walkthrough.files_needed(config)


def test_the_settings_are_saved(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for mode, folder in (("demo", "results/notebook_demo"), ("quick", "results/v2"), ("full", "results/v2")):
        config = walkthrough.settings(mode)
        assert json.loads(walkthrough.save_settings(config).read_text()) == config
        assert json.loads((tmp_path / folder / "notebook_config.json").read_text()) == config


def test_only_the_demo_clears_what_it_trained(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for mode in ("full", "demo"):
        config = walkthrough.settings(mode)
        kept = tmp_path / config["save_folder"] / "FeatherFaceV2_last.pth"
        kept.parent.mkdir(parents=True)
        kept.touch()
        walkthrough.clear_demo(config)
        assert kept.exists() == (mode == "full")
