"""The seconds that a program of many leaves takes to trace and to compile, before anything runs.

selection: `select` over leaves of different shapes, beside a `lax.top_k` a leaf and, where it is installed, jaxpruner's
mask. update: the optimizer's update for ResNet-50's parameters under `sparsify`, beside plain adam. trace: tracing and
lowering. times: trace and compilation over those of the first row of the same tree.
"""

import functools
import gc
import importlib.util
import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import _harness
import jax
import jax.numpy as jnp
import optax

import jaxticket as jt
from jaxticket import models

DENSITY = 0.1


def leaves(count: int) -> dict[str, jax.ShapeDtypeStruct]:
    """Return that many leaves, no two of the same shape."""
    return {f"layer{i}": jax.ShapeDtypeStruct((16 + i % 25, 16 + i // 25), jnp.float32) for i in range(count)}


def top_k(scores: Any) -> Any:
    """Return the masks of a sort of each leaf, as one writes them by hand."""

    def best(x: jax.Array) -> jax.Array:
        _, kept = jax.lax.top_k(x.ravel(), round(DENSITY * x.size))
        return jnp.zeros(x.size, bool).at[kept].set(True).reshape(x.shape)

    return jax.tree.map(best, scores)


def jaxpruner_mask(scores: Any) -> Any:
    """Return the masks of jaxpruner, as its updaters make them from scores."""
    import jaxpruner

    mask = jaxpruner.MagnitudePruning().topk_fn
    return jax.tree.map(lambda x: mask(x, 1 - DENSITY), scores)


def selections() -> dict[str, Callable[[Any], Any]]:
    """Return the functions from scores to masks that are compared."""
    pruner = {"jaxpruner": jaxpruner_mask} if importlib.util.find_spec("jaxpruner") else {}
    scopes = {"leaf": jt.scopes.leaf(), "tree": jt.scopes.tree()}
    ours = {f"select, {name}": functools.partial(jt.select, density=DENSITY, scope=s) for name, s in scopes.items()}
    return {"top_k": top_k, **pruner, **ours}


def optimizers() -> dict[str, optax.GradientTransformation]:
    """Return the optimizers that are compared."""
    adam = optax.adam(1e-3)
    plans = {
        "static": jt.static(DENSITY),
        "gradual": jt.gradual(DENSITY, stop=1000),
        "rigl": jt.rigl(DENSITY, stop=1000),
    }
    return {"adam": adam, **{name: jt.sparsify(adam, p, key=jax.random.key(0)) for name, p in plans.items()}}


def seconds(function: Callable[..., Any], *arguments: Any) -> tuple[float, float]:
    """Return the seconds that tracing and compilation take, with nothing cached."""
    jax.clear_caches()
    gc.collect()
    begin = time.perf_counter()
    lowered = jax.jit(function).lower(*arguments)
    traced = time.perf_counter()
    lowered.compile()
    return traced - begin, time.perf_counter() - traced


def compare(tree: Any, name: str, calls: Mapping[str, tuple[Callable[..., Any], tuple[Any, ...]]]) -> list[dict]:
    shapes = [x.shape for x in jax.tree.leaves(tree)]
    size = f"{len(shapes)} leaves, {sum(map(math.prod, shapes)) / 1e6:.2g}M"
    times = {call: seconds(function, *arguments) for call, (function, arguments) in calls.items()}
    first = sum(next(iter(times.values())))
    return [
        {"tree": f"{name} {size}", "program": call, "trace s": trace, "compile s": compiled,
         "times": (trace + compiled) / first}
        for call, (trace, compiled) in times.items()
    ]  # fmt: skip


def main() -> None:
    args = _harness.arguments(__doc__)
    busy = _harness.Busy()
    seconds(top_k, leaves(2))  # warms Python up
    rows = []
    for count in (4,) if args.quick else (50, 100, 200):
        tree = leaves(count)
        rows += compare(tree, "selection", {name: (f, (tree,)) for name, f in selections().items()})
    model = models.lenet_300_100() if args.quick else models.resnet_50()
    params, _ = jax.eval_shape(model.init, jax.random.key(0))
    states = {name: jax.eval_shape(tx.init, params) for name, tx in optimizers().items()}
    updates = {name: (tx.update, (params, states[name], params)) for name, tx in optimizers().items()}
    rows += compare(params, "update", updates)
    _harness.report("compile_time", rows, busy=busy, out=args.out)


if __name__ == "__main__":
    main()
