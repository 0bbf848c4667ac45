"""Which leaves are prunable. A filter is `params -> pytree of bool`, as optax's mask arguments are."""

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
    """Float leaves of two or more dimensions whose last path name is kernel, w or weight.

    The names that flax, haiku, equinox and torch give to dense, convolution and attention weights; biases, norms and
    embeddings stay dense.

    >>> import jax.numpy as jnp
    >>> weights()({"dense": {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3)}})
    {'dense': {'bias': False, 'kernel': True}}
    """
    return _by_leaf(lambda name, leaf: leaf.ndim >= 2 and name.split("/")[-1] in _WEIGHT_NAMES)


def match(regex: str) -> Filter:
    """Float leaves in whose path name (such as 'block/0/kernel') the regular expression is found.

    >>> import jax.numpy as jnp
    >>> match("^dense/")({"dense": {"bias": jnp.ones(3)}, "out": {"bias": jnp.ones(3)}})
    {'dense': {'bias': True}, 'out': {'bias': False}}
    """
    pattern = _tree.compile_regex("regex", regex)
    return _by_leaf(lambda name, leaf: pattern.search(name) is not None)


def everything() -> Filter:
    """Every float leaf.

    >>> import jax.numpy as jnp
    >>> everything()({"kernel": jnp.ones((2, 3)), "steps": jnp.zeros((), jnp.int32)})
    {'kernel': True, 'steps': False}
    """
    return _by_leaf(lambda name, leaf: True)


def only(tree: PyTree, where: Filter | PyTree) -> PyTree:
    """`tree` with None at each leaf that `where` (a filter, or its pytree of bool) leaves out.

    Raises NoMatchError if nothing is left.

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
    """The mask that keeps everything: True at each entry of the leaves that `where` chooses, None elsewhere."""
    return _tree.map_present(lambda p: jnp.ones_like(p, dtype=bool), only(params, where))


def _by_leaf(predicate: Callable[[str, Any], bool]) -> Filter:
    def where(params: Params) -> PyTree:
        def choose(path: tuple[Any, ...], leaf: Any) -> bool | None:
            if leaf is None:
                return None
            if not hasattr(leaf, "dtype") or not jnp.issubdtype(leaf.dtype, jnp.floating):
                return False
            return predicate(_tree.path_name(path), leaf)

        return jax.tree_util.tree_map_with_path(choose, params, is_leaf=_tree.is_none)

    return where
