"""Which blocks of the two networks are faster with channels last in memory, and which are slower, on this device.

    python -m benchmarks.memory_format --gpu cpu --precision float32 --image_size 640 --batch_size 8

The student's blocks are timed forward and backward, as in training; the teacher's forward, its BatchNorms folded. Each
is fed the maps it gets in the whole network, in its own memory format, both formats in turn.
"""

import copy
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from benchmarks.rows import for_the_eye, in_turn, times_as_fast
from benchmarks.timing import spread, synchronize
from detection.fold import fold_norms
from layers.dropblock import DropBlock
from models import build_model
from training.step import choose_precision
from utils.arguments import ArgumentParser, number
from utils.distributed import choose_device
from utils.errors import run_script
from utils.tables import Row, print_table
from utils.turns import take_turns

FORMATS = {"channels first": torch.contiguous_format, "channels last": torch.channels_last}

#: A block's inputs: maps, in lists where a block takes several levels at once.
Maps = Tensor | list | tuple


class Block(NamedTuple):
    """A part of a network with what it was given."""

    module: nn.Module
    inputs: Maps


def record_blocks(network: nn.Module, images: Tensor) -> dict[str, list[Block]]:
    """The parts of a detector that are called with maps, the backbone by its stages, by name; of lists, all members."""
    parts = dict(network.backbone.named_children()) | dict(network.named_children())
    del parts["backbone"]
    blocks: dict[str, list[Block]] = {}
    handles = []
    for name, part in parts.items():
        if isinstance(part, DropBlock):
            continue  # nothing happens in it
        for module in part if isinstance(part, nn.ModuleList) else [part]:
            def remember(called: nn.Module, inputs: tuple, name: str = name) -> None:
                blocks.setdefault(name, []).append(Block(called, inputs))

            handles.append(module.register_forward_pre_hook(remember))
    with torch.no_grad():
        network(images)
    for handle in handles:
        handle.remove()
    return blocks


def in_format(maps: Maps, memory_format: torch.memory_format, with_gradients: bool) -> Maps:
    """Copies of the maps in one memory format."""
    if isinstance(maps, Tensor):
        return maps.detach().clone(memory_format=memory_format).requires_grad_(with_gradients)
    return type(maps)(in_format(one, memory_format, with_gradients) for one in maps)


def tensors_of(outputs: Maps) -> list[Tensor]:
    return [outputs] if isinstance(outputs, Tensor) else [one for output in outputs for one in tensors_of(output)]


def run_blocks(blocks: list[Block], backward: bool, dtype: torch.dtype, device: torch.device) -> None:
    """Every block of a part once, and the wait for the last."""
    with torch.set_grad_enabled(backward), torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
        for block in blocks:
            outputs = tensors_of(block.module(*block.inputs))
            if backward:
                torch.autograd.backward(outputs, [torch.ones_like(output) for output in outputs])
    synchronize(device)


def compare_formats(network: nn.Module, images: Tensor, backward: bool, dtype: torch.dtype, rounds: int) -> list[Row]:
    """A row a part of the network: milliseconds in both formats, and how many times as fast channels last is."""
    rows = []
    for name, blocks in record_blocks(network, images).items():
        runs = {}
        for label, memory_format in FORMATS.items():
            copies = [
                Block(copy.deepcopy(module).to(memory_format=memory_format), in_format(inputs, memory_format, backward))
                for module, inputs in blocks
            ]
            runs[label] = partial(run_blocks, copies, backward, dtype, images.device)
        first, last = take_turns(runs, rounds).values()
        rows.append({
            "network": network.name, "part": name, "pass": "forward, backward" if backward else "forward",
            "channels first, ms": spread(first).median, "channels last, ms": spread(last).median,
            **times_as_fast(first, last),
        })
    return rows


def main(arguments: list[str] | None = None) -> None:
    parser = ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--gpu", default="auto", help="GPU number, cpu, or auto: GPU 0, else the CPU")
    add("--precision", choices=("float32", "bfloat16"), help="(default: that of train_v2.py)")
    add("--image_size", type=number(int, 32, 4096), default=640)
    add("--batch_size", type=number(int, 1, 2**16), default=8)
    add("--rounds", type=number(int, 1), default=10)
    options = parser.parse_args(arguments)
    device = choose_device(options.gpu)
    dtype = choose_precision(options.precision, device)
    images = 50 * torch.randn(options.batch_size, 3, options.image_size, options.image_size, device=device)
    student = build_model("v2").to(device).train()
    teacher = fold_norms(build_model("v1").eval().requires_grad_(False)).to(device)
    rows = compare_formats(student, images, True, dtype, options.rounds)
    rows += compare_formats(teacher, images, False, dtype, options.rounds)
    milliseconds = [f"{label}, ms" for label in FORMATS]
    print_table(for_the_eye(rows, "network", "part", "pass", *milliseconds, "times as fast", "ratio quartiles"))
    print(f"{in_turn(options.rounds)}, {options.batch_size} pictures of {options.image_size} px on {device}, "
          f"{str(dtype).removeprefix('torch.')}")


if __name__ == "__main__":
    run_script(main)
