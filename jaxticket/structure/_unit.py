"""Traced groups as the unit of selection, and the scores of their channels."""

import dataclasses
from typing import ClassVar, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np

from jaxticket import _tree, filters, units
from jaxticket._check_trees import check_arrays, check_leaves
from jaxticket._dtypes import wide
from jaxticket.errors import InputError, NoMatchError
from jaxticket.structure._channels import spread
from jaxticket.structure._groups import Group, Groups, Member
from jaxticket.structure._owners import owners
from jaxticket.typing import Mask, Params, PyTree, Scores
from jaxticket.units import Reduce, Unit

_SCALES = ("scale", "weight", "gamma")  # of norms, in flax, equinox and elsewhere
Normalise = Literal["none", "mean", "sum"]


@dataclasses.dataclass(frozen=True)
class Traced:
    """The channels of traced groups; see `unit`."""

    groups: Groups
    reduce: Reduce
    spans_leaves: ClassVar[bool] = True

    def pool(self, scores: Scores) -> Scores:
        return pool(scores, self.groups, reduce=self.reduce)

    def expand(self, mask: Mask, like: Scores) -> Mask:
        return spread(mask, self.groups, like)

    def pool_mask(self, mask: Mask) -> Mask:
        alive = _tree.map_present(lambda m: m.astype(jnp.float32), mask)
        return {name: kept > 0 for name, kept in pool(alive, self.groups, reduce=units.largest).items()}

    def cost(self, tree: PyTree) -> PyTree:
        ones = _tree.map_present(lambda x: jnp.ones(x.shape, jnp.float32), tree)
        return pool(ones, self.groups, reduce=units.total)


def unit(groups: Groups, *, reduce: Reduce = units.mean) -> Unit:
    """Choose, drop and regrow whole channels of traced groups, in `select`, `drop_and_grow` and every plan.

    A group counts as a leaf: `scopes.leaf()` keeps the same fraction of every group, `scopes.tree()` ranks all channels
    together. A density is a number. Pass `where=filters.everything()` to plans, so that biases and norms of a dropped
    channel are dropped too; leaves without channels stay dense.

    Args:
      groups: what `structure.trace` returned; groups that are inexact are chosen like the others.
      reduce: turns the scores of all entries of a channel into one.

    Returns:
      A unit.

    Examples:
      >>> import jax.numpy as jnp
      >>> import jaxticket as jt
      >>> params = {"a": jnp.array([[1.0, 5.0, 2.0]] * 2), "b": jnp.array([[1.0], [1.0], [3.0]])}
      >>> groups = jt.structure.trace(lambda p, x: x @ p["a"] @ p["b"], params, jnp.ones((4, 2)))
      >>> jt.select(params, 2 / 3, unit=jt.structure.unit(groups))["a"]
      Array([[False,  True,  True]], dtype=bool)
    """
    return Traced(groups, reduce)


def pool(scores: Scores, groups: Groups, *, reduce: Reduce = units.mean) -> dict[str, jax.Array]:
    """Return one score a channel of scores of weights, whatever they measure (SPA; Wang et al., 2024).

    Args:
      scores: scores of the traced variables, or of a part of them; None leaves count for nothing.
      groups: the groups of the variables.
      reduce: turns the scores of all entries of a channel into one: `units.mean`, `total`, `largest` or `l2`.

    Returns:
      name of a group -> scores of shape (width,), in float32 at least, for the groups with scored members. They are
      scores of their own: `select` and `drop_and_grow` turn them into masks of channels.

    Raises:
      InputError: a leaf that was not traced.
      NoMatchError: no group has a scored member.

    Examples:
      >>> import jax.numpy as jnp
      >>> from jaxticket import structure, units
      >>> params = {"a": jnp.array([[1.0, 5.0, 2.0]] * 2), "b": jnp.array([[1.0], [1.0], [3.0]])}
      >>> groups = structure.trace(lambda p, x: x @ p["a"] @ p["b"], params, jnp.ones((4, 2)))
      >>> structure.pool(params, groups, reduce=units.total)
      {'a:1': Array([ 3., 11.,  7.], dtype=float32)}
    """
    leaves = by_path("scores", scores, groups)

    def one_group(group: Group) -> jax.Array | None:
        parts = [_slices(leaves[m.path], m) for m in group.members if m.path in leaves]
        return reduce(jnp.concatenate(parts, axis=1), (1,), None)[:, 0] if parts else None

    pooled = {group.name: one_group(group) for group in groups}
    present = {name: s for name, s in pooled.items() if s is not None}
    if not present:
        raise NoMatchError(f"scores: none of {', '.join(leaves) or 'no leaves'} is a member of a group")
    return present


def group_magnitude(
    params: Params, groups: Groups, *, power: int = 2, reduce: Reduce = units.mean, normalise: Normalise = "mean"
) -> dict[str, jax.Array]:
    """Score channels by the magnitude of their group, as Torch-Pruning does by default.

    Each member gives the sum of |w|^power over the slice of a channel, without a root; members are averaged, and the
    scores of a group are divided by their mean. Members are the leaves that `filters.weights()` takes and the scales of
    norms; biases, embeddings and statistics are left out.

    Args:
      params: the traced variables, or a part of them.
      groups: the groups of the variables.
      power: p of |w|^p.
      reduce: over the members of a channel: `units.mean`, `total` or `largest`.
      normalise: divide by the "mean" or "sum" of the group, so that groups can be ranked together, or "none".

    Returns:
      name of a group -> scores of shape (width,).

    Raises:
      InputError: another `normalise`, a power below 1, or a leaf that was not traced.
      NoMatchError: no group has such a member.

    References:
      Fang et al. (2023), DepGraph: Towards Any Structural Pruning.

    Examples:
      >>> import jax.numpy as jnp
      >>> from jaxticket import structure
      >>> first, second = jnp.array([[1.0, 2, 0], [-1, 0, 0.5]]), jnp.array([[1.0, 0], [0, -3], [2, 1]])
      >>> params = {"a": {"kernel": first}, "b": {"kernel": second}}
      >>> apply = lambda p, x: x @ p["a"]["kernel"] @ p["b"]["kernel"]
      >>> groups = structure.trace(apply, params, jnp.ones((4, 2)))
      >>> structure.group_magnitude(params, groups, normalise="none")
      {'a/kernel:1': Array([1.5  , 6.5  , 2.625], dtype=float32)}
    """
    if normalise not in get_args(Normalise):
        raise InputError(f"normalise is {normalise!r}; choose one of {', '.join(get_args(Normalise))}")
    check_arrays("params", params)
    if power < 1:
        raise InputError(f"power is {power}; it must be at least 1")
    kernels = by_path("params", filters.only(params, filters.weights()), groups)
    scales = {p: x for p, x in by_path("params", params, groups).items() if x.ndim == 1 and p.split("/")[-1] in _SCALES}
    weights = kernels | scales
    out = {}
    for group in groups:
        parts = [
            jnp.sum(jnp.abs(_slices(weights[m.path], m)) ** power, axis=1) for m in group.members if m.path in weights
        ]
        if parts:
            score = reduce(jnp.stack(parts, axis=1), (1,), None)[:, 0]
            scale = {"none": jnp.ones(()), "mean": jnp.mean(score), "sum": jnp.sum(score)}[normalise]
            out[group.name] = score / jnp.where(scale == 0, 1, scale)
    if not out:
        raise NoMatchError("params: no member of a group is a weight")
    return out


def by_path(argument: str, tree: PyTree, groups: Groups) -> dict[str, jax.Array]:
    """Return the leaves of a tree that are not None, by the paths of the traced variables."""
    check_leaves(argument, tree)
    shapes = {leaf.path: leaf.shape for leaf in groups.leaves}
    pairs = zip(owners(argument, tree, shapes), _tree.leaves(tree), strict=True)
    return {path: jnp.asarray(x) for path, x in pairs if path is not None}


def _slices(x: jax.Array, member: Member) -> jax.Array:
    """Return the entries of every channel of a member: (width, entries). Axes of size 1 stand for all entries."""
    positions = np.array(member.positions)
    rows = jnp.moveaxis(wide(x), member.axis, 0)
    picked = rows[positions] if rows.shape[0] > 1 else jnp.broadcast_to(rows, (*positions.shape, *rows.shape[1:]))
    return picked.reshape(positions.shape[0], -1)
