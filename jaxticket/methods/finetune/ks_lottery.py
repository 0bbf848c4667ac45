"""KS-Lottery: the rows of an embedding whose distribution a tuning changed, tuned alone."""

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp

from jaxticket import _tree, filters
from jaxticket._checks import check_fraction
from jaxticket.errors import InputError
from jaxticket.typing import Filter, Mask, Params, PyTree

__all__ = ["ks_distances", "ks_lottery", "ks_probabilities", "transfer"]

By = Literal["row", "tensor"]
_TERMS = 100  # of the series, far more than float32 needs
_SMALL = 0.2  # below it the probability is 1 to all digits, and the series does not converge


def ks_lottery(
    params: Params,
    train: Callable[[Params, Mask], Params],
    *,
    where: Filter | PyTree = filters.match("embedding"),
    alpha: float = 0.05,
    by: By = "row",
) -> tuple[Params, Mask]:
    """Tune an embedding, find the rows whose entries are distributed otherwise, and tune these alone from the start.

    A row changed where the two-sample test of Kolmogorov and Smirnov separates its entries before and after. The test
    does not see which entry is which. Rows of tokens that do not occur must stay as they are, so `train` must not decay
    weights.

    Args:
      params: the pretrained parameters.
      train: (parameters, mask) -> parameters, with a fresh optimizer: only what is True changes, see
        `lt_sft.tune_only`.
      where: the leaves to test and to tune; all others stay.
      alpha: the level of the test. The default is taken from memory of the paper.
      by: whether the rows of a leaf are tested, each along its first axis, or the leaf as a whole.

    Returns:
      The tuned parameters and the mask. Where a leaf does not change, its mask is False as a whole.

    Raises:
      InputError: an alpha outside [0, 1], an unknown `by`, or a filter that selects nothing.

    References:
      Yuan et al., "KS-Lottery: Finding Certified Lottery Tickets for Multilingual Language Models", 2024,
        arXiv 2402.02801.

    Examples:
      >>> new = jnp.arange(20.0).reshape(2, 10) * jnp.array([[1.0], [-1.0]])
      >>> train = lambda params, mask: {"embedding": jnp.where(mask["embedding"], new, params["embedding"])}
      >>> _, mask = ks_lottery({"embedding": jnp.arange(20.0).reshape(2, 10)}, train)
      >>> mask["embedding"].tolist()
      [[False], [True]]
    """
    check_fraction("alpha", alpha)
    if by not in ("row", "tensor"):
        raise InputError(f'by={by!r} must be "row" or "tensor"')
    chosen = filters.only(params, where)
    if not jax.tree.leaves(chosen):
        raise InputError("where= selects no leaf; pass filters.match(regex) of the embedding's path")

    def choose(old: jax.Array | None, new: jax.Array, p: jax.Array) -> jax.Array:
        if old is None:
            return jnp.zeros((1,) * p.ndim, bool)
        distances = ks_distances(old, new, by=by)
        changed = ks_probabilities(distances, old.size // distances.size) < alpha
        return changed.reshape(-1 if by == "row" else 1, *[1] * (old.ndim - 1))

    everything = _tree.tree_map(
        lambda c, p: None if p is None else jnp.full((1,) * p.ndim, c is not None), chosen, params
    )
    tuned = train(params, everything)
    mask = _tree.tree_map(lambda c, t, p: None if p is None else choose(c, t, p), chosen, tuned, params)
    return train(params, mask), mask


def transfer(params: Params, tuned: Params, mask: Mask) -> Params:
    """Return the pretrained parameters with the tuned values where the mask is True, without further training.

    Args:
      params: the pretrained parameters.
      tuned: the tuned parameters.
      mask: a mask of both.

    Returns:
      Parameters.

    Examples:
      >>> transfer({"w": jnp.zeros(3)}, {"w": jnp.ones(3)}, {"w": jnp.array([True, False, True])})["w"].tolist()
      [1.0, 0.0, 1.0]
    """
    return _tree.map_present(lambda old, new, kept: jnp.where(kept, new, old), params, tuned, mask)


def ks_distances(old: jax.Array, new: jax.Array, *, by: By = "row") -> jax.Array:
    """Return the largest distance between the empirical distributions of entries before and after, for each row.

    Args:
      old: an array, rows along its first axis.
      new: an array of the same shape.
      by: whether rows are compared, or the arrays as a whole.

    Returns:
      Distances in [0, 1]: (rows,), or (1,) of a whole array.

    Raises:
      InputError: shapes that differ.

    Examples:
      >>> ks_distances(jnp.array([[0.0, 1, 2, 3], [1, 2, 3, 4]]), jnp.array([[2.0, 3, 4, 5], [4, 3, 2, 1]])).tolist()
      [0.5, 0.0]
    """
    if old.shape != new.shape:
        raise InputError(f"old has shape {old.shape} and new {new.shape}; pass arrays of the same shape")
    rows = (old.shape[0] if by == "row" and old.ndim else 1, -1)
    both = jnp.concatenate([old.reshape(rows), new.reshape(rows)], axis=1)
    size = both.shape[1] // 2
    order = jnp.argsort(both, axis=1)
    values = jnp.take_along_axis(both, order, axis=1)
    ahead = jnp.cumsum(jnp.where(order < size, 1, -1), axis=1)  # of the old entries up to here, more than of the new
    last = jnp.pad(values[:, 1:] != values[:, :-1], ((0, 0), (0, 1)), constant_values=True)  # of equal values
    return jnp.max(jnp.where(last, jnp.abs(ahead), 0), axis=1) / size


def ks_probabilities(distances: jax.Array, size: int) -> jax.Array:
    """Return how probable such distances are for two samples of the same distribution, by the asymptotic formula.

    Args:
      distances: as of `ks_distances`.
      size: the number of entries of each sample.

    Returns:
      Probabilities, of the shape of `distances`.

    Examples:
      >>> (ks_probabilities(jnp.array([0.0, 0.09, 0.1, 1.0]), 384) < 0.05).tolist()
      [False, False, True, True]
    """
    root = jnp.sqrt(size / 2)
    scaled = (root + 0.12 + 0.11 / root) * distances
    term = jnp.arange(1, _TERMS + 1)
    signs = jnp.where(term % 2 == 1, 1.0, -1.0)
    powers = jnp.exp(-2 * jnp.square(scaled)[..., None] * jnp.square(term)[(None,) * scaled.ndim])
    series = 2 * jnp.sum(signs[(None,) * scaled.ndim] * powers, axis=-1)
    return jnp.where(scaled < _SMALL, 1.0, jnp.clip(series, 0, 1))
