"""Seconds that calls take on the device at hand."""

import random
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax

from jaxticket._checks import check_count

_SAMPLE = 1e-3  # seconds that a sample takes at least, so that the clock's steps do not count


def time_rounds(calls: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Time calls in turns: in each round all of them, in a random order, until their results are computed.

    Ratios of times of one round are worth more than times, since the load of the machine is much the same within it.
    Each call runs twice before, so that nothing is compiled in a round; calls shorter than a millisecond are repeated.

    Args:
      calls: functions without arguments, by name.
      rounds: the number of times that each call is timed.

    Returns:
      name -> seconds of a call, one number a round.

    Raises:
      InputError: rounds below 1.

    Examples:
      >>> import jax, jax.numpy as jnp
      >>> x = jnp.ones((8, 8))
      >>> double, square = jax.jit(lambda x: 2 * x), jax.jit(lambda x: x @ x)
      >>> times = time_rounds({"double": lambda: double(x), "square": lambda: square(x)}, 3)
      >>> {name: len(seconds) for name, seconds in times.items()}
      {'double': 3, 'square': 3}
    """
    check_count(1, rounds=rounds)
    times: dict[str, list[float]] = {name: [] for name in calls}
    order = random.Random(0)
    repeats = {}
    for name, call in calls.items():
        jax.block_until_ready(call())
        repeats[name] = max(1, round(_SAMPLE / _time(call, 1)))
    for _ in range(int(rounds)):
        for name in order.sample(list(calls), len(calls)):
            times[name].append(_time(calls[name], repeats[name]))
    return times


def _time(call: Callable[[], Any], repeats: int) -> float:
    begin = time.perf_counter()
    for _ in range(repeats):
        jax.block_until_ready(call())
    return (time.perf_counter() - begin) / repeats
