"""The mask transforms by which a mask evolves: prune it, regrow it."""

import dataclasses

import jax

from jaxticket import _tree, filters, scopes, units
from jaxticket.errors import InputError
from jaxticket.schedules import DensitySchedule, constant
from jaxticket.scopes import Scope
from jaxticket.selection import drop_and_grow
from jaxticket.transforms.base import MaskTransform
from jaxticket.transforms.start import Allocate, best, full_mask
from jaxticket.typing import Filter, Key, Mask, Params, PyTree, Schedule, ScoreFn
from jaxticket.units import Unit

_DROP = 0x64726F70  # "drop": far from the small numbers that scores fold into their key


def prune(
    score: ScoreFn,
    density: float | Schedule,
    *,
    unit: Unit = units.element(),
    scope: Scope = scopes.leaf(),
    allocate: Allocate | None = None,
    where: Filter = filters.weights(),
) -> MaskTransform:
    """At each refresh keeps the best-scored survivors, at the density that is due; pruned units stay pruned.

    Args:
      score: what is worth keeping, from the parameters and raw gradients of the step.
      density: fraction kept, or a schedule of it (`schedules.cubic`, …).
      allocate: how the final density is shared among leaves; each leaf then follows the schedule to its own.
      where: which leaves are sparsified, if no mask was given.

    Raises InputError for an allocation of a schedule that is not a DensitySchedule, or over `scopes.tree()`.

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

    def init(params: Params, mask: Mask | None, *, key: Key | None) -> tuple[Mask, PyTree]:
        del key
        return full_mask(params, where, unit) if mask is None else mask, ()

    def update(
        mask: Mask, state: PyTree, *, params: Params, grads: Params, count: jax.Array, key: Key | None, aux: PyTree
    ) -> tuple[Mask, PyTree]:
        shared = schedule
        if allocate is not None and isinstance(schedule, DensitySchedule):
            final = allocate(params, schedule.final, where=lambda _: _tree.tree_map(lambda m: m is not None, mask))
            shared = dataclasses.replace(schedule, final=final)
        selected = best(score, params, shared(count), unit=unit, scope=scope, mask=mask, grads=grads, key=key, aux=aux)
        return selected, state

    return MaskTransform(init, update)


def regrow(
    drop: ScoreFn,
    grow: ScoreFn,
    drop_fraction: float | Schedule,
    *,
    unit: Unit = units.element(),
    scope: Scope = scopes.leaf(),
) -> MaskTransform:
    """At each refresh drops a fraction of the mask and grows as many units elsewhere (Mocanu 2018; Evci 2020).

    Args:
      drop: score of the units that are kept (the lowest are dropped); grow: score of all others (the highest grow).
      drop_fraction: the part of the mask that is dropped, or a schedule of it (`schedules.cosine`, …).

    Raises InputError if there is no mask to start from: chain it behind `start`, or give `sparsify` a mask.

    >>> from jaxticket import scores
    >>> regrow(scores.magnitude, scores.gradient, 0.3).observe is None
    True
    """

    def init(params: Params, mask: Mask | None, *, key: Key | None) -> tuple[Mask, PyTree]:
        del params, key
        if mask is None:
            raise InputError("regrow needs a mask: chain(start(...), regrow(...)), or sparsify(..., mask=mask).")
        return mask, ()

    def update(
        mask: Mask, state: PyTree, *, params: Params, grads: Params, count: jax.Array, key: Key | None, aux: PyTree
    ) -> tuple[Mask, PyTree]:
        # Almost always one of both draws nothing, so that one key is enough for it.
        drop_key = None if key is None else jax.random.fold_in(key, _DROP)
        fraction = drop_fraction(count) if callable(drop_fraction) else drop_fraction
        new = drop_and_grow(
            mask,
            drop=drop(params, grads=grads, mask=mask, key=drop_key, aux=aux),
            grow=grow(params, grads=grads, mask=mask, key=key, aux=aux),
            drop_fraction=fraction,
            unit=unit,
            scope=scope,
        )
        return new, state

    return MaskTransform(init, update)
