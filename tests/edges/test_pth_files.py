"""Checkpoints that are none, that are damaged, and those of other scripts: told in one line, or read."""

import io
import random
import re
import zipfile

import numpy as np
import pytest
import torch

from detection.shipped import SHIPPED
from models import build_model, load_model, load_weights
from tests.helpers import SHARED, needs_shared
from utils.errors import UserError
from utils.pth_files import read_checkpoint


def state_of(name: str) -> dict:
    torch.manual_seed(0)
    return build_model(name).state_dict()


def saved(content) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def zipped(names: list[str]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(name, b"content")
    return buffer.getvalue()


def refused(path) -> str:
    """What load_model says of a file that it must refuse; always one line that names the file."""
    with pytest.raises(UserError) as error:
        load_model(path)
    told = str(error.value)
    assert str(path) in told and "\n" not in told and "\x1b" not in told and "weights_only" not in told[:200]
    return told


@pytest.mark.parametrize(("content", "words"), [
    (b"", "empty"),
    (b"# FeatherFace V2\n\nA face detector of 254,112 parameters", "text file"),
    (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
    (b"<!DOCTYPE html><html>", "web page"),
    (b"\x89PNG\r\n\x1a\n" + bytes(100), "PNG picture"),
    (b"\xff\xd8\xff\xe0" + bytes(100), "JPEG picture"),
    (b"\x1f\x8b\x08" + bytes(100), "gzip archive: unpack it"),
    (b"\x80\x04\x95" + bytes(100), "pickle of Python objects"),
    (b"\x10\0\0\0\0\0\0\0{\"a\":1}", "safetensors"),
    (bytes(1000), "another kind, or damaged"),
    (b"PK\x03\x04" + bytes(1000), "cut short"),
    (zipped([]), "zip archive.*empty"),
    (zipped(["photos/a.jpg"]), r"zip archive of other files, such as photos/a.jpg: unpack it"),
    (zipped(["program/data.pkl", "program/constants.pkl"]), "TorchScript"),
    (zipped(["archive/data.pkl"]), "content makes no sense"),
    (saved({"model": np.float64(0.5)}), "Python objects.*numpy.*model.state_dict"),
    (saved(build_model("v2")), r"Python objects.*\d+ more.*could run code"),
    (saved([1, 2]), "holds a list"),
    (saved(torch.zeros(3)), "holds a Tensor"),
    (saved({1: torch.zeros(3)}), "name of type int"),
    (saved({"state_dict": None}), "no weights this repo knows"),
])
def test_a_file_that_is_no_checkpoint_is_told_what_it_is(tmp_path, content, words):
    path = tmp_path / "wrong.pth"
    path.write_bytes(content)
    assert re.search(words, refused(path))


def test_folders_and_absent_files_are_told(tmp_path):
    assert "it is no file" in refused(tmp_path)
    assert "check the path" in refused(tmp_path / "absent.pth")
    assert "check the path" in refused(tmp_path / ("x" * 300))


def wrapped(state: dict, way: str) -> dict:
    """Parameters as other people's scripts save them."""
    def prefixed(prefix):
        return {f"{prefix}{name}": value for name, value in state.items()}

    return {
        "bare": state,
        "compiled": prefixed("_orig_mod."),
        "parallel": prefixed("module."),
        "compiled, parallel": {"model": prefixed("module._orig_mod.")},
        "parts compiled": {name.replace(".", "._orig_mod.", 1): value for name, value in state.items()},
        "net": {"net": state, "acc": 3, "epoch": 7},
        "state_dict": {"state_dict": prefixed("model."), "optimizer": {"state": {0: {"step": torch.ones(())}}}},
        "model_state_dict": {"model_state_dict": state, "loss": torch.ones(())},
        "deep": {"checkpoint": {"weights": prefixed("network.")}},
        "averaged": {"n_averaged": torch.ones(()), **prefixed("module.")},
        "with an epoch": {"epoch": 7, **state},
        "an average beside": {"model": {name: torch.zeros_like(value) for name, value in state.items()}, "ema": state},
        "half": {name: value.half() if value.is_floating_point() else value for name, value in state.items()},
    }[way]


@pytest.mark.parametrize("name", ["v1", "v2"])
@pytest.mark.parametrize("way", ["bare", "compiled", "parallel", "compiled, parallel", "parts compiled", "net",
                                 "state_dict", "model_state_dict", "deep", "averaged", "with an epoch",
                                 "an average beside", "half"])
def test_weights_are_found_however_they_are_wrapped(tmp_path, name, way):
    state = state_of(name)
    torch.save(wrapped(state, way), tmp_path / "theirs.pth")
    model = load_model(tmp_path / "theirs.pth")
    assert model.name == name and not model.training
    for key, value in model.state_dict().items():
        expected = state[key].half().to(value.dtype) if way == "half" and value.is_floating_point() else state[key]
        assert torch.equal(value, expected)


def test_looking_at_a_file_draws_no_random_numbers(tmp_path):
    torch.save(state_of("v2"), tmp_path / "bare.pth")
    network = build_model("v2")
    torch.manual_seed(3)
    load_weights(network, tmp_path / "bare.pth")
    drawn = torch.rand(4)
    torch.manual_seed(3)
    assert torch.equal(drawn, torch.rand(4))


@pytest.mark.parametrize(("change", "words"), [
    ({"heads.boxes.0.weight": None}, r"entry heads.boxes.0.weight of kind NoneType"),
    ({"heads.boxes.0.weight": "text"}, r"entry heads.boxes.0.weight of kind str"),
    ({"heads.boxes.0.weight": torch.zeros(2, 2)}, r"heads.boxes.0.weight has the shape \(2, 2\), not \("),
    ({"heads.boxes.0.bias": torch.zeros(8, dtype=torch.int64)}, "heads.boxes.0.bias is of torch.int64"),
    ({"heads.boxes.0.bias": torch.zeros(8, dtype=torch.complex64)}, "complex64 tensor"),
    ({"heads.boxes.0.bias": torch.zeros(8).to_sparse()}, "entry heads.boxes.0.bias"),
    ({"heads.boxes.0.bias": torch.zeros(8, device="meta")}, "entry heads.boxes.0.bias|no sense"),
    ({"heads.boxes.9.bias": torch.zeros(8)}, "nothing there is called heads.boxes.9.bias"),
    ({7: torch.zeros(8)}, "entry 7 of kind torch.float32 tensor"),
    ({"heads.boxes.0.bias": torch.full((8,), torch.nan)}, "no usable numbers, heads.boxes.0.bias"),
    ({"heads.boxes.0.bias": torch.full((8,), -torch.inf)}, "no usable numbers, heads.boxes.0.bias"),
    ({"heads.boxes.0.bias": torch.full((8,), 1e300, dtype=torch.float64)}, "no usable numbers, heads.boxes.0.bias"),
    ({"backbone.stage1.0.norm.running_var": torch.full((8,), -1.0)}, "no usable numbers, backbone.stage1.0.norm.run"),
])
def test_every_part_of_a_checkpoint_is_checked(tmp_path, change, words):
    path = tmp_path / "changed.pth"
    torch.save({"model_name": "v2", "model": {**state_of("v2"), **change}}, path)
    assert re.search(words, refused(path))


@pytest.mark.parametrize("part", [[1, 2], torch.zeros(2), "text", 7])
@pytest.mark.parametrize("name", ["model", "ema"])
def test_parts_of_another_type_are_refused(tmp_path, name, part):
    torch.save({"model_name": "v2", "model": state_of("v2"), "ema": None, name: part}, tmp_path / "odd.pth")
    assert f"'{name}' is a {type(part).__name__}" in refused(tmp_path / "odd.pth")


@pytest.mark.parametrize("name", [["v2"], torch.zeros(2), 2, None])
def test_odd_names_of_networks_are_looked_through(tmp_path, name):
    """The weights say themselves what they are."""
    torch.save({"model_name": name, "model": state_of("v2")}, tmp_path / "odd.pth")
    assert load_model(tmp_path / "odd.pth").name == "v2"


def test_weights_of_the_other_network_are_named(tmp_path):
    torch.save(state_of("v1"), tmp_path / "v1.pth")
    with pytest.raises(UserError, match="is of model v1, not v2"):
        load_weights(build_model("v2"), tmp_path / "v1.pth")
    half = dict(list(state_of("v2").items())[:250])
    torch.save(half, tmp_path / "half.pth")
    assert "does not fit FeatherFaceV2: it lacks" in refused(tmp_path / "half.pth")


def flipped(path, content: bytes, bit: int):
    damaged = bytearray(content)
    damaged[bit // 8] ^= 1 << bit % 8
    path.write_bytes(damaged)
    return path


def test_no_flipped_bit_changes_a_weight_without_a_word(tmp_path):
    content = SHIPPED.read_bytes()
    expected = read_checkpoint(SHIPPED)["model"]
    draw = random.Random(0)
    told = 0
    for bit in (draw.randrange(8 * len(content)) for _ in range(60)):
        try:
            found = read_checkpoint(flipped(tmp_path / "flipped.pth", content, bit))["model"]
        except UserError as error:
            assert "\n" not in str(error)
            told += 1
        else:  # it was in the gaps between the entries of the archive
            assert all(torch.equal(value, found[name]) for name, value in expected.items())
    assert told > 45


@needs_shared
def test_a_flipped_bit_in_a_file_of_the_old_format_is_told(tmp_path):
    content = (SHARED / "weights" / "mobilenetV1X0.25_pretrain.tar").read_bytes()
    draw = random.Random(0)
    for bit in (draw.randrange(8 * len(content)) for _ in range(20)):
        refused(flipped(tmp_path / "flipped.tar", content, bit))
    assert "before 1.6" in refused(flipped(tmp_path / "flipped.tar", content, 8 * 1_000_000))


def test_a_checkpoint_cut_anywhere_is_told(tmp_path):
    content = SHIPPED.read_bytes()
    for share in (0.001, 0.1, 0.5, 0.9, 0.9999):
        (tmp_path / "cut.pth").write_bytes(content[: int(share * len(content))])
        assert "cut short" in refused(tmp_path / "cut.pth")


def test_an_entry_that_is_there_twice_is_told(tmp_path):
    with zipfile.ZipFile(SHIPPED) as archive, zipfile.ZipFile(tmp_path / "twice.pth", "w") as copy:
        for entry in archive.infolist():
            copy.writestr(entry.filename, archive.read(entry))
        with pytest.warns(UserWarning, match="Duplicate"):
            copy.writestr(archive.infolist()[-1].filename, b"other")
    assert "twice" in refused(tmp_path / "twice.pth")
