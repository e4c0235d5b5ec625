"""What changes while training goes on: pure functions of the step or of the share of training done."""

import math

#: Training ends without mixing and without DropBlock: the last epochs see the pictures as they are.
CLEAN_SHARE = 0.1
#: The learning rate ends at this share of its peak.
FINAL_LEARNING_RATE = 0.01


def learning_rate(step: int, total_steps: int, warmup_steps: int, peak: float) -> float:
    """Linear warm-up to `peak`, then a half cosine down to 1 % of it (SGDR, Loshchilov and Hutter, ICLR 2017).

    step counts optimiser steps from 0; step total_steps - 1 is the last. The first step already learns.
    """
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    progress = (step - warmup_steps) / max(1, total_steps - 1 - warmup_steps)
    cosine = (1 + math.cos(math.pi * min(1.0, progress))) / 2
    return peak * (FINAL_LEARNING_RATE + (1 - FINAL_LEARNING_RATE) * cosine)


def dropblock_probability(progress: float, peak: float) -> float:
    """0 to `peak` linearly over the first half of training, 0 in the last tenth; progress in 0..1."""
    if progress >= 1 - CLEAN_SHARE:
        return 0.0
    return peak * min(1.0, 2 * progress)


def mixes_pictures(epoch: int, epochs: int) -> bool:
    """Whether MixUp and CutMix are on in this epoch (counted from 0): not in the last tenth."""
    return epoch < epochs - math.ceil(CLEAN_SHARE * epochs)
