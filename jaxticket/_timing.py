"""Seconds that calls take on the device at hand."""

import random
import time
from collections.abc import Callable, Mapping
from typing import Any

_SAMPLE = 1e-3  # seconds that a sample takes at least, so that the clock's steps do not count


def time_rounds(calls: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Return the seconds of each call in each round, whose order is random and whose short calls are repeated.

    Calls end when their results are computed.
    """
    times: dict[str, list[float]] = {name: [] for name in calls}
    order = random.Random(0)
    repeats = {}
    for name, call in calls.items():
        call()
        repeats[name] = max(1, round(_SAMPLE / _time(call, 1)))
    for _ in range(rounds):
        for name in order.sample(list(calls), len(calls)):
            times[name].append(_time(calls[name], repeats[name]))
    return times


def _time(call: Callable[[], Any], repeats: int) -> float:
    begin = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - begin) / repeats
