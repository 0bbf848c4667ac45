"""The kept weights that lie on a path from the input to the output."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxticket import _tree
from jaxticket._check_trees import check_structure
from jaxticket._jaxpr import captured
from jaxticket.masks import apply_mask
from jaxticket.typing import Mask, Params, PyTree

_SHIFTS = ("bias", "b", "offset", "shift", "beta")  # these add a signal that did not come along any path


def effective_mask(params: Params, mask: Mask, apply: Callable[[Params, PyTree], PyTree], x: PyTree) -> Mask:
    """Return the kept weights that are on some path of kept weights from the input to the output; others have no
    effect.

    `density(params, effective_mask(…))` is the effective density, below the direct one where layers are cut (Vysogorets
    & Kempe, 2023, "Connectivity Matters"). The mask is exact. It takes one pass forward and one back in which every
    product with a weight yields only whether it is positive.

    Args:
      params: pytree of arrays.
      mask: a mask with the structure of `params`. Leaves without a mask count as kept, shifts as 0.
      apply: (params, x) -> outputs, of networks of products, increasing activations, norms, pooling and skips. Batch
        statistics that it closes over should be those of initialisation. Not for the queries and keys of attention.
      x: an example batch; only shapes and dtypes are read.

    Returns:
      A mask with the structure of `mask`.

    Raises:
      StructureError: a mask of another structure.

    Examples:
      >>> params = {"a": jnp.ones((1, 2)), "b": jnp.ones((2, 1))}
      >>> mask = {"a": jnp.array([[True, False]]), "b": jnp.array([[False], [True]])}
      >>> effective_mask(params, mask, lambda p, x: x @ p["a"] @ p["b"], jnp.ones((1, 1)))["a"]
      Array([[False, False]], dtype=bool)
    """
    mask = check_structure("mask", mask, "params", params)
    ones = jax.tree.map(
        lambda leaf: jnp.ones(leaf.shape, leaf.dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf, x
    )
    links = apply_mask(_tree.map_present(_link, params, _tree.names(params)), mask)

    def reached(links: Params) -> jax.Array:
        outputs, _ = captured(apply, links, ones, lambda _: None, tap=lambda p, _: _positive(p.output), slots=links)
        return sum((jnp.sum(y) for y in jax.tree.leaves(outputs)), start=jnp.zeros(()))

    useful = jax.jit(jax.grad(reached))(links)
    return _tree.tree_map(lambda m, g: None if m is None else m & (g > 0), mask, useful)


def _link(p: jax.Array, name: str) -> jax.Array:
    return jnp.zeros_like(p) if name.rpartition("/")[2] in _SHIFTS else jnp.ones_like(p)


@jax.custom_vjp
def _positive(signal: jax.Array) -> jax.Array:
    """Return 1 where a signal arrives; backwards, 1 where it reaches the output. Counts of paths would overflow."""
    return (signal > 0).astype(signal.dtype)


_positive.defvjp(
    lambda signal: (_positive(signal), None), lambda _, cotangent: ((cotangent > 0).astype(cotangent.dtype),)
)
