"""DropBlock keeps its promises about share, shape and expectation."""

import pytest
import torch

from layers.dropblock import DropBlock


def make_dropblock(probability: float, block_size: int = 3) -> DropBlock:
    dropblock = DropBlock(block_size).train()
    dropblock.set(probability)
    return dropblock


def drop(shape: tuple[int, ...], probability: float, block_size: int = 3, seed: int = 0) -> torch.Tensor:
    """What becomes of a map of ones."""
    torch.manual_seed(seed)
    return make_dropblock(probability, block_size)(torch.ones(shape))


@pytest.mark.parametrize("training, probability", [(False, 0.5), (True, 0.0)])
def test_no_operation_in_eval_mode_or_at_probability_zero(training, probability):
    x = torch.randn(2, 3, 8, 8)
    assert make_dropblock(probability).train(training)(x) is x


@pytest.mark.parametrize("size", [(40, 40), (20, 20), (5, 9)])
@pytest.mark.parametrize("block_size", [1, 2, 3, 5])
def test_share_of_dropped_values_is_near_the_probability(size, block_size):
    dropped = (drop((64, 32, *size), 0.1, block_size) == 0).float().mean().item()
    assert 0.085 < dropped < 0.102  # overlapping blocks cost up to a tenth of it


def test_mean_is_kept_exactly_and_each_value_in_expectation():
    torch.manual_seed(0)
    x = torch.rand(1, 1, 10, 10).expand(20000, 1, 10, 10)
    assert drop((4, 32, 20, 20), 0.1).mean().item() == pytest.approx(1, abs=1e-5)
    average = make_dropblock(0.1)(x).mean(0)
    # Seeds keep to the valid area, so the rim is dropped less often than the middle.
    assert average.sum().item() == pytest.approx(x[0].sum().item(), rel=0.01)
    assert (average / x[0]).min() > 0.9 and (average / x[0]).max() < 1.1


def test_dropped_values_are_unions_of_whole_blocks():
    dropped = drop((8, 8, 20, 30), 0.05) == 0
    # A cell belongs to a whole 3x3 block of dropped cells: opening by 3x3 changes nothing.
    blocks = dropped.unfold(2, 3, 1).unfold(3, 3, 1).all(-1).all(-1)
    opened = torch.zeros_like(dropped)
    for row in range(3):
        for column in range(3):
            opened[:, :, row : row + 18, column : column + 28] |= blocks
    assert dropped.any()
    assert torch.equal(opened, dropped)


def test_channels_are_dropped_on_their_own():
    dropped = drop((1, 16, 20, 20), 0.1)[0] == 0
    assert len({tuple(channel.flatten().tolist()) for channel in dropped}) == 16


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (1, 7), (7, 2)])
def test_maps_smaller_than_the_block_lose_their_share(size):
    dropped = (drop((200, 200, *size), 0.2) == 0).float().mean().item()
    assert 0.17 < dropped < 0.21


def test_a_map_dropped_whole_stays_finite():
    x = drop((1, 1, 3, 3), 1.0)
    assert torch.equal(x, torch.zeros(1, 1, 3, 3))


def test_dropped_values_send_no_gradient():
    torch.manual_seed(0)
    x = torch.ones(2, 4, 12, 12, requires_grad=True)
    y = make_dropblock(0.2)(x)
    y.sum().backward()
    assert torch.equal(x.grad == 0, y == 0)
    assert torch.equal(x.grad, y)
