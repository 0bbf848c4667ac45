"""Moments of a dense training, carried into the state of a sparse one."""

import jax
import optax

from jaxticket import _tree, masks
from jaxticket._check_trees import check_arrays
from jaxticket.errors import StructureError
from jaxticket.transforms._state import is_sparse_state
from jaxticket.transforms._surgery import choose_moments
from jaxticket.typing import Mask, Params, PyTree


def carry_moments(
    tx: optax.GradientTransformation, state: PyTree, dense: PyTree, params: Params, *, mask: Mask
) -> PyTree:
    """Return a fresh state of `tx` with the dense optimizer's state inside, fresh where the mask is False.

    Args:
      tx: an optimizer with a `sparsify` in it.
      state: its fresh state.
      dense: a state of the same optimizer without the `sparsify`.
      params: the parameters.
      mask: the mask in `state`.

    Raises:
      StructureError: `dense` is a state of another optimizer or of other parameters.
    """
    bare = jax.tree.map(lambda s: s.inner if is_sparse_state(s) else s, state, is_leaf=is_sparse_state)
    _check_state(dense, bare)
    carried = jax.tree.map(
        lambda s, d: s._replace(inner=d) if is_sparse_state(s) else d, state, dense, is_leaf=is_sparse_state
    )
    chosen = choose_moments(tx, carried, state, params, masks.complement(mask))
    # Outside of sparsify (in MultiSteps) lie no moments, but accumulated gradients, which are dense.
    return jax.tree.map(lambda new, d: new if is_sparse_state(new) else d, chosen, carried, is_leaf=is_sparse_state)


def _check_state(dense: PyTree, like: PyTree) -> None:
    check_arrays("opt_state", dense)
    names = ("opt_state", "the state that tx starts with, without sparsify,")
    if _tree.structure(dense) != _tree.structure(like):
        raise StructureError(
            f"opt_state is not of the optimizer inside sparsify: {_tree.describe_difference(dense, like, *names)}."
        )
    for (path, x), y in zip(jax.tree_util.tree_flatten_with_path(dense)[0], jax.tree.leaves(like), strict=True):
        if (x.shape, x.dtype) != (y.shape, y.dtype):
            raise StructureError(
                f"opt_state at {_tree.path_name(path)!r} is {x.dtype}{list(x.shape)}, where tx starts with "
                f"{y.dtype}{list(y.shape)}; pass the state of the optimizer inside sparsify, for the same parameters."
            )
