"""Where a detector spends its parameters and its multiply-adds, block by block."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from models.featherface_v1 import DeformableConv

#: The parts of a detector in the order of its pass; a detector may lack some.
BLOCKS = ("backbone", "backbone_attention", "neck", "neck_attention", "context", "mix", "heads")


class Cost(NamedTuple):
    parameters: int
    multiply_adds: int


def measure(model: nn.Module, height: int, width: int) -> dict[str, Cost]:
    """Trainable parameters and multiply-adds of each block for one picture of height x width pixels.

    Counted are convolutions, linear layers and the sampling of deformable ones; BatchNorm (which folds into its
    convolution), activations, pooling, resizing and elementwise products are not. `model` must be in eval mode.
    """
    multiply_adds = dict.fromkeys(BLOCKS, 0)
    hooks = []
    for block in BLOCKS:

        def count(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor, block: str = block) -> None:
            multiply_adds[block] += _multiply_adds(module, output)

        hooks += [
            module.register_forward_hook(count)
            for module in _block(model, block).modules()
            if isinstance(module, nn.Conv2d | nn.Linear | DeformableConv)
        ]
    try:
        with torch.no_grad():
            model(torch.zeros(1, 3, height, width))
    finally:
        for hook in hooks:
            hook.remove()
    return {
        block: Cost(sum(p.numel() for p in _block(model, block).parameters()), multiply_adds[block]) for block in BLOCKS
    }


def total(costs: dict[str, Cost]) -> Cost:
    """The sum over all blocks."""
    return Cost(sum(cost.parameters for cost in costs.values()), sum(cost.multiply_adds for cost in costs.values()))


def format_ledger(costs: dict[str, dict[str, Cost]], height: int, width: int) -> str:
    """A table of the costs of two detectors side by side, {name: costs}, the larger one first."""
    (large, large_costs), (small, small_costs) = costs.items()
    lines = [
        f"Parameters and multiply-adds (millions) at {height} x {width} pixels",
        f"{'block':20}{large + ' params':>14}{large + ' MMAdds':>14}{small + ' params':>14}{small + ' MMAdds':>14}",
    ]
    for block in BLOCKS:
        lines.append(_row(block.replace("_", " "), large_costs[block], small_costs[block]))
    large_total, small_total = total(large_costs), total(small_costs)
    lines.append(_row("total", large_total, small_total))
    for quantity in Cost._fields:
        before, after = getattr(large_total, quantity), getattr(small_total, quantity)
        lines.append(f"{quantity.replace('_', '-')}: reduced by {1 - after / before:.1%}, {before / after:.2f} times")
    return "\n".join(lines)


def _row(label: str, *costs: Cost) -> str:
    cells = (f"{cost.parameters:>14,}{cost.multiply_adds / 1e6:>14.1f}" for cost in costs)
    return f"{label:20}{''.join(cells)}"


def _block(model: nn.Module, block: str) -> nn.Module:
    return getattr(model, block, nn.Identity())


def _multiply_adds(module: nn.Module, output: Tensor) -> int:
    if isinstance(module, nn.Linear):
        return output.numel() * module.in_features
    count = output.numel() * module.weight[0].numel()
    if isinstance(module, DeformableConv):
        # Each tap reads each input channel bilinearly (4 multiply-adds) and fades it by the mask (1).
        taps = module.weight[0].numel()
        cells = output.numel() // output.shape[1]
        count += 5 * taps * cells
    return count
