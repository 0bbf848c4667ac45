"""Mask transforms: pairs of pure functions by which a mask starts and evolves; they chain as optax's do."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import optax

from jaxticket.errors import InputError
from jaxticket.typing import Key, Mask, Params, Period, PyTree


class MaskTransform(NamedTuple):
    """The functions by which a mask starts, evolves and, where a method accumulates, watches gradients.

    Attributes:
      init: (params, mask, *, key) -> (mask, state). The mask is None where no mask was given or started yet.
      update: (mask, state, *, params, grads, count, key, aux) -> (mask, state), called at a refresh. `grads` are the
        raw gradients of that step, `count` the steps before it, `aux` the inner optimizer's state.
      observe: (state, *, params, grads) -> state, called at every step, or None.
    """

    init: Callable[..., tuple[Mask | None, PyTree]]
    update: Callable[..., tuple[Mask, PyTree]]
    observe: Callable[..., PyTree] | None = None


class Plan(NamedTuple):
    """A mask transform and the steps at which it acts: all that `sparsify` needs.

    Attributes:
      refresh: the mask transform.
      when: step count -> whether a refresh is due. None keeps the mask that `refresh.init` makes.
      newborn: the optimizer's memory of weights that a refresh brings (back). "zero_moments" gives them the state that
        a zero parameter starts with; "keep" is for plans that never grow; "reset_all" restarts the moments of all
        weights at each refresh that brings any.
      after: the transform that follows the inner optimizer in its chain, inside the mask (ISS-P's shrinkage), or None.
    """

    refresh: MaskTransform
    when: Period | None
    newborn: Literal["zero_moments", "keep", "reset_all"] = "zero_moments"
    after: optax.GradientTransformation | None = None


def chain(*transforms: MaskTransform) -> MaskTransform:
    """Apply mask transforms one after the other, as `optax.chain` does with gradient transforms.

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

    def update(mask: Mask, states: PyTree, *, key: Key | None, **signals: Any) -> tuple[Mask, PyTree]:
        updated = []
        for i, (transform, state) in enumerate(zip(transforms, states, strict=True)):
            mask, state = transform.update(mask, state, key=_fold(key, i), **signals)
            updated.append(state)
        return mask, tuple(updated)

    def observe(states: PyTree, **signals: Any) -> PyTree:
        return tuple(
            state if t.observe is None else t.observe(state, **signals)
            for t, state in zip(transforms, states, strict=True)
        )

    return MaskTransform(init, update, observe if any(t.observe for t in transforms) else None)


def _fold(key: Key | None, index: int) -> Key | None:
    return None if key is None else jax.random.fold_in(key, index)
