"""The Boolean algebra of the masks of one set of parameters. Leaves broadcast to each other; None stays None."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxticket import _tree
from jaxticket._check_trees import check_arrays, check_mask, check_structure
from jaxticket.errors import StructureError
from jaxticket.typing import Mask


def union(a: Mask, b: Mask) -> Mask:
    """Return the mask that keeps the entries of `a` or of `b`.

    Leaves broadcast: a channel mask (1, C) and a weight mask (R, C) give (R, C).

    Args:
      a: a mask.
      b: another mask of the same parameters.

    Returns:
      A mask with the structure of both.

    Raises:
      StructureError: trees that differ, or a leaf that is None in only one of them.

    Examples:
      >>> import jax.numpy as jnp
      >>> union(jnp.array([True, False, False]), jnp.array([True, True, False]))
      Array([ True,  True, False], dtype=bool)
    """
    return _combine(jnp.logical_or, a, b)


def intersection(a: Mask, b: Mask) -> Mask:
    """Return the mask that keeps the entries of both `a` and `b`. Leaves broadcast, as in `union`.

    Args:
      a: a mask.
      b: another mask of the same parameters.

    Returns:
      A mask with the structure of both.

    Raises:
      StructureError: trees that differ, or a leaf that is None in only one of them.

    Examples:
      >>> import jax.numpy as jnp
      >>> intersection(jnp.array([True, False, False]), jnp.array([True, True, False]))
      Array([ True, False, False], dtype=bool)
    """
    return _combine(jnp.logical_and, a, b)


def difference(a: Mask, b: Mask) -> Mask:
    """Return the mask that keeps the entries of `a` but not of `b`. Leaves broadcast, as in `union`.

    Args:
      a: a mask.
      b: another mask of the same parameters.

    Returns:
      A mask with the structure of both.

    Raises:
      StructureError: trees that differ, or a leaf that is None in only one of them.

    Examples:
      >>> import jax.numpy as jnp
      >>> difference(jnp.array([True, True, False]), jnp.array([False, True, True]))
      Array([ True, False, False], dtype=bool)
    """
    return _combine(lambda x, y: jnp.logical_and(x, jnp.logical_not(y)), a, b)


def complement(mask: Mask) -> Mask:
    """Return the mask that keeps the entries which `mask` drops, and drops those which it keeps.

    Examples:
      >>> import jax.numpy as jnp
      >>> complement({"kernel": jnp.array([True, False]), "bias": None})
      {'bias': None, 'kernel': Array([False,  True], dtype=bool)}
    """
    check_mask("mask", mask)
    return _tree.map_present(jnp.logical_not, mask)


def full_like(mask: Mask) -> Mask:
    """Return the mask that keeps everything, in the shapes of `mask`.

    Examples:
      >>> import jax.numpy as jnp
      >>> full_like({"kernel": jnp.array([True, False]), "bias": None})
      {'bias': None, 'kernel': Array([ True,  True], dtype=bool)}
    """
    check_arrays("mask", mask)
    return _tree.map_present(lambda m: jnp.ones_like(m, dtype=bool), mask)


def empty_like(mask: Mask) -> Mask:
    """Return the mask that keeps nothing, in the shapes of `mask`.

    Examples:
      >>> import jax.numpy as jnp
      >>> empty_like({"kernel": jnp.array([True, False]), "bias": None})
      {'bias': None, 'kernel': Array([False, False], dtype=bool)}
    """
    check_arrays("mask", mask)
    return _tree.map_present(lambda m: jnp.zeros_like(m, dtype=bool), mask)


def _combine(f: Callable[[jax.Array, jax.Array], jax.Array], a: Mask, b: Mask) -> Mask:
    b = check_structure("b", b, "a", a)
    check_mask("a", a)
    check_mask("b", b)

    def combine_leaf(name: str, x: jax.Array | None, y: jax.Array | None) -> jax.Array | None:
        if x is None and y is None:
            return None
        if x is None or y is None:
            raise StructureError(
                f"masks at {name!r}: only one of them is None; masks of the same parameters sparsify the same leaves "
                "(full_like gives a mask that keeps everything)."
            )
        if x.ndim != y.ndim or any(m != n and 1 not in (m, n) for m, n in zip(x.shape, y.shape, strict=True)):
            raise StructureError(
                f"masks at {name!r} have shapes {x.shape} and {y.shape}, which do not broadcast; each axis must be "
                "equal or 1."
            )
        return f(x, y)

    return _tree.tree_map(combine_leaf, _tree.names(a), a, b)
