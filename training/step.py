"""One optimiser step: from a batch of the loader to moved weights. Nothing in it waits for the device."""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.optim import Optimizer
from torch.profiler import record_function

from data.loader import Batch
from data.mixing import MixPlan, mix_batch, plan_mix
from data.pixels import normalize
from data.targets import Targets
from layers.criterion import Criterion
from layers.matcher import Assignment, assign
from layers.selection import usual_weight
from training.ema import WeightAverage
from utils import distributed
from utils.errors import is_out_of_memory, reason

#: What a step goes through, as profilers and benchmark.py --train name it.
PHASES = ("mixing", "assignment", "student", "teacher", "losses", "backward", "optimizer")

#: Steps from which on a GPU torch.compile saves more than the minutes that it takes (docs/performance.md).
COMPILED_STEPS = 20_000


@dataclass
class TrainingStep:
    """All that one step needs beside its batch.

    model is a Trainee, the same in every process. anchors: [A, 4] cxcywh in pixels,
    those of the training pictures. `parts` is the number of parts in which a process goes through its share of the
    batch, as if it were one: BatchNorm and the statistics of feature distillation alone are those of each part.
    Both networks compute in `precision` where it can be trusted (torch.autocast), the losses in float32. In float16
    small gradients would be 0 and large ones overflow: `scaler` keeps them in range, and skips steps where it did not.
    """

    model: nn.Module
    teacher: nn.Module | None
    criterion: Criterion
    optimizer: Optimizer
    average: WeightAverage
    anchors: Tensor
    precision: torch.dtype = torch.float32
    parts: int = 1
    clip_grad: float = math.inf
    cutmix_prob: float = 0.0
    mixup_alpha: float = 0.0
    #: Entered for each of PHASES; a profiler shows them by these names.
    phase: Callable[[str], AbstractContextManager] = record_function
    #: As layers.matcher.assign, or what torch.compile made of it.
    assign: Callable[..., Assignment] = assign
    is_compiled: bool = False
    #: Does nothing but for float16.
    scaler: GradScaler = field(init=False)

    def __post_init__(self):
        self.scaler = GradScaler(self.anchors.device.type, enabled=self.precision == torch.float16)

    def __call__(
        self, batch: Batch, generator: torch.Generator, mixes: bool, measure_gradients: bool = False
    ) -> tuple[dict[str, Tensor], Tensor, dict[str, Tensor]]:
        """Move the weights by one batch, which is on the device, its pictures mixed or not, as a CPU generator draws.

        Returns the unweighted terms of the loss over this process's share, the norm of the whole gradient before it is
        clipped, 0 where `scaler` skips the step, and the gradient norms that task and teacher send into the neck, where
        asked for, of the first part of this process as its share of the batch; all on the device.
        """
        return self.run(batch.images, batch.targets, self.plan(batch, generator, mixes), measure_gradients)

    def plan(self, batch: Batch, generator: torch.Generator, mixes: bool) -> MixPlan | None:
        """What is mixed, drawn on the CPU; None where nothing is."""
        if not mixes:
            return None
        pictures, _, height, width = batch.images.shape
        return plan_mix(pictures, height, width, generator, self.cutmix_prob, self.mixup_alpha)

    def run(
        self, images: Tensor, targets: Targets, mix: MixPlan | None, measure_gradients: bool = False
    ) -> tuple[dict[str, Tensor], Tensor, dict[str, Tensor]]:
        """The step once all is drawn; see __call__."""
        mix = mix.to(images.device) if mix else None
        images, candidates, weight = self._try(self.prepare, images, targets, mix)
        distributed.sum_in_place(weight)
        losses, gradients = self._try(self.backward, images, candidates, weight, measure_gradients)
        with self.phase("optimizer"):
            exchanged = distributed.pack_gradients(self.model)
            distributed.sum_in_place(exchanged)
            self.average.count()
            norm = self.move(exchanged)
        return losses, norm, gradients

    @torch.no_grad()
    def prepare(self, images: Tensor, targets: Targets, mix: MixPlan | None) -> tuple[Tensor, Assignment, Tensor]:
        """The pictures as the networks take them, [B, 3, S, S], what their anchors may learn, and the sum of the
        weights of those that do, or about that where they are chosen later."""
        with self.phase("mixing"):
            images, targets = mix_batch(images, targets, mix)
            images = normalize(images)
        with self.phase("assignment"):
            candidates = self.assign(targets, len(images), *images.shape[2:], self.criterion.rule)
            weight = usual_weight(targets) if self.criterion.chooses else candidates.weights.sum()
            return images, candidates, weight

    def backward(
        self, images: Tensor, candidates: Assignment, weight: Tensor, measure_gradients: bool = False
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Forward and backward over a process's share of the batch; weight: the sum of all processes' shares.

        Returns losses and gradient norms as __call__; the gradients themselves are then those of the parameters, times
        gradient_scale().
        """
        normalizer = weight.clamp(min=1) / distributed.world_size()
        size = len(images) // self.parts
        sums: dict[str, Tensor] = {}
        gradients: dict[str, Tensor] = {}
        for start in range(0, len(images), size):
            measures = measure_gradients and start == 0 and self.teacher is not None
            losses, features = self._losses(
                images[start : start + size], candidates.pictures(start, start + size), normalizer, measures
            )
            if measures:
                for name, part in ("task", self.criterion.task), ("distillation", self.criterion.distillation):
                    norm = gradient_norm(self.scaler.scale(part(losses)), features)
                    gradients[f"{name}_gradient"] = norm / self.gradient_scale()
            with self.phase("backward"):
                self.scaler.scale(self.criterion.total(losses)).backward()
            for name, value in losses.items():
                sums[name] = sums.get(name, 0) + value.detach()
        return sums, gradients

    def move(self, exchanged: Tensor | None) -> Tensor:
        """Clip the gradients, move the weights and their average; returns the norm before that, as __call__.

        exchanged: as pack_gradients.
        """
        distributed.unpack_gradients(self.model, exchanged)
        self.scaler.unscale_(self.optimizer)
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.clip_grad)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self.average.update()
        return norm.nan_to_num(0, 0, 0) if self.scaler.is_enabled() else norm

    def gradient_scale(self) -> Tensor:
        """What gradients are multiplied by until weights are moved, a scalar on the device; 1 but for float16."""
        return self.scaler.scale(self.anchors.new_ones(()))

    def _try(self, part: Callable, *inputs):
        """What a part of the step returns, at the second try where the first failed of what it can do without.

        Where it fails in its backward pass, BatchNorm's statistics move twice by this one batch.
        """
        try:
            return part(*inputs)
        except Exception as error:  # each missing piece (a C++ compiler, Triton, a GPU too old) raises its own type
            if not self._goes_on_without(error):
                raise
        self.optimizer.zero_grad(set_to_none=True)
        torch.cuda.empty_cache()  # the error, and with it all that the first try held, is gone only here
        return part(*inputs)

    def _goes_on_without(self, error: Exception) -> bool:
        """Whether the step goes on, from now on without what may have raised this error: torch.compile."""
        if not self.is_compiled or is_out_of_memory(error):
            return False
        self.is_compiled = False
        why = reason(getattr(error, "inner_exception", error))  # PyTorch wraps what a compiler says
        distributed.say(f"note: trained without torch.compile, which does not work here: {why}")
        torch.compiler.set_stance("force_eager")
        return True

    def _losses(
        self, images: Tensor, candidates: Assignment, normalizer: Tensor, measures: bool
    ) -> tuple[dict[str, Tensor], tuple[Tensor, ...]]:
        """The terms of one part, and the student's neck outputs, to which gradients can be measured if asked for."""
        # No gradient ends inside of a compiled network, and compiled losses can be gone through backwards once only.
        student, criterion = (self.model.forward, self.criterion.forward) if measures else (self.model, self.criterion)
        is_float32 = self.precision == torch.float32
        with nullcontext() if is_float32 else torch.autocast(images.device.type, self.precision):
            with self.phase("student"):
                outputs, projected = student(images)
            with self.phase("teacher"), torch.no_grad():
                taught = self.teacher(images) if self.teacher is not None else None
        with self.phase("losses"):
            losses = criterion(
                outputs, projected, taught, candidates, self.anchors, normalizer, share=1 / self.parts
            )
        return losses, outputs.features


def choose_precision(name: str | None, device: torch.device) -> torch.dtype:
    """What --precision names; None is bfloat16 on a GPU that computes in it by itself, float32 elsewhere."""
    if name is not None:
        return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[name]
    computes = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if computes else torch.float32


def hold_weights_in(precision: torch.dtype, frozen: nn.Module) -> None:
    """Keep the weights of convolutions and linear layers as they are computed with, in place.

    Under autocast the network gives the same numbers, bit for bit; but autocast, which keeps its casts of weights in
    training for the step, casts those that take no gradient anew each time they are used.
    """
    for layer in frozen.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            layer.to(precision)


def compiles(choice: str, steps: int, device: torch.device) -> bool:
    """Whether a run of so many steps compiles its networks: as told, or on a GPU where it pays."""
    return choice == "on" or (choice == "auto" and device.type == "cuda" and steps >= COMPILED_STEPS)


def compile_step(step: TrainingStep, has_few_row_numbers: bool) -> None:
    """Have torch.compile fuse both networks and the losses, in place; names of parameters stay as they are.

    The assignment too where targets come in few numbers of rows, as in a GraphedStep: it is compiled for each of them.
    Compiling happens at the first step; where that fails, the step goes on without.
    """
    for module in (step.model, step.teacher, step.criterion):
        if module is not None:
            module.compile(dynamic=False)  # all batches of a run have one shape
    if has_few_row_numbers:
        step.assign = torch.compile(step.assign, dynamic=False)
    step.is_compiled = True


def gradient_norm(loss: Tensor, features: tuple[Tensor, ...]) -> Tensor:
    """Norm of the gradient a loss sends into the neck's outputs, a scalar."""
    gradients = torch.autograd.grad(loss, features, retain_graph=True, allow_unused=True)
    norms = [gradient.float().norm() for gradient in gradients if gradient is not None]
    return torch.stack(norms).norm() if norms else loss.new_zeros(())
