"""Early-Bird tickets: training stops being dense when its pruning mask stops changing (You et al., 2020).

A mask is drawn at the start of each epoch, from the scales of batch norms (`scores.slimming`) or in any other way. It
is compared with those of the epochs before. Once it has settled, dense training can end, and the pruned network is
trained further. The masks of the authors' code keep a channel less than their density says.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxticket import _tree
from jaxticket._batching import any_replicate
from jaxticket._check_trees import check_mask, check_structure
from jaxticket._checks import check_count, check_fraction
from jaxticket.errors import InputError
from jaxticket.masks import apply_mask
from jaxticket.transforms._constraints import require_params
from jaxticket.typing import Mask, Params, Period, PyTree

__all__ = ["EarlyBird", "WormState", "alive", "bird_of", "init", "update", "worm"]


class EarlyBird(NamedTuple):
    """The last masks: a queue, first in, first out."""

    masks: Mask  # each leaf has a leading axis in front, the newest mask last
    count: jax.Array  # type: ignore[assignment]  # int32: masks seen so far


class WormState(NamedTuple):
    """The state of `worm`."""

    count: jax.Array  # type: ignore[assignment]  # int32: updates so far
    bird: EarlyBird


def init(mask: Mask, *, length: int = 5) -> EarlyBird:
    """Return an empty queue for `length` masks of this structure and these shapes.

    Args:
      mask: a mask of arrays or jax.ShapeDtypeStruct.
      length: the masks that the queue holds.

    Returns:
      The queue.

    Raises:
      InputError: a length below 2, or a mask without a leaf.
    """
    check_count(0, length=length)
    check_mask("mask", mask)
    if length < 2:
        raise InputError(f"length={length} must be at least 2: masks are compared with each other")
    if not jax.tree.leaves(mask):
        raise InputError("mask sparsifies no leaf, so it cannot change")
    masks = _tree.map_present(lambda m: jnp.zeros((length, *m.shape), bool), mask)
    return EarlyBird(masks, jnp.zeros((), jnp.int32))


def update(state: EarlyBird, mask: Mask, *, tolerance: float = 0.1) -> tuple[EarlyBird, jax.Array, jax.Array]:
    """Put a mask into the queue, and return whether it holds an Early-Bird ticket.

    It is pure, for jit, vmap and scan. Call it once an epoch, at its start, as the authors do. The queue of five is
    full, and may hold a ticket, at the fifth call at the earliest.

    Args:
      state: the queue.
      mask: as given to `init`, of units (channels) or of weights.
      tolerance: the largest distance allowed from the newest mask to any other of the queue.

    Returns:
      The new state; (length − 1,) float32, the parts of the mask's entries in which the older masks differ from this
      one, the oldest first, 1 for places that are still empty; and a bool scalar: whether the queue is full, and no
      distance above the tolerance.

    Raises:
      StructureError: a mask of another structure.
      InputError: a mask of other shapes, or a tolerance outside [0, 1].

    Examples:
      >>> mask = jnp.array([True, False])
      >>> state = init(mask)
      >>> for _ in range(5):
      ...     state, distances, settled = update(state, mask)
      >>> distances.tolist(), bool(settled)
      ([0.0, 0.0, 0.0, 0.0], True)
    """
    check_fraction("tolerance", tolerance)
    state = _push(state, mask)
    distances = _distances(state)
    full = state.count >= len(distances) + 1
    return state, distances, full & jnp.all(distances <= tolerance)


def alive(state: EarlyBird) -> Mask:
    """Return the mask of what any mask of the queue keeps; everything, as long as the queue is not full.

    WORM takes its complement for settled: pruned in all stored masks.

    Examples:
      >>> state = init(jnp.ones(3, bool), length=2)
      >>> for mask in ([True, False, False], [False, True, False]):
      ...     state, _, _ = update(state, jnp.array(mask))
      >>> alive(state).tolist()
      [True, True, False]
    """
    filling = state.count < _length(state)
    return _tree.map_present(lambda m: jnp.any(m, 0) | filling, state.masks)


def worm(draw: Callable[[Params], Mask], *, when: Period, length: int = 5) -> optax.GradientTransformation:
    """Cut the updates of weights that all of the last masks prune, so that an Early-Bird ticket settles sooner.

    This is WORM (Vasudev, 2024, arXiv:2406.11872), as read from its abstract. `draw` decides which parameters are cut,
    and a weight that a newer mask keeps again trains again. First in a chain it truncates gradients, as published, and
    penalties still act. Last, it holds the parameters still: scales that shrink elsewhere then let held weights back
    into the mask.

    Args:
      draw: params -> the mask of this moment, traceable: for scales, shifts and filters of the same channels alike.
        None leaves are left alone.
      when: the updates at which it is drawn, such as schedules.every(steps_per_epoch).
      length: masks that must agree.

    Returns:
      The optax transform.

    Raises:
      InputError: as `init`, or `update` is called without params.

    Examples:
      >>> from jaxticket import schedules
      >>> tx = optax.chain(worm(lambda p: jnp.abs(p) > 1, when=schedules.every(1), length=2), optax.sgd(1.0))
      >>> params = jnp.array([0.5, 5.0])
      >>> state = tx.init(params)
      >>> for _ in range(3):
      ...     updates, state = tx.update(jnp.array([0.25, 0.25]), state, params)
      ...     params = optax.apply_updates(params, updates)
      >>> params  # the first trained once, before two masks had left it out
      Array([0.25, 4.25], dtype=float32)
    """

    def begin(params: Params) -> WormState:
        return WormState(jnp.zeros((), jnp.int32), init(jax.eval_shape(draw, params), length=length))

    def step(updates: Params, state: WormState, params: Params | None = None) -> tuple[Params, WormState]:
        params = require_params(params, "worm")
        due, bird = when(state.count), state.bird

        def draw_if_due() -> EarlyBird:
            # Under vmap this branch runs if any replicate is due; the others keep what they have.
            return jax.tree.map(lambda new, old: jnp.where(due, new, old), _push(bird, draw(params)), bird)

        bird = jax.lax.cond(any_replicate(due), draw_if_due, lambda: bird)
        return apply_mask(updates, alive(bird)), WormState(optax.safe_increment(state.count), bird)

    return optax.GradientTransformation(begin, step)


def bird_of(opt_state: PyTree) -> EarlyBird:
    """Return the queue of masks that `worm` keeps in an optimizer state. Raises InputError if there is none."""
    is_bird = lambda x: isinstance(x, EarlyBird)
    for leaf in jax.tree.leaves(opt_state, is_leaf=is_bird):
        if is_bird(leaf):
            return leaf
    raise InputError("opt_state holds no EarlyBird; build the optimizer with early_bird.worm")


def _push(state: EarlyBird, mask: Mask) -> EarlyBird:
    mask = check_structure("mask", mask, "state.masks", state.masks)
    check_mask("mask", mask)

    def push(name: str, old: jax.Array, new: jax.Array) -> jax.Array:
        if old.shape[1:] != new.shape:
            raise InputError(f"mask at {name!r} has shape {new.shape}, but the queue was made for {old.shape[1:]}")
        return jnp.concatenate([old[1:], new[None]])

    masks = _tree.map_present(push, _tree.names(mask), state.masks, mask)
    return EarlyBird(masks, optax.safe_increment(state.count))


def _distances(state: EarlyBird) -> jax.Array:
    masks = jax.tree.leaves(state.masks)
    differ = [jnp.sum(m[:-1] != m[-1:], axis=tuple(range(1, m.ndim)), dtype=jnp.int32) for m in masks]
    entries = sum(m[0].size for m in masks)
    older = jnp.arange(_length(state) - 1)
    return jnp.where(older >= _length(state) - state.count, sum(differ) / entries, 1.0).astype(jnp.float32)


def _length(state: EarlyBird) -> int:
    return int(jax.tree.leaves(state.masks)[0].shape[0])
