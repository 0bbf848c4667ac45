"""Filters choose the leaves that are prunable: `params -> pytree of bool`, as optax's mask arguments are."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxticket import _tree
from jaxticket._checks import check_structure
from jaxticket.errors import NoMatchError
from jaxticket.typing import Filter, Mask, Params, PyTree

__all__ = ["everything", "full_mask", "match", "only", "weights"]

_WEIGHT_NAMES = ("kernel", "w", "weight")


def weights() -> Filter:
    """Choose float leaves of two or more dimensions whose last path name is kernel, w or weight.

    These are the names that flax, haiku, equinox and torch give to dense, convolution and attention weights. Biases,
    norms and embeddings stay dense.

    Examples:
      >>> import jax.numpy as jnp
      >>> weights()({"dense": {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3)}})
      {'dense': {'bias': False, 'kernel': True}}
    """
    return _by_leaf(lambda name, leaf: leaf.ndim >= 2 and name.split("/")[-1] in _WEIGHT_NAMES)


def match(regex: str) -> Filter:
    """Choose float leaves whose path name, such as 'block/0/kernel', matches the regular expression somewhere.

    Examples:
      >>> import jax.numpy as jnp
      >>> match("^dense/")({"dense": {"bias": jnp.ones(3)}, "out": {"bias": jnp.ones(3)}})
      {'dense': {'bias': True}, 'out': {'bias': False}}
    """
    pattern = _tree.compile_regex("regex", regex)
    return _by_leaf(lambda name, leaf: pattern.search(name) is not None)


def everything() -> Filter:
    """Choose every float leaf.

    Examples:
      >>> import jax.numpy as jnp
      >>> everything()({"kernel": jnp.ones((2, 3)), "steps": jnp.zeros((), jnp.int32)})
      {'kernel': True, 'steps': False}
    """
    return _by_leaf(lambda name, leaf: True)


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
    chosen = where(tree) if callable(where) else where
    check_structure("where", chosen, "tree", tree)
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


def _by_leaf(predicate: Callable[[str, Any], bool]) -> Filter:
    def where(params: Params) -> PyTree:
        def choose(name: str, leaf: Any) -> bool | None:
            if leaf is None:
                return None
            if not hasattr(leaf, "dtype") or not jnp.issubdtype(leaf.dtype, jnp.floating):
                return False
            return predicate(name, leaf)

        return _tree.tree_map(choose, _tree.names(params), params)

    return where
