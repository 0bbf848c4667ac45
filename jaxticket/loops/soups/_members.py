"""The training of the members of a soup: in one program, or one after the other, each with its own variation."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxticket.errors import InputError
from jaxticket.tickets._ticket import copy
from jaxticket.training import FitFn, Recipe
from jaxticket.typing import Key, Mask, Params, PyTree, Schedule, Trained, TrainFn

EvaluateFn = Callable[[Params, PyTree], dict[str, Any]]  # parameters, model state -> metrics
FreshFn = Callable[[Params, int | jax.Array], PyTree]  # parameters and number of one member -> its optimizer state


class Varied(NamedTuple):
    """A recipe whose optimizer's state holds the members' differences, that state for each member, and their number."""

    recipe: Recipe
    fresh: FreshFn
    members: int


def at_once(
    fit: FitFn,
    *,
    members: int,
    steps: int,
    fresh: FreshFn | None = None,
    evaluate: EvaluateFn | None = None,
) -> TrainFn:
    """Train members of one ticket in one program, each with its own key, and so its own order of the examples.

    Args:
      fit: trains stacked replicates, as `training.fit` with a placement; its checkpoint and progress work here too.
      members: the number of members.
      steps: the steps of each.
      fresh: the first state of a member's optimizer, such as that of `vary`; by default the recipe's.
      evaluate: as for `train_fn`, called with one member at a time.

    Returns:
      The `TrainFn` for `soups.soup_train`: parameters and state have a leading axis of members, metrics are lists.

    Raises:
      InputError: no members, or a negative number of steps.
    """
    if members < 1 or steps < 0:
        raise InputError(f"members={members} must be at least 1, and steps={steps} not negative")

    def train(params: Params, state: PyTree, mask: Mask, key: Key, *, step: int, opt_state: PyTree | None) -> Trained:
        params, state, mask, opt_state = _repeat((params, state, mask, opt_state), members)
        if opt_state is None and fresh is not None:
            opt_state = jax.vmap(fresh)(params, jnp.arange(members))
        fitted = fit(params, state, mask, _keys(key, members), step=step, steps=steps, opt_state=opt_state)
        params, state = jax.device_put((fitted.params, fitted.state), jax.devices()[0])
        metrics: dict[str, Any] = {"loss": [float(loss) for loss in fitted.loss]}
        if evaluate is not None:
            evaluated = [evaluate(*jax.tree.map(lambda x, i=i: x[i], (params, state))) for i in range(members)]
            metrics |= _collect(evaluated)
        return Trained(params, state, metrics)

    return train


def in_turn(trains: Sequence[TrainFn]) -> TrainFn:
    """Train members of one ticket one after the other; they may differ in anything that a `TrainFn` decides.

    It is for networks that do not run in compiled loops, such as convolutions on CPU. Each gets copies and its own key.
    Raises InputError for no members.
    """
    if not trains:
        raise InputError("trains is empty; pass a TrainFn for each member")

    def train(params: Params, state: PyTree, mask: Mask, key: Key, *, step: int, opt_state: PyTree | None) -> Trained:
        results = []
        for train_member, member_key in zip(trains, _keys(key, len(trains)), strict=True):
            own_params, own_state, own_mask = (copy(tree) for tree in (params, state, mask))
            results.append(
                train_member(own_params, own_state, own_mask, member_key, step=step, opt_state=copy(opt_state))
            )
        stack = lambda *xs: jnp.stack(xs)
        params = jax.tree.map(stack, *[member.params for member in results])
        state = jax.tree.map(stack, *[member.state for member in results])
        return Trained(params, state, _collect([member.metrics for member in results]))

    return train


def vary(
    recipe: Recipe,
    *,
    learning_rates: Sequence[float] | None = None,
    weight_decays: Sequence[float] | None = None,
    lengths: Sequence[float] | None = None,
) -> Varied:
    """Make members that differ in numbers of their optimizer, which are part of its state: one program trains them all.

    The schedule begins at its step 0, wherever the ticket's rewind point lies.

    Args:
      recipe: the recipe of all members.
      learning_rates: factors of the recipe's schedule, one a member.
      weight_decays: added to the gradient, times each parameter (an L2 penalty), beside that of the recipe.
      lengths: parts of the training that a member's schedule is compressed to (above 1: stretched); a schedule that
        ends at 0 ends its training there.

    Returns:
      The recipe, the optimizer states of the members, and their number.

    Raises:
      InputError: sequences of different lengths, none at all, a negative value, or a length of 0.

    Examples:
      >>> loss = lambda params, state, batch, key: (jnp.mean((batch @ params["w"] - 1) ** 2), state)
      >>> schedule = optax.linear_schedule(0.1, 0.0, 10)
      >>> recipe = Recipe(loss=loss, data=jnp.ones((8, 2)), learning_rate=schedule, batch_size=4)
      >>> varied = vary(recipe, learning_rates=(1.0, 0.5), lengths=(1.0, 0.5))
      >>> varied.fresh({"w": jnp.zeros(2)}, 1).hyperparams["length"]
      Array(0.5, dtype=float32)
    """
    given = {"learning_rate": learning_rates, "weight_decay": weight_decays, "length": lengths}
    counts = {len(values) for values in given.values() if values is not None}
    if len(counts) != 1 or 0 in counts:
        raise InputError(
            f"learning_rates, weight_decays, lengths are for {sorted(counts)} members; give all as many values"
        )
    (members,) = counts
    if any(value < 0 for values in given.values() for value in values or ()):
        raise InputError("learning_rates, weight_decays and lengths must not be negative")
    if any(not length for length in lengths or ()):
        raise InputError(f"lengths={list(lengths or ())} must be above 0: parts of the training, such as 0.5")

    def tx(rate: Schedule, learning_rate: Any = 1.0, weight_decay: Any = 0.0, length: Any = 1.0) -> Any:
        def make(learning_rate: jax.Array, weight_decay: jax.Array, length: jax.Array) -> optax.GradientTransformation:
            own = recipe.optimizer(lambda count: learning_rate * rate(count / length))
            return optax.chain(optax.add_decayed_weights(weight_decay), own)

        return optax.inject_hyperparams(make)(learning_rate=learning_rate, weight_decay=weight_decay, length=length)

    def fresh(params: Params, member: int | jax.Array) -> PyTree:
        own = {name: jnp.asarray(values, jnp.float32)[member] for name, values in given.items() if values is not None}
        return tx(recipe.learning_rate, **own).init(params)

    return Varied(dataclasses.replace(recipe, optimizer=tx), fresh, members)


def _keys(key: Key, members: int) -> Key:
    return jax.random.split(key, members)


def _repeat(tree: PyTree, members: int) -> Any:
    return jax.tree.map(lambda x: jnp.repeat(jnp.asarray(x)[None], members, 0), tree)


def _collect(metrics: Sequence[dict[str, Any]]) -> dict[str, list[Any]]:
    return {name: [member[name] for member in metrics] for name in metrics[0]}
