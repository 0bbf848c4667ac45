"""Averages of networks, with the mask that they share and batch statistics of their own."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxticket import _tree
from jaxticket._check_trees import check_arrays, check_mask, check_structure
from jaxticket._checks import check_array
from jaxticket._dtypes import wide
from jaxticket.errors import InputError, StructureError
from jaxticket.masks import apply_mask
from jaxticket.typing import Mask, Params, PyTree


def soup(members: Params, mask: Mask, *, weights: jax.Array | None = None) -> Params:
    """Return the average of members of one ticket, with exact zeros outside its mask.

    Args:
      members: parameters with a leading axis of members.
      mask: the mask of all members; with a leading axis too, it is the mask of each, and all must be equal.
      weights: (members,) as for `average`.

    Returns:
      The parameters of the soup.

    Raises:
      InputError: members of different masks, whose average would be denser than any of them; otherwise as `average`.

    Examples:
      >>> soup({"w": jnp.array([[1.0, 9.0], [3.0, 0.0]])}, {"w": jnp.array([True, False])})
      {'w': Array([2., 0.], dtype=float32)}
    """
    mask = check_structure("mask", mask, "members", members)
    check_mask("mask", mask)
    check_arrays("members", members)
    stacked = [
        m.ndim == p.ndim for p, m in zip(_tree.leaves(members), _tree.leaves(mask)) if m is not None and p is not None
    ]
    return apply_mask(average(members, weights), shared_mask(mask) if any(stacked) else mask)


def average(members: PyTree, weights: jax.Array | None = None) -> PyTree:
    """Return Σ w_m x_m over the leading axis, in float32 or wider; leaves keep their dtype, integers are one member's.

    Equal members average to themselves, to the bit but for the sign of a zero. Members of weight 0 count in nothing,
    even where they are not finite. It is pure: weights may be traced, and another choice of them compiles nothing.

    Args:
      members: a pytree of arrays with a leading axis of members.
      weights: (members,) convex weights; equal ones by default.

    Returns:
      The average.

    Raises:
      InputError: weights that are negative or do not add up to 1.
      StructureError: leaves of different leading axes, or a wrong number of weights.

    Examples:
      >>> average({"w": jnp.array([[1.0, 0.1], [3.0, 0.1]])})
      {'w': Array([2. , 0.1], dtype=float32)}
    """
    check_arrays("members", members)
    count = count_members(members)
    if weights is None:
        weights = jnp.full(count, 1 / count)
    if jnp.shape(weights) != (count,):
        raise StructureError(
            f"weights has shape {jnp.shape(weights)}, but there are {count} members; pass one for each"
        )
    if not isinstance(weights, jax.core.Tracer):
        values = np.asarray(weights, np.float64)
        if not (np.all(values >= 0) and abs(values.sum() - 1) < 1e-5):
            raise InputError(f"weights={values.tolist()} are not convex; pass numbers of at least 0 that add up to 1")
    return _average(members, jnp.asarray(weights, jnp.float32))


def shared_mask(masks: Mask) -> Mask:
    """Return the one mask of members whose masks, along a leading axis, are equal.

    Raises InputError if they differ, with the leaf and how much denser an average would be, and under jit, where the
    values are not known.

    Examples:
      >>> shared_mask(jnp.array([[True, False], [True, False]]))
      Array([ True, False], dtype=bool)
    """

    check_mask("masks", masks)

    def first_if_equal(name: str, m: jax.Array) -> jax.Array:
        if isinstance(m, jax.core.Tracer):
            raise InputError("masks have no known values under jit; compare them outside, and pass the shared one")
        if bool(jnp.any(m != m[:1])):
            denser = float(jnp.mean(jnp.any(m, 0)) / jnp.mean(m))
            raise InputError(
                f"masks at {name!r} differ between members, and their average would keep {denser:.2f} times as many "
                "weights as one of them; average copies of one ticket"
            )
        return m[0]

    return _tree.map_present(first_if_equal, _tree.names(masks), masks)


def recalibrate(
    params: Params, state: PyTree, apply: Callable[[Params, PyTree, Any], PyTree], batches: Sequence[Any]
) -> PyTree:
    """Compute batch statistics again, as the mean over `batches` of the statistics of each in train mode.

    It is for averages of networks, and points between them. Statistics are assumed to be moving averages, of any
    momentum: new = momentum · old + (1 − momentum) · those of the batch. Other leaves stay as they are. For a state
    without statistics nothing is computed. The published code takes a fifth of the training examples, in their order.

    Args:
      params: the parameters.
      state: the model state.
      apply: apply(params, state, batch) -> the new model state, in train mode; compiled here.
      batches: the batches.

    Returns:
      The model state.

    Raises:
      InputError: no batches.

    Examples:
      >>> apply = lambda params, state, x: {"mean": (state["mean"] + params * x.mean()) / 2}
      >>> batches = [jnp.array([1.0, 3.0]), jnp.array([4.0])]
      >>> recalibrate(jnp.float32(10), {"mean": jnp.float32(7)}, apply, batches)
      {'mean': Array(30., dtype=float32)}
    """
    if not any(jnp.issubdtype(leaf.dtype, jnp.inexact) for leaf in jax.tree.leaves(state)):
        return state
    if not batches:
        raise InputError("batches is empty; pass some training examples, such as a fifth of them")
    compiled = jax.jit(apply)
    moving = lambda f, *trees: jax.tree.map(
        lambda s, *xs: f(s, *xs) if jnp.issubdtype(s.dtype, jnp.inexact) else s, state, *trees
    )
    # From 0 a moving average is (1 − momentum) · batch. The momentum shows from another start, which is taken as large
    # as that result: from 1, large statistics would round it away.
    from_zero = moving(lambda s: jnp.zeros_like(s))
    shares = [compiled(params, from_zero, batch) for batch in batches]
    probe = moving(lambda s, share: jnp.where(share == 0, 1, share), shares[0])
    moved = compiled(params, probe, batches[0])

    def mean_statistic(old: jax.Array, probe: jax.Array, moved: jax.Array, *shares: jax.Array) -> jax.Array:
        taken = 1 - (moved - shares[0]) / probe
        return jnp.where(taken > 0, sum(shares) / len(shares) / jnp.where(taken > 0, taken, 1), old).astype(old.dtype)

    return moving(mean_statistic, probe, moved, *shares)


def ensemble(logits: jax.Array) -> jax.Array:
    """Return the joint prediction of members: the mean of their softmax, of logits (members, examples, classes).

    This is the baseline that costs as many networks as there are members.

    Examples:
      >>> ensemble(jnp.array([[[0.0, 0.0]], [[0.0, 0.0]]]))
      Array([[0.5, 0.5]], dtype=float32)
    """
    check_array("logits", logits)
    if logits.ndim < 2:
        raise InputError(f"logits have shape {logits.shape}; pass (members, examples, classes)")
    return jnp.mean(jax.nn.softmax(logits), 0)


@jax.jit
def _average(members: PyTree, weights: jax.Array) -> PyTree:
    heaviest = jnp.argmax(weights)

    def average_leaf(x: jax.Array) -> jax.Array:
        if not jnp.issubdtype(x.dtype, jnp.inexact):
            return x[heaviest]
        values = wide(x)
        base, w = values[heaviest], weights.reshape(-1, *[1] * (x.ndim - 1))
        # Start from one of the members, since a sum of w · x would round even where all x are equal.
        way = jnp.sum(jnp.where(w > 0, w * (values - base[None]), 0), 0)
        return (base + way).astype(x.dtype)

    return jax.tree.map(average_leaf, members)


def count_members(tree: PyTree) -> int:
    """Return the length of the leading axis of all leaves. Raises StructureError if they differ in it."""
    counts = {jnp.shape(leaf)[:1] for leaf in jax.tree.leaves(tree)}
    if len(counts) != 1 or () in counts:
        raise StructureError(
            f"members have leading axes {sorted(counts)}; stack each leaf with one axis of members first"
        )
    return int(counts.pop()[0])
