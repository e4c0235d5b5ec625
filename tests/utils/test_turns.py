"""Turns."""

from utils.turns import take_turns


def test_runs_take_turns_and_warm_up_does_not_count():
    now, calls, costs = 0.0, [], {"slow": iter([9, 9, 4, 6, 8]), "fast": iter([9, 9, 1, 2, 4])}

    def run(name):
        nonlocal now
        calls.append(name)
        now += next(costs[name])

    runs = {name: lambda name=name: run(name) for name in costs}
    times = take_turns(runs, rounds=3, warmup=2, clock=lambda: now)
    assert calls == ["slow", "fast"] * 5
    assert times == {"slow": [4000, 6000, 8000], "fast": [1000, 2000, 4000]}
