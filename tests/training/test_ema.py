"""The moving average of the weights."""

import torch
from torch import nn

from training.ema import WeightAverage


def test_the_average_follows_weights_and_statistics():
    network = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    average = WeightAverage(network, decay=0.5)
    start = network[0].weight.detach().clone()
    with torch.no_grad():
        network[0].weight += 1
    network[1].running_mean += 4
    network[1].num_batches_tracked += 3
    average.count()
    average.update()  # the first decay is 2 / 11
    torch.testing.assert_close(average.network[0].weight, start + 9 / 11)
    torch.testing.assert_close(average.network[1].running_mean, torch.full((2,), 4 * 9 / 11))
    assert average.network[1].num_batches_tracked == 3
    for _ in range(50):
        average.count()
        average.update()
    torch.testing.assert_close(average.network[0].weight, network[0].weight)
