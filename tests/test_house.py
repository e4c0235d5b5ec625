"""The house as README.md draws it: which room imports which, what scripts and documents hold, paths that exist."""

import ast
import fnmatch
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.helpers import ROOT

#: A room imports only itself and what stands before it here. "scripts" are the files beside README.md.
ORDER = ("utils", "widerface_evaluate", "data", "layers", "models", "training", "detection", "deployment", "scripts",
         "benchmarks", "notebooks", "tests")

#: The evaluation stands alone: what it needs when it is imported, and what its functions may ask for.
NEEDED_BY_EVALUATION = {"numpy", "scipy"}
DRAWS_CURVES = {"matplotlib"}

#: benchmark.py is the script of a room that stands below the scripts.
SCRIPT_OF_ROOM = {"benchmark": "benchmarks"}

MOST_LINES = 350
MOST_LINES_OF_README = 120


class Import(NamedTuple):
    file: Path  #: below the root
    line: int
    module: str
    is_at_top: bool  #: carried out when the file is imported

    def __str__(self) -> str:
        return f"{self.file.as_posix()}:{self.line} imports {self.module}"


def python_files(root: Path) -> list[Path]:
    """Those of all rooms and the scripts, below `root`."""
    files = [*root.glob("*.py"), *(path for room in ORDER for path in (root / room).rglob("*.py"))]
    return sorted(path.relative_to(root) for path in files)


def imports_of(file: Path, root: Path) -> Iterator[Import]:
    """All imports of a file, those inside functions too."""
    tree = ast.parse((root / file).read_text(encoding="utf-8"))
    inside = {node for function in ast.walk(tree)
              if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
              for node in ast.walk(function)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules = [name.name for name in node.names]
        elif isinstance(node, ast.ImportFrom):
            own = ".".join(file.parts[: len(file.parts) - node.level]) if node.level else ""
            modules = [".".join(part for part in (own, node.module) if part)]
        else:
            continue
        yield from (Import(file, node.lineno, module, node not in inside) for module in modules)


def room_of_file(file: Path) -> str:
    return file.parts[0] if len(file.parts) > 1 else SCRIPT_OF_ROOM.get(file.stem, "scripts")


def room_of_module(module: str, scripts: set[str]) -> str | None:
    """None for what is no part of this repo."""
    name = module.split(".")[0]
    if name in scripts:
        return SCRIPT_OF_ROOM.get(name, "scripts")
    return name if name in ORDER else None


def broken_rules(root: Path) -> list[str]:
    """A line for each import that the house does not allow: file, line, import, rule."""
    scripts = {path.stem for path in root.glob("*.py")}
    broken = []
    for file in python_files(root):
        room = room_of_file(file)
        for found in imports_of(file, root):
            target = room_of_module(found.module, scripts)
            if target is not None and target != room and ORDER.index(target) > ORDER.index(room):
                above = ", ".join(ORDER[: ORDER.index(room)]) or "nothing of this repo"
                broken.append(f"{found}: {room} may import only what stands above it ({above})")
            elif room == target == "scripts":
                broken.append(f"{found}: a script imports no other script; what two need belongs into a room")
            elif room == "widerface_evaluate":
                broken += not_alone(found, root)
    return broken


def not_alone(found: Import, root: Path) -> list[str]:
    """Why an import of the evaluation is none that it may have; a script finds its neighbours by their short names."""
    name = found.module.split(".")[0]
    allowed = {"widerface_evaluate", *(path.stem for path in (root / found.file).parent.glob("*.py")),
               *sys.stdlib_module_names, *NEEDED_BY_EVALUATION, *(() if found.is_at_top else DRAWS_CURVES)}
    needs = ", ".join(sorted(NEEDED_BY_EVALUATION))
    return [] if name in allowed else [f"{found}: widerface_evaluate stands alone and needs only {needs}"]


def test_a_room_imports_only_rooms_above_it():
    broken = broken_rules(ROOT)
    assert not broken, "\n".join(broken)


def test_no_two_rooms_import_each_other():
    scripts = {path.stem for path in ROOT.glob("*.py")}
    edges = {}
    for file in python_files(ROOT):
        for found in imports_of(file, ROOT):
            target = room_of_module(found.module, scripts)
            if target not in (None, room_of_file(file)):
                edges.setdefault((room_of_file(file), target), str(found))
    assert len(edges) > 20
    both = [f"{edges[room, other]}, {edges[other, room]}" for room, other in edges if (other, room) in edges]
    assert not both, "rooms that import each other:\n" + "\n".join(both)


@pytest.mark.parametrize(("file", "text", "line"), [
    ("utils/boxes.py", "from models import build_model", 1),
    ("utils/boxes.py", "def area():\n    import models.blocks", 2),
    ("data/loader.py", "from layers.anchors import STRIDES", 1),
    ("data/drawn/people.py", "from ...layers import anchors", 1),
    ("training/step.py", "import train_v2", 1),
    ("deployment/page.py", "from benchmarks.timing import ratio", 1),
    ("export.py", "import benchmark", 1),
    ("export.py", "from train_v2 import main", 1),
    ("widerface_evaluate/evaluation.py", "import torch", 1),
    ("widerface_evaluate/evaluation.py", "import matplotlib", 1),
    ("widerface_evaluate/evaluation.py", "def read():\n    from utils.files import atomic_path", 2),
])
def test_a_broken_rule_is_named_with_file_and_line(tmp_path, file, text, line):
    for script in ("train_v2.py", "benchmark.py"):
        (tmp_path / script).touch()
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).write_text(text + "\n")
    [told] = broken_rules(tmp_path)
    assert told.startswith(f"{file}:{line} imports ") and "\n" not in told


@pytest.mark.parametrize(("file", "text"), [
    ("models/blocks.py", "from layers.anchors import STRIDES"),
    ("benchmark.py", "from benchmarks.timing import ratio"),
    ("tests/test_any.py", "import train_v2, benchmark"),
    ("widerface_evaluate/evaluation.py", "import json, numpy\nfrom widerface_evaluate import wider_files"),
    ("widerface_evaluate/evaluation.py", "def plot():\n    import matplotlib"),
])
def test_what_is_allowed_is_not_told(tmp_path, file, text):
    for script in ("train_v2.py", "benchmark.py"):
        (tmp_path / script).touch()
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).write_text(text + "\n")
    assert broken_rules(tmp_path) == []


def test_scripts_are_short():
    lengths = {path.name: len(path.read_text(encoding="utf-8").splitlines()) for path in ROOT.glob("*.py")}
    assert {name: lines for name, lines in lengths.items() if lines >= MOST_LINES} == {}


def test_documents_hold_no_code():
    suffixes = {path.suffix for path in (ROOT / "docs").rglob("*") if path.is_file()}
    assert suffixes <= {".md", ".jpg", ".png"}


# Tests


def test_no_test_imports_another():
    told = []
    for file in python_files(ROOT):
        if file.parts[0] == "tests":
            found = list(imports_of(file, ROOT))
            told += [str(one) for one in found if re.match(r"tests\b.*\.(test_\w+|conftest)", one.module)]
    assert told == []


def test_tests_stand_where_what_they_test_stands():
    """tests/ROOM/test_FILE.py tests ROOM/FILE.py, tests/scripts/test_FILE.py the script FILE.py; tests/edges/ kinds of
    bad input, wherever they come in."""
    whole = {ROOT / "tests/scripts/test_launchers.py", ROOT / "tests/scripts/test_startup.py"}
    lost = []
    for path in sorted((ROOT / "tests").glob("*/**/test_*.py")):
        folder = path.parent.relative_to(ROOT / "tests")
        if folder == Path("edges"):
            continue
        room = ROOT if folder == Path("scripts") else ROOT / folder
        name = path.stem.removeprefix("test_")
        if path not in whole and not (room / f"{name}.py").is_file() and not (room.name == name and room.is_dir()):
            lost.append(path.relative_to(ROOT).as_posix())
    assert lost == []


# Documents

DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

#: Paths that a download or a run makes.
MADE = (
    "data/widerface*", "data/demo_set*", "results", "results/*",
    "weights/[!RF]*", "weights/FeatherNet*",  # all but README.md and FeatherFaceV2.*
)


def code_in(text: str) -> Iterator[str]:
    """What stands between backticks, one or three."""
    yield from re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    yield from re.findall(r"`([^`]+)`", without_blocks(text))


def without_blocks(text: str) -> str:
    return re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)


def repo_paths(code: str) -> Iterator[str]:
    """Words that name a file or folder of this repo, by the folder they start with or the kind of file they are."""
    folders = {path.name for path in ROOT.iterdir() if path.is_dir()}
    for word in code.split():
        word = word.strip("\"'(),;:").removeprefix("./").rstrip(".")
        starts_here = "/" in word and word.split("/")[0] in folders
        is_code = "/" not in word and Path(word).suffix in {".py", ".sh", ".bat", ".ipynb", ".toml"}
        if re.fullmatch(r"[\w./-]+", word) and (starts_here or is_code):
            yield word.rstrip("/")
    modules = re.findall(r"python3? -m ([\w.]+)", code)
    yield from (name.replace(".", "/") for name in modules if name.split(".")[0] in folders)


def is_there(path: str) -> bool:
    """Below the root or, as a name alone, in any room; a module without its .py; or what a run makes."""
    names = {file.name for file in python_files(ROOT)}
    is_made = any(fnmatch.fnmatch(path, pattern) for pattern in MADE)
    return is_made or path in names or (ROOT / path).exists() or (ROOT / f"{path}.py").is_file()


def test_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= MOST_LINES_OF_README


def test_readme_draws_the_rooms_in_their_order():
    drawn = re.findall(r"^(\w+)/ ", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert [name for name in drawn if name in ORDER] == [name for name in ORDER if name != "scripts"]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_paths_in_documents_exist(document):
    text = document.read_text(encoding="utf-8")
    assert sorted({path for code in code_in(text) for path in repo_paths(code) if not is_there(path)}) == []


@pytest.mark.parametrize("document", [*DOCUMENTS, *(ROOT / "notebooks").glob("*.ipynb")],
                         ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_in_documents_lead_somewhere(document):
    """To a file, and to a heading in it."""
    lost = []
    for link in re.findall(r"\]\(([^)\s]+)\)", without_blocks(document.read_text(encoding="utf-8"))):
        if re.match(r"\w+://", link):
            continue
        place, _, heading = link.partition("#")
        target = document.parent / place if place else document
        if not target.exists() or heading and heading not in anchors_of(target):
            lost.append(link)
    assert lost == []


def anchors_of(document: Path) -> set[str]:
    """Names of the headings of a document, as GitHub makes them."""
    titles = re.findall(r"^#+ (.*)$", without_blocks(document.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}
