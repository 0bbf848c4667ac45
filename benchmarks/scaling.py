"""Does selection scale? Its time and memory against the number of parameters.

Four leaves of equal size, 10 % kept, on one device. The slope is that of log time over log parameters: 1 is linear.
`extra B` is what the compiled program takes beside its arguments, in bytes a parameter: its masks, which take one, and
temporaries.
"""

import functools
from collections.abc import Callable
from typing import Any

import _harness
import jax
import numpy as np

import jaxticket as jt
from jaxticket import scopes

DENSITY = 0.1
CPU, ACCELERATOR = (10**6, 10**7, 10**8), (10**6, 10**7, 10**8, 10**9)


def tasks() -> dict[str, Callable[[Any], Any]]:
    """Name -> scores -> masks."""

    def grown(scores: Any) -> Any:
        mask = jt.select(scores, DENSITY)
        return jt.drop_and_grow(mask, drop=scores, grow=scores, drop_fraction=0.3)

    return {
        "select by leaf": functools.partial(jt.select, density=DENSITY),
        "select over the tree": functools.partial(jt.select, density=DENSITY, scope=scopes.tree()),
        "select and drop-and-grow": grown,
    }


def scores_of(parameters: int) -> dict[str, jax.Array]:
    """Normal scores."""
    keys = jax.random.split(jax.random.key(0), 4)
    return {f"leaf{i}": jax.random.normal(key, (parameters // 4000, 1000)) for i, key in enumerate(keys)}


def measure(name: str, parameters: int, *, rounds: int) -> dict[str, Any]:
    """Seconds, and bytes a parameter."""
    scores = jax.block_until_ready(scores_of(parameters))
    compiled = jax.jit(tasks()[name]).lower(scores).compile()
    seconds = _harness.measure({name: functools.partial(compiled, scores)}, rounds=rounds)[name]
    used = compiled.memory_analysis()
    return {
        "selection": name,
        "parameters": parameters,
        "ms": 1e3 * seconds,
        "ns a parameter": 1e9 * seconds / parameters,
        "extra B": (used.temp_size_in_bytes + used.output_size_in_bytes) / parameters,
    }


def slope(rows: list[dict[str, Any]]) -> float:
    """Of log milliseconds over log parameters, by least squares."""
    parameters, times = (np.log([row[column] for row in rows]) for column in ("parameters", "ms"))
    return float(np.polyfit(parameters, times, 1)[0])


def main() -> None:
    args = _harness.arguments(__doc__)
    busy = _harness.Busy()
    sizes = (10**5, 10**6) if args.quick else CPU if jax.devices()[0].platform == "cpu" else ACCELERATOR
    rows = []
    for name in tasks():
        measured = [measure(name, size, rounds=3 if args.quick else 9) for size in sizes]
        rows += [{**row, "slope": slope(measured)} for row in measured]
    _harness.report("scaling", rows, busy=busy, out=args.out)


if __name__ == "__main__":
    main()
