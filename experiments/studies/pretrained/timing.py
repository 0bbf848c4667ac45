"""The time of a smaller network over that of the dense one."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxticket.execution import time_rounds
from jaxticket.typing import PyTree

Program = tuple[Callable[[PyTree, jax.Array], Any], PyTree]  # a function and its variables


def time_ratio(dense: Program, smaller: Program, x: jax.Array, *, rounds: int) -> tuple[float, float]:
    """Return the median over rounds of the smaller network's time over the dense one's, and the dense time in seconds.

    Both are compiled, and run in turn in one process.
    """
    times = time_rounds({"dense": _compiled(dense, x), "smaller": _compiled(smaller, x)}, rounds)
    seconds = {name: np.array(own) for name, own in times.items()}
    return float(np.median(seconds["smaller"] / seconds["dense"])), float(np.median(seconds["dense"]))


def _compiled(program: Program, x: jax.Array) -> Callable[[], Any]:
    apply, variables = program
    arguments = jax.device_put((variables, x))
    compiled = jax.jit(apply).lower(*arguments).compile()
    return lambda: compiled(*arguments)
