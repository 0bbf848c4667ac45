"""The time and memory of selection against the number of parameters.

The setting is four leaves of equal size, 10 % kept, on one device. The slope is that of log time over log parameters: 1
is linear. `reads` is the time over that of one pass that only reads the scores. The slope of reading alone stands
beside the other, because small arrays fit into caches and are read faster: a slope across the sizes is above 1. The
threshold alone makes 16 passes for any scores. A selection stops once its counts are exact, which takes more passes for
more entries. It makes up to 16 more where entries at the threshold are equal, as some are among ten millions of
float32. `extra B` is the memory of the compiled program beside its arguments, in bytes a parameter: its masks, which
take one, and temporaries.
"""

import functools
from collections.abc import Callable
from typing import Any

import _harness
import jax
import jax.numpy as jnp
import numpy as np

import jaxticket as jt
from jaxticket import scopes, selection

DENSITY = 0.1
CPU, ACCELERATOR = (10**6, 10**7, 10**8), (10**6, 10**7, 10**8, 10**9)


def tasks() -> dict[str, Callable[[Any], Any]]:
    """Return name -> scores -> masks."""

    def grown(scores: Any) -> Any:
        mask = jt.select(scores, DENSITY)
        return jt.drop_and_grow(mask, drop=scores, grow=scores, drop_fraction=0.3)

    return {
        "threshold": lambda scores: selection.threshold(scores, round(DENSITY * sum(s.size for s in scores.values()))),
        "select by leaf": functools.partial(jt.select, density=DENSITY),
        "select over the tree": functools.partial(jt.select, density=DENSITY, scope=scopes.tree()),
        "select and drop-and-grow": grown,
    }


def scores_of(parameters: int) -> dict[str, jax.Array]:
    """Return normal scores."""
    keys = jax.random.split(jax.random.key(0), 4)
    return {f"leaf{i}": jax.random.normal(key, (parameters // 4000, 1000)) for i, key in enumerate(keys)}


def measure(name: str, parameters: int, *, rounds: int) -> dict[str, Any]:
    """Return seconds, and bytes a parameter."""
    scores = jax.block_until_ready(scores_of(parameters))
    compiled = jax.jit(tasks()[name]).lower(scores).compile()
    read = jax.jit(lambda scores: jax.tree.map(lambda x: jnp.sum(jnp.abs(x)), scores))
    calls = {name: functools.partial(compiled, scores), "read": functools.partial(read, scores)}
    seconds = _harness.measure(calls, rounds=rounds)
    used = compiled.memory_analysis()
    return {
        "selection": name,
        "parameters": parameters,
        "ms": 1e3 * seconds[name],
        "read ms": 1e3 * seconds["read"],
        "reads": seconds[name] / seconds["read"],
        "extra B": (used.temp_size_in_bytes + used.output_size_in_bytes) / parameters,
    }


def slope(rows: list[dict[str, Any]], column: str) -> float:
    """Return the slope of log milliseconds over log parameters, by least squares."""
    parameters, times = (np.log([row[name] for row in rows]) for name in ("parameters", column))
    return float(np.polyfit(parameters, times, 1)[0])


def main() -> None:
    args = _harness.arguments(__doc__)
    busy = _harness.Busy()
    sizes = (10**5, 10**6) if args.quick else CPU if jax.devices()[0].platform == "cpu" else ACCELERATOR
    rows = []
    for name in tasks():
        measured = [measure(name, size, rounds=3 if args.quick else 9) for size in sizes]
        slopes = {"slope": slope(measured, "ms"), "slope of reading": slope(measured, "read ms")}
        rows += [{**row, **slopes} for row in measured]
    _harness.report("scaling", rows, busy=busy, out=args.out)


if __name__ == "__main__":
    main()
