"""Where a detector spends its parameters and its multiply-adds, block by block."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from models.featherface_v1 import DeformableConv


class Cost(NamedTuple):
    parameters: int
    multiply_adds: int


def measure(model: nn.Module, height: int, width: int) -> dict[str, Cost]:
    """Trainable parameters and multiply-adds of each child of the model, for one picture of height x width pixels.

    Counted are convolutions, linear layers and the sampling of deformable ones; BatchNorm (which folds into its
    convolution), activations, pooling, resizing and elementwise products are not. `model` must be in eval mode.
    """
    blocks = {name: block for name, block in model.named_children() if any(True for _ in block.parameters())}
    multiply_adds = dict.fromkeys(blocks, 0)
    hooks = []
    for name, block in blocks.items():

        def count(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor, name: str = name) -> None:
            multiply_adds[name] += _multiply_adds(module, output)

        hooks += [
            module.register_forward_hook(count)
            for module in block.modules()
            if isinstance(module, nn.Conv2d | nn.Linear | DeformableConv)
        ]
    try:
        with torch.no_grad():
            model(torch.zeros(1, 3, height, width))
    finally:
        for hook in hooks:
            hook.remove()
    return {
        name: Cost(sum(parameter.numel() for parameter in block.parameters()), multiply_adds[name])
        for name, block in blocks.items()
    }


def total(costs: dict[str, Cost]) -> Cost:
    """The sum over all blocks."""
    return Cost(sum(cost.parameters for cost in costs.values()), sum(cost.multiply_adds for cost in costs.values()))


def format_ledger(costs: dict[str, dict[str, Cost]], height: int, width: int) -> str:
    """A table of the costs of detectors side by side, {name: costs}; below, each against the first."""
    lines = [
        f"Parameters and multiply-adds (millions) at {height} x {width} pixels",
        f"{'block':20}" + "".join(f"{name + ' params':>14}{name + ' MMAdds':>14}" for name in costs),
    ]
    for block in dict.fromkeys(block for blocks in costs.values() for block in blocks):
        lines.append(_row(block.replace("_", " "), *(blocks.get(block, Cost(0, 0)) for blocks in costs.values())))
    totals = {name: total(blocks) for name, blocks in costs.items()}
    lines.append(_row("total", *totals.values()))
    (first, large), *others = totals.items()
    for name, small in others:
        against = f", {name} against {first}" if len(others) > 1 else ""
        for quantity in Cost._fields:
            before, after = getattr(large, quantity), getattr(small, quantity)
            title = f"{quantity.replace('_', '-')}{against}"
            lines.append(f"{title}: reduced by {1 - after / before:.1%}, {before / after:.2f} times")
    return "\n".join(lines)


def _row(label: str, *costs: Cost) -> str:
    cells = (f"{cost.parameters:>14,}{cost.multiply_adds / 1e6:>14.1f}" for cost in costs)
    return f"{label:20}{''.join(cells)}"


def _multiply_adds(module: nn.Module, output: Tensor) -> int:
    if isinstance(module, nn.Linear):
        return output.numel() * module.in_features
    count = output.numel() * module.weight[0].numel()
    if isinstance(module, DeformableConv):
        # As published, and in torchvision: each tap reads each input channel bilinearly (4 multiply-adds) and fades it
        # by the mask (1). deformable_conv does half of that, for it samples outputs.
        taps = module.weight[0].numel()
        cells = output.numel() // output.shape[1]
        count += 5 * taps * cells
    return count
