"""The end of a round of PrAC, and the cost that it saves."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxticket import masks
from jaxticket._checks import check_count, check_number, known
from jaxticket.errors import InputError
from jaxticket.training import Recipe
from jaxticket.typing import Mask, Params

_QUEUE = 5  # distances that must be small


class Plan(NamedTuple):
    """The length and the end of rounds; the defaults are those of the authors' command line for CIFAR-10.

    The commands of their README rewind to the end of the third epoch: see `readme_plan`.

    Attributes:
      rounds: the number of prunings.
      rate: the part of the survivors that each pruning removes.
      epochs: the epochs of a training on all examples; a round on a part p of them gets ⌊p · epochs⌋, at least one.
      tolerance: a round ends once its mask settled within this distance; 0 lets each run to its end.
      rewind_step: all later rounds, and the ticket, start from the weights that round 0 has after so many steps, and
        round 0 ends no earlier. With 0 they start from the first weights.
      warmup: the epochs of a training on all examples before the distances of its masks count; a round on a part p of
        them has ⌊p · warmup⌋. It is that of the recipe's learning rate, which has its own schedule.
    """

    rounds: int = 16
    rate: float = 0.2
    epochs: int = 182
    tolerance: float = 0.08
    rewind_step: int = 0
    warmup: int = 0


def readme_plan(recipe: Recipe) -> Plan:
    """Return the plan of the README of Zhang et al. (2021): weights are rewound to the end of the third epoch.

    Args:
      recipe: the recipe of the search, whose examples and batches make the epochs.

    Returns:
      A Plan.
    """
    return Plan(rewind_step=3 * epoch_steps(recipe, recipe.examples))


def check_plan(plan: Plan, recipe: Recipe) -> Plan:
    """Return the plan, its counts as ints. Raises InputError, which names the field, for an impossible plan."""
    if not isinstance(plan, Plan):
        raise InputError(f"plan is a {type(plan).__name__}, not a Plan; pass prac.Plan(rounds=16, epochs=182)")
    check_count(1, rounds=plan.rounds, epochs=plan.epochs)
    check_count(0, rewind_step=plan.rewind_step, warmup=plan.warmup)
    check_number(rate=plan.rate, tolerance=plan.tolerance)
    if not 0 < known(plan.rate) < 1:
        raise InputError(f"rate={plan.rate} must lie between 0 and 1; 0.2 prunes a fifth of the survivors in a round")
    if not 0 <= known(plan.tolerance) <= 1:
        raise InputError(f"tolerance={plan.tolerance} must lie between 0 (no early stop) and 1")
    steps = int(plan.epochs) * epoch_steps(recipe, recipe.examples)
    if plan.rewind_step >= steps:
        raise InputError(f"rewind_step={plan.rewind_step} must be below the {steps} steps of round 0")
    return plan._replace(**{name: int(getattr(plan, name)) for name in ("rounds", "epochs", "rewind_step", "warmup")})


def epoch_steps(recipe: Recipe, size: int) -> int:
    """Return the steps of an epoch of so many examples, the last of which may not be full."""
    return -(-size // recipe.batch_size)


class Settling(NamedTuple):
    """The distances of the last masks from the one before each: (5,), the newest last."""

    queue: jax.Array
    recording: jax.Array  # bool: whether the mask has moved by more than the tolerance yet


def init_settling() -> Settling:
    """Return the state before the first distance: the queue holds ones."""
    return Settling(jnp.ones(_QUEUE), jnp.zeros((), bool))


def settle(
    state: Settling, distance: Any, *, tolerance: float = 0.08, keep: bool | jax.Array = True
) -> tuple[Settling, jax.Array]:
    """Add a distance, and return whether the mask has settled: the last five lie below the tolerance.

    It is pure, for jit and vmap. Distances count from the first one above the tolerance on, that one included.

    Args:
      state: the distances so far.
      distance: the distance of the newest mask from the one before.
      tolerance: the bound of distances between settled masks.
      keep: False for the distance of an epoch of the warm-up, which is not one of the last five.

    Returns:
      The new state, and a bool scalar.

    Examples:
      >>> state = init_settling()
      >>> for number, distance in enumerate([0.5, 0.2, 0.09, 0.05, 0.04, 0.03, 0.02, 0.01], 1):
      ...     state, settled = settle(state, distance)
      ...     if settled:
      ...         print(number)
      8
    """
    distance = jnp.asarray(distance, jnp.float32)
    recording = state.recording | (distance > tolerance)
    queue = jnp.where(recording & keep, jnp.append(state.queue[1:], distance), state.queue)
    return Settling(queue, recording), queue.max() < tolerance


def mask_distance(params: Params, mask: Mask, old: Mask, new: Mask) -> jax.Array:
    """Return the number of weights on which two masks differ, as a part of those that `mask` keeps.

    Args:
      params: the parameters, for shapes.
      mask: the mask that both were pruned from.
      old: one mask.
      new: the other mask.

    Returns:
      A scalar.

    Examples:
      >>> masks_ = [jnp.array(m) for m in ([True, True, False, False], [True, False, True, False])]
      >>> mask_distance(jnp.ones(4), jnp.ones(4, bool), *masks_)
      Array(0.5, dtype=float32)
    """
    return masks.hamming(params, old, new) / masks.density(params, mask)


def allowed_epochs(epochs: int, size: int, examples: int) -> int:
    """Return the epochs of a round on `size` of the examples: ⌊epochs · size / examples⌋, at least 1.

    Args:
      epochs: the epochs of a training on all examples.
      size: the number of examples of the round.
      examples: the number of all examples.

    Returns:
      The number of epochs.

    Examples:
      >>> allowed_epochs(182, 500, 1000), allowed_epochs(182, 1, 1000)
      (91, 1)
    """
    return max(1, epochs * size // examples)


def iterations_saved(costs: Iterable[tuple[int, int]], plan: Plan, *, examples: int) -> float:
    """Return 1 − Σ epochs · examples of each round / those of all rounds on all examples, to their ends.

    Args:
      costs: `Round.cost` of each round.
      plan: the plan of the rounds.
      examples: the number of all examples.

    Returns:
      The part of the iterations that was saved.

    Examples:
      >>> iterations_saved([(182, 1000), (91, 500)], Plan(rounds=2), examples=1000)
      0.375
    """
    return 1 - sum(epochs * size for epochs, size in costs) / (plan.rounds * plan.epochs * examples)
