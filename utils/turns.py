"""Times of things that take turns, so that whatever else the machine does slows all of them alike."""

import time
from collections.abc import Callable


def take_turns(
    runs: dict[str, Callable[[], object]],
    rounds: int,
    warmup: int = 1,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Milliseconds of every run in every round; a round is each of `runs` once, in their order.

    Rounds of warm-up come first and are not measured.
    """
    times: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(warmup + rounds):
        for name, run in runs.items():
            start = clock()
            run()
            if turn >= warmup:
                times[name].append(1000 * (clock() - start))
    return times
