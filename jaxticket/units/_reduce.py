"""Reductions of the scores of a unit's weights to one score."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

Reduce = Callable[[jax.Array, tuple[int, ...], jax.Array | None], jax.Array]


def mean(x: jax.Array, axes: tuple[int, ...], where: jax.Array | None = None) -> jax.Array:
    """Return the mean score of each unit, which does not depend on its size (the default).

    Args:
      x: the scores of weights.
      axes: the axes over which a unit extends; they stay with size 1.
      where: the entries that count; None for all.

    Returns:
      One score a unit.
    """
    return jnp.mean(x, axes, keepdims=True, where=where)


def total(x: jax.Array, axes: tuple[int, ...], where: jax.Array | None = None) -> jax.Array:
    """Return the sum of each unit's scores; for magnitudes it is the l1 norm (Li et al., 2017).

    Args:
      x: the scores of weights.
      axes: the axes over which a unit extends; they stay with size 1.
      where: the entries that count; None for all.

    Returns:
      One score a unit.
    """
    return jnp.sum(x, axes, keepdims=True, where=where)


def largest(x: jax.Array, axes: tuple[int, ...], where: jax.Array | None = None) -> jax.Array:
    """Return the largest score of each unit.

    Args:
      x: the scores of weights.
      axes: the axes over which a unit extends; they stay with size 1.
      where: the entries that count; None for all.

    Returns:
      One score a unit.
    """
    return jnp.max(x, axes, keepdims=True, where=where, initial=-jnp.inf)


def l2(x: jax.Array, axes: tuple[int, ...], where: jax.Array | None = None) -> jax.Array:
    """Return the Euclidean norm of each unit's scores.

    Args:
      x: the scores of weights.
      axes: the axes over which a unit extends; they stay with size 1.
      where: the entries that count; None for all.

    Returns:
      One score a unit.
    """
    return jnp.sqrt(jnp.sum(jnp.square(x), axes, keepdims=True, where=where))
