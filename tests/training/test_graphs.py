"""The step as CUDA graphs: without a GPU with parts that are run again in place of recorded kernels."""

import itertools
import shutil
import warnings
import weakref
from collections.abc import Callable
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from data.loader import Batch
from data.targets import FACE, IGNORED, Targets
from detection.shipped import SHIPPED
from layers.anchors import make_anchors
from layers.criterion import RULES, Criterion
from layers.dropblock import set_dropblock
from models import load_model
from tests.helpers import CPU, make_targets
from training import graphs
from training.ema import WeightAverage
from training.graphs import FEWEST_ROWS, GraphedStep, how
from training.optimizer import build_optimizer, set_learning_rate
from training.step import TrainingStep
from training.trainee import Trainee
from utils import distributed
from utils.errors import UserError

SIDE, PICTURES = 64, 4
GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def build(
    kind: type[TrainingStep], teacher_checkpoint, device: str = "cpu", assignment: str = "iou", **settings
) -> TrainingStep:
    """A step of the shipped network with a teacher."""
    torch.manual_seed(0)
    taught = load_model(teacher_checkpoint).requires_grad_(False)
    trainee = Trainee(load_model(SHIPPED), taught)
    taught.to(device)
    trainee.to(device, memory_format=torch.channels_last)
    trainee.train()
    return kind(
        trainee, taught, Criterion(True, 0.7, 0.1, 4.0, assignment), build_optimizer(trainee, 1e-3, 0.05),
        WeightAverage(trainee.network, 0.9), make_anchors(SIDE, SIDE, device), cutmix_prob=0.5, mixup_alpha=0.2,
        clip_grad=10.0, **settings,
    )


def batches(number: int, device: str = "cpu") -> list[Batch]:
    """Noise with none to 5 faces a picture, and one batch of 600 faces."""
    generator = torch.Generator().manual_seed(1)
    made = []
    for index in range(number):
        images = torch.randint(256, (PICTURES, 3, SIDE, SIDE), dtype=torch.uint8, generator=generator)
        faces = 600 if index == 3 else 5 * (index % 5)
        corners = torch.rand(faces, 2, generator=generator) * 40
        sizes = torch.rand(faces, 2, generator=generator) * 20 + 2
        boxes = torch.cat([corners, corners + sizes], dim=1).tolist()
        targets = make_targets(*((i % PICTURES, box, FACE if i % 7 else IGNORED) for i, box in enumerate(boxes)))
        images = images.contiguous(memory_format=torch.channels_last).to(device)
        made.append(Batch(images, targets.to(device), []))
    return made


def losses_of(step: TrainingStep, batches: list[Batch]) -> list[torch.Tensor]:
    """The total loss of each step, and the weights at the end; rates, mixing and DropBlock change on the way."""
    generator, totals = torch.Generator().manual_seed(2), []
    for index, batch in enumerate(batches):
        set_learning_rate(step.optimizer, 1e-3 / (index + 1))
        set_dropblock(step.model, 0.0 if index < len(batches) // 2 else 0.1, 3)
        torch.manual_seed(index)
        losses, norm, _ = step(batch, generator, mixes=index % 3 > 0, measure_gradients=index == 4)
        totals.append(torch.stack([step.criterion.total(losses), norm]).clone())
    return [*totals, *(value.float() for value in step.average.network.state_dict().values())]


class Again:
    """In place of a CUDA graph: does the work anew."""

    def __init__(self, work: Callable[[], None]):
        self.replay = work


@pytest.fixture
def recorded_kinds(monkeypatch) -> list:
    """Records without a GPU; holds an entry for each part that was recorded."""
    recorded = []
    monkeypatch.setattr(graphs, "record", lambda work, pool: recorded.append(work) or Again(work))
    return recorded


@pytest.mark.parametrize("precision, assignment", [
    (torch.float32, "iou"), (torch.float32, "simota"), (torch.float16, "iou"),
])
def test_a_replayed_step_is_the_plain_one_bit_for_bit(teacher_checkpoint, recorded_kinds, precision, assignment):
    """Over steps of two numbers of rows, mixed and not, with and without DropBlock."""
    steps = (
        build(kind, teacher_checkpoint, precision=precision, assignment=assignment)
        for kind in (TrainingStep, GraphedStep)
    )
    expected, found = (losses_of(step, batches(16)) for step in steps)
    assert len(recorded_kinds) >= 3 * 3  # three parts each
    for left, right in zip(expected, found, strict=True):
        assert torch.equal(left, right)


def test_rows_are_filled_up_to_a_power_of_two(teacher_checkpoint, recorded_kinds):
    step = build(GraphedStep, teacher_checkpoint)
    many = batches(4)[3]
    for _ in range(2):
        step(many, torch.Generator(), mixes=False)
        step(many._replace(targets=make_targets()), torch.Generator(), mixes=False)
    recordings = [work.__self__ for work in recorded_kinds[::3]]
    assert [len(recording.targets.role) for recording in recordings] == [1024, FEWEST_ROWS]


def test_a_recording_that_cuda_calls_off_ends_the_run(monkeypatch):
    """Whether CUDA did is seen by the stream, which PyTorch then leaves as it was."""
    streams = ["main"]

    @contextmanager
    def recording(*_, **__):
        streams.append("recording")
        try:
            yield
        except RuntimeError as error:
            if "called off" in str(error):
                raise RuntimeError("invalidated") from error
            streams.append("main")
            raise

    fakes = {"CUDAGraph": object, "graph": recording, "current_stream": lambda: streams[-1],
             "set_stream": streams.append}
    for name, fake in fakes.items():
        monkeypatch.setattr(torch.cuda, name, fake)

    def fail(reason: str):
        raise RuntimeError(reason)

    with pytest.raises(RuntimeError, match="no memory"):
        graphs.record(lambda: fail("no memory"), (0, 0))
    with pytest.raises(UserError, match=r"recorded \(called off\).*--graphs off"):
        graphs.record(lambda: fail("called off"), (0, 0))
    assert streams[-1] == "main"


def test_a_step_that_measures_gradients_warms_nothing_up(teacher_checkpoint, recorded_kinds):
    """It runs around what is compiled; compiling is nothing that can be recorded."""
    step = build(GraphedStep, teacher_checkpoint)
    for measures, parts in ((True, 0), (False, 0), (True, 0), (False, 3)):
        step(batches(2)[1], torch.Generator(), mixes=False, measure_gradients=measures)
        assert len(recorded_kinds) == parts


def test_where_nothing_can_be_recorded_the_plain_step_runs_and_one_line_says_so(
    teacher_checkpoint, monkeypatch, capsys
):
    def fail(work, pool):
        raise RuntimeError("operation not permitted\nand a long story")

    monkeypatch.setattr(graphs, "record", fail)
    expected, found = (
        losses_of(build(kind, teacher_checkpoint), batches(6)) for kind in (TrainingStep, GraphedStep)
    )
    assert all(torch.equal(left, right) for left, right in zip(expected, found, strict=True))
    assert capsys.readouterr().out.splitlines() == [
        "note: trained without CUDA graphs, which do not work here: operation not permitted"
    ]


def short_of_memory(step: TrainingStep, call: int) -> None:
    """Has the assignment of a step find no memory at this call, counted from 0; what it held is to be gone then."""
    assign, calls, held = step.assign, itertools.count(), []

    def assign_or_fail(*inputs):
        assert not any(tensor() is not None for tensor in held)
        if next(calls) == call:
            tensor = torch.ones(1)
            held.append(weakref.ref(tensor))
            raise torch.OutOfMemoryError("CUDA out of memory")
        return assign(*inputs)

    step.assign = assign_or_fail


def test_a_plain_step_without_memory_beside_recordings_goes_on_without_them(
    teacher_checkpoint, recorded_kinds, capsys
):
    """At the step that measures gradients."""
    plain, graphed = (build(kind, teacher_checkpoint) for kind in (TrainingStep, GraphedStep))
    short_of_memory(graphed, call=4)
    expected, found = (losses_of(step, batches(8)) for step in (plain, graphed))
    assert all(torch.equal(left, right) for left, right in zip(expected, found, strict=True))
    assert not graphed.replays and len(recorded_kinds) == 3
    assert capsys.readouterr().out.splitlines() == [
        "note: trained without CUDA graphs: they and a plain step do not both fit in memory"
    ]


@pytest.mark.parametrize("kind", [TrainingStep, GraphedStep])
def test_a_step_without_memory_and_recordings_fails(teacher_checkpoint, recorded_kinds, kind):
    step = build(kind, teacher_checkpoint)
    short_of_memory(step, call=0)
    with pytest.raises(torch.OutOfMemoryError):
        losses_of(step, batches(1))


def test_a_float16_step_half_recorded_leaves_nothing_behind(teacher_checkpoint, monkeypatch):
    plain, graphed = (build(kind, teacher_checkpoint, precision=torch.float16) for kind in (TrainingStep, GraphedStep))

    def fail_after_unscaling(work, pool):
        if work.__name__ == "_move":
            graphed.scaler.unscale_(graphed.optimizer)
            raise RuntimeError("no memory")

    monkeypatch.setattr(graphs, "record", fail_after_unscaling)
    expected, found = (losses_of(step, batches(3)) for step in (plain, graphed))
    assert all(torch.equal(left, right) for left, right in zip(expected, found, strict=True)) and not graphed.replays


def test_a_line_says_how_steps_are_computed(teacher_checkpoint, recorded_kinds):
    on_gpu = SimpleNamespace(device=torch.device("cuda"))
    plain = SimpleNamespace(precision=torch.float16, is_compiled=True, anchors=on_gpu)
    assert how(plain).startswith("float16 on the GPU, no CUDA graphs, compiled, which takes the first minutes")
    graphed = build(GraphedStep, teacher_checkpoint, precision=torch.bfloat16)
    assert how(graphed) == "bfloat16 on the CPU, not compiled"
    graphed.anchors = on_gpu
    assert how(graphed) == "bfloat16 on the GPU, CUDA graphs, not compiled"


def weights_after(
    kind: type[TrainingStep], checkpoint: Path, batches: list[Batch], assignment: str
) -> torch.Tensor:
    """All weights after a step a batch, without mixing; BatchNorm with the statistics that it has."""
    step = build(kind, checkpoint)
    step.model.eval()
    step.criterion = Criterion(True, 0.7, 0.0, 4.0, assignment)  # the feature term is that of each process
    # AdamW would make a whole step of the rounding of a gradient that is nearly 0.
    step.optimizer = torch.optim.SGD(step.model.parameters(), lr=1e-2)
    for batch in batches:
        step(batch, torch.Generator(), mixes=False)
    return all_weights(step.model.network)


def all_weights(network: nn.Module) -> torch.Tensor:
    """In one vector."""
    return torch.cat([parameter.detach().flatten() for parameter in network.parameters()])


def replay_as_one_of_two(folder: Path, assignment: str) -> None:
    """Steps over this process's half of the batches, the first without a face, replayed."""
    distributed.join([CPU] * 2)
    graphs.record = lambda work, pool: Again(work)
    rank = distributed.rank()
    halves = []
    for images, targets, _ in batches(4):
        own = targets.picture // (PICTURES // 2) == rank
        rows = Targets(*(field[own] for field in targets))
        rows = rows._replace(picture=rows.picture - rank * (PICTURES // 2))
        halves.append(Batch(images.chunk(2)[rank], rows, []))
    torch.save(weights_after(GraphedStep, folder / "teacher.pth", halves, assignment), folder / f"{rank}.pth")
    distributed.leave()


@pytest.mark.parametrize("assignment", RULES)
def test_two_processes_that_replay_move_the_weights_as_one(teacher_checkpoint, tmp_path, assignment):
    shutil.copy(teacher_checkpoint, tmp_path / "teacher.pth")
    distributed.launch(partial(replay_as_one_of_two, assignment=assignment), tmp_path, 2)
    start = all_weights(load_model(SHIPPED))
    expected = weights_after(TrainingStep, teacher_checkpoint, batches(4), assignment)
    first, second = (torch.load(tmp_path / f"{rank}.pth") for rank in range(2))
    assert torch.equal(first, second)
    assert (first - expected).norm() < 1e-4 * (expected - start).norm()


@GPU
@pytest.mark.parametrize("precision, assignment", [
    (torch.float32, "iou"), (torch.float32, "simota"), (torch.bfloat16, "iou"), (torch.float16, "iou"),
])
def test_fifty_steps_on_a_gpu_are_fifty_plain_ones(teacher_checkpoint, precision, assignment, monkeypatch):
    """Sums in other orders, which a GPU does as it likes, move apart: on one H200 by 0.3 % in float32."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    steps = [
        build(kind, teacher_checkpoint, "cuda", precision=precision, assignment=assignment)
        for kind in (TrainingStep, GraphedStep)
    ]
    expected, found = (losses_of(step, batches(50, "cuda")) for step in steps)
    assert len([kind for kind in steps[1]._recordings.values() if kind]) >= 3
    tolerance = {torch.float32: 1e-2, torch.bfloat16: 5e-2, torch.float16: 5e-2}[precision]
    totals, replayed = (torch.stack(values[:50])[:, 0] for values in (expected, found))
    torch.testing.assert_close(replayed, totals, rtol=tolerance, atol=tolerance)
    moved = [(left - right).abs().max() / left.abs().max().clamp(min=1) for left, right in zip(expected, found)][50:]
    assert torch.stack(moved).max() < 10 * tolerance


@GPU
def test_a_plain_step_does_not_warn_that_it_is_not_recorded(teacher_checkpoint):
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        losses_of(build(GraphedStep, teacher_checkpoint, "cuda"), batches(1, "cuda"))
    assert not any("capturable" in str(warning.message) for warning in told)


@GPU
@pytest.mark.parametrize("precision, assignment", [
    (torch.bfloat16, "iou"), (torch.bfloat16, "simota"), (torch.float16, "iou"),
])
def test_a_replayed_step_never_waits_for_the_gpu(teacher_checkpoint, precision, assignment):
    step = build(GraphedStep, teacher_checkpoint, "cuda", precision=precision, assignment=assignment)
    batch = batches(2, "cuda")[1]
    for _ in range(2):
        step(batch, torch.Generator(), mixes=True)
    torch.cuda.set_sync_debug_mode("error")
    try:
        step(batch, torch.Generator(), mixes=True)
    finally:
        torch.cuda.set_sync_debug_mode("default")
