"""Masks and gates applied to parameters."""

import jax
import jax.numpy as jnp

from jaxticket import _tree
from jaxticket._check_trees import check_broadcast, check_fits
from jaxticket.typing import Mask, Params, PyTree, SoftMask


def apply_mask(params: Params, mask: Mask) -> Params:
    """Return the parameters where the mask keeps, exact zeros elsewhere (also for inf and NaN).

    Args:
      params: pytree of arrays.
      mask: its structure, bool leaves that broadcast, None for leaves left as they are.

    Returns:
      The masked parameters; leaves keep their dtype.

    Raises:
      StructureError: trees or shapes that do not fit.
      InputError: a mask that is not bool.

    Examples:
      >>> import jax.numpy as jnp
      >>> apply_mask({"w": jnp.array([1.0, jnp.nan]), "b": jnp.ones(1)}, {"w": jnp.array([True, False]), "b": None})
      {'b': Array([1.], dtype=float32), 'w': Array([1., 0.], dtype=float32)}
    """
    mask = check_fits(params, mask)
    return _tree.tree_map(
        lambda p, m: p if p is None or m is None else jnp.where(m, p, jnp.zeros_like(p)), params, mask
    )


def gate(params: Params, soft_mask: SoftMask) -> Params:
    """Return the parameters times gates, differentiable in both: the gradient at gates of 1 is SNIP's (Lee et al.,
    2019).

    Args:
      params: pytree of arrays.
      soft_mask: its structure, real leaves that broadcast, None for leaves left as they are.

    Returns:
      The gated parameters; leaves keep their dtype.

    Raises:
      StructureError: trees or shapes that do not fit.

    Examples:
      >>> import jax, jax.numpy as jnp
      >>> jax.grad(lambda gates: gate(jnp.array([2.0, 3.0]), gates).sum())(jnp.ones(2))
      Array([2., 3.], dtype=float32)
    """
    soft_mask = check_broadcast("soft_mask", soft_mask, params)
    return _tree.tree_map(lambda p, g: p if p is None or g is None else p * g.astype(p.dtype), params, soft_mask)


def in_shapes_of(mask: Mask, scores: PyTree) -> Mask:
    """Return the mask in the shapes of scores: an entry is alive if any weight that its score stands for is alive."""

    def reduce(m: jax.Array, s: jax.Array) -> jax.Array:
        if m.shape == s.shape:
            return m
        alike = [axis for axis, (wide, n) in enumerate(zip(m.shape, s.shape, strict=True)) if wide != n == 1]
        return jnp.broadcast_to(jnp.any(m, alike, keepdims=True), s.shape)

    return _tree.map_present(reduce, mask, scores)
