"""DropBlock: dropout for feature maps (Ghiasi, Lin, Le, NeurIPS 2018)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class DropBlock(nn.Module):
    """Zeroes squares of a feature map while training, each channel of each picture on its own.

    `probability` is the expected share of dropped values (overlapping blocks make it a little less), which the training
    loop moves by `set`; at 0, and in eval mode, the input is returned as it is.
    The kept values are scaled up so that the mean of the map is kept.
    """

    def __init__(self, block_size: int = 3):
        super().__init__()
        self.block_size = block_size
        self.is_on = False
        # A tensor: torch.compile would compile anew for each value of a plain number.
        self.register_buffer("probability", torch.zeros(()), persistent=False)

    def set(self, probability: float) -> None:
        """Drop this share from now on."""
        self.is_on = probability > 0
        self.probability.fill_(probability)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> the same shape."""
        if not self.training or not self.is_on:
            return x
        height, width = x.shape[-2:]
        # On a map smaller than the block, the block is as large as the map.
        block_height, block_width = min(self.block_size, height), min(self.block_size, width)
        # A seed is the first corner of a block: it lies only where the whole block fits into the map.
        seed_rows, seed_columns = height - block_height + 1, width - block_width + 1
        gamma = self.probability * height * width / (block_height * block_width * seed_rows * seed_columns)
        seeds = torch.rand(*x.shape[:2], seed_rows, seed_columns, device=x.device) < gamma
        around = (block_width - 1, block_width - 1, block_height - 1, block_height - 1)
        dropped = F.max_pool2d(F.pad(seeds.float(), around), (block_height, block_width), stride=1)
        kept = 1 - dropped
        scale = kept.numel() / kept.sum().clamp(min=1)
        return x * (kept * scale).to(x.dtype)


def set_dropblock(network: nn.Module, probability: float, block_size: int) -> None:
    """Set every DropBlock inside a network; one without any is left as it is."""
    for module in network.modules():
        if isinstance(module, DropBlock):
            module.block_size = block_size
            module.set(probability)
