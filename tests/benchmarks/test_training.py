"""benchmark.py --train."""

import json

import pytest
import torch

import benchmark
from training.step import PHASES
from utils.errors import UserError


def test_training_is_measured_on_its_own_flags_and_those_of_training(drawn_set, teacher_checkpoint, tmp_path, capsys):
    flags = ["--train", "--gpu", "cpu", "--training_dataset", str(drawn_set(12, 12) / "train" / "label.txt"),
             "--teacher_model", str(teacher_checkpoint), "--image_size", "64", "--batch_size", "2",
             "--output_folder", str(tmp_path),
             "--rounds", "2", "--workers", "0", "--batches", "1", "--profile", str(tmp_path / "trace.json")]
    benchmark.main(flags)
    told = json.loads((tmp_path / "training.json").read_text(encoding="utf-8"))
    assert [row["step"] for row in told["step"]] == ["plain", "float32", "bfloat16"]
    for row in told["step"]:
        assert row["pictures/s"] > 0 and all(row[f"{phase}, ms"] > 0 for phase in PHASES)
        assert all(row[f"{phase}, operators"] > 0 for phase in PHASES)
    assert {row["loader"] for row in told["loader"]} >= {"decoding alone", "usual", "ours", "ours, ready"}
    assert [row["cache"] for row in told["together"]] == ["none", "ram", "device"]
    assert len({row["step"] for row in told["together"]}) == 1
    assert (told["torch"], told["device"]) == (torch.__version__, "cpu")
    assert (told["flags"]["batch_size"], told["flags"]["rounds"]) == (2, 2)
    assert [path.name for path in tmp_path.glob("training*")] == ["training.json"]
    assert all(f'"{phase}"' in (tmp_path / "trace.json").read_text(encoding="utf-8") for phase in PHASES)
    with pytest.raises(SystemExit):
        benchmark.main([*flags, "--no_such_flag", "1"])
    assert "no_such_flag" in capsys.readouterr().err


def test_the_step_is_measured_alone(drawn_set, tmp_path, capsys):
    benchmark.main(["--train", "--gpu", "cpu", "--training_dataset", str(drawn_set(12, 12) / "train" / "label.txt"),
                    "--teacher_model", "none", "--image_size", "64", "--batch_size", "2", "--rounds", "1",
                    "--step_alone", "--output_folder", str(tmp_path)])
    told = json.loads((tmp_path / "training.json").read_text(encoding="utf-8"))
    assert len(told["step"]) == 3 and told.keys().isdisjoint({"loader", "together"})
    assert "usual loader" not in capsys.readouterr().out


def test_the_gpu_that_is_measured_is_the_current_one(tmp_path, monkeypatch):
    """Before anything is built: graphs of another GPU would be empty."""
    def set_device(device: torch.device):
        raise RuntimeError(f"chosen: {device}")

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", set_device)
    flags = ["--train", "--output_folder", str(tmp_path), "--gpu"]
    with pytest.raises(RuntimeError, match="chosen: cuda:1"):
        benchmark.main([*flags, "1"])
    with pytest.raises(UserError, match="--gpu 0,1.*one device"):
        benchmark.main([*flags, "0,1"])
