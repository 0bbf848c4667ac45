"""What a mask does to parameters."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxticket import _tree
from jaxticket.errors import InputError, StructureError
from jaxticket.typing import Mask, Params, PyTree, SoftMask


def apply_mask(params: Params, mask: Mask) -> Params:
    """The parameters where the mask keeps, exact zeros elsewhere (also for inf and NaN); leaves keep their dtype.

    Args:
      params: pytree of arrays; mask: its structure, bool leaves that broadcast, None for leaves left as they are.

    Raises StructureError for trees or shapes that do not fit, InputError for a mask that is not bool.

    >>> import jax.numpy as jnp
    >>> apply_mask({"w": jnp.array([1.0, jnp.nan]), "b": jnp.ones(1)}, {"w": jnp.array([True, False]), "b": None})
    {'b': Array([1.], dtype=float32), 'w': Array([1., 0.], dtype=float32)}
    """
    check_fits(params, mask)
    return _tree.tree_map(
        lambda p, m: p if p is None or m is None else jnp.where(m, p, jnp.zeros_like(p)), params, mask
    )


def gate(params: Params, soft_mask: SoftMask) -> Params:
    """The parameters times gates, differentiable in both: the gradient at gates of 1 is SNIP's (Lee et al., 2019).

    Args:
      params: pytree of arrays; soft_mask: its structure, real leaves that broadcast, None for leaves left as they are.

    Leaves keep the parameters' dtype. Raises StructureError for trees or shapes that do not fit.

    >>> import jax, jax.numpy as jnp
    >>> jax.grad(lambda gates: gate(jnp.array([2.0, 3.0]), gates).sum())(jnp.ones(2))
    Array([2., 3.], dtype=float32)
    """
    _check_shapes("soft_mask", soft_mask, params)
    return _tree.tree_map(lambda p, g: p if p is None or g is None else p * g.astype(p.dtype), params, soft_mask)


def check_fits(params: Params, mask: Mask, *, name: str = "mask") -> None:
    """Raises StructureError unless the mask's structure and shapes fit the parameters, InputError unless it is bool.

    >>> import jax.numpy as jnp
    >>> check_fits({"w": jnp.ones((3, 2))}, {"w": jnp.ones((1, 2), bool)})
    """
    _check_shapes(name, mask, params)

    def one(path: str, m: Any) -> None:
        if m is not None and m.dtype != jnp.bool_:
            raise InputError(f"{name} at {path!r} has dtype {m.dtype}, not bool; gate() takes soft masks.")

    _tree.tree_map(one, _tree.names(mask), mask)


def _check_shapes(name: str, mask: PyTree, params: Params) -> None:
    _tree.check_structure(name, mask, "params", params)
    _tree.check_arrays(name, mask)
    _tree.check_arrays("params", params)

    def one(path: str, p: jax.Array | None, m: jax.Array | None) -> None:
        if p is None or m is None:
            return
        if m.ndim != p.ndim or any(a not in (1, b) for a, b in zip(m.shape, p.shape, strict=True)):
            raise StructureError(
                f"{name} at {path!r} has shape {m.shape}, which does not broadcast to the parameter's {p.shape}; each "
                "axis must be full or 1."
            )

    _tree.tree_map(one, _tree.names(params), params, mask)


def in_shapes_of(mask: Mask, scores: PyTree) -> Mask:
    """The mask in the shapes of scores: what one score stands for is alive if any entry of it is."""

    def one(m: jax.Array, s: jax.Array) -> jax.Array:
        alike = [axis for axis, (wide, n) in enumerate(zip(m.shape, s.shape, strict=True)) if wide != n == 1]
        return jnp.broadcast_to(jnp.any(m, alike, keepdims=True), s.shape)

    return _tree.map_present(one, mask, scores)
