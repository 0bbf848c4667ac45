"""A training of fixed length as one function, which a search calls: driven from Python, or one traceable loop."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxticket.errors import InputError
from jaxticket.training import nonfinite
from jaxticket.training._fit import FitFn, run_part
from jaxticket.training._recipe import Part, Progressing, Recipe, on_all_examples
from jaxticket.typing import Key, Mask, Params, PyTree, Trained, TrainFn


def scan_train(
    recipe: Recipe, *, steps: int, evaluate: Callable[[Params, PyTree], dict[str, Any]] | None = None
) -> TrainFn:
    """Return a `TrainFn` of arrays only, for `imp_scan` and `jax.vmap`: the whole training is one traceable loop.

    Build the recipe inside the compiled function, from data that is an argument of it, or the data becomes a constant
    of the program.

    Args:
      recipe: the recipe.
      steps: the length of the training.
      evaluate: (params, state) -> more metrics.

    Returns:
      The `TrainFn`. Its metrics are scalars on the device: "loss", the mean training loss of the last epoch, and those
      of
      `evaluate`.

    Raises:
      InputError: a negative number of steps.
    """
    _check_steps(steps)
    per_epoch, steps_of = recipe.steps_per_epoch, on_all_examples(recipe)

    def train(params: Params, state: PyTree, mask: Mask, key: Key, *, step: int, opt_state: PyTree | None) -> Trained:
        end = step + steps
        shift = step if opt_state is None else 0

        def epoch(index: jax.Array, carry: Progressing) -> Progressing:
            first, last = jnp.maximum(step, index * per_epoch), jnp.minimum(end, (index + 1) * per_epoch)
            part = Part(mask, key, None, shift, 1.0, first, last)
            return run_part(steps_of, carry._replace(total=jnp.zeros(())), recipe.data, part)

        epochs = (step // per_epoch, -(-end // per_epoch) if steps else step // per_epoch)
        carry = jax.lax.fori_loop(*epochs, epoch, recipe.begin(params, state, opt_state))
        in_last = end - max(step, (end - 1) // per_epoch * per_epoch)
        metrics = {} if evaluate is None else evaluate(carry.params, carry.state)
        return Trained(carry.params, carry.state, {"loss": carry.total / max(in_last, 1), **metrics})

    return train


def train_fn(fit: FitFn, *, steps: int, evaluate: Callable[[Params, PyTree], dict[str, Any]] | None = None) -> TrainFn:
    """Return the `TrainFn` that fits for `steps` steps from the ticket's step on, and then evaluates once.

    Args:
      fit: the function of `training.fit`.
      steps: the length of the training.
      evaluate: (params, state) -> more scalar metrics.

    Returns:
      The `TrainFn`. Its metrics are Python floats: "loss", the mean training loss of the last epoch, and those of
      `evaluate`; "skipped_steps" too for a recipe of `nonfinite.skip`.

    Raises:
      InputError: a negative number of steps.
    """
    _check_steps(steps)

    def train(params: Params, state: PyTree, mask: Mask, key: Key, *, step: int, opt_state: PyTree | None) -> Trained:
        fitted = fit(params, state, mask, key, step=step, steps=steps, opt_state=opt_state)
        metrics = {} if evaluate is None else evaluate(fitted.params, fitted.state)
        skipped = nonfinite.count_skipped(fitted.opt_state)
        counted = {} if skipped is None else {"skipped_steps": skipped}
        values = {"loss": fitted.loss, **counted, **metrics}
        return Trained(fitted.params, fitted.state, {name: float(value) for name, value in values.items()})

    return train


def _check_steps(steps: int) -> None:
    if steps < 0:
        raise InputError(f"steps={steps} must not be negative")
