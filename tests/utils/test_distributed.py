"""Devices as people name them; several processes that train as one."""

import os
from pathlib import Path

import pytest
import torch
from torch import nn

import benchmark
import detect
import test_widerface
from benchmarks import training_loader
from training.flags import parse_args as train_flags
from utils import distributed
from utils.cores import usable_cores
from utils.errors import UserError


def test_a_script_of_one_process_takes_one_device():
    assert distributed.choose_device("cpu") == torch.device("cpu")
    with pytest.raises(UserError, match="--gpu cpu,cpu.*one device"):
        distributed.choose_device("cpu,cpu")


@pytest.mark.parametrize(("gpus", "device", "words"), [
    (0, torch.device("cpu"), "no GPU here, on the CPU\n"), (2, torch.device("cuda", 0), "on GPU 0, Wheel\n"),
])
def test_auto_is_gpu_0_or_the_cpu_and_is_said_once(monkeypatch, capsys, gpus, device, words):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(gpus))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Wheel")
    assert distributed.parse_devices("auto") == [distributed.choose_device("auto")] == [device]
    assert capsys.readouterr() == ("", 2 * words)
    monkeypatch.setenv("RANK", "1")
    assert distributed.parse_devices("auto") == [device]
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("parse", [
    train_flags, detect.parse_args, test_widerface.parse_args, benchmark.parse_args, training_loader.parse_args,
])
def test_auto_is_the_default_of_every_script(parse):
    model = ["--trained_model", "a.pth"]
    needed = {detect.parse_args: ["a.jpg"], test_widerface.parse_args: model,
              benchmark.parse_args: [*model, "--teacher_model", "a.pth"]}
    assert parse(arguments=needed.get(parse, [])).gpu == "auto"


@pytest.mark.parametrize(("gpus", "processes", "found"), [
    ("0", 1, "0"), ("3", 1, "3"),
    ("0", 4, "0123"), ("2", 4, "0123"),  # torchrun started four
    ("2,3", 2, "23"), ("3,2", 2, "32"),
    ("2,3", 4, None), ("0,1,2", 2, None),
])
def test_each_process_has_a_gpu_of_its_own(monkeypatch, gpus, processes, found):
    devices = [torch.device("cuda", int(number)) for number in gpus.split(",")]
    monkeypatch.setenv("WORLD_SIZE", str(2 * processes if processes > 1 else 1))  # of two machines
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
    places = []
    for place in range(processes):
        monkeypatch.setenv("LOCAL_RANK", str(place))
        if found is None:
            with pytest.raises(UserError, match=rf"{len(devices)} devices for {processes} processes"):
                distributed.own_device(devices)
        else:
            places.append(distributed.own_device(devices).index)
    assert "".join(map(str, places)) == (found or "")


def test_a_launcher_that_does_not_count_the_processes_of_a_machine(monkeypatch):
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    monkeypatch.setenv("LOCAL_RANK", "1")
    [first, second] = [torch.device("cuda", number) for number in (2, 3)]
    assert distributed.own_device([first]) == first  # one process, whatever is left in the environment
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert distributed.own_device([first, second]) == second
    assert distributed.own_device([first]) == torch.device("cuda", 1)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no system that ties processes to cores")
def test_cores_that_the_process_is_not_tied_to_do_not_count():
    before = os.sched_getaffinity(0)
    assert usable_cores() == len(before)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert usable_cores() == 1
    finally:
        os.sched_setaffinity(0, before)


def average_and_save(folder: Path) -> None:
    """Gradients of a process are its rank + 1; the second process has none for the bias, and starts elsewhere."""
    distributed.join([torch.device("cpu")] * 2)
    rank = distributed.rank()
    module = nn.Conv2d(2, 3, 1).to(memory_format=torch.channels_last)
    with torch.no_grad():
        module.weight.fill_(7 * rank + 1)
    distributed.share_start(module)
    module.weight.grad = torch.full_like(module.weight, rank + 1.0)
    module.weight.grad[0] = 10 * (rank + 1)
    module.bias.grad = torch.ones(3) if rank == 0 else None
    total = distributed.pack_gradients(module)
    distributed.sum_in_place(total)
    distributed.unpack_gradients(module, total)
    torch.save([module.weight.detach(), module.weight.grad, module.bias.grad], folder / f"{rank}.pth")
    distributed.leave()


def test_processes_start_equal_and_share_the_mean_of_their_gradients(tmp_path, capfd):
    distributed.launch(average_and_save, tmp_path, 2)
    for rank in range(2):
        weight, gradient, of_bias = torch.load(tmp_path / f"{rank}.pth")
        assert (weight == 1).all() and (of_bias == 0.5).all()
        assert (gradient[0] == 15).all() and (gradient[1:] == 1.5).all()
    assert "Warning" not in capfd.readouterr().err


def test_one_process_keeps_its_gradients():
    module = nn.Linear(2, 2)
    module.weight.grad = torch.ones(2, 2)
    total = distributed.pack_gradients(module)
    distributed.sum_in_place(total)
    distributed.unpack_gradients(module, total)
    assert module.bias.grad is None and (module.weight.grad == 1).all()
