"""Mask transforms: pairs of pure functions by which a mask starts and evolves; they chain as optax's do."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import optax

from jaxticket import masks
from jaxticket.errors import InputError
from jaxticket.typing import Key, Mask, Params, Period, PyTree
from jaxticket.units import Unit


class MaskTransform(NamedTuple):
    """The functions by which a mask starts, evolves and, where a method accumulates, watches gradients.

    Attributes:
      init: (params, mask, *, key) -> (mask, state). The mask is None where no mask was given or started yet.
      update: (mask, state, *, params, grads, count, key, aux) -> (mask, state), called at a refresh. `grads` are the
        raw gradients of that step, `count` the steps before it, `aux` the inner optimizer's state.
      observe: (state, *, params, grads) -> state, called at every step, or None.
      exchange: (mask, state, **signals) -> (mask, kept, state), as `update`, with the weights that keep their value and
        their moments. All others of the new mask are newborn, also where the old mask had them. None where the weights
        of both masks keep theirs.
      narrows: whether each new mask lies within the old one, so that nothing is ever newborn. It saves time.
      unit: the unit whose masks it makes, or None. If the unit spans leaves, as traced groups do, states hold the masks
        of a plan as masks of units, which are smaller.
    """

    init: Callable[..., tuple[Mask | None, PyTree]]
    update: Callable[..., tuple[Mask, PyTree]]
    observe: Callable[..., PyTree] | None = None
    exchange: Callable[..., tuple[Mask, Mask, PyTree]] | None = None
    narrows: bool = False
    unit: Unit | None = None


class Plan(NamedTuple):
    """A mask transform and the steps at which it acts: all that `sparsify` needs.

    Attributes:
      refresh: the mask transform.
      when: step count -> whether a refresh is due. None keeps the mask that `refresh.init` makes.
      newborn: the optimizer's memory of weights that a refresh brings (back). "zero_moments" gives them the state that
        a zero parameter starts with. "keep" leaves it as it is. "reset_all" restarts the moments of all weights, and
        the step counts of bias corrections, at each refresh that brings any weight; these then take part in its step.
      grow_init: (params, *, grads, key) -> the values at which newborn weights start, shaped like the parameters,
        or None for zeros.
      after: the transform that follows the inner optimizer in its chain, inside the mask (ISS-P's shrinkage), or None.
    """

    refresh: MaskTransform
    when: Period | None
    newborn: Literal["zero_moments", "keep", "reset_all"] = "zero_moments"
    after: optax.GradientTransformation | None = None
    grow_init: Callable[..., Params] | None = None


def chain(*transforms: MaskTransform) -> MaskTransform:
    """Apply mask transforms one after the other, as `optax.chain` does with gradient transforms.

    What one of them drops is dead for the next. If that grows it in the same refresh, it is newborn: its value is 0 and
    its moments restart (GraNet). What a single transform drops and grows keeps both, unless that transform says
    otherwise (RigL).

    Args:
      *transforms: the mask transforms, in order. Each gets a key of its own.

    Returns:
      The mask transform that applies them all.

    Raises:
      InputError: no transforms.

    Examples:
      >>> from jaxticket import scores, transforms
      >>> dense_to_sparse = transforms.chain(
      ...     transforms.prune(scores.magnitude, 0.1), transforms.regrow(scores.magnitude, scores.gradient, 0.3)
      ... )
    """
    if not transforms:
        raise InputError("chain() needs at least one mask transform.")

    def init(params: Params, mask: Mask | None, *, key: Key | None) -> tuple[Mask | None, PyTree]:
        states = []
        for i, transform in enumerate(transforms):
            mask, state = transform.init(params, mask, key=_fold(key, i))
            states.append(state)
        return mask, tuple(states)

    def exchange(mask: Mask, states: PyTree, *, key: Key | None, **signals: Any) -> tuple[Mask, Mask, PyTree]:
        kept, updated = mask, []
        for i, (transform, state) in enumerate(zip(transforms, states, strict=True)):
            mask, stayed, state = refresh(transform, mask, state, key=_fold(key, i), **signals)
            kept = masks.intersection(kept, stayed)
            updated.append(state)
        return mask, kept, tuple(updated)

    def observe(states: PyTree, **signals: Any) -> PyTree:
        return tuple(
            state if t.observe is None else t.observe(state, **signals)
            for t, state in zip(transforms, states, strict=True)
        )

    watches = observe if any(t.observe for t in transforms) else None
    unit = transforms[0].unit if len({t.unit for t in transforms}) == 1 else None
    return from_exchange(init, exchange, watches, narrows=all(t.narrows for t in transforms), unit=unit)


def from_exchange(
    init: Callable[..., Any],
    exchange: Callable[..., Any],
    observe: Callable[..., Any] | None,
    *,
    narrows: bool = False,
    unit: Unit | None = None,
) -> MaskTransform:
    """Return the mask transform whose `update` follows from `exchange`."""

    def update(mask: Mask, state: PyTree, **signals: Any) -> tuple[Mask, PyTree]:
        mask, _, state = exchange(mask, state, **signals)
        return mask, state

    return MaskTransform(init, update, observe, exchange, narrows, unit)


def refresh(transform: MaskTransform, mask: Mask, state: PyTree, **signals: Any) -> tuple[Mask, Mask, PyTree]:
    """Return the next mask, the weights that keep their value and moments, and the next state."""
    if transform.exchange is not None:
        return transform.exchange(mask, state, **signals)
    new, state = transform.update(mask, state, **signals)
    return new, mask if new is mask else masks.intersection(mask, new), state


def keep_mask(mask: Mask, state: PyTree, **signals: Any) -> tuple[Mask, PyTree]:
    """Keep the mask: the `update` of transforms that only make the first one."""
    del signals
    return mask, state


def _fold(key: Key | None, index: int) -> Key | None:
    return None if key is None else jax.random.fold_in(key, index)
