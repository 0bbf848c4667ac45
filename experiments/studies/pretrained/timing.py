"""The time of a smaller network over that of the dense one."""

import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxticket.typing import PyTree

Program = tuple[Callable[[PyTree, jax.Array], Any], PyTree]  # a function and its variables


def time_ratio(dense: Program, smaller: Program, x: jax.Array, *, rounds: int) -> tuple[float, float]:
    """Return the median over rounds of the smaller network's time over the dense one's, and the dense time in seconds.

    Both are compiled, and run in turn in one process; their order changes from round to round.
    """
    calls = [_compiled(program, x) for program in (dense, smaller)]
    seconds = np.zeros((rounds, 2))
    for call in calls:
        call()
    for index in range(rounds):
        for which in (0, 1) if index % 2 else (1, 0):
            begin = time.perf_counter()
            calls[which]()
            seconds[index, which] = time.perf_counter() - begin
    return float(np.median(seconds[:, 1] / seconds[:, 0])), float(np.median(seconds[:, 0]))


def _compiled(program: Program, x: jax.Array) -> Callable[[], Any]:
    apply, variables = program
    arguments = jax.device_put((variables, x))
    compiled = jax.jit(apply).lower(*arguments).compile()
    return lambda: jax.block_until_ready(compiled(*arguments))
