"""The shared part of scores that read batches: the point where they measure, and means over batches on the device."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxticket import _tree
from jaxticket._check_trees import check_arrays, check_structure
from jaxticket._checks import check_batches, check_count
from jaxticket._dtypes import wide
from jaxticket._finite import check_finite
from jaxticket.errors import InputError
from jaxticket.masks._apply import apply_mask
from jaxticket.typing import Mask, Params, PyTree, ScoreFn, Scores

Loss = Callable[[Params, PyTree], jax.Array]  # (params, batch) -> scalar


class Point(NamedTuple):
    """The point at which a probe measures.

    `weights` and `masked` hold None where `others` holds a leaf, and the reverse.
    """

    weights: Params  # float leaves that are scored, as given
    masked: Params  # the same, zero where the mask is False
    others: Params
    mask: Mask | None
    round: Any = 0  # of `transforms.start`, which may be traced

    def survivors(self, tree: Params) -> Params:
        return tree if self.mask is None else apply_mask(tree, self.mask)


def probe(measure: Callable[[Point], Scores]) -> ScoreFn:
    """Return the ScoreFn that measures at the masked parameters."""

    def score(params: Params, *, mask: Mask | None = None, round: Any = 0, **_: Any) -> Scores:
        check_arrays("params", params)
        if mask is not None:
            mask = check_structure("mask", mask, "params", params)
        sparsified = params if mask is None else _tree.tree_map(lambda p, m: None if m is None else p, params, mask)
        weights = _tree.map_present(lambda p: p if is_float(p) else None, sparsified)
        if not jax.tree.leaves(weights):
            return weights  # also optax's placeholder, a tree without leaves
        others = _tree.tree_map(lambda p, w: p if w is None else None, params, weights)
        if mask is not None:
            mask = _tree.tree_map(lambda m, w: None if w is None else m, mask, weights)
        return measure(Point(weights, weights if mask is None else apply_mask(weights, mask), others, mask, round))

    return score


def gradient_of(loss: Loss) -> Callable[[Params, Params, PyTree], Params]:
    """Return (scored, others, batch) -> gradient with respect to `scored`; compiled once, for all batches and calls."""
    return jax.jit(lambda scored, others, batch: all_wide(jax.grad(scalar_loss(loss))(scored, others, batch)))


def scalar_loss(loss: Loss) -> Callable[[Params, Params, PyTree], jax.Array]:
    """Return (scored, others, batch) -> loss; it raises InputError while tracing unless the loss is a scalar."""

    def joined(scored: Params, others: Params, batch: PyTree) -> jax.Array:
        value = loss(join(scored, others), batch)
        if jnp.shape(value) != ():
            raise InputError(f"loss gives an array of shape {jnp.shape(value)}; return a scalar, such as its mean.")
        return value

    return joined


def join(scored: Params, others: Params) -> Params:
    """Put together the parameters that a Point holds apart."""
    return _tree.tree_map(lambda s, o: o if s is None else s, scored, others)


def reader(batches: Iterable[PyTree], each_round: int | None) -> Callable[[Point], Iterable[PyTree]]:
    """Return at -> the batches of its round: all, or the next `each_round` of them, from the first again at the end."""
    check_batches(batches)
    if each_round is None:
        return lambda at: batches
    listed = list(batches)
    check_count(1, each_round=each_round)
    if each_round > len(listed):
        raise InputError(f"each_round={each_round} is more than the {len(listed)} batches; pass more batches.")

    def read(at: Point) -> list[PyTree]:
        places = [(at.round * each_round + i) % len(listed) for i in range(each_round)]
        if not isinstance(at.round, jax.core.Tracer):
            return [listed[int(place)] for place in places]
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *listed)
        pick = lambda place: jax.tree.map(lambda x: jax.lax.dynamic_index_in_dim(x, place, keepdims=False), stacked)
        return [pick(place) for place in places]

    return read


def mean_over(batches: Iterable[PyTree], measure: Callable[[PyTree], PyTree]) -> PyTree:
    """Return the mean of `measure` (jitted) over the batches, summed on the device as the batches come."""
    total, count = None, 0
    for batch in batches:
        value = measure(batch)
        total, count = value if total is None else _add(total, value), count + 1
    if not count:
        raise InputError("batches is empty; pass at least one batch.")
    check_finite(total, batches, measure)
    return _divide(total, count)


@jax.jit
def _add(a: PyTree, b: PyTree) -> PyTree:
    return jax.tree.map(jnp.add, a, b)


@jax.jit
def _divide(total: PyTree, count: int) -> PyTree:
    return jax.tree.map(lambda t: t / count, total)


def is_float(p: jax.Array) -> bool:
    return jnp.issubdtype(jnp.result_type(p), jnp.floating)


def all_wide(tree: PyTree) -> PyTree:
    return jax.tree.map(wide, tree)
