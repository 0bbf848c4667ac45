"""Mask transforms by which a mask evolves: prune, regrow and redistribute."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax

from jaxticket import _tree, filters, scopes, units
from jaxticket._check_trees import check_fits
from jaxticket._checks import check_fraction, check_minimum
from jaxticket.errors import InputError
from jaxticket.schedules import DensitySchedule, constant
from jaxticket.scopes import Scope
from jaxticket.selection import _redistribution, drop_and_grow
from jaxticket.selection._select import Rounding
from jaxticket.selection._signs import exchange_by_sign
from jaxticket.transforms._base import MaskTransform, from_exchange
from jaxticket.transforms._start import Allocate, best, full_mask
from jaxticket.typing import Density, Filter, Key, Mask, Params, PyTree, Schedule, ScoreFn, Scores
from jaxticket.units import Unit

_DROP = 0x64726F70  # "drop": far from the small numbers that scores fold into their key


def prune(
    score: ScoreFn,
    density: float | Schedule,
    *,
    unit: Unit = units.element(),
    scope: Scope = scopes.leaf(),
    allocate: Allocate | None = None,
    minimum: int = 0,
    where: Filter = filters.weights(),
) -> MaskTransform:
    """Keep, at each refresh, the best-scored survivors at the density that is due; pruned units stay pruned.

    Args:
      score: the importance of a weight, from the parameters and raw gradients of the step.
      density: the fraction kept, or a schedule of it (`schedules.cubic`, …).
      unit: weights that live or die together.
      scope: units that compete with each other.
      allocate: a function that shares the final density among leaves. Each leaf then follows the schedule to its own.
      minimum: units that each leaf keeps in any case (Global MP; Gupta et al., 2022); with `scopes.tree()`.
      where: the leaves that are sparsified, if no mask was given.

    Returns:
      The mask transform.

    Raises:
      InputError: an allocation with a schedule that is not a DensitySchedule or with `scopes.tree()`, or a minimum with
        another scope.

    Examples:
      >>> import jax.numpy as jnp
      >>> from jaxticket import scores
      >>> t = prune(scores.magnitude, 0.5)
      >>> params = {"w": jnp.array([[1.0, 3.0]])}
      >>> mask, state = t.init(params, None, key=None)
      >>> t.update(mask, state, params=params, grads=None, count=0, key=None, aux=None)[0]
      {'w': Array([[False,  True]], dtype=bool)}
    """
    schedule: Schedule = density if callable(density) else constant(density)
    if allocate is not None and not isinstance(schedule, DensitySchedule):
        raise InputError(
            f"density={density!r} with allocate= must be a number or a schedule made by jaxticket.schedules, whose "
            "final density can be shared among leaves."
        )
    check_minimum(minimum, scope, unit)

    def densities(params: Params, mask: Mask, count: jax.Array) -> Density:
        if allocate is None or not isinstance(schedule, DensitySchedule):
            return schedule(count)
        final = allocate(params, schedule.final, where=lambda _: _tree.tree_map(lambda m: m is not None, mask))
        return dataclasses.replace(schedule, final=final)(count)

    return prune_to(score, densities, unit=unit, scope=scope, minimum=minimum, where=where)


def prune_to(
    score: ScoreFn,
    densities: Callable[[Params, Mask, jax.Array], Density],
    *,
    unit: Unit,
    scope: Scope,
    minimum: int = 0,
    where: Filter,
) -> MaskTransform:
    """Keep, at each refresh, the best-scored survivors at the densities that are due: (params, mask, count) -> them."""

    def init(params: Params, mask: Mask | None, *, key: Key | None) -> tuple[Mask, PyTree]:
        del key
        return full_mask(params, where, unit) if mask is None else mask, ()

    def update(mask: Mask, state: PyTree, *, params: Params, count: jax.Array, **signals: Any) -> tuple[Mask, PyTree]:
        mask = check_fits(params, mask)
        due = densities(params, mask, count)
        return best(score, params, due, unit=unit, scope=scope, mask=mask, minimum=minimum, **signals), state

    return MaskTransform(init, update, narrows=True, unit=unit)


def grow_to(
    score: ScoreFn, densities: Callable[[Params, Mask, jax.Array], Density], *, unit: Unit, scope: Scope
) -> MaskTransform:
    """Fill the mask up, at each refresh, with the best-scored dead units, to the densities that are due."""

    def update(mask: Mask, state: PyTree, *, params: Params, count: jax.Array, **signals: Any) -> tuple[Mask, PyTree]:
        mask = check_fits(params, mask)
        scored = _tree.tree_map(lambda s, m: None if m is None else s, score(params, mask=mask, **signals), mask)
        due = densities(params, mask, count)
        return drop_and_grow(
            mask, drop=scored, grow=scored, density=due, drop_fraction=0.0, unit=unit, scope=scope
        ), state

    return MaskTransform(functools.partial(_require_mask, "grow_to"), update, unit=unit)


def regrow(
    drop: ScoreFn,
    grow: ScoreFn,
    drop_fraction: float | Schedule,
    *,
    rounding: Rounding = "nearest",
    unit: Unit = units.element(),
    scope: Scope = scopes.leaf(),
) -> MaskTransform:
    """Drop, at each refresh, a fraction of the mask and grow as many units elsewhere (Mocanu 2018; Evci 2020).

    Args:
      drop: the score of the units in the mask, of which the lowest are dropped.
      grow: the score of all other units, of which the highest grow.
      drop_fraction: the part of the mask that is dropped, or a schedule of it (`schedules.cosine`, …).
      rounding: how the number of dropped units is rounded: to the "nearest", or "up", to at least one (ITOP, GraNet).
      unit: weights that live or die together.
      scope: units that compete with each other.

    Returns:
      The mask transform.

    Raises:
      InputError: no mask to start from. Chain it behind `start`, or give `sparsify` a mask.

    Examples:
      >>> from jaxticket import scores
      >>> regrow(scores.magnitude, scores.gradient, 0.3).observe is None
      True
    """

    def evolve(mask: Mask, scores: tuple[Scores, Scores], fraction: float | jax.Array) -> Mask:
        drop, grow = scores
        return drop_and_grow(
            mask, drop=drop, grow=grow, drop_fraction=fraction, rounding=rounding, unit=unit, scope=scope
        )

    return _drop_then_grow("regrow", drop, grow, drop_fraction, evolve, unit=unit)


def regrow_by_sign(grow: ScoreFn, drop_fraction: float | Schedule, *, scope: Scope) -> MaskTransform:
    """Drop, at each refresh, a fraction of the positive and of the negative weights, and grow as many elsewhere.

    All that is dropped is zeroed, also where it grows again (the code of Mocanu et al., 2018).
    """
    if not callable(drop_fraction):
        check_fraction("drop_fraction", drop_fraction)

    def exchange(
        mask: Mask, state: PyTree, *, params: Params, count: jax.Array, **signals: Any
    ) -> tuple[Mask, Mask, PyTree]:
        mask = check_fits(params, mask)
        scored = _tree.tree_map(lambda s, m: None if m is None else s, grow(params, mask=mask, **signals), mask)
        fraction = drop_fraction(count) if callable(drop_fraction) else drop_fraction
        new, kept = exchange_by_sign(mask, params, scored, fraction, scope=scope)
        return new, kept, state

    return from_exchange(functools.partial(_require_mask, "regrow_by_sign"), exchange, None)


def redistribute(
    drop: ScoreFn, grow: ScoreFn, drop_fraction: float | Schedule, *, unit: Unit = units.element()
) -> MaskTransform:
    """Drop, at each refresh, a fraction of each leaf and grow as many units where the growth score is high (SNFS).

    The number of dropped units, over all leaves, is shared in proportion to the mean growth score of each leaf's living
    units. Within a leaf units grow by that score. A leaf that is less than a fifth dead, and whose share is above
    average, drops at most the fraction of it that is dead. Units that a full leaf cannot take go to the others evenly;
    a leaf is full when 1 % of the places it could grow in are left. The total is exact, also where the authors' code,
    which never uses that 1 %, would lose some (Dettmers & Zettlemoyer, 2019).

    Args:
      drop: the score of the units in the mask, of which the lowest are dropped.
      grow: the score by which the leaves share the dropped units, and by which units grow.
      drop_fraction: the part of each leaf that is dropped, or a schedule of it.
      unit: weights that live or die together; each layer of `units.by_slice(unit, stacked)` counts as a leaf.

    Returns:
      The mask transform.

    Raises:
      InputError: no mask to start from, or 2^31 units or more.

    Examples:
      >>> import jax.numpy as jnp
      >>> from jaxticket import scores
      >>> t = redistribute(scores.magnitude, scores.gradient, 0.5)
      >>> mask = {"a": jnp.arange(4) < 2, "b": jnp.arange(4) < 2}
      >>> params, grads = {"a": jnp.arange(4.0), "b": jnp.arange(4.0)}, {"a": jnp.ones(4), "b": jnp.full(4, 9.0)}
      >>> new, _ = t.update(mask, (), params=params, grads=grads, count=0, key=None, aux=None)
      >>> [int(new[name].sum()) for name in ("a", "b")]
      [1, 3]
    """

    def evolve(mask: Mask, scores: tuple[Scores, Scores], fraction: float | jax.Array) -> Mask:
        return _redistribution.redistribute(mask, drop=scores[0], grow=scores[1], drop_fraction=fraction, unit=unit)

    return _drop_then_grow("redistribute", drop, grow, drop_fraction, evolve, unit=unit)


def _drop_then_grow(
    name: str,
    drop: ScoreFn,
    grow: ScoreFn,
    drop_fraction: float | Schedule,
    evolve: Callable[[Mask, tuple[Scores, Scores], float | jax.Array], Mask],
    *,
    unit: Unit,
) -> MaskTransform:
    if not callable(drop_fraction):
        check_fraction("drop_fraction", drop_fraction)

    def update(
        mask: Mask, state: PyTree, *, params: Params, count: jax.Array, key: Key | None, **signals: Any
    ) -> tuple[Mask, PyTree]:
        mask = check_fits(params, mask)
        # Almost always one of the two draws no random numbers, so that one key is enough.
        drop_key = None if key is None else jax.random.fold_in(key, _DROP)
        scored = (
            drop(params, mask=mask, key=drop_key, **signals),
            grow(params, mask=mask, key=key, **signals),
        )
        scored = tuple(_tree.tree_map(lambda s, m: None if m is None else s, s, mask) for s in scored)
        return evolve(mask, scored, drop_fraction(count) if callable(drop_fraction) else drop_fraction), state

    return MaskTransform(functools.partial(_require_mask, name), update, unit=unit)


def _require_mask(name: str, params: Params, mask: Mask | None, *, key: Key | None) -> tuple[Mask, PyTree]:
    del params, key
    if mask is None:
        raise InputError(f"{name} needs a mask: chain(start(...), {name}(...)), or sparsify(..., mask=mask).")
    return mask, ()
