"""The property that removal must have: the network with all members of some channels zeroed is the shrunk network."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxticket import structure


def draw(groups: structure.Groups, seed: int, *, inexact: bool = False) -> dict[str, np.ndarray]:
    """Return a random choice of channels of every group that may shrink: one is kept and one dropped at least."""
    rng = np.random.default_rng(seed)
    kept = {}
    for group in groups:
        if group.inexact is None or inexact:
            kept[group.name] = rng.permutation(group.width) < rng.integers(1, group.width)
    return kept


def zeroed(variables: Any, kept: Any, groups: structure.Groups) -> Any:
    """Return variables whose dropped channels are zero in all their members."""
    mask = structure.spread(kept, groups, variables)
    return jax.tree.map(
        lambda m, x: x if m is None else jnp.where(m, x, jnp.zeros((), x.dtype)),
        mask,
        variables,
        is_leaf=lambda x: x is None,
    )


def weighted(apply: Callable[..., Any], outputs: Callable[[Any], Any] | None) -> Callable[..., Any]:
    """Return the function to a number, with weights that differ by entry, and the outputs beside it."""

    def run(variables: Any, *inputs: Any) -> Any:
        out = apply(variables, *inputs)
        arrays = floats(outputs(out) if outputs else out)
        return sum(jnp.sum(x * jnp.sin(jnp.arange(1.0, x.size + 1).reshape(x.shape))) for x in arrays), arrays

    return jax.jit(jax.value_and_grad(run, has_aux=True, allow_int=True))


def values(apply: Callable[..., Any], outputs: Callable[[Any], Any] | None) -> Callable[..., Any]:
    """Return what `weighted` returns, with the variables in place of the gradient."""

    def run(variables: Any, *inputs: Any) -> Any:
        out = apply(variables, *inputs)
        return (0.0, floats(outputs(out) if outputs else out)), variables

    return jax.jit(run)


def errors(
    apply: Callable[..., Any],
    variables: Any,
    inputs: tuple[Any, ...],
    *,
    outputs: Callable[[Any], Any] | None = None,
    prefer: structure.Prefer = "outer",
    seed: int = 0,
    differentiable: bool = True,
) -> tuple[float, float]:
    """Return the greatest errors of outputs and of gradients of the shrunk network, relative to the largest entry."""
    groups = structure.trace(apply, variables, *inputs, outputs=outputs, prefer=prefer)
    kept = draw(groups, seed)
    smaller = structure.shrink(variables, kept, groups)
    run = structure.replay(apply, kept, groups, outputs=outputs, prefer=prefer)
    call = weighted if differentiable else values
    (_, expected), gradient = call(apply, outputs)(zeroed(variables, kept, groups), *inputs)
    (_, got), smaller_gradient = call(run, outputs)(smaller, *inputs)
    wanted = floats(structure.shrink(gradient, kept, groups))
    scale = max((float(jnp.max(jnp.abs(x))) for x in wanted if x.size), default=1.0)
    return (
        max(difference(a, b, float(jnp.max(jnp.abs(a)))) for a, b in zip(expected, got, strict=True)),
        max(difference(a, b, scale) for a, b in zip(wanted, floats(smaller_gradient), strict=True)),
    )


def floats(tree: Any) -> list[jax.Array]:
    return [x for x in jax.tree.leaves(tree) if jnp.issubdtype(x.dtype, jnp.inexact)]


def difference(a: jax.Array, b: jax.Array, scale: float) -> float:
    assert a.shape == b.shape
    return float(jnp.max(jnp.abs(a - b), initial=0.0)) / max(scale, 1e-6)
