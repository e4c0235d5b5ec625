"""The training script: its schedule, its flags, exact resuming, accumulation, several processes."""

import re
import shlex
import subprocess
import sys
from functools import partialmethod
from pathlib import Path

import pytest
import torch
from torch import nn

import demo
import train_v2
from data.augment import training_augmentations
from data.config import FILES
from data.drawn.demo_set import write_demo_set
from data.loader import EpochBatchSampler, TrainingDataset, TrainingLoader
from data.pictures import open_pictures
from data.widerface import read_labels
from layers.anchors import make_anchors
from layers.criterion import TEACHER_TERMS, Criterion
from layers.dropblock import set_dropblock
from models import MODELS, build_model, load_model
from models.featherface_v2 import FeatherFaceV2
from tests.paths import ROOT
from training.ema import WeightAverage
from training.flags import parse_args
from training.log import read_log
from training.optimizer import build_optimizer
from training.schedule import dropblock_probability, learning_rate, mixes_pictures
from training.step import TrainingStep, compile_networks
from training.trainee import Trainee
from utils import distributed
from utils.errors import UserError
from utils.pth_files import read_checkpoint


@pytest.fixture(scope="module")
def demo_set(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo") / "set"
    write_demo_set(folder, train_pictures=12, val_pictures=12)
    return folder


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    torch.manual_seed(7)
    path = tmp_path_factory.mktemp("teacher") / "teacher.pth"
    torch.save({"model_name": "v1", "model": build_model("v1").state_dict(), "ema": None}, path)
    return path


@pytest.fixture
def flags(demo_set, teacher, tmp_path):
    """A run of seconds with everything on."""
    return ["--training_dataset", str(demo_set / "train" / "label.txt"), "--teacher_model", str(teacher),
            "--save_folder", str(tmp_path / "run"),
            "--image_size", "64", "--batch_size", "4", "--epochs", "4", "--warmup_epochs", "1",
            "--num_workers", "0", "--gpu", "cpu", "--eval_every", "2", "--save_every", "2"]


def run(monkeypatch, flags: list[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["train_v2.py", *flags])
    train_v2.main()


def weights_of(path: Path) -> dict[str, torch.Tensor]:
    state = read_checkpoint(path)
    return {**state["model"], **{f"ema.{name}": tensor for name, tensor in state["ema"].items()}}


def test_the_learning_rate_at_its_corners():
    rates = [learning_rate(step, 100, 10, 1.0) for step in range(100)]
    assert rates[0] == pytest.approx(0.1) and rates[9] == 1.0 and rates[10] == 1.0
    assert rates[99] == pytest.approx(0.01)
    assert all(earlier >= later for earlier, later in zip(rates[10:], rates[11:]))
    assert learning_rate(0, 1, 0, 1.0) == 1.0  # a run of one step
    assert learning_rate(2, 3, 5, 1.0) == pytest.approx(0.6)  # a run shorter than its warm-up


def test_dropblock_and_mixing_end_before_training_does():
    assert dropblock_probability(0, 0.1) == 0 and dropblock_probability(0.25, 0.1) == pytest.approx(0.05)
    assert dropblock_probability(0.7, 0.1) == 0.1 and dropblock_probability(0.9, 0.1) == 0
    assert [mixes_pictures(epoch, 20) for epoch in (0, 17, 18, 19)] == [True, True, False, False]
    assert not mixes_pictures(0, 1)


def test_the_average_follows_weights_and_statistics():
    network = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    average = WeightAverage(network, decay=0.5)
    start = network[0].weight.detach().clone()
    with torch.no_grad():
        network[0].weight += 1
    network[1].running_mean += 4
    average.update()  # the first decay is 2 / 11
    torch.testing.assert_close(average.network[0].weight, start + 9 / 11)
    torch.testing.assert_close(average.network[1].running_mean, torch.full((2,), 4 * 9 / 11))
    for _ in range(50):
        average.update()
    torch.testing.assert_close(average.network[0].weight, network[0].weight)


def test_a_run_leaves_the_promised_files(monkeypatch, flags, tmp_path):
    run(monkeypatch, flags)
    folder = tmp_path / "run"
    names = {path.name for path in folder.iterdir()}
    assert names == {f"FeatherFaceV2_{name}.pth" for name in ("epoch_2", "epoch_4", "last", "best", "final")} | {
        "training_log.csv", "training_curves.png"}
    rows = read_log(folder / "training_log.csv")
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4]
    for name in ("total", "box", "class", "landmark", "kd_class", "kd_box", "kd_landmark", "feature", "learning_rate",
                 "images_per_second", "task_gradient", "distillation_gradient"):
        assert all(name in row for row in rows)
    assert [("ap_hard" in row) for row in rows] == [False, True, False, True]
    final = read_checkpoint(folder / "FeatherFaceV2_final.pth")
    network = load_model(folder / "FeatherFaceV2_final.pth")
    assert not network.training and network.name == "v2"
    assert all((tensor == final["ema"][name]).all() for name, tensor in network.state_dict().items())
    with pytest.raises(UserError, match="--resume_net"):
        run(monkeypatch, flags)  # an earlier run is never overwritten


@pytest.mark.parametrize("stop_after, loading", [
    (1, []), (3, ["--num_workers", "1"]), (1, ["--cache", "ram"]), (3, ["--cache", "device"]),
])
def test_a_resumed_run_equals_the_unbroken_one_bit_for_bit(monkeypatch, flags, tmp_path, stop_after, loading):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    flags += [*loading, "--eval_every", "0"] if loading else []
    run(monkeypatch, [*flags, "--save_folder", str(whole)])

    write = train_v2.save_training_state

    def write_and_die(path, trainee, optimizer, average, epochs_done, *rest):
        write(path, trainee, optimizer, average, epochs_done, *rest)
        if epochs_done == stop_after:
            raise KeyboardInterrupt

    monkeypatch.setattr(train_v2, "save_training_state", write_and_die)
    with pytest.raises(KeyboardInterrupt):
        run(monkeypatch, [*flags, "--save_folder", str(broken)])
    monkeypatch.setattr(train_v2, "save_training_state", write)
    run(monkeypatch, [*flags, "--save_folder", str(broken), "--resume_net", str(broken / "FeatherFaceV2_last.pth")])

    expected, found = (weights_of(folder / "FeatherFaceV2_final.pth") for folder in (whole, broken))
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    logs = [read_log(folder / "training_log.csv") for folder in (whole, broken)]
    for row in logs[0] + logs[1]:
        del row["images_per_second"]
    assert logs[0] == logs[1]


@pytest.fixture
def batch(demo_set):
    """Sixteen pictures of 64 px as the loader hands them over: enough that no single anchor decides a loss."""
    records, _ = read_labels(demo_set / "train" / "label.txt")
    device = torch.device("cpu")
    pictures = open_pictures([record.path for record in records], FILES, device)
    dataset = TrainingDataset(records, pictures, 64, 0, training_augmentations(64))
    return next(iter(TrainingLoader(dataset, EpochBatchSampler(len(records), 16, 0), 0, device)))


def make_step(teacher, **settings) -> TrainingStep:
    """A step of the shipped network: a random one multiplies rounding. Its BatchNorms are fixed, as are the teacher's."""
    torch.manual_seed(0)
    taught = load_model(teacher).requires_grad_(False)
    trainee = Trainee(load_model(ROOT / "weights" / "v2" / "FeatherFaceV2_final.pth"), taught).eval()
    optimizer, average = build_optimizer(trainee, 1e-3, 0.05), WeightAverage(trainee.network, 0.9)
    criterion = Criterion(True, 0.7, settings.pop("feature_weight", 0.1), 4.0)
    return TrainingStep(trainee, taught, criterion, optimizer, average, make_anchors(64, 64), **settings)


def gradients_of(step: TrainingStep, batch) -> tuple[dict, dict]:
    """Losses and gradients of a batch without mixing."""
    losses, _ = step.backward(*step.prepare(batch, torch.Generator(), mixes=False))
    gradients = {name: p.grad for name, p in step.model.named_parameters() if p.grad is not None}
    return losses, gradients


def test_accumulation_gives_the_gradients_of_the_large_batch(teacher, batch):
    """With the statistics of BatchNorm and of the feature term out of play: these are those of each part."""
    expected, found = (gradients_of(make_step(teacher, parts=parts, feature_weight=0.0), batch)[1] for parts in (1, 4))
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-3, atol=1e-5 * float(gradient.abs().max() + 1))


def test_bfloat16_gives_the_losses_and_gradients_of_float32(teacher, batch):
    """The labels' terms to 1 %, those of two rounding networks to 5 %."""
    expected, gradients = gradients_of(make_step(teacher), batch)
    found, rounded = gradients_of(make_step(teacher, precision=torch.bfloat16), batch)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0.05 if name in TEACHER_TERMS else 0.01, atol=1e-3)
    flat, rounded = (torch.cat([g[name].flatten() for name in gradients]) for g in (gradients, rounded))
    assert torch.cosine_similarity(flat, rounded, dim=0) > 0.98


def test_compiled_networks_give_the_same_step(teacher, batch, monkeypatch):
    """Without the last stage, the generated code: that takes minutes."""
    monkeypatch.setattr(nn.Module, "compile", partialmethod(nn.Module.compile, backend="aot_eager", fullgraph=True))
    plain, compiled = make_step(teacher), make_step(teacher)
    for step in (plain, compiled):
        step.model.train()
    assert compile_networks(compiled.model, compiled.teacher, torch.device("cpu")) is None
    for probability in (0.0, 0.2, 0.3):
        steps = []
        for step in (plain, compiled):
            set_dropblock(step.model, probability, 3)
            torch.manual_seed(1)
            steps.append(step(batch, torch.Generator(), mixes=False))
        for name, value in steps[0][0].items():
            torch.testing.assert_close(steps[1][0][name], value, rtol=1e-4, atol=1e-5)
    assert list(compiled.model.state_dict()) == list(plain.model.state_dict())


def test_without_a_compiler_the_reason_is_one_line(teacher, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("no compiler\nand a long story")

    monkeypatch.setattr(torch, "compile", fail)
    assert compile_networks(build_model("v2"), None, torch.device("cpu")) == "no compiler"


def test_a_script_of_one_process_takes_one_device():
    assert distributed.choose_device("cpu", cpu=False) == torch.device("cpu")
    with pytest.raises(UserError, match="--gpu cpu,cpu.*one device"):
        distributed.choose_device("cpu,cpu", cpu=False)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_step_on_a_gpu_never_waits_for_it(teacher, batch):
    step = make_step(teacher, precision=torch.bfloat16, cutmix_prob=0.5, mixup_alpha=0.2)
    for module in (step.model, step.teacher, step.average.network):
        module.cuda()
    step.average = WeightAverage(step.model.network, 0.9)
    step.anchors = step.anchors.cuda()
    batch = batch._replace(images=batch.images.cuda(), targets=batch.targets.to("cuda"))
    step(batch, torch.Generator(), mixes=True, measure_gradients=True)
    torch.cuda.set_sync_debug_mode("error")
    try:
        step(batch, torch.Generator(), mixes=True, measure_gradients=True)
    finally:
        torch.cuda.set_sync_debug_mode("default")


class FrozenStatistics(FeatherFaceV2):
    """V2 whose BatchNorm layers keep their statistics: they are those of a process, everything else of the batch."""

    def train(self, mode: bool = True):
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self


def train_frozen(options) -> None:
    """By plain gradient descent: Adam divides by the size of the gradient, and would blow rounding up."""
    torch.set_num_threads(1)
    MODELS["v2"] = FrozenStatistics
    torch.optim.AdamW = torch.optim.SGD
    train_v2.train(options)


def test_two_processes_end_with_the_weights_of_one(flags, tmp_path):
    off = ["--mixup_alpha", "0", "--cutmix_prob", "0", "--dropblock_prob", "0", "--feature_weight", "0",
           "--epochs", "2", "--eval_every", "0", "--clip_grad", "1"]
    results = []
    for gpu in ("cpu", "cpu,cpu"):
        folder = tmp_path / gpu
        options = parse_args(arguments=[*flags, *off, "--save_folder", str(folder)])
        train_v2.settle(options)
        train_v2.check_files(options)
        options.devices = distributed.parse_devices(gpu)
        distributed.launch(train_frozen, options, len(options.devices))
        results.append(read_checkpoint(folder / "FeatherFaceV2_final.pth")["model"])
    start = weights_before_training(flags)
    moved = max(float((tensor - start[name]).abs().max()) for name, tensor in results[0].items())
    apart = max(float((tensor - results[1][name]).abs().max()) for name, tensor in results[0].items())
    assert moved > 1e-4 and apart < 1e-3 * moved


def weights_before_training(flags: list[str]) -> dict[str, torch.Tensor]:
    options = parse_args(arguments=flags)
    options.init_backbone = "teacher"
    torch.manual_seed(options.seed)
    return train_v2.build_networks(options)[0].state_dict()


@pytest.mark.parametrize(("wrong", "words"), [
    (["--alpha", "1.5"], "alpha.*1.5.*0 to 1"),
    (["--batch-size", "many"], "batch_size.*'many' is no whole number"),
    (["--image_size", "100"], "multiple of 32"),
    (["--cache", "disk"], "cache.*'disk'.*none.*ram.*device"),
    (["--no_such_flag", "1"], "no_such_flag"),
    (["--gpu", "77"], "GPU 77 is not there"),
    (["--gpu", "0,0"], "twice"),
    (["--accumulate", "3"], "multiple of 3"),
    (["--training_dataset", "nowhere/label.txt"], "nowhere/label.txt\n.*images/EVENT/NAME.jpg"),
    (["--training_dataset", "nowhere/label.txt", "--teacher_model", "nowhere.pth", "--gpu", "77"],
     r"(?s)nowhere/label.txt.*sources:.*no teacher at nowhere.pth"),
    (["--teacher_model", "nowhere.pth"], "no teacher at nowhere.pth"),
    (["--init_weights", "nowhere.pth"], "no checkpoint at nowhere.pth"),
    (["--teacher_model", "none", "--init_backbone", "teacher"], "needs a teacher"),
    (["--resume_net", "nowhere.pth"], "no checkpoint at nowhere.pth"),
])
def test_wrong_flags_get_one_clear_line(monkeypatch, capsys, flags, wrong, words):
    monkeypatch.setattr(sys, "argv", ["train_v2.py", *flags, *wrong])
    with pytest.raises(SystemExit) as stop:
        train_v2.run_script(train_v2.main)
    told = capsys.readouterr().err
    assert stop.value.code == 2 and re.search(words, told) and "Traceback" not in told


def test_both_spellings_of_a_flag():
    options = parse_args(arguments=["--batch-size", "8", "--mixup_alpha", "0.5"])
    assert options.batch_size == 8 and options.mixup_alpha == 0.5


def test_the_defaults_are_those_promised():
    promised = dict(batch_size=32, lr=1e-3, epochs=400, warmup_epochs=5, temperature=4.0, alpha=0.7, feature_weight=0.1,
                    mixup_alpha=0.2, cutmix_prob=0.5, dropblock_prob=0.1, dropblock_size=3, gpu="0", resume_net=None)
    options = vars(parse_args(arguments=[]))
    assert {name: options[name] for name in promised} == promised


@pytest.mark.parametrize("script", ["train_v2.sh", "train_v2.bat"])
def test_the_launch_scripts_spell_the_defaults(script):
    text = (ROOT / script).read_bytes().decode()
    command = re.search(r"python train_v2\.py(.*?)(\"\$@\"|%\*)", text, re.DOTALL).group(1)
    flags = shlex.split(re.sub(r"[\^\\]\s*\n", " ", command.replace("\r", "")))
    assert len(flags) > 20
    assert vars(parse_args(arguments=flags)) == vars(parse_args(arguments=[]))


def test_the_demo_distils_the_teacher_it_trains():
    teacher = parse_args(arguments=[*demo.TRAINING, *demo.TEACHER])
    student = parse_args(arguments=[*demo.TRAINING, *demo.STUDENT])
    assert teacher.model == "v1" and teacher.teacher_model == "none"
    assert student.model == "v2" and student.alpha == 0.7 and student.feature_weight == 0.1
    assert Path(student.teacher_model) == train_v2.checkpoint_path(teacher, "final")
    assert train_v2.checkpoint_path(student, "final") == demo.RESULTS / "v2" / "FeatherFaceV2_final.pth"


def test_a_checkpoint_is_trained_further(monkeypatch, flags, teacher, tmp_path):
    """With a learning rate of 0 the weights stay those of --init_weights, whatever the seed."""
    own = ["--model", "v1", "--teacher_model", "none", "--init_weights", str(teacher), "--lr", "0", "--seed", "3",
           "--epochs", "1", "--eval_every", "0"]
    run(monkeypatch, [*flags, *own])
    start = read_checkpoint(teacher)["model"]
    trained = read_checkpoint(tmp_path / "run" / "FeatherFaceV1_final.pth")["model"]
    assert all(torch.equal(trained[name], start[name]) for name in start if name.endswith(("weight", "bias")))


def test_the_script_runs_under_torchrun(flags, tmp_path):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "train_v2.py",
               *flags, "--epochs", "1", "--eval_every", "0"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=None)
    assert done.returncode == 0, done.stderr[-2000:]
    assert load_model(tmp_path / "run" / "FeatherFaceV2_final.pth").name == "v2"
