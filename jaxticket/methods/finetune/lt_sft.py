"""LT-SFT: a sparse tuning of pretrained weights, on the entries that a full tuning changes most."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from jaxticket import _tree, filters, scopes, transforms
from jaxticket._check_trees import check_alike
from jaxticket._checks import check_count
from jaxticket.errors import InputError
from jaxticket.selection import select
from jaxticket.typing import Filter, Mask, Params, PyTree

__all__ = ["l1_from", "lt_sft", "tune_only"]


def lt_sft(
    params: Params,
    train: Callable[[Params, Mask], Params],
    count: int,
    *,
    rounds: int = 1,
    where: Filter | PyTree = filters.everything(),
) -> tuple[Params, Mask]:
    """Tune all entries, keep the places of those that changed most, and tune these alone from the start again.

    With more rounds, each adds its part of the entries, tunes all from the sparse result of the last, and compares with
    the pretrained weights. `tickets.take_difference` makes the result small.

    Args:
      params: the pretrained parameters.
      train: (parameters, mask) -> parameters, with a fresh optimizer. Of leaves with a mask it changes only what is
        True (`tune_only` holds the others), of those where it is None everything. Published: 3 or 5 epochs of all
        entries, 10 or 5 of the chosen ones, Adam with a rate of 5e-5.
      count: the number of entries that the tuning may change.
      rounds: the number of rounds.
      where: the leaves that are tuned sparsely, such as all but the head of a task. Others have no mask, and `train`
        tunes them in full.

    Returns:
      The tuned parameters and the mask, which has `count` entries, or a few less where `rounds` does not divide it.

    Raises:
      InputError: a count below the rounds or above the number of entries.

    References:
      Ansell et al., "Composable Sparse Fine-Tuning for Cross-Lingual Transfer", 2022, arXiv 2110.07560.

    Examples:
      >>> target = {"w": jnp.array([0.3, -0.5, 0.1, 0.2, -0.05])}
      >>> train = lambda params, mask: {"w": jnp.where(mask["w"], target["w"], params["w"])}  # in one step
      >>> lt_sft({"w": jnp.zeros(5)}, train, 2)[0]["w"]
      Array([ 0.3, -0.5,  0. ,  0. ,  0. ], dtype=float32)
    """
    check_count(1, count=count, rounds=rounds)
    full = filters.full_mask(params, where)
    chosen = _tree.tree_map(lambda p, m: None if m is None else p, params, full)
    size = sum(leaf.size for leaf in jax.tree.leaves(chosen))
    if not rounds <= count <= size:
        raise InputError(f"count={count} must lie between rounds={rounds} and the {size} entries that where= selects")
    mask: Mask = _tree.map_present(lambda p: jnp.zeros(p.shape, bool), chosen)
    for number in range(1, rounds + 1):
        tuned = train(params, full)
        changes = _tree.map_present(_change, chosen, tuned, mask)
        mask = select(changes, number * (count // rounds) / size, scope=scopes.tree())
        params = train(params, mask)
    return params, mask


def tune_only(inner: optax.GradientTransformation, mask: Mask) -> optax.GradientTransformationExtraArgs:
    """Take the steps of an optimizer on the entries of a mask, and leave the others as they are.

    Gradients are masked before the optimizer sees them, and its updates after it, so that a decay of weights moves
    nothing outside the mask. The mask may be an argument of a compiled function.

    Args:
      inner: the optimizer.
      mask: a mask of the parameters; leaves where it is None are tuned in full.

    Returns:
      The optimizer.

    Examples:
      >>> tx = tune_only(optax.sgd(1.0), {"w": jnp.array([True, False])})
      >>> params = {"w": jnp.array([1.0, 2.0])}
      >>> tx.update(params, tx.init(params), params)[0]["w"].tolist()
      [-1.0, 0.0]
    """
    return optax.with_extra_args_support(optax.chain(transforms.freeze(mask), inner, transforms.freeze(mask)))


def l1_from(base: Params, params: Params) -> jax.Array:
    """Return the mean absolute difference to the pretrained parameters; 0.1 times it regularises language tunings.

    Args:
      base: the pretrained parameters.
      params: the parameters.

    Returns:
      A scalar.

    Raises:
      StructureError: trees that do not fit each other.

    Examples:
      >>> float(l1_from({"w": jnp.zeros(4)}, {"w": jnp.array([1.0, -1.0, 0.0, 0.0])}))
      0.5
    """
    base = check_alike("base", base, "params", params)
    sums = jax.tree.map(lambda old, new: jnp.sum(jnp.abs(new - old)), base, params)
    return sum(jax.tree.leaves(sums)) / sum(leaf.size for leaf in jax.tree.leaves(params))


def _change(base: jax.Array, tuned: jax.Array, mask: jax.Array) -> jax.Array:
    """Return how much entries changed; those that are tuned already come first."""
    return jnp.where(mask, jnp.inf, jnp.abs(tuned - base))
