"""Filters choose the leaves that are prunable: `params -> pytree of bool`, as optax's mask arguments are.

Those of this module compose: `weights() & ~match("head")`.
"""

import dataclasses
import operator
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxticket import _layers, _tree
from jaxticket._check_trees import check_structure
from jaxticket.errors import InputError, NoMatchError
from jaxticket.typing import Filter, Mask, Params, PyTree

__all__ = ["LeafFilter", "everything", "full_mask", "match", "only", "weights"]


@dataclasses.dataclass(frozen=True)
class LeafFilter:
    """A filter that composes with any other: `a & b`, `a | b`, and `~a`, the float leaves that `a` leaves out.

    Attributes:
      choose: params -> pytree of bool.

    Examples:
      >>> import jax.numpy as jnp
      >>> params = {"head": {"kernel": jnp.ones((2, 3))}, "torso": {"kernel": jnp.ones((2, 2))}}
      >>> (weights() & ~match("head"))(params)
      {'head': {'kernel': False}, 'torso': {'kernel': True}}
    """

    choose: Filter

    def __call__(self, params: Params) -> PyTree:
        return self.choose(params)

    def __and__(self, other: Filter) -> "LeafFilter":
        return _combine(operator.and_, self, other)

    def __or__(self, other: Filter) -> "LeafFilter":
        return _combine(operator.or_, self, other)

    def __invert__(self) -> "LeafFilter":
        return _combine(lambda chosen, all_floats: all_floats and not chosen, self, everything())

    __rand__, __ror__ = __and__, __or__


def weights(*, include: str | None = None, exclude: str | None = None) -> LeafFilter:
    """Choose the weights of layers that multiply their inputs: dense, convolution, attention and recurrent ones.

    These are float leaves of two or more dimensions whose last path name is kernel, w or weight, and the gates of
    recurrent cells: w_i, w_h, weight_ih, weight_hh. So flax, haiku, equinox and torch call them. Biases, norms and
    embeddings stay dense. Those of equinox are known by their class. Elsewhere, a `w` or `weight` belongs to them if
    its layer is named so, as in "LayerNorm" or "token_embedding".

    Args:
      include: the regex of paths of leaves that are taken too, as by `match`.
      exclude: the regex of paths of leaves that are left out.

    Returns:
      The filter. It raises NoMatchError for parameters of which `include` or `exclude` matches no leaf.

    Raises:
      InputError: text that is not a regular expression.

    Examples:
      >>> import jax.numpy as jnp
      >>> params = {"out": {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3)}, "embed": {"embedding": jnp.ones((4, 2))}}
      >>> weights()(params)
      {'embed': {'embedding': False}, 'out': {'bias': False, 'kernel': True}}
      >>> weights(include="embed", exclude="out")(params)
      {'embed': {'embedding': True}, 'out': {'bias': False, 'kernel': False}}
    """
    chosen = _by_leaf(lambda place, leaf: _layers.is_weight(place, leaf.ndim))
    if include is not None:
        chosen = chosen | _demand("include", include, match(include))
    if exclude is not None:
        pattern = _tree.compile_regex("exclude", exclude)
        anywhere = _by_leaf(lambda place, leaf: pattern.search(place.name) is not None)
        chosen = chosen & ~_demand("exclude", exclude, anywhere)
    return chosen


def match(regex: str) -> LeafFilter:
    """Choose float leaves whose path name, such as 'block/0/kernel', matches the regular expression somewhere.

    Where it matches only in the name of a layer, that layer's biases and vectors are left out. A match that reaches
    the leaf's own name takes any leaf: `match("^dense/.")` takes the bias too.

    Examples:
      >>> import jax.numpy as jnp
      >>> params = {"dense": {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3)}, "out": {"bias": jnp.ones(3)}}
      >>> match("^dense/")(params)
      {'dense': {'bias': False, 'kernel': True}, 'out': {'bias': False}}
      >>> match("bias$")(params)
      {'dense': {'bias': True, 'kernel': False}, 'out': {'bias': True}}
    """
    pattern = _tree.compile_regex("regex", regex)

    def reaches(place: _layers.Place, leaf: Any) -> bool:
        ends = [found.end() for found in pattern.finditer(place.name)]
        own = any(end > place.start for end in ends) or not place.name
        return bool(ends) and (own or (leaf.ndim > 1 and not _layers.is_bias(place)))

    return _by_leaf(reaches)


def everything() -> LeafFilter:
    """Choose every float leaf.

    Examples:
      >>> import jax.numpy as jnp
      >>> everything()({"kernel": jnp.ones((2, 3)), "steps": jnp.zeros((), jnp.int32)})
      {'kernel': True, 'steps': False}
    """
    return _by_leaf(lambda place, leaf: True)


def only(tree: PyTree, where: Filter | PyTree) -> PyTree:
    """Replace each leaf that `where` leaves out by None.

    Args:
      tree: pytree of arrays.
      where: a filter, or the pytree of bool that it returns.

    Returns:
      The tree with None at each leaf that is left out.

    Raises:
      NoMatchError: a filter that leaves nothing.
      StructureError: a pytree of bool of another structure.

    Examples:
      >>> import jax.numpy as jnp
      >>> only({"kernel": jnp.ones((1, 2)), "bias": jnp.ones(2)}, weights())
      {'bias': None, 'kernel': Array([[1., 1.]], dtype=float32)}
    """
    chosen = where(tree) if callable(where) and not _tree.is_bool_tree(where) else where
    chosen = check_structure("where", chosen, "tree", tree)
    kept = _tree.tree_map(lambda x, keep: x if keep else None, tree, chosen)
    # A tree without leaves is optax's placeholder (tree_map_params), not a user's mistake.
    if not jax.tree.leaves(kept) and jax.tree.leaves(tree):
        raise NoMatchError(f"where matches no leaf; leaves: {_tree.leaves(_tree.names(tree))}")
    return kept


def full_mask(params: Params, where: Filter | PyTree) -> Mask:
    """Return the mask that keeps everything.

    Args:
      params: pytree of arrays.
      where: the leaves that are sparsified: a filter, or its pytree of bool.

    Returns:
      A mask that is True at each entry of the chosen leaves, and None elsewhere.

    Raises:
      NoMatchError: a filter that matches no leaf.
    """
    return _tree.map_present(lambda p: jnp.ones_like(p, dtype=bool), only(params, where))


def _by_leaf(predicate: Callable[[_layers.Place, Any], bool]) -> LeafFilter:
    def where(params: Params) -> PyTree:
        def choose(place: _layers.Place, leaf: Any) -> bool | None:
            if leaf is None:
                return None
            if not hasattr(leaf, "dtype") or not jnp.issubdtype(leaf.dtype, jnp.inexact):
                return False
            return predicate(place, leaf)

        return _tree.tree_map(choose, _layers.places(params), params)

    return LeafFilter(where)


def _combine(f: Callable[..., bool], *filters: Filter) -> LeafFilter:
    for other in filters:
        if not callable(other) or _tree.is_bool_tree(other):
            kind = type(other).__name__
            raise InputError(f"a filter composes with functions params -> pytree of bool, not {kind}.")

    def where(params: Params) -> PyTree:
        return _tree.map_present(lambda *chosen: bool(f(*chosen)), *(choose(params) for choose in filters))

    return LeafFilter(where)


def _demand(argument: str, regex: str, chosen: Filter) -> LeafFilter:
    """Return the filter that raises NoMatchError where it chooses nothing."""

    def where(params: Params) -> PyTree:
        taken = chosen(params)
        if jax.tree.leaves(params) and not any(jax.tree.leaves(taken)):
            raise NoMatchError(f"{argument}={regex!r} matches no leaf; leaves: {_tree.leaves(_tree.names(params))}")
        return taken

    return LeafFilter(where)
