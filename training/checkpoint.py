"""Checkpoints: all that resuming, testing, detecting and exporting need, in plain types."""

import io
import math
from argparse import Namespace
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor
from torch.amp import GradScaler

from models.fitting import fill
from training.optimizer import optimizer_state, restore_optimizer
from training.step import TrainingStep
from utils.errors import UserError
from utils.files import atomic_path
from utils.pth_files import named_tensors, read_checkpoint, shown

#: What a run that goes on does not take over: its folder is that of the checkpoint, and it has begun already.
OWN_FLAGS = {"save_folder", "resume_net", "devices", "init_backbone", "init_weights"}

#: Entries of a training state and their types.
ENTRIES = {
    "model_name": str, "model": dict, "ema": dict, "ema_updates": int, "projections": dict, "optimizer": dict,
    "epochs_done": int, "best_ap": int | float, "options": dict,
}

#: What a gradient scaler has learned: its scale, and the steps since that was changed last.
SCALER = ("scale", "_growth_tracker")


def training_state(step: TrainingStep, epochs_done: int, best_ap: float, options: Namespace) -> dict:
    """All ENTRIES of a run as it is now, and its gradient scaler, in main memory: later steps change none of them."""
    trainee = step.model
    return {
        "model_name": trainee.network.name,
        "model": in_memory(trainee.network.state_dict()),
        "ema": in_memory(step.average.network.state_dict()),
        "ema_updates": step.average.updates,
        "projections": in_memory(trainee.projections.state_dict()),
        "optimizer": in_memory(optimizer_state(step.optimizer)),
        "scaler": step.scaler.state_dict(),
        "epochs_done": epochs_done,
        "best_ap": best_ap,
        "options": {name: plain(value) for name, value in vars(options).items() if name not in OWN_FLAGS},
    }


def in_memory(value: object) -> object:
    """A state_dict whose tensors are copies in main memory. Other threads so need not touch the device."""
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {name: in_memory(part) for name, part in value.items()}
    return [in_memory(part) for part in value] if isinstance(value, list) else value


def plain(value: object) -> object:
    """The value of a flag in types that a checkpoint may hold: paths as text."""
    if isinstance(value, list):
        return [plain(part) for part in value]
    return str(value) if isinstance(value, Path) else value


class CheckpointWriter:
    """Writes checkpoints while the training goes on, in one thread, which gets one state at a time.

    As a context it ends when the last one is written, whatever ended the training.
    """

    def __init__(self):
        self._thread = ThreadPoolExecutor(1)
        self._writing: Future | None = None

    def __enter__(self) -> "CheckpointWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_) -> None:
        self._thread.shutdown()
        if kind is None:
            self.wait()

    def write(self, state: dict, paths: list[Path]) -> None:
        """Begin to write a training state to all the paths, one after the other, when what was begun is written."""
        self.wait()
        self._writing = self._thread.submit(write_training_state, state, paths)

    def wait(self) -> None:
        """Return when all is written; UserError where it cannot be, and what comes after it is not written."""
        if self._writing is not None:
            self._writing.result()


def write_training_state(state: dict, paths: list[Path]) -> None:
    """Write the same bytes to all the paths, one after the other."""
    content = io.BytesIO()
    torch.save(state, content)
    for path in paths:
        with atomic_path(path) as temporary:
            temporary.write_bytes(content.getbuffer())


def load_training_state(path: str | Path, step: TrainingStep) -> tuple[int, float]:
    """Put a run back to where `path` left it; returns the epochs done and the best AP.

    With no flag changed the continued run gives the weights of an unbroken one. Raises UserError where the file
    holds no training state or one that does not fit.
    """
    state = read_training_state(path)
    trainee, average = step.model, step.average
    if state["model_name"] != trainee.network.name:
        name = shown(state["model_name"])
        raise UserError(f"{path} is of model {name}: pass --model {name}")
    if state["projections"].keys() != trainee.projections.state_dict().keys():
        raise UserError(f"{path} does not fit this run: one of them has a teacher, the other has none; "
                        "pass the same --teacher_model, --alpha and --feature_weight")
    for part, module in (("model", trainee.network), ("projections", trainee.projections), ("ema", average.network)):
        fill(module, named_tensors(state[part], f"{path}: '{part}'"), path)
    restore_optimizer(step.optimizer, state["optimizer"], path)
    restore_scaler(step.scaler, state.get("scaler", {}), path)
    average.updates = state["ema_updates"]
    return state["epochs_done"], float(state["best_ap"])


def epochs_of(path: str | Path) -> int | None:
    """After how many epochs of its run a training state was written; None where there is no whole one."""
    try:
        return read_training_state(path)["epochs_done"]
    except UserError:
        return None


def restore_scaler(scaler: GradScaler, state: dict, path: str | Path) -> None:
    """Give a scaler the scale that another one's state_dict holds, {} of a run that had none; settings stay its own.

    UserError, with the path of their file, where these are no numbers that a scaler can have.
    """
    if state == {}:
        return
    scale, steps = (state.get(name) for name in SCALER) if isinstance(state, dict) else (None, None)
    is_scale = isinstance(scale, float) and 0 < scale < math.inf
    if not is_scale or not isinstance(steps, int) or not 0 <= steps < 2**31:
        raise UserError(f"{path} has a state of the gradient scaler that no run can have: resume from another "
                        "checkpoint, or start anew from its weights with --init_weights")
    scaler.load_state_dict(scaler.state_dict() | dict(zip(SCALER, (scale, steps))))


def read_training_state(path: str | Path) -> dict:
    """All ENTRIES of a checkpoint of train_v2.py; UserError unless they are there, of these types."""
    state = read_checkpoint(path)
    if "optimizer" not in state:
        raise UserError(f"{path} holds weights but no training state: resume from a checkpoint of train_v2.py")
    for name, kind in ENTRIES.items():
        value = state.get(name)
        if not isinstance(value, kind) or (kind is int and value < 0):
            told = "missing" if name not in state else f"a {type(value).__name__} with the value {shown(value)}"
            raise UserError(f"{path}: '{name}' is {told}: resume from a checkpoint of train_v2.py")
    return state
