"""OBSPA: remove channels from a trained network, and let the rest of each layer make up for what it no longer reads.

A layer that reads a group has inputs X and H = 2XᵀX + damping. A channel costs what the optimal brain surgeon's update
cannot make up for, summed over the layers that read it, and the update of all removed channels is made at once: the
kept weights become the least-squares fit of the layer's dense outputs. All layers see the inputs of the dense network,
so that one pass over the data is enough. Without data, inputs drawn at random serve.
"""

import functools
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxticket import _tree
from jaxticket._dtypes import wide
from jaxticket._jaxpr import Product, captured, gram, inner_axes, input_axes
from jaxticket.errors import InputError
from jaxticket.structure import Budget, Groups, Member, Ranking, choose, spread
from jaxticket.typing import PyTree

__all__ = ["obspa"]


class _Reader(NamedTuple):
    """A layer that reads groups: its inputs lie on `axes` of its weight; `hessian` is over them, flattened."""

    name: str
    axes: tuple[int, ...]
    shape: tuple[int, ...]  # of the weight
    weight: jax.Array  # (inputs, outputs)
    hessian: jax.Array
    parts: dict[str, Member]


def obspa(
    variables: PyTree,
    apply: Callable[[PyTree, PyTree], PyTree],
    batches: Iterable[PyTree],
    groups: Groups,
    budget: float | Budget,
    *,
    ranking: Ranking = "local",
    multiple: int = 1,
    cap: float = 1.0,
    damping: float = 0.01,
    allow_inexact: bool = False,
) -> tuple[PyTree, dict[str, np.ndarray]]:
    """Choose channels to remove and update the weights that stay (OBSPA; Wang et al., 2024).

    The paper's code is not public; this follows its abstract and the published layer-wise OBS. A channel that a layer
    reads at several entries, such as the taps of a convolution or the entries of a head, is removed jointly. Scores are
    divided by the mean of their group. Groups that no layer reads by a matrix product, such as the channels of queries
    and keys, are kept. Layers that are stacked, in groups, or also read by their transpose count for nothing and are
    not updated; after a depthwise convolution the 1 × 1 layer makes up for what went. Batch statistics stay as they
    are. `loops.soups.recalibrate` estimates them again, which needs data like those of the training.

    Args:
      variables: the trained variables.
      apply: (variables, x) -> outputs, as it was traced.
      batches: inputs x, of the data or drawn at random; read once.
      groups: what `structure.trace` returned.
      budget: what is kept, as in `structure.choose`.
      ranking: as in `structure.choose`.
      multiple: as in `structure.choose`.
      cap: as in `structure.choose`.
      damping: added to the diagonal of H, as a fraction of its mean.
      allow_inexact: as in `structure.choose`.

    Returns:
      The variables at their old sizes, with removed channels zero, and the mask of channels, for `structure.shrink`.

    Raises:
      InputError: an argument out of its range, no batches, inputs that are not finite or so dependent that the damping
        is too small, or groups that no layer reads.

    Examples:
      >>> import jax.numpy as jnp, numpy as np
      >>> from jaxticket import structure
      >>> from jaxticket.methods.channels.obspa import obspa
      >>> params = {"a": jnp.array([[1.0, 2.0, 0.0], [0.0, 0.0, 1.0]]), "b": jnp.array([[1.0], [2.0], [3.0]])}
      >>> apply = lambda p, x: x @ p["a"] @ p["b"]  # the second channel is twice the first
      >>> x = jnp.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
      >>> groups = structure.trace(apply, params, x)
      >>> params, kept = obspa(params, apply, [x], groups, 2 / 3, damping=1e-6)
      >>> print(kept["a:1"], np.round(params["b"].T, 2))
      [False  True  True] [[0.  2.5 3. ]]
    """
    if not 0 < damping < math.inf:
        raise InputError(f"damping is {damping}; it must be positive and finite")
    readers = _readers(variables, apply, batches, groups, damping)
    scores = _scores(readers)
    if not scores:
        raise InputError("groups: no layer reads a channel of them by a product with data that is its own (unstacked)")
    kept = choose(scores, groups, budget, ranking=ranking, multiple=multiple, cap=cap, allow_inexact=allow_inexact)
    updated = {r.name: _update(r, _stays(r, kept)) for r in readers}

    def finish(name: str, x: Any, mask: Any) -> Any:
        new = updated[name].astype(x.dtype) if name in updated else x
        return new if mask is None else jnp.where(mask, new, 0).astype(x.dtype)

    return _tree.tree_map(finish, _tree.names(variables), variables, spread(kept, groups, variables)), kept


def _readers(
    variables: PyTree,
    apply: Callable[[PyTree, PyTree], PyTree],
    batches: Iterable[PyTree],
    groups: Groups,
    damping: float,
) -> list[_Reader]:
    """Return the layers that read groups, with the products of their inputs over all batches."""
    members: dict[str, list[tuple[str, Member]]] = {}
    for group in groups:
        for member in group.members:
            members.setdefault(member.path, []).append((group.name, member))
    names = _tree.present_names(variables)
    measure = functools.partial(_grams, apply, names=tuple(names), wanted=tuple(members))
    totals: dict[str, jax.Array] = {}
    x = None
    for x in batches:
        for name, squares in measure(variables, x).items():
            totals[name] = totals[name] + squares if name in totals else squares
    if x is None:
        raise InputError("batches is empty; pass the inputs of the data, or random ones")
    weights = dict(zip(names, jax.tree.leaves(variables), strict=True))
    readers = []
    for name, squares in totals.items():
        if not bool(jnp.isfinite(squares).all()):
            raise InputError(f"batches: the inputs of {name} are not all finite")
        ndim = weights[name].ndim
        axes = tuple(a for a in range(ndim) if squares.shape[ndim + a] != 1)
        own = {group: m for group, m in members[name] if m.axis in axes}
        if own and all(squares.shape[a] == 1 or a in axes for a in range(ndim)):
            readers.append(_reader(name, axes, weights[name], squares, own, damping))
    return readers


@functools.partial(jax.jit, static_argnames=("apply", "names", "wanted"))
def _grams(
    apply: Callable[[PyTree, PyTree], PyTree],
    variables: PyTree,
    x: PyTree,
    *,
    names: tuple[str, ...],
    wanted: tuple[str, ...],
) -> dict[str, jax.Array]:
    """Return XᵀX of the inputs of the layers that are wanted, by name."""

    shapes = [jnp.shape(leaf) for leaf in jax.tree.leaves(variables)]
    read: dict[int, set[tuple[int, ...]]] = {}  # the axes along which a leaf is read

    def look(product: Product) -> None:
        read.setdefault(product.weight.leaf, set()).add(input_axes(product))

    def measure(product: Product) -> jax.Array | None:
        leaf = product.weight.leaf
        stacked = any(n > 1 and axis not in inner_axes(product) for axis, n in enumerate(shapes[leaf]))
        # Read along several axes, as by its transpose too, it would take products of all its entries with each other.
        mixed = len(read[leaf]) > 1 or len(input_axes(product)) == len(shapes[leaf]) > 1
        taken = names[leaf] in wanted and product.groups == 1 and not stacked and not mixed
        return gram(product) if taken else None

    jax.eval_shape(lambda v, x: captured(apply, v, x, look)[0], variables, x)
    totals = captured(apply, variables, x, measure)[1]
    squares = jax.tree.leaves(jax.tree.map(lambda _, s: (s,), variables, totals), is_leaf=lambda x: type(x) is tuple)
    return {name: s for name, (s,) in zip(names, squares, strict=True) if s is not None}


def _reader(
    name: str, axes: tuple[int, ...], weight: jax.Array, squares: jax.Array, parts: dict[str, Member], damping: float
) -> _Reader:
    ndim = weight.ndim
    order = [*axes, *(a for a in range(ndim) if a not in axes)]
    width = math.prod(weight.shape[a] for a in axes)
    matrix = jnp.transpose(wide(weight), order).reshape(width, -1)
    hessian = 2 * jnp.transpose(squares, (*order, *(ndim + a for a in order))).reshape(width, width)
    mean = jnp.mean(jnp.diagonal(hessian))
    hessian += damping * jnp.where(mean > 0, mean, 1) * jnp.eye(width, dtype=hessian.dtype)  # 0 where inputs are dead
    return _Reader(name, axes, weight.shape, matrix, hessian, parts)


def _entries(reader: _Reader, member: Member) -> np.ndarray:
    """Return the flattened inputs of every channel: (width, entries)."""
    sizes = [reader.shape[a] for a in reader.axes]
    index = np.moveaxis(np.arange(math.prod(sizes)).reshape(sizes), reader.axes.index(member.axis), 0)
    return index[np.array(member.positions)].reshape(len(member.positions), -1)


def _scores(readers: list[_Reader]) -> dict[str, jax.Array]:
    """Return what the removal of each channel costs, summed over the layers that read it."""
    totals: dict[str, jax.Array] = {}
    for reader in readers:
        inverse = _inverse(reader.name, reader.hessian)
        for group, member in reader.parts.items():
            own = _cost(inverse, reader.weight, jnp.asarray(_entries(reader, member)))
            totals[group] = totals.get(group, 0.0) + own
    return {group: score / jnp.where(jnp.mean(score) > 0, jnp.mean(score), 1.0) for group, score in totals.items()}


@jax.jit
def _cost(inverse: jax.Array, weight: jax.Array, entries: jax.Array) -> jax.Array:
    """Return Σ wᵀ ([H⁻¹]_PP)⁻¹ w over the outputs, for the entries P of each channel."""

    def one_channel(places: jax.Array) -> jax.Array:
        rows = weight[places]
        return jnp.sum(rows * jnp.linalg.solve(inverse[places][:, places], rows))

    return jax.lax.map(one_channel, entries)


def _inverse(name: str, hessian: jax.Array) -> jax.Array:
    inverse = jax.scipy.linalg.cho_solve(
        (jnp.linalg.cholesky(hessian), True), jnp.eye(len(hessian), dtype=hessian.dtype)
    )
    if not bool(jnp.isfinite(inverse).all()):
        raise InputError(f"{name}: its inputs depend on each other too closely; pass a larger damping or more batches")
    return inverse


def _stays(reader: _Reader, kept: Mapping[str, np.ndarray]) -> np.ndarray:
    stays = np.ones(len(reader.hessian), bool)
    for group, member in reader.parts.items():
        stays[_entries(reader, member)[~kept[group]].ravel()] = False
    return stays


def _update(reader: _Reader, stays: np.ndarray) -> jax.Array:
    """Return the weight whose kept rows fit the layer's dense outputs best, with zeros elsewhere."""
    matrix = _fit(reader.hessian, reader.weight, stays)
    order = [*reader.axes, *(a for a in range(len(reader.shape)) if a not in reader.axes)]
    back = [order.index(a) for a in range(len(order))]
    return jnp.transpose(matrix.reshape([reader.shape[a] for a in order]), back)


@jax.jit  # with the places that stay as data: counts of them do not compile it again
def _fit(hessian: jax.Array, weight: jax.Array, stays: jax.Array) -> jax.Array:
    inner = jnp.where(stays[:, None] & stays[None], hessian, jnp.eye(len(stays), dtype=hessian.dtype))
    lost = jnp.where(stays[:, None] & ~stays[None], hessian, 0)
    carried = jnp.matmul(lost, weight, precision=jax.lax.Precision.HIGHEST)
    rows = weight + jax.scipy.linalg.cho_solve((jnp.linalg.cholesky(inner), True), carried)
    return jnp.where(stays[:, None], rows, 0)
