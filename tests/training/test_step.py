"""One optimiser step: in parts, in bfloat16, compiled, on a GPU."""

from functools import partial, partialmethod

import pytest
import torch
from functorch.compile import make_boxed_func
from torch import nn
from torch._dynamo.backends.common import aot_autograd
from torch._dynamo.testing import CompileCounterWithBackend

from data.augment import training_augmentations
from data.config import FILES
from data.loader import TrainingDataset, TrainingLoader
from data.pictures import open_pictures
from data.sampler import EpochBatchSampler
from data.targets import IGNORED, Targets
from data.widerface import read_labels
from detection.shipped import SHIPPED
from layers import distillation, matcher
from layers.anchors import make_anchors
from layers.criterion import RULES, Criterion
from layers.dropblock import set_dropblock
from models import build_model, load_model
from tests.helpers import CPU, make_targets, random_outputs
from training.ema import WeightAverage
from training.graphs import filled_up
from training.optimizer import build_optimizer
from training.step import COMPILED_STEPS, TrainingStep, compile_step, compiles, hold_weights_in
from training.trainee import Trainee


@pytest.fixture
def batch(drawn_set):
    """Sixteen pictures of 64 px as the loader hands them over: enough that no single anchor decides a loss."""
    records, _ = read_labels(drawn_set(12, 12) / "train" / "label.txt")
    pictures = open_pictures([record.path for record in records], FILES, CPU)
    dataset = TrainingDataset(records, pictures, 64, 0, training_augmentations(64))
    return next(iter(TrainingLoader(dataset, EpochBatchSampler(len(records), 16, 0), 0, CPU)))


@pytest.fixture
def make_step(teacher_checkpoint):
    """Makes steps of the shipped network: a random one multiplies rounding. BatchNorms of both networks are fixed."""

    def make(feature_weight: float = 0.1, assignment: str = "iou", **settings) -> TrainingStep:
        torch.manual_seed(0)
        taught = load_model(teacher_checkpoint).requires_grad_(False)
        trainee = Trainee(load_model(SHIPPED), taught).eval()
        optimizer, average = build_optimizer(trainee, 1e-3, 0.05), WeightAverage(trainee.network, 0.9)
        criterion = Criterion(True, 0.7, feature_weight, 4.0, assignment)
        return TrainingStep(trainee, taught, criterion, optimizer, average, make_anchors(64, 64), **settings)

    return make


def gradients_of(step: TrainingStep, batch) -> tuple[dict, dict]:
    """Losses and gradients of a batch without mixing."""
    losses, _ = step.backward(*step.prepare(batch.images, batch.targets, None))
    gradients = {name: p.grad for name, p in step.model.named_parameters() if p.grad is not None}
    return losses, gradients


@pytest.mark.parametrize("assignment", RULES)
def test_accumulation_gives_the_gradients_of_the_large_batch(make_step, batch, assignment):
    """With the statistics of BatchNorm and of the feature term out of play: these are those of each part."""
    expected, found = (
        gradients_of(make_step(parts=parts, feature_weight=0.0, assignment=assignment), batch)[1] for parts in (1, 4)
    )
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-3, atol=1e-5 * float(gradient.abs().max() + 1))


def test_bfloat16_gives_the_losses_and_gradients_of_float32(make_step, batch, monkeypatch):
    """The labels' terms to 1 %, those of two rounding networks, of which the teacher is a random one, to 5 %."""
    monkeypatch.setattr(distillation, "LANDMARK_CONFIDENCE", 0.0)  # rounding may choose other anchors as sure ones
    expected, gradients = gradients_of(make_step(), batch)
    found, rounded = gradients_of(make_step(precision=torch.bfloat16), batch)
    for losses in (expected, found):  # few negatives are hard here, and rounding may choose others
        losses["face"] += losses.pop("background")
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0.05 if name.startswith("kd_") else 0.01, atol=1e-3)
    flat, rounded = (torch.cat([g[name].flatten() for name in gradients]) for g in (gradients, rounded))
    assert torch.cosine_similarity(flat, rounded, dim=0) > 0.95


def test_what_anchors_may_learn_and_what_losses_are_divided_by(make_step, batch):
    """A face and a third of one, as MixUp leaves it, take three of the anchors or nine: of these five are expected."""
    targets = make_targets((0, [5, 5, 11, 12]), (1, [30, 30, 36, 37]))._replace(weights=torch.tensor([1.0, 1 / 3]))
    for assignment, anchors, weight in (("iou", 3, 4.0), ("simota", 9, 5 * 4 / 3)):
        _, candidates, divisor = make_step(assignment=assignment).prepare(batch.images, targets, None)
        assert candidates.positive.sum(dim=1)[:3].tolist() == [anchors, anchors, 0]
        assert divisor.item() == pytest.approx(weight)


def set_gradient_scale(step: TrainingStep, scale: float) -> None:
    """As if a run had gone on for a while: that of its start overflows."""
    step.scaler.load_state_dict(step.scaler.state_dict() | {"scale": scale})


def test_float16_gives_the_losses_and_gradients_of_float32(make_step, batch, monkeypatch):
    """Which has eight times the digits of bfloat16: the terms to 1 %."""
    monkeypatch.setattr(distillation, "LANDMARK_CONFIDENCE", 0.0)  # rounding may choose other anchors as sure ones
    step = make_step(precision=torch.float16)
    set_gradient_scale(step, 2.0**10)
    expected, gradients = gradients_of(make_step(), batch)
    found, scaled = gradients_of(step, batch)
    for losses in (expected, found):  # few negatives are hard here, and rounding may choose others
        losses["face"] += losses.pop("background")
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0.01, atol=1e-3)
    flat, scaled = (torch.cat([g[name].flatten() for name in gradients]) for g in (gradients, scaled))
    assert torch.cosine_similarity(flat, scaled, dim=0) > 0.99
    torch.testing.assert_close(scaled.norm() / step.gradient_scale(), flat.norm(), rtol=0.01, atol=0)


@pytest.mark.parametrize("parts", [1, 4])
def test_a_float16_step_is_that_of_float32(make_step, batch, parts):
    """Its norm to 3 %, those of one part, where rounding may choose other hard negatives, to 10 %; and the weights move
    the same way, by AdamW's first step of 1e-3 each."""
    plain, half = make_step(parts=parts), make_step(parts=parts, precision=torch.float16)
    set_gradient_scale(half, 2.0**10)
    before = torch.cat([weight.detach().flatten() for weight in plain.model.parameters()])
    expected, found = (result_of(step, batch, measures=True)[1:] for step in (plain, half))
    torch.testing.assert_close(found[0], expected[0], rtol=0.03, atol=0)
    torch.testing.assert_close(found[1], expected[1], rtol=0.1, atol=0)
    moved = [torch.cat([weight.detach().flatten() for weight in step.model.parameters()]) - before
             for step in (plain, half)]
    assert torch.cosine_similarity(*moved, dim=0) > 0.9
    assert half.gradient_scale() == half.scaler.get_scale() == 2**10 and plain.gradient_scale() == 1


def test_a_float16_step_whose_gradients_overflow_moves_no_weight(make_step, batch):
    step = make_step(precision=torch.float16)
    set_gradient_scale(step, 2.0**40)
    before = [weight.detach().clone() for weight in step.model.parameters()]
    losses, norm, _ = result_of(step, batch)
    assert all(torch.equal(weight, old) for weight, old in zip(step.model.parameters(), before))
    assert step.scaler.get_scale() == 2.0**39 and norm == 0 and all(torch.isfinite(loss) for loss in losses.values())
    set_gradient_scale(step, 2.0**10)
    _, norm, _ = result_of(step, batch)
    assert norm > 0 and not all(torch.equal(weight, old) for weight, old in zip(step.model.parameters(), before))


def test_a_frozen_network_that_holds_bfloat16_gives_the_same_numbers(make_step, batch):
    plain, held = make_step(precision=torch.bfloat16), make_step(precision=torch.bfloat16)
    before = sum(weight.element_size() * weight.numel() for weight in held.teacher.parameters())
    hold_weights_in(torch.bfloat16, held.teacher)
    assert sum(weight.element_size() * weight.numel() for weight in held.teacher.parameters()) < 0.6 * before
    for found, expected in zip(gradients_of(held, batch), gradients_of(plain, batch)):
        assert all(torch.equal(found[name], value) for name, value in expected.items())


@pytest.fixture
def compiled(fresh_compiler, monkeypatch) -> CompileCounterWithBackend:
    """Has torch.compile leave out the last stage, the generated code, which takes minutes; counts what it compiles."""
    counter = CompileCounterWithBackend("aot_eager")
    monkeypatch.setattr(nn.Module, "compile", partialmethod(nn.Module.compile, backend=counter, fullgraph=True))
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=counter, fullgraph=True))
    return counter


def result_of(step: TrainingStep, batch, probability: float = 0.0, measures: bool = False) -> tuple:
    """What a step returns."""
    set_dropblock(step.model, probability, 3)
    torch.manual_seed(1)
    return step(batch, torch.Generator(), mixes=False, measure_gradients=measures)


def test_a_compiled_step_is_the_same(make_step, batch, compiled, capsys):
    plain, fast = make_step(), make_step()
    for step in (plain, fast):
        step.model.train()
    compile_step(fast, has_few_row_numbers=False)
    for probability in (0.0, 0.2, 0.3):
        expected, found = (result_of(step, batch, probability, measures=probability == 0.3) for step in (plain, fast))
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert all(norm > 0 for norm in found[2].values()) and len(found[2]) == 2
    assert list(fast.model.state_dict()) == list(plain.model.state_dict())
    assert compiled.frame_count >= 3 and capsys.readouterr().out == ""  # student, teacher and losses


@pytest.mark.parametrize("name", RULES)
def test_losses_are_compiled_once(compiled, name):
    criterion = Criterion(True, 0.7, 0.1, 4.0, name)
    criterion.compile(dynamic=False)
    anchors = make_anchors(64, 64)
    for seed in range(3):
        student = random_outputs(seed, requires_grad=True, anchors=len(anchors))
        teacher = random_outputs(seed + 9, anchors=len(anchors))
        maps = tuple(torch.randn(2, 2, 4, 8, 8, generator=torch.Generator().manual_seed(seed)))
        assignment = matcher.assign(some_targets(seed), 2, 64, 64, criterion.rule)
        inputs = (student, maps[:1], teacher._replace(features=maps[1:]), assignment, anchors, torch.tensor(5.0))
        gradients = []
        for compute in (criterion, criterion.forward):
            criterion.total(compute(*inputs)).backward()
            gradients.append([values.grad.clone() for values in student[:3]])
            for values in student[:3]:
                values.grad = None
        torch.testing.assert_close(*gradients)
    assert compiled.frame_count == 1


def some_targets(shift: float) -> Targets:
    """Three faces and an ignored region in two pictures."""
    return make_targets((0, [5, 5, 30 + shift, 40]), (1, [10, 10, 20, 22 + shift]), (1, [shift, 2, 9, 9]),
                        (1, [30, 30, 60, 60], IGNORED))


@pytest.mark.parametrize("assignment", RULES)
def test_the_assignment_is_compiled_once_for_a_number_of_rows(make_step, compiled, assignment):
    """No rows are left out; batches are filled up alike."""
    step = make_step(assignment=assignment)
    compile_step(step, has_few_row_numbers=True)
    for shift, rows in enumerate((8, 8, 16, 8)):
        expected = matcher.assign(some_targets(shift), 2, 64, 64, step.criterion.rule)
        found = step.assign(filled_up(rows, some_targets(shift)), 2, 64, 64, step.criterion.rule)
        for name, values in expected._asdict().items():
            where = expected.positive if name in ("face", "boxes", "landmarks") else ...
            assert torch.equal(getattr(found, name)[where], values[where])
    assert compiled.frame_count == 2


def fail(*_):
    raise RuntimeError("no such kernel\nand a long story")


#: Compilers that give up at the forward pass, and at the backward pass, when the forward pass is done already.
BROKEN = {
    "forward": fail,
    "backward": aot_autograd(fw_compiler=lambda graph, _: make_boxed_func(graph.forward), bw_compiler=fail),
}


@pytest.mark.parametrize("broken", BROKEN)
def test_what_cannot_be_compiled_runs_as_it_is_and_one_line_says_so(
    make_step, batch, fresh_compiler, monkeypatch, capsys, broken
):
    monkeypatch.setattr(nn.Module, "compile", partialmethod(nn.Module.compile, backend=BROKEN[broken]))
    plain, fast = make_step(), make_step()
    for step in (plain, fast):
        step.teacher, step.criterion = None, Criterion(False, 0.7, 0.1, 4.0)
    compile_step(fast, has_few_row_numbers=False)
    for _ in range(2):
        torch.testing.assert_close(result_of(fast, batch), result_of(plain, batch))
    told = capsys.readouterr().out.splitlines()
    assert told == ["note: trained without torch.compile, which does not work here: no such kernel"]


def test_long_runs_on_a_gpu_are_compiled():
    gpu = torch.device("cuda")
    assert compiles("auto", COMPILED_STEPS, gpu) and not compiles("auto", COMPILED_STEPS - 1, gpu)
    assert not compiles("auto", 10**6, CPU) and compiles("on", 1, CPU) and not compiles("off", 10**6, gpu)


#: Operations of autograd that read from the device in their backward pass: they count zeros, or faces, on the host.
WAITING = {"ProdBackward0", "ProdBackward1", "CumprodBackward0", "MaskedSelectBackward0", "NonzeroBackward0"}


@pytest.mark.parametrize("assignment", RULES)
def test_no_loss_waits_for_a_gpu_in_its_backward_pass(make_step, batch, monkeypatch, assignment):
    """The names of all nodes behind the total, seen without a GPU."""
    nodes = set()

    def collect(total):
        waiting = [total.grad_fn]
        while waiting:
            node = waiting.pop()
            if node is not None and node not in nodes:
                nodes.add(node)
                waiting.extend(following for following, _ in node.next_functions)

    monkeypatch.setattr(torch.Tensor, "backward", collect)
    gradients_of(make_step(assignment=assignment), batch)
    names = {node.name() for node in nodes}
    assert {"ClampBackward1", "ConvolutionBackward0"} <= names
    assert not names & WAITING


@pytest.mark.parametrize("assignment", RULES)
def test_a_step_reads_nothing_from_its_device(batch, assignment):
    """On PyTorch's device without data every reading is an error, of a value or of a size that depends on values."""
    nowhere = torch.device("meta")
    trainee = Trainee(build_model("v2"), build_model("v2")).to(nowhere)
    step = TrainingStep(
        trainee, build_model("v2").eval().to(nowhere), Criterion(True, 0.7, 0.1, 4.0, assignment), optimizer=None,
        average=None, anchors=make_anchors(64, 64, nowhere), cutmix_prob=0.5, mixup_alpha=0.2,
    )
    batch = batch._replace(images=batch.images.to(nowhere), targets=batch.targets.to(nowhere))
    mix = step.plan(batch, torch.Generator(), mixes=True).to(nowhere)
    losses, gradients = step.backward(*step.prepare(batch.images, batch.targets, mix), measure_gradients=True)
    nn.utils.clip_grad_norm_(trainee.parameters(), 10.0)
    assert set(losses) == set(step.criterion.weights) and len(gradients) == 2
    with pytest.raises(Exception, match="meta"):
        losses["box"].item()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("assignment", RULES)
def test_a_step_on_a_gpu_never_waits_for_it(make_step, batch, assignment):
    step = make_step(precision=torch.bfloat16, cutmix_prob=0.5, mixup_alpha=0.2, assignment=assignment)
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
