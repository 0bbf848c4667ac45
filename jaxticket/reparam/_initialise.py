"""Draws of the weights of strong tickets, and of what is learned beside them: functions (params, key) -> params."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxticket import _tree, filters
from jaxticket._checks import check_key, check_number, known
from jaxticket.errors import InputError
from jaxticket.typing import Filter, Key, Params, PyTree

Draw = Callable[[Key, Any, Any], jax.Array]  # (key, shape, dtype) -> array, as in jax.nn.initializers


def kaiming_normal(
    params: Params, *, key: Key, density: float | jax.Array = 1.0, where: Filter = filters.weights()
) -> Params:
    """Draw weights from a normal distribution with variance 2 / fan-in (He et al., 2015); other leaves stay.

    Kernels are (..., inputs, outputs).

    Args:
      params: the parameters, for shapes and dtypes.
      key: a typed PRNG key.
      density: the part of the inputs that is left; it divides the variance, as in edge-popup's scaled fan (Ramanujan et
        al., 2020).
      where: the leaves that are drawn.

    Returns:
      The parameters.

    Raises:
      InputError: a density outside (0, 1].

    Examples:
      >>> drawn = kaiming_normal({"kernel": jnp.zeros((50, 40)), "bias": jnp.ones(40)}, key=jax.random.key(0))
      >>> round(float(drawn["kernel"].std()), 1), float(drawn["bias"].sum())
      (0.2, 40.0)
    """
    return _draw_scaled(params, key, jax.nn.initializers.variance_scaling(2.0, "fan_in", "normal"), density, where)


def signed_constant(
    params: Params,
    *,
    key: Key,
    scale: float = 2.0,
    density: float | jax.Array = 1.0,
    where: Filter = filters.weights(),
) -> Params:
    """Draw weights ± √(scale / fan-in) of random signs (Ramanujan et al., 2020); other leaves stay.

    Args:
      params: the parameters, for shapes and dtypes.
      key: a typed PRNG key.
      scale: 2 for ReLU, 3 for the ELU of signed supermasks (Koster et al., 2022).
      density: the part of the inputs that is left; it divides the variance, as in `kaiming_normal`.
      where: the leaves that are drawn.

    Returns:
      The parameters.

    Raises:
      InputError: a density outside (0, 1], or a scale that is not positive.

    Examples:
      >>> abs(signed_constant({"kernel": jnp.zeros((8, 3))}, key=jax.random.key(0))["kernel"][0])
      Array([0.5, 0.5, 0.5], dtype=float32)
    """
    check_number(scale=scale)
    if not 0 < known(scale) < math.inf:
        raise InputError(f"scale={scale} must be positive and finite; 2 is for ReLU, 3 for ELU.")

    def draw(key: Key, shape: Any, dtype: Any) -> jax.Array:
        fan_in = max(math.prod(shape[:-1]), 1)  # a leaf without entries has none
        return jax.random.rademacher(key, shape, dtype) * math.sqrt(scale / fan_in)

    return _draw_scaled(params, key, draw, density, where)


def draw_leaves(tree: PyTree, key: Key | None, draw: Draw) -> PyTree:
    """Return draw(key, shape, dtype) for each leaf, with its own key and the leaf's layout; None leaves stay None.

    Raises InputError without a key.

    Examples:
      >>> draw_leaves({"a": None, "b": jnp.ones((2, 3))}, jax.random.key(0), jax.nn.initializers.zeros)["b"].shape
      (2, 3)
    """
    if key is None:
        raise InputError("init draws scores and needs a key, got key=None; pass one: init(params, key).")
    check_key("key", key)
    structure = _tree.structure(tree)
    keys = jax.tree.unflatten(structure, list(jax.random.split(key, structure.num_leaves)))
    # Zeros of a leaf have its sharding, eagerly and in types.
    draw_leaf = lambda x, k: draw(k, x.shape, x.dtype) + jnp.zeros_like(x) if x.size else x
    return _tree.map_present(draw_leaf, tree, keys)


def _draw_scaled(params: Params, key: Key, draw: Draw, density: float | jax.Array, where: Filter) -> Params:
    check_number(density=density)
    if not isinstance(density, jax.core.Tracer) and not 0 < known(density) <= 1:
        raise InputError(f"density={density} must be above 0 and at most 1; it divides the variance of the weights.")
    fresh = draw_leaves(filters.only(params, where), key, draw)
    return _tree.tree_map(lambda p, f: p if f is None else (f * density**-0.5).astype(p.dtype), params, fresh)
