"""One process a GPU: start them, find one's place among them, add numbers up over them."""

import logging
import os
import signal
import sys
import uuid
from collections.abc import Callable
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from utils.cores import usable_cores
from utils.errors import STOPPED, UserError, exit_code

#: How long processes that have found each other wait for one another. The first one measures AP meanwhile, by slow
#: protocols too; PyTorch would end GPU processes that wait for 10 minutes. Where one dies, the launcher of its machine
#: ends the others there.
PATIENCE = timedelta(hours=12)

#: All processes of the run, as patient as that; None before they have found each other.
_everybody: dist.ProcessGroup | None = None


def parse_devices(text: str) -> list[torch.device]:
    """One device a process: '0' or '0,1' -> those GPUs, 'cpu' or 'cpu,cpu' -> the CPU, once or shared by two.

    'auto' is GPU 0, or the CPU where PyTorch sees none, and says which on stderr. UserError for anything else and for a
    GPU that is not there.
    """
    if text == "auto":
        return [_choose()]
    if set(text.split(",")) == {"cpu"}:
        return [torch.device("cpu") for _ in text.split(",")]
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        raise UserError(f"--gpu {text}: give auto, GPU numbers such as 0 or 0,1, or cpu, or cpu,cpu") from None
    if len(set(numbers)) != len(numbers):
        raise UserError(f"--gpu {text}: a GPU is named twice")
    count = torch.cuda.device_count()
    missing = [number for number in numbers if not 0 <= number < count]
    if missing:
        raise UserError(f"--gpu {text}: GPU {missing[0]} is not there, PyTorch sees {count}; pass auto or cpu")
    return [torch.device("cuda", number) for number in numbers]


def _choose() -> torch.device:
    """GPU 0 or the CPU; said once, whatever the number of processes, and not among results."""
    has_gpu = torch.cuda.is_available()
    if is_main():
        told = f"on GPU 0, {torch.cuda.get_device_name(0)}" if has_gpu else "no GPU here, on the CPU"
        print(told, file=sys.stderr, flush=True)
    return torch.device("cuda", 0) if has_gpu else torch.device("cpu")


def choose_device(gpu: str) -> torch.device:
    """The device of a script that runs as one process, from its flag --gpu.

    UserError as parse_devices and for several devices.
    """
    devices = parse_devices(gpu)
    if len(devices) > 1:
        raise UserError(f"--gpu {gpu}: this script runs on one device, give one of them")
    return devices[0]


def training_devices() -> str:
    """A value of --gpu for a small training on any machine: GPU 0, or without one a process a core, two at most.

    On small pictures two processes beat two threads.
    """
    return "0" if torch.cuda.is_available() else ",".join(["cpu"] * min(2, usable_cores()))


def processes_here() -> int:
    """How many of the launched processes run on this machine: all, unless the launcher says otherwise."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", launched_processes()))


def launched_processes() -> int:
    """How many processes torchrun (or `launch`) started together; 1 where none of them did."""
    return int(os.environ.get("WORLD_SIZE", 1))


def launch(main: Callable, options, processes: int) -> None:
    """Run main(options) in `processes` processes of this machine under torch's elastic launcher.

    main must be importable by name. For several machines the script is started with torchrun instead. Raises
    UserError where a process stopped; the process has said why. KeyboardInterrupt where a person stops them.
    """
    configuration = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
    )
    for name in ("agent.server.api", "multiprocessing.api"):  # they warn of what is told below
        logging.getLogger(f"torch.distributed.elastic.{name}").setLevel(logging.ERROR)
    try:
        elastic_launch(configuration, _run)(main, options)
    except SignalException as told:  # the processes have got it too
        if told.sigval != signal.SIGINT:
            sys.exit(128 + told.sigval)
        print(file=sys.stderr)  # the bar of a process that has ended has no end of its line
        raise KeyboardInterrupt from None
    except ChildFailedError:
        raise UserError("a training process stopped, its own message is above; the others were ended") from None


def _run(main: Callable, options) -> None:
    def run() -> None:
        try:
            main(options)
        except KeyboardInterrupt:  # the launcher says so, for all of them
            sys.exit(STOPPED)

    # Not run_script: the launcher waits for this function to return.
    if code := exit_code(run):
        sys.exit(code)


def join(devices: list[torch.device]) -> torch.device:
    """Take one's place among the launched processes, if any; returns the device this process works on.

    UserError where there is none for it.
    """
    global _everybody
    device = own_device(devices)
    is_gpu = device.type == "cuda"
    if launched_processes() > 1:
        if is_gpu and device.index >= torch.cuda.device_count():
            raise UserError(f"process {device.index} of this machine has no GPU of its own: PyTorch sees "
                            f"{torch.cuda.device_count()}; start as many processes as there are GPUs")
        if not is_gpu:  # more threads than cores would spend their time waiting for each other
            torch.set_num_threads(max(1, usable_cores() // processes_here()))
        # With PyTorch's own patience of minutes: a machine whose processes have stopped before may never come.
        dist.init_process_group("nccl" if is_gpu else "gloo", device_id=device if is_gpu else None)
        _everybody = dist.new_group(timeout=PATIENCE)
    if is_gpu:
        torch.cuda.set_device(device)
    return device


def own_device(devices: list[torch.device]) -> torch.device:
    """The device of this process: of as many as run on this machine the i-th has the i-th of `devices`.

    Where torchrun started several and one GPU is named, as by default, it has GPU i. UserError where other numbers of
    devices and processes meet.
    """
    if launched_processes() == 1:
        return devices[0]
    processes, place = processes_here(), int(os.environ["LOCAL_RANK"])
    if len(devices) == processes:
        return devices[place]
    if len(devices) != 1:
        raise UserError(f"--gpu names {len(devices)} devices for {processes} processes of this machine: name one for "
                        "each, or leave it out")
    return devices[0] if devices[0].type == "cpu" else torch.device("cuda", place)


def leave() -> None:
    """End the group of processes, if there is one."""
    if dist.is_initialized():
        dist.destroy_process_group()


def rank() -> int:
    """The number of this process, also before it has joined the others."""
    return dist.get_rank() if dist.is_initialized() else int(os.environ.get("RANK", 0))


def world_size() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def is_main() -> bool:
    """Whether this process is the one that writes files and speaks."""
    return rank() == 0


def say(text: str) -> None:
    """Print once, whatever the number of processes."""
    if is_main():
        print(text, flush=True)


def share_start(module: nn.Module) -> None:
    """Give parameters and buffers the values they have in the first process, on each of them."""
    if dist.is_initialized():
        for tensor in module.state_dict().values():
            dist.broadcast(tensor, 0, group=_everybody)


def pack_gradients(module: nn.Module) -> Tensor | None:
    """All gradients in one vector, to be added up over the processes in one exchange: they are a megabyte in all.

    A parameter without a gradient takes part with zeros. None where there is one process: nothing is exchanged.
    """
    if not dist.is_initialized():
        return None
    parameters = _trained(module)
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    return torch.cat([parameter.grad.flatten() for parameter in parameters])


def unpack_gradients(module: nn.Module, total: Tensor | None) -> None:
    """Replace every gradient by its mean over all processes, out of the sum of what pack_gradients gave in each."""
    if total is None:
        return
    parameters = _trained(module)
    means = (total / dist.get_world_size()).split([parameter.numel() for parameter in parameters])
    gradients = [parameter.grad for parameter in parameters]
    torch._foreach_copy_(gradients, [mean.view_as(gradient) for mean, gradient in zip(means, gradients)])


def _trained(module: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in module.parameters() if parameter.requires_grad]


def wait_for_all() -> None:
    """Return when every process has come here."""
    if dist.is_initialized():
        dist.barrier(group=_everybody)


def sum_in_place(values: Tensor | None) -> None:
    """Put the sum over all processes in the place of `values`; nothing where there is one process."""
    if dist.is_initialized():
        dist.all_reduce(values, group=_everybody)
