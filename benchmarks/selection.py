"""Selection against sorting: the speed-up of `select` over jnp.sort and lax.top_k.

The setting is one leaf of normal scores, 10 % kept, on one device. `passes` is the threshold's time over that of one
pass that only reads the scores; the bisection itself makes 16.
"""

import functools
import math

import _harness
import jax
import jax.numpy as jnp

from jaxticket import selection

SIZES = [(600, 500), (1000, 1000), (2000, 2000), (5000, 5000)]
DENSITY = 0.1


def calls(shape: tuple[int, int]) -> dict:
    scores = jax.random.normal(jax.random.key(0), shape)
    k = round(DENSITY * math.prod(shape))
    compiled = {
        "read": jax.jit(lambda x: jnp.sum(jnp.abs(x))),
        "threshold": jax.jit(functools.partial(selection.threshold, k=k)),
        "select": jax.jit(functools.partial(selection.select, density=DENSITY)),
        "sort": jax.jit(lambda x: jnp.sort(x.ravel())[-k]),
        "top_k": jax.jit(lambda x: jax.lax.top_k(x.ravel(), k)[0][-1]),
    }
    return {name: functools.partial(f, scores) for name, f in compiled.items()}


def main() -> None:
    args = _harness.arguments(__doc__)
    busy = _harness.Busy()
    rows = []
    for shape in SIZES[:1] if args.quick else SIZES:
        several = calls(shape)
        cheap = _harness.measure(
            {n: several[n] for n in ("read", "threshold", "select")}, rounds=3 if args.quick else 21
        )
        peers = _harness.measure({n: several[n] for n in ("select", "sort", "top_k")}, rounds=2 if args.quick else 5)
        rows.append(
            {
                "elements": math.prod(shape),
                "read ms": 1e3 * cheap["read"],
                "threshold ms": 1e3 * cheap["threshold"],
                "select ms": 1e3 * cheap["select"],
                "passes": cheap["threshold"] / cheap["read"],
                "sort / select": peers["sort"] / peers["select"],
                "top_k / select": peers["top_k"] / peers["select"],
            }
        )
    _harness.report("selection", rows, busy=busy, out=args.out)


if __name__ == "__main__":
    main()
