"""What a training step costs and where: the plain one against ours, on one batch that is on the device already."""

import copy
import gc
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode

import train_v2
from benchmarks.baselines import PLAIN
from benchmarks.baselines.plain_step import build_plain_step
from benchmarks.engines import resident_bytes
from benchmarks.rows import for_the_eye, pictures_per_second, times_as_fast
from benchmarks.timing import spread, synchronize
from data.loader import Batch
from training.ema import WeightAverage
from training.optimizer import build_optimizer
from training.step import PHASES, TrainingStep
from training.trainee import Trainee
from utils.tables import Row
from utils.turns import take_turns

#: Ends the name of a step that is replayed.
GRAPHS = ", graphs"

#: Part of the name of a step that is compiled.
COMPILED = ", compiled"

#: Of each step before any is timed: the second is recorded and replayed, the last measures gradients.
FIRST_STEPS = 4


def step_builders(options: Namespace, device: torch.device) -> dict[str, Callable[[], TrainingStep]]:
    """What builds the plain step, ours in float32 and bfloat16, and with --compile on that compiled.

    All start from the same weights. On a GPU float16 too, and what is not in float32 as CUDA graphs too, but with
    --graphs off. options: those of train_v2.py.
    """
    torch.manual_seed(options.seed)
    network, teacher = train_v2.build_networks(options)
    settings = {"float32": ("float32", "off", "off"), "bfloat16": ("bfloat16", "off", "off")}
    if options.compile == "on":
        settings[f"bfloat16{COMPILED}"] = ("bfloat16", "on", "off")
    if device.type == "cuda":
        settings["float16"] = ("float16", "off", "off")
    if device.type == "cuda" and options.graphs == "auto":
        halves = {name: chosen for name, chosen in settings.items() if chosen[0] != "float32"}
        settings |= {f"{name}{GRAPHS}": (*chosen[:2], "auto") for name, chosen in halves.items()}
    first = Trainee(network, teacher)
    builders = {PLAIN: lambda: build_plain_step(copy.deepcopy(first), options, device)}
    for name, (precision, compiled, graphs) in settings.items():
        chosen = Namespace(**vars(options) | {"precision": precision, "compile": compiled, "graphs": graphs})
        builders[name] = partial(build_own_step, first, teacher, chosen, device)
    return builders


def build_own_step(
    first: Trainee, teacher: nn.Module | None, options: Namespace, device: torch.device
) -> TrainingStep:
    """Our step as train_v2.py builds it, from copies of both networks."""
    trainee = copy.deepcopy(first).to(device, memory_format=torch.channels_last)
    optimizer = build_optimizer(trainee, options.lr, options.weight_decay)
    average = WeightAverage(trainee.network, options.ema_decay)
    return train_v2.build_step(trainee, copy.deepcopy(teacher), optimizer, average, device, options)


def build_steps(
    builders: dict[str, Callable[[], TrainingStep]], batch: Batch, device: torch.device
) -> tuple[dict[str, TrainingStep], dict[str, float]]:
    """All steps, one after the other, warmed up, compiled and recorded; and the peak memory of each in MB.

    Of a GPU it is what a training run with this step needs: by how much the memory that PyTorch has taken from the
    device ("reserved") rises at most while the step is built and makes its first steps, the last of which measures
    gradients, as one of each epoch does. That one runs as it is, whatever the step: what it needs then stands beside
    what recordings hold. On a CPU it is the peak of this process so far.
    """
    steps, peaks = {}, {}
    generator = torch.Generator().manual_seed(0)
    for name, build in builders.items():
        before = start_of_peak(device)
        steps[name] = build()
        for number in range(FIRST_STEPS):
            run_step(steps[name], batch, generator, device, measure_gradients=number == FIRST_STEPS - 1)
        peaks[name] = (peak_bytes(device) - before) / 1e6
    return steps, peaks


def start_of_peak(device: torch.device) -> int:
    """Begin a measurement of peak_bytes: a GPU's bytes that are in use by now and are not to count; 0 for a CPU."""
    if device.type != "cuda":
        return 0
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    return torch.cuda.memory_reserved(device)


def peak_bytes(device: torch.device) -> float:
    """The most of a GPU since start_of_peak, with what had been in use before; of a CPU this process's most so far."""
    return torch.cuda.max_memory_reserved(device) if device.type == "cuda" else resident_bytes("VmHWM")


def compare_steps(
    steps: dict[str, TrainingStep], peaks: dict[str, float], batch: Batch, rounds: int, device: torch.device
) -> list[Row]:
    """A row for each step that does what its name says: pictures a second, how many times as fast as the plain one,
    peak memory; by phase, time and operators. steps, peaks: as build_steps."""
    generator = torch.Generator().manual_seed(0)
    runs = {name: partial(run_step, step, batch, generator, device) for name, step in steps.items()}
    times = take_turns(runs, rounds)
    rows = []
    for name, step in steps.items():
        row = {
            "step": name, "batch size": len(batch.images), "image size": batch.images.shape[-1],
            "device": str(device), "threads": torch.get_num_threads(), "rounds": rounds,
            **pictures_per_second(times[name], len(batch.images)), **times_as_fast(times[PLAIN], times[name]),
            "peak memory, MB": peaks[name], **device_load(runs[name], device),
        }
        if not name.endswith(GRAPHS):  # a replayed step has no phases
            row |= {f"{phase}, ms": passed for phase, passed in phase_times(step, runs[name], rounds).items()}
        if not name.endswith(GRAPHS) and COMPILED not in name:
            row |= {f"{phase}, operators": count for phase, count in count_operators(step, runs[name]).items()}
        rows.append(row)
    failed = fallen_back(steps)
    for name, why in failed.items():
        print(f"left out: {name}, {why}")
    return [row for row in rows if row["step"] not in failed]


def fallen_back(steps: dict[str, TrainingStep]) -> dict[str, str]:
    """The steps that go on without what their name says, and why; what exactly failed they have said themselves."""
    # Where one step cannot be compiled, PyTorch is told for the whole process to run what is compiled as it is.
    compiles = all(step.is_compiled for name, step in steps.items() if COMPILED in name)
    failed = {}
    for name, step in steps.items():
        if COMPILED in name and not compiles:
            failed[name] = "torch.compile failed, here or in another step"
        elif name.endswith(GRAPHS) and not step.replays:
            failed[name] = "CUDA graphs failed"
    return failed


def device_load(run: Callable[[], None], device: torch.device) -> Row:
    """Kernels that a run starts on a GPU, and the share of its time in which the GPU computes; nothing for a CPU."""
    if device.type != "cuda":
        return {}
    with profile(activities=[ProfilerActivity.CUDA]) as trace:
        start = time.perf_counter()
        run()
        microseconds = 1e6 * (time.perf_counter() - start)
    kernels = [event for event in trace.events() if event.device_type == torch.autograd.DeviceType.CUDA]
    busy = sum(event.self_device_time_total for event in kernels)
    return {"kernels": len(kernels), "busy share": busy / microseconds}


def run_step(
    step: TrainingStep, batch: Batch, generator: torch.Generator, device: torch.device, measure_gradients: bool = False
) -> None:
    """One step, and the wait for its end."""
    step.model.train()
    step(batch, generator, mixes=True, measure_gradients=measure_gradients)
    synchronize(device)


def phase_times(step: TrainingStep, run: Callable[[], None], rounds: int) -> dict[str, float]:
    """Median milliseconds of each phase; around each the device is waited for, which the step itself never does."""
    watch = Stopwatch(step.anchors.device)
    times: dict[str, list[float]] = {phase: [] for phase in PHASES}
    before, step.phase = step.phase, watch.phase
    for _ in range(rounds):
        watch.milliseconds = dict.fromkeys(PHASES, 0.0)
        run()
        for phase, passed in watch.milliseconds.items():
            times[phase].append(passed)
    step.phase = before
    return {phase: spread(passed).median for phase, passed in times.items()}


def count_operators(step: TrainingStep, run: Callable[[], None]) -> dict[str, int]:
    """Operators that each phase dispatches: on any device the nearest to the kernels that it starts on a GPU."""
    counter = OperatorCounter()
    before, step.phase = step.phase, counter.phase
    with counter:
        run()
    step.phase = before
    return counter.operators


class OperatorCounter(TorchDispatchMode):
    """Counts by phase what PyTorch dispatches, but for views and fresh memory, which start no kernel."""

    def __init__(self):
        super().__init__()
        self.operators = dict.fromkeys(PHASES, 0)
        self.current: str | None = None

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        results = operator._schema.returns
        is_view = any(result.alias_info is not None and not result.alias_info.is_write for result in results)
        if self.current is not None and not is_view and not operator.__name__.startswith("empty"):
            self.operators[self.current] += 1
        return operator(*args, **(kwargs or {}))

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        self.current = name
        yield
        self.current = None


class Stopwatch:
    """Adds up the time between entering and leaving each phase."""

    def __init__(self, device: torch.device):
        self.device = device
        self.milliseconds: dict[str, float] = {}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        synchronize(self.device)
        start = time.perf_counter()
        yield
        synchronize(self.device)
        self.milliseconds[name] += 1000 * (time.perf_counter() - start)


def step_table(rows: list[Row]) -> list[Row]:
    """For the eye: speed and memory of each step."""
    return for_the_eye(
        rows, "step", "pictures/s", "quartiles", "times as fast", "ratio quartiles", "peak memory, MB",
        *(column for column in ("kernels", "busy share") if column in rows[0]),
    )


def phase_table(rows: list[Row]) -> list[Row]:
    """For the eye: milliseconds by phase, the share of the step, and operators."""
    table = []
    for phase in PHASES:
        row: Row = {"phase": phase}
        for step in (row for row in rows if f"{phase}, ms" in row):
            total = sum(step[f"{name}, ms"] for name in PHASES)
            row[f"{step['step']}, ms"] = step[f"{phase}, ms"]
            row[f"{step['step']}, share"] = step[f"{phase}, ms"] / total
            if f"{phase}, operators" in step:
                row[f"{step['step']}, operators"] = step[f"{phase}, operators"]
        table.append(row)
    return table
