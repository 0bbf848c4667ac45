"""Selection of exactly k units: from scores and a density to a mask."""

import functools
from collections.abc import Sequence
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
from jax import lax

from jaxticket import _tree, filters, scopes, units
from jaxticket._check_trees import check_alike, check_structure
from jaxticket._checks import check_fraction
from jaxticket.errors import InputError
from jaxticket.masks._apply import in_shapes_of
from jaxticket.scopes import Scope
from jaxticket.scopes._by_slice import separate
from jaxticket.selection import _counting, _keys, _passes
from jaxticket.selection._align import align
from jaxticket.selection._contest import Contest
from jaxticket.selection._counting import Count
from jaxticket.selection._group_counts import group_counts, per_unit, present
from jaxticket.selection._keys import KeyFn
from jaxticket.selection._threshold import keep_top
from jaxticket.typing import Density, Filter, Mask, Scores, Stacked
from jaxticket.units import Unit

Rounding = Literal["nearest", "up"]


def select(
    scores: Scores,
    density: Density,
    *,
    unit: Unit = units.element(),
    scope: Scope = scopes.leaf(),
    mask: Mask | None = None,
    where: Filter | None = None,
    stacked: Stacked | None = None,
) -> Mask:
    """Return the mask that keeps the units of the highest scores.

    Each scope of n units keeps round-half-even(density · n) of them, and at least one where density > 0. Of equal
    scores the lower flat index survives, leaves in tree order; NaN ranks lowest and −0 equals +0. It compiles under
    jit, vmap, pmap and any mesh; a new density or mask never recompiles; nothing is sorted or gathered.

    Args:
      scores: pytree of real arrays; None leaves stay None. Where scores have size 1 along an axis and the mask is
        full, the entries along it live or die together (scores of channels).
      density: the fraction to keep: a float, a traced scalar (its product with n is rounded in float32), or, unless
        all leaves compete, a pytree of them with None for leaves that are not sparsified.
      unit: weights that live or die together.
      scope: units that compete with each other.
      mask: if given, survivors are chosen among its True entries only (density still counts all units).
      where: the leaves that are sparsified, such as `filters.weights()`; by default all that are scored.
      stacked: {regex of a path: axes} of leaves that stack layers or experts along these axes. Unit and scope then lie
        within each layer, and the density of such a leaf may be an array of a density a layer, which broadcasts to it.

    Returns:
      A mask with the structure of `scores`; leaves are bool and broadcast to the scores.

    Raises:
      InputError: a density outside [0, 1] or missing, or a unit or scope that does not fit a leaf.
      StructureError: trees of different structure.
      NoMatchError: a filter that matches no scored leaf.

    Examples:
      >>> import jax.numpy as jnp
      >>> select({"w": jnp.array([3.0, -1.0, 2.0, 0.5])}, 0.5)
      {'w': Array([ True, False,  True, False], dtype=bool)}
    """
    unit, scope = separate(stacked, unit, scope)
    scores = scores if where is None else filters.only(scores, where)
    scores, density, mask = align(scores, density, mask, scope)
    if not jax.tree.leaves(scores):
        return scores
    shapes = _pooled_shapes(unit, scores)
    wanted = group_counts(density if scope.joint else per_unit(density, shapes), shapes, scope, floor=1)
    return _top(scores, wanted, mask, unit=unit, scope=scope)


def drop_and_grow(
    mask: Mask,
    *,
    drop: Scores,
    grow: Scores,
    density: Density | None = None,
    drop_fraction: float | jax.Array,
    rounding: Rounding = "nearest",
    unit: Unit = units.element(),
    scope: Scope = scopes.leaf(),
    stacked: Stacked | None = None,
) -> Mask:
    """Return the next mask of dynamic sparse training: the best of the mask, filled up from everything not kept.

    Of n units, round(density · (1 − drop_fraction) · n) are kept by `drop` (higher = more worth keeping). The rest of
    round(density · n) is grown by `grow` among all others, so that a unit that was just dropped may return at once. The
    number of units kept is round(density · n) exactly (Evci et al., 2020).

    Args:
      mask: the current mask.
      drop: scores with the structure of the mask, by which units are kept.
      grow: scores with the structure of the mask, by which units are grown.
      density: the fraction to keep, as in `select`; None for that of the mask, unit for unit.
      drop_fraction: a fraction in [0, 1], may be traced.
      rounding: how the number of dropped units is rounded: to the "nearest", or "up", to at least one.
      unit: weights that live or die together.
      scope: units that compete with each other.
      stacked: leaves that stack layers or experts, as in `select`.

    Returns:
      A mask with the structure of `mask`.

    Raises:
      InputError: a density or drop_fraction outside [0, 1], or another rounding.
      StructureError: trees of different structure.

    Examples:
      >>> import jax.numpy as jnp
      >>> drop_and_grow(
      ...     jnp.array([True, True, False, False]),
      ...     drop=jnp.array([5.0, 1.0, 0.0, 0.0]), grow=jnp.array([9.0, 0.0, 0.1, 0.9]),
      ...     density=0.5, drop_fraction=0.5,
      ... )
      Array([ True, False, False,  True], dtype=bool)
    """
    unit, scope = separate(stacked, unit, scope)
    check_fraction("drop_fraction", drop_fraction)
    if rounding not in get_args(Rounding):
        raise InputError(f"rounding={rounding!r} must be one of {', '.join(get_args(Rounding))}.")
    drop = check_structure("drop", drop, "mask", mask)
    drop, densities, mask = align(drop, 1.0 if density is None else density, mask, scope)
    if not jax.tree.leaves(drop):
        return mask
    grow = check_structure("grow", grow, "mask", mask)
    grow = _tree.tree_map(lambda g, d: None if d is None else g, grow, drop)
    grow = check_alike("grow", grow, "drop", drop)
    total = keep = None
    if density is not None:
        shapes = _pooled_shapes(unit, drop)
        densities = densities if scope.joint else per_unit(densities, shapes)
        total = group_counts(densities, shapes, scope, floor=1)
        kept_densities = _tree.map_present(lambda d: d * (1 - drop_fraction), densities)
        keep = group_counts(kept_densities, shapes, scope, floor=0) if rounding == "nearest" else None
    return _drop_and_grow(drop, grow, keep, total, drop_fraction, mask, rounding=rounding, unit=unit, scope=scope)


@functools.partial(jax.jit, static_argnames=("rounding", "unit", "scope"))
def _drop_and_grow(
    drop: Scores,
    grow: Scores,
    keep: list[Count] | None,
    total: list[Count] | None,
    drop_fraction: float | jax.Array,
    mask: Mask,
    *,
    rounding: Rounding,
    unit: Unit,
    scope: Scope,
) -> Mask:
    living = count_living(mask, drop, unit, scope)
    total = living if total is None else total
    if keep is None:
        keep = keep_after(total, drop_fraction, rounding)
    keep = [functools.reduce(_counting.minimum, counts) for counts in zip(keep, total, living, strict=True)]
    return drop_and_grow_counts(mask, drop, grow, keep=keep, total=total, unit=unit, scope=scope)


def count_living(mask: Mask, like: Scores, unit: Unit, scope: Scope) -> list[Count]:
    """Count the living units of each group, as `drop_and_grow_counts` takes them."""
    units_alive = living_units(mask, like, unit)
    alive = present(units_alive)
    contest = _contest(alive, present(scope.bind(units_alive)), _keys.as_given)
    return contest.gather([[_passes.count_true(leaf)] for leaf in contest.leaves()])[0]


def keep_after(living: Sequence[Count], drop_fraction: float | jax.Array, rounding: Rounding) -> list[Count]:
    """Return how many units of each group remain when a fraction is dropped."""
    if rounding == "up":
        return [_counting.scale_down(n, drop_fraction) for n in living]
    return [_counting.scale(n, 1 - drop_fraction) for n in living]


def living_units(mask: Mask, like: Scores, unit: Unit) -> Mask:
    """Mark the units of the scores `like` that hold at least one weight that is alive."""
    return unit.pool_mask(in_shapes_of(mask, like))


def drop_and_grow_counts(
    mask: Mask, drop: Scores, grow: Scores, *, keep: Sequence[Count], total: Sequence[Count], unit: Unit, scope: Scope
) -> Mask:
    """Drop and grow, given the units that each group keeps (at most its living ones) and has afterwards."""
    alive_units = living_units(mask, drop, unit)
    alive = present(alive_units)
    to_drop, to_grow = present(unit.pool(drop)), present(unit.pool(grow))
    leaf_scopes = present(scope.bind(alive_units))
    wide = _keys.is_wide([*to_drop, *to_grow])
    orders = [_keys.of(s, wide=wide) for s in (to_drop, to_grow)]

    # Both selections are one loop body, which is compiled once.
    def choose(phase: jax.Array, carry: Any) -> Any:
        kept, wanted = carry
        first = phase == 0
        # In phase 0 `kept` are the living units, later those that were kept of them.
        candidates = [lax.select(first, k, lax.bitwise_not(k)) for k in kept]
        ranked = [
            _rank_in_phase(phase, d, g, c, drop_key=orders[0], grow_key=orders[1])
            for d, g, c in zip(to_drop, to_grow, candidates, strict=True)
        ]
        top = _keep(ranked, wanted, candidates, leaf_scopes, key=_keys.as_given)
        kept = [lax.select(first, new, lax.bitwise_or(k, new)) for k, new in zip(kept, top, strict=True)]
        return kept, [_counting.subtract(t, w) for t, w in zip(total, wanted, strict=True)]

    kept, _ = lax.fori_loop(0, 2, choose, (alive, list(keep)))
    return unit.expand(_restore(kept, alive_units), drop)


@functools.partial(jax.jit, static_argnames=("drop_key", "grow_key"))
def _rank_in_phase(
    phase: jax.Array, drop: jax.Array, grow: jax.Array, candidates: jax.Array, *, drop_key: KeyFn, grow_key: KeyFn
) -> jax.Array:
    """Return the keys by which the candidates of a leaf are dropped (phase 0) or grown, 0 for other entries."""
    keys = lax.select(phase == 0, drop_key(drop, None), grow_key(grow, None))
    return lax.select(candidates, keys, lax.full_like(keys, 0))


@functools.partial(jax.jit, static_argnames=("unit", "scope"))
def _top(scores: Scores, wanted: Any, mask: Mask | None, *, unit: Unit, scope: Scope) -> Mask:
    pooled = unit.pool(scores)
    alive = None if mask is None else present(unit.pool_mask(in_shapes_of(mask, scores)))
    ranked = present(pooled)
    leaf_scopes = present(scope.bind(pooled))
    kept = _restore(_keep(ranked, wanted, alive, leaf_scopes, key=_keys.of(ranked)), pooled)
    chosen = unit.expand(kept, scores)
    return chosen if mask is None else _tree.map_present(lax.bitwise_and, chosen, mask)


def _keep(
    scores: list[jax.Array],
    wanted: list[Count],
    alive: list[jax.Array] | None,
    leaf_scopes: list[Scope],
    *,
    key: KeyFn,
) -> list[jax.Array]:
    """Return masks of the units with the highest keys: the `wanted` number, or all alive ones if they are fewer."""
    shapes = [s.shape for s in scores]
    contest = _contest(scores, leaf_scopes, key)
    if alive is None and any(viewed.size != s.size for viewed, s in zip(contest.scores, scores, strict=True)):
        alive = [jnp.ones(shape, bool) for shape in shapes]  # all but the padding of the view
    if alive is not None:
        contest = contest._replace(alive=[scope.view(a) for scope, a in zip(leaf_scopes, alive, strict=True)])
    return [scope.unview(m, s) for scope, m, s in zip(leaf_scopes, keep_top(contest, wanted), shapes, strict=True)]


def _restore(leaves: list[jax.Array], like: Any) -> Any:
    remaining = iter(leaves)
    return _tree.map_present(lambda _: next(remaining), like)


def _contest(arrays: list[jax.Array], leaf_scopes: list[Scope], key: KeyFn) -> Contest:
    # The choice of units cannot be differentiated, though the scores may be.
    views = [lax.stop_gradient(scope.view(a)) for scope, a in zip(leaf_scopes, arrays, strict=True)]
    axes = [scope.axes(a.shape) for scope, a in zip(leaf_scopes, arrays, strict=True)]
    return Contest(views, axes, any(scope.joint for scope in leaf_scopes), key)


def _pooled_shapes(unit: Unit, scores: Scores) -> Any:
    return jax.eval_shape(unit.pool, scores)
