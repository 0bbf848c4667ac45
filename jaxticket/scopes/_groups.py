"""Groups of consecutive inputs, for N:M sparsity, and the axes on which inputs lie."""

import dataclasses
import re
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from jaxticket import _layers, _tree
from jaxticket._check_trees import check_arrays
from jaxticket._checks import check_axis, check_count
from jaxticket._jaxpr import Product, captured
from jaxticket.errors import InputError
from jaxticket.scopes._kinds import ByName, Scope
from jaxticket.typing import Params, PyTree
from jaxticket.units import normalise_axis


@dataclasses.dataclass(frozen=True)
class _InputGroups(ByName):
    """Groups along the axis of inputs, which each leaf has for itself; `rules` are pairs of a regex and an axis."""

    m: int
    rules: tuple[tuple[str, int], ...]
    strict: bool
    joint: bool = False

    def bind(self, tree: PyTree) -> PyTree:
        chosen = _bind_axes(tree, dict(self.rules), f"scopes.groups({self.m})")
        return _tree.map_present(lambda x, axis: _Groups(self.m, axis, self.strict), tree, chosen)


@dataclasses.dataclass(frozen=True)
class _Groups:
    m: int
    axis: int
    strict: bool = False
    joint: bool = False

    def bind(self, tree: PyTree) -> PyTree:
        return _tree.map_present(lambda _: self, tree)

    def view(self, x: jax.Array) -> jax.Array:
        axis = normalise_axis(self.axis, x.shape, "scopes.groups")
        if self.strict and x.shape[axis] % self.m:
            raise InputError(
                f"scopes.groups({self.m}, strict=True): axis {self.axis} of shape {x.shape} is not a multiple of "
                f"{self.m}; leave the leaf out with where=."
            )
        padding = [(0, -x.shape[a] % self.m if a == axis else 0) for a in range(x.ndim)]
        whole = -(-x.shape[axis] // self.m)
        return jnp.pad(x, padding).reshape(*x.shape[:axis], whole, self.m, *x.shape[axis + 1 :])

    def axes(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (normalise_axis(self.axis, shape, "scopes.groups") + 1,)

    def unview(self, x: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        axis = normalise_axis(self.axis, shape, "scopes.groups")
        flat = x.reshape(*shape[:axis], x.shape[axis] * self.m, *shape[axis + 1 :])
        return jax.lax.slice_in_dim(flat, 0, shape[axis], axis=axis)


def groups(m: int, *, axis: int | Mapping[str, int] | None = None, strict: bool = False) -> Scope:
    """Let each `m` consecutive inputs compete: density N/M gives N:M sparsity (Zhou et al., 2021).

    Hardware wants the groups along the axis over which a product sums, the inputs. Without `axis` it follows from the
    names that frameworks give. `kernel` and `w` of flax and haiku are (..., inputs, outputs), as are leaves of two axes
    with other names. `weight` of torch and equinox is (outputs, inputs, ...). Query, key and value of flax's attention
    are (inputs, heads, head size). An error asks for the axis of all other leaves of three axes, since it does not
    follow from their names. `input_axes` reads it from a model.

    If `m` does not divide the axis, the last group is smaller. It keeps its share, rounded, and at least one unit.

    Args:
      m: the number of units in a group.
      axis: the axis of the groups in each leaf, or a mapping {regex of a path: axis}, such as `input_axes` returns. The
        first regex that matches decides, and the names decide for leaves that none matches.
      strict: whether an axis that `m` does not divide is an error.

    Returns:
      A scope for `select`, which raises InputError for leaves whose axis is not known.

    Raises:
      InputError: m < 1, or an axis that is not a whole number.

    Examples:
      >>> import jax.numpy as jnp
      >>> from jaxticket import select
      >>> scores = {"query": {"kernel": jnp.arange(8.0).reshape(4, 2, 1)}}  # (inputs, heads, head size)
      >>> select(scores, 0.5, scope=groups(4))["query"]["kernel"].sum(0)
      Array([[2],
             [2]], dtype=int32)
    """
    check_count(0, m=m)
    if m < 1:
        raise InputError(f"scopes.groups(m={m}): pass a group size of 1 or more, for example groups(4) for 2:4.")
    if axis is None:
        return _InputGroups(m, (), strict)
    if isinstance(axis, Mapping):
        for regex, value in axis.items():
            _tree.compile_regex("axis", regex)
            check_axis(f"axis[{regex!r}]", value)
        return _InputGroups(m, tuple(axis.items()), strict)
    check_axis("axis", axis)
    return _Groups(m, axis, strict)


def input_axes(apply: Callable[[Params, PyTree], PyTree], params: Params, x: PyTree) -> dict[str, int]:
    """Return the axis of inputs of each weight, read from the products of a model with its data.

    Nothing is computed, so that shapes suffice. Where a product sums over several axes, such as (heads, head size), it
    is the last of them.

    Args:
      apply: (params, x) -> outputs, in any framework.
      params: pytree of arrays.
      x: the inputs.

    Returns:
      {regex of the path of a leaf: axis}, for `groups`. Leaves that are never multiplied are left out.

    Raises:
      InputError: a leaf that is not an array, or that is multiplied along two different axes.

    Examples:
      >>> import jax.numpy as jnp
      >>> params = {"weight": jnp.ones((3, 2)), "bias": jnp.ones((1, 3))}
      >>> input_axes(lambda params, x: x @ params["weight"].T + params["bias"], params, jnp.ones((4, 2)))
      {'^weight$': 1}
    """
    check_arrays("params", params)
    names = jax.tree.leaves(_tree.map_present(lambda p, name: name, params, _tree.names(params)))
    axes: dict[str, int] = {}

    def note(product: Product) -> None:
        parts = [part for a in product.features for part in product.weight.layout[a]]
        summed = [part.axis for part in parts if isinstance(part.axis, int)]
        name = names[product.weight.leaf]
        if summed and axes.setdefault(f"^{re.escape(name)}$", max(summed)) != max(summed):
            raise InputError(
                f"{name!r} is multiplied along axis {max(summed)} and along another; pass axis=, or leave it out."
            )

    jax.eval_shape(lambda p, x: captured(apply, p, x, note)[0], params, x)
    return axes


def _bind_axes(tree: PyTree, rules: Mapping[str, int], user: str) -> PyTree:
    """Return the axis of inputs of each leaf, None for None.

    Raises InputError where it follows from neither the rules nor the names.
    """
    ruled = _tree.resolve(rules, tree) if rules else _tree.tree_map(lambda _: None, tree)

    def choose(x: jax.Array | None, place: _layers.Place, axis: int | None) -> int | None:
        if x is None:
            return None
        axis = _layers.input_axis(place, x.ndim) if axis is None else axis
        if axis is None:
            raise InputError(
                f"{user}: the name {place.name!r} does not say which axis of shape {x.shape} has the inputs; pass "
                f"axis={{{place.name!r}: ...}} or axis=scopes.input_axes(apply, params, x)."
            )
        return axis

    return _tree.tree_map(choose, tree, _layers.places(tree), ruled)
