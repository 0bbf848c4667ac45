"""The scales of a supernet: what they cost, and which are dead."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxticket import _tree, filters
from jaxticket._checks import check_count, check_number
from jaxticket.errors import InputError
from jaxticket.structure import Groups
from jaxticket.structure._owners import owners
from jaxticket.typing import Filter, Mask, Params, PyTree

SCALES = filters.match("(^|/)depthwise/norm/scale$")


def scale_costs(params: Params, groups: Groups, *, where: Filter = SCALES) -> PyTree:
    """Return what each scale costs: the multiply-adds of its channel, over their mean over all channels.

        c = (multiply-adds of the branch / its channels) / normaliser

    Args:
      params: the parameters, or a part of the traced variables.
      groups: what `structure.trace` returned.
      where: the scales; by default those behind depthwise convolutions.

    Returns:
      Arrays of the shapes of the scales, whose mean over all of them is 1; None for other leaves.

    Raises:
      InputError: a scale whose channels cannot be removed.
      NoMatchError: no scale.

    Examples:
      >>> import jax.numpy as jnp
      >>> from jaxticket import filters, structure
      >>> params = {"a": jnp.ones((9, 2)), "b": jnp.ones((1, 2)), "c": jnp.ones((2, 1))}
      >>> groups = structure.trace(lambda p, x: x @ p["a"] * p["b"] @ p["c"], params, jnp.ones((1, 9)))
      >>> scale_costs(params, groups, where=filters.match("^b$"))["b"]
      Array([[1., 1.]], dtype=float32)
    """
    paths = owners("params", params, {leaf.path: leaf.shape for leaf in groups.leaves})
    path_of = jax.tree.unflatten(_tree.structure(params), [path or "" for path in paths])
    group_of = {member.path: group for group in groups for member in group.members}
    total = groups.macs()

    def cost(p: Any, path: str) -> jax.Array:
        if path not in group_of:
            raise InputError(f"where: the channels of {path} cannot be removed; str(groups) says why")
        group = group_of[path]
        return jnp.full(jnp.shape(p), group.share * total / group.width, jnp.float32)

    costs = _tree.map_present(cost, filters.only(params, where), path_of)
    leaves = jax.tree.leaves(costs)
    normaliser = sum(float(c.sum()) for c in leaves) / sum(c.size for c in leaves)
    return jax.tree.map(lambda c: c / normaliser, costs)


def token_cost(cost: Any, macs: float, tokens: int, alive: Any, *, size: int = 64) -> jax.Array:
    """Return the cost of the scale of a token of an attention over `alive` tokens, whose products are quadratic.

        c = ((F − 2 n₀² s) / n₀ + 2 s (n² − max(n − 1, 0)²)) / normaliser

    Refresh it in `Search.costs` as tokens die: it may be traced.

    Args:
      cost: that of `scale_costs`, F / n₀ / normaliser.
      macs: F, the multiply-adds of the attention with all tokens.
      tokens: n₀, the number of all tokens.
      alive: n, the number of tokens whose scales are not dead.
      size: s, the numbers of a token.

    Returns:
      The cost, of the shape of `cost`.

    Raises:
      InputError: multiply-adds that are not positive, or counts below 1.

    Examples:
      >>> [round(float(token_cost(1.0, 20_000, 8, alive)), 3) for alive in (8, 4, 1)]
      [1.358, 0.949, 0.642]
    """
    check_count(1, tokens=tokens, size=size)
    check_number(macs=macs)
    if not macs > 0:
        raise InputError(f"macs={macs} must be positive: the multiply-adds with all tokens")
    n = jnp.asarray(alive)
    grows = 2 * size * (n**2 - jnp.maximum(n - 1, 0) ** 2 - tokens)
    return cost * (1 + grows * tokens / macs)


def alive_scales(
    params: Params, average: Params, costs: PyTree, *, threshold: float = 1e-3, last: bool = False
) -> Mask:
    """Return which scales are alive, for `structure.channels`.

    A scale is dead if its size is at most the threshold, and so is that of its average; at the end the average decides
    alone. A branch keeps its largest scale, since `structure` removes no whole group.

    Args:
      params: the parameters.
      average: their running average.
      costs: what `scale_costs` returned, which says what is a scale.
      threshold: the size of a dead scale.
      last: whether the search ends.

    Returns:
      A mask, None for other leaves.

    Raises:
      InputError: a negative threshold.

    Examples:
      >>> import jax.numpy as jnp
      >>> params, average = {"scale": jnp.array([2e-3, 5e-4, 5e-4])}, {"scale": jnp.array([5e-4, 2e-3, 5e-4])}
      >>> alive_scales(params, average, {"scale": jnp.ones(3)})["scale"]
      Array([ True,  True, False], dtype=bool)
      >>> alive_scales(params, average, {"scale": jnp.ones(3)}, last=True)["scale"]
      Array([False,  True, False], dtype=bool)
    """
    check_number(threshold=threshold)
    if not threshold >= 0:
        raise InputError(f"threshold={threshold} must not be negative; 1e-3 is the authors'")

    def alive(cost: jax.Array, p: jax.Array, mean: jax.Array) -> jax.Array:
        del cost
        size = jnp.abs(mean) if last else jnp.maximum(jnp.abs(p), jnp.abs(mean))
        return (size > threshold) | (jnp.arange(size.size) == jnp.argmax(size)).reshape(size.shape)

    return _tree.map_present(alive, costs, params, average)
