"""Training that meets NaN or infinity: stop with the last good state, skip such steps, or continue and record it."""

import dataclasses
import functools
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxticket.errors import DivergedError
from jaxticket.training._recipe import Recipe
from jaxticket.typing import Key, LossFn, Params, PyTree

__all__ = ["OnNan", "check", "count_skipped", "if_finite", "keep_state", "skip"]

OnNan = Literal["stop", "skip", "record"]
_MOST_IN_A_ROW = 10  # steps that are skipped; more have a cause that skipping does not mend


def skip(recipe: Recipe) -> Recipe:
    """Return the recipe that skips steps whose gradients hold NaN or infinity, by `optax.apply_if_finite` around all.

    Parameters, optimizer and model state then stay as they are; `count_skipped` counts these steps. After ten in a row
    the eleventh is taken, so that a training that cannot continue shows it, and `check` stops it.
    Examples:
      >>> loss = lambda params, state, batch, key: (jnp.mean(batch * params["w"]), state)
      >>> recipe = Recipe(loss=loss, data=jnp.ones((4, 1)), learning_rate=optax.constant_schedule(0.1), batch_size=1)
      >>> int(count_skipped(skip(recipe).fresh({"w": jnp.ones(1)})))
      0
    """
    inner = recipe.optimizer
    return dataclasses.replace(recipe, loss=keep_state(recipe.loss), optimizer=lambda rate: if_finite(inner(rate)))


def if_finite(tx: optax.GradientTransformation) -> optax.GradientTransformation:
    """Return the optimizer that skips up to ten steps in a row. Put it outside `sparsify`, whose mask it then keeps."""
    return optax.apply_if_finite(tx, _MOST_IN_A_ROW)


def keep_state(loss: LossFn) -> LossFn:
    """Return the loss whose model state (batch statistics) stays as it was where the loss is not finite."""

    @functools.wraps(loss)
    def finite_loss(params: Params, state: PyTree, batch: Any, key: Key) -> tuple[Any, PyTree]:
        value, new = loss(params, state, batch, key)
        return value, jax.tree.map(lambda n, o: jnp.where(jnp.isfinite(value), n, o), new, state)

    return finite_loss


def count_skipped(opt_state: PyTree) -> jax.Array | None:
    """Return the number of steps that were skipped, one number a replicate, or None without `skip`."""
    is_guard = lambda x: isinstance(x, optax.ApplyIfFiniteState)
    guards = [x for x in jax.tree.leaves(opt_state, is_leaf=is_guard) if is_guard(x)]
    return guards[0].total_notfinite if guards else None


def check(params: Params, loss: np.ndarray, *, at: int, on_nan: OnNan) -> None:
    """Raise DivergedError, with the step and the replicates, if the policy is to stop at such values.

    Args:
      params: those after the step; with a leading axis of replicates if `loss` has one.
      loss: the mean since the epoch began, () or (replicates,). Under "skip" it may be NaN, from a skipped step.
      at: the step reached.
      on_nan: the policy, as for `fit`.

    Raises:
      DivergedError: under "stop", a loss or weight that is not finite; under "skip", such a weight.
    """
    if on_nan == "record":
        return
    fine = np.asarray(_finite(params, loss.ndim))
    if on_nan == "stop":
        fine = fine & np.isfinite(loss)
    if not fine.all():
        replicates = tuple(np.flatnonzero(~fine).tolist()) if fine.ndim else ()
        which = f" in replicate {', '.join(map(str, replicates))} of this program" if replicates else ""
        raise DivergedError(
            f"loss or weights are not finite at step {at}{which}; the finished results and the last checkpoint stay as "
            f"they are: lower the learning rate, or continue with on_nan={'skip' if on_nan == 'stop' else 'record'}",
            replicates=replicates,
        )


@functools.partial(jax.jit, static_argnums=1)
def _finite(params: Params, axes: int) -> jax.Array:
    """Return whether all weights are finite, one answer for each entry of the leading axes."""
    leaves = [x for x in jax.tree.leaves(params) if jnp.issubdtype(x.dtype, jnp.inexact)]
    answers = [jnp.isfinite(x).all(tuple(range(axes, x.ndim))) for x in leaves]
    return functools.reduce(jnp.logical_and, answers, jnp.ones((), bool))
