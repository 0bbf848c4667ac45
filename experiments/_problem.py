"""What is trained on what: a network, three splits of data, and the compiled training."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxticket import data, loops
from jaxticket.typing import Params, PyTree, TrainFn


class Problem(NamedTuple):
    """All that a search needs to know of data and model."""

    dataset: data.Dataset
    init: Callable[[jax.Array], tuple[Params, PyTree]]  # key -> parameters, model state
    fit: loops.FitFn  # any number of steps, from any step
    train: TrainFn  # from the rewind step to the end
    fresh: Callable[[Params], PyTree]  # parameters -> fresh optimizer state
    steps: int  # of one training from its start


def lenet_problem(
    dataset: data.Dataset,
    *,
    learning_rate: optax.Schedule,
    batch_size: int,
    steps: int,
    rewind_step: int,
    checkpoint: loops.StepCheckpoint | None = None,
    progress: loops.ProgressFn | None = None,
) -> Problem:
    """LeNet-300-100 with Adam and the cross-entropy. Validation and test accuracy are measured once, at the end."""
    from jaxticket import models  # needs an extra, whose absence the command line reports

    model = models.lenet_300_100()

    def loss(params: Params, state: PyTree, batch: data.Split, key: jax.Array) -> tuple[jax.Array, PyTree]:
        logits, state = model.apply(params, state, batch.x, train=True, key=key)
        return optax.softmax_cross_entropy_with_integer_labels(logits, batch.y).mean(), state

    @jax.jit
    def accuracy(params: Params, state: PyTree, split: data.Split) -> jax.Array:
        logits, _ = model.apply(params, state, split.x, train=False, key=None)
        return jnp.mean(jnp.argmax(logits, -1) == split.y)

    def evaluate(params: Params, state: PyTree) -> dict[str, Any]:
        splits = {"validation": dataset.validation, "test": dataset.test}
        return {f"{name}_accuracy": accuracy(params, state, split) for name, split in splits.items()}

    recipe = loops.Recipe(loss=loss, data=dataset.train, learning_rate=learning_rate, batch_size=batch_size)
    fit = loops.scan_fit(recipe, checkpoint=checkpoint, progress=progress)
    train = loops.train_fn(fit, steps=steps - rewind_step, evaluate=evaluate)
    return Problem(dataset, jax.jit(model.init), fit, train, recipe.fresh, steps)
