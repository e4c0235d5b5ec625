"""A training step as CUDA graphs: the host launches three things a step, not three thousand.

Launched one by one, the kernels of a step keep a GPU waiting for half of the time. A graph replays all of them from
what lies at fixed addresses, so pictures, targets and what is mixed are copied to one place, and targets are filled up
to a power of two with absent rows: one recording for each number of rows and each kind of step.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from data.loader import Batch
from data.mixing import MixPlan
from data.targets import ABSENT, Targets
from layers.dropblock import DropBlock
from training.step import TrainingStep
from utils import distributed
from utils.errors import UserError, is_out_of_memory, reason

#: Fewest rows of a recording.
FEWEST_ROWS = 512


class Replayable(Protocol):
    def replay(self) -> None:
        """Do the recorded work again, with what lies now where it read."""


@dataclass
class GraphedStep(TrainingStep):
    """A TrainingStep, the same to callers and in its numbers, whose work is replayed.

    The first step of each kind runs as it is, which warms everything up; the next one is recorded. Steps that measure
    gradients run as they are. Where recording fails, or a step that runs as it is finds no memory beside what was
    recorded, all do, and one line says so; where that is not safe (see record), the run ends with one.
    """

    #: Whether steps are still recorded and replayed.
    replays: bool = True

    def __post_init__(self):
        super().__post_init__()
        self._recordings: dict[tuple, Recording | None] = {}
        self._images: Tensor | None = None
        self._mix: MixPlan | None = None
        self._dropblocks = [module for module in self.model.modules() if isinstance(module, DropBlock)]
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(
        self, batch: Batch, generator: torch.Generator, mixes: bool, measure_gradients: bool = False
    ) -> tuple[dict[str, Tensor], Tensor, dict[str, Tensor]]:
        """As TrainingStep; what is returned is overwritten by the next step."""
        mix = self.plan(batch, generator, mixes)
        rows = max(FEWEST_ROWS, 1 << (len(batch.targets.role) - 1).bit_length())
        kind = (rows, mix is not None, any(module.is_on for module in self._dropblocks), self.is_compiled)
        recording = None
        if self.replays and not measure_gradients:  # a step that measures goes around what is compiled
            self._place(batch.images, mix)
            recording = self._recording_of(kind, rows, batch.targets)
        if recording is None:
            return self.run(batch.images, filled_up(rows, batch.targets), mix, measure_gradients)
        self.average.count()
        recording.replay(batch.targets)
        return recording.losses, recording.norm, {}

    def _place(self, images: Tensor, mix: MixPlan | None) -> None:
        """Put a batch where recordings read it."""
        if self._images is None:
            self._images = torch.empty_like(images)
        self._images.copy_(images)
        if mix is not None:
            if self._mix is None:
                self._mix = mix.to(images.device)
            for place, values in zip(self._mix, mix):
                place.copy_(values, non_blocking=True)

    def _recording_of(self, kind: tuple, rows: int, targets: Targets) -> "Recording | None":
        """The recording of a kind of step, made the second time; None the first time and where none can be made."""
        if kind not in self._recordings:
            self._recordings[kind] = None
            return None
        if self._recordings[kind] is not None:
            return self._recordings[kind]
        recording = Recording(self, self._images, self._mix if kind[1] else None, targets, rows)
        try:
            recording.record(self._pool)
        except RuntimeError as error:
            self._stop_replaying(f", which do not work here: {reason(error)}")
            return None
        self._recordings[kind] = recording
        return recording

    def _goes_on_without(self, error: Exception) -> bool:
        """As TrainingStep; and recordings, whose memory no plain step can use, where it is memory that failed."""
        if not any(self._recordings.values()) or not is_out_of_memory(error):
            return super()._goes_on_without(error)
        self._stop_replaying(": they and a plain step do not both fit in memory")
        return True

    def _stop_replaying(self, why: str) -> None:
        """Let all recordings go, with their memory, and record no more."""
        self.replays = False
        self._recordings.clear()
        self._images = self._mix = None
        self.optimizer.zero_grad(set_to_none=True)  # gradients lie in the pool of the recordings
        self.scaler.update(self.gradient_scale())  # keeps the scale, forgets what it has noted of a step half recorded
        distributed.say(f"note: trained without CUDA graphs{why}")


def how(step: TrainingStep) -> str:
    """How a step is computed, in words: "bfloat16 on the GPU, CUDA graphs, not compiled"."""
    precision = str(step.precision).removeprefix("torch.")
    compiled = "compiled, which takes the first minutes (--compile off: not)" if step.is_compiled else "not compiled"
    if step.anchors.device.type != "cuda":
        return f"{precision} on the CPU, {compiled}"
    graphs = "CUDA graphs" if isinstance(step, GraphedStep) else "no CUDA graphs"
    return f"{precision} on the GPU, {graphs}, {compiled}"


class Recording:
    """The work of one kind of step, in the three parts between which processes exchange numbers."""

    losses: dict[str, Tensor]
    norm: Tensor

    def __init__(self, step: TrainingStep, images: Tensor, mix: MixPlan | None, targets: Targets, rows: int):
        self.step = step
        self.images = images
        self.mix = mix
        self.targets = targets.absent(rows)

    def record(self, pool: tuple[int, int]) -> None:
        """Record all three parts; nothing is computed yet. pool: of memory that recordings share."""
        self.step.optimizer.zero_grad(set_to_none=True)  # gradients are to lie in the pool
        self._parts = [record(part, pool) for part in (self._prepare, self._backward, self._move)]
        self._prepared = None  # the memory between the parts may serve other recordings

    def replay(self, targets: Targets) -> None:
        """One step with these targets."""
        place_targets(targets, self.targets)
        prepare, backward, move = self._parts
        prepare.replay()
        distributed.sum_in_place(self._weight)
        backward.replay()
        distributed.sum_in_place(self._exchanged)
        move.replay()

    def _prepare(self) -> None:
        *self._prepared, self._weight = self.step.prepare(self.images, self.targets, self.mix)

    def _backward(self) -> None:
        self.losses, _ = self.step.backward(*self._prepared, self._weight)
        self._exchanged = distributed.pack_gradients(self.step.model)

    def _move(self) -> None:
        self.norm = self.step.move(self._exchanged)


def place_targets(targets: Targets, places: Targets) -> None:
    """Put targets into the first rows of others; what follows is absent."""
    rows = len(targets.role)
    for place, values in zip(places, targets):
        place[:rows].copy_(values)
    places.role[rows:].fill_(ABSENT)


def filled_up(rows: int, targets: Targets) -> Targets:
    """Targets with absent rows up to so many: what is compiled knows no other numbers of rows than recordings."""
    places = targets.absent(rows)
    place_targets(targets, places)
    return places


def record(work: Callable[[], None], pool: tuple[int, int]) -> Replayable:
    """The kernels that `work` launches, which are not run yet.

    RuntimeError where they cannot be recorded; UserError where that leaves this process unable to go on.
    """
    graph, stream = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
    try:
        # thread_local: the loader's thread that pins memory goes on meanwhile.
        with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
            work()
    except RuntimeError as error:
        if torch.cuda.current_stream() == stream:
            raise
        # Of what CUDA called off, PyTorch tidies up nothing: its stream stays the current one, and memory that other
        # streams have used is never free again.
        torch.cuda.set_stream(stream)
        raise UserError(f"a CUDA graph could not be recorded ({reason(error.__context__ or error)}), and PyTorch "
                        "cannot go on in this process: train with --graphs off") from error
    return graph
