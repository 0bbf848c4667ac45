"""The time of a network over that of the dense one, run in turn."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxticket.execution import time_rounds
from jaxticket.typing import PyTree

Program = tuple[Callable[[PyTree, jax.Array], Any], PyTree]  # a function and its variables


def time_ratio(dense: Program, other: Program, x: jax.Array, *, rounds: int) -> tuple[float, float]:
    """Return the median over rounds of a network's time over the dense one's, and the dense time in seconds.

    Both are compiled, and run in turn in one process.
    """
    return call_ratio(_compiled(dense, x), _compiled(other, x), rounds=rounds)


def call_ratio(dense: Callable[[], Any], other: Callable[[], Any], *, rounds: int) -> tuple[float, float]:
    """Return the median over rounds of a call's time over another's, and the time of that one in seconds."""
    seconds = {name: np.array(own) for name, own in time_rounds({"dense": dense, "other": other}, rounds).items()}
    return float(np.median(seconds["other"] / seconds["dense"])), float(np.median(seconds["dense"]))


def _compiled(program: Program, x: jax.Array) -> Callable[[], Any]:
    apply, variables = program
    arguments = jax.device_put((variables, x))
    compiled = jax.jit(apply).lower(*arguments).compile()
    return lambda: compiled(*arguments)
