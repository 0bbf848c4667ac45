"""Knowledge distillation: a ticket learns from its dense parent beside the labels (Hinton et al., 2015)."""

import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import optax

from jaxticket._checks import check_array, check_fraction, check_number, known
from jaxticket.errors import InputError
from jaxticket.typing import Key, LogitsFn, LossFn, Params, PyTree


def distill(
    logits: LogitsFn,
    teacher: Callable[[Any], jax.Array],
    *,
    labels: Callable[[Any], jax.Array],
    temperature: float,
    weight: float,
) -> LossFn:
    """Return the loss weight · T² · KL(teacher ‖ ticket) at temperature T + (1 − weight) · cross-entropy, for `Recipe`.

    A ticket and the network `params` that it was pruned from::

        parent = lambda batch: model.apply(params, state, batch.x, train=False, key=None)[0]
        ours = lambda params, state, batch, key: model.apply(params, state, batch.x, train=True, key=key)
        loss = distill(ours, parent, labels=lambda batch: batch.y, temperature=4.0, weight=0.9)
        train = train_fn(fit(Recipe(loss=loss, …)), steps=1000)

    Args:
      logits: the logits of the ticket that is trained.
      teacher: batch -> (examples, classes) logits, which are not differentiated. The dense parent's parameters may be
        inside; where they are large, or the examples are never augmented, its logits are better part of the data.
      labels: batch -> (examples,) integer classes.
      temperature: T, above 0; both sides are divided by it.
      weight: the weight of the teacher, in [0, 1].

    Returns:
      The loss.

    Raises:
      InputError: a temperature or a weight out of range; while training, logits and teacher of different shapes.

    Examples:
      >>> import jax.numpy as jnp
      >>> ours = lambda params, state, batch, key: (params[None], state)
      >>> loss = distill(ours, lambda batch: batch, labels=lambda batch: jnp.array([0]), temperature=2.0, weight=1.0)
      >>> value, _ = loss(jnp.array([1.0, 2.0]), None, jnp.array([[1.0, 2.0]]), jax.random.key(0))
      >>> float(value)  # the ticket says what its teacher does
      0.0
    """
    _check_temperature(temperature)
    check_fraction("weight", weight)

    def loss(params: Params, state: PyTree, batch: Any, key: Key) -> tuple[jax.Array, PyTree]:
        ours, state = logits(params, state, batch, key)
        soft = divergence(ours, teacher(batch), temperature=temperature)
        hard = optax.softmax_cross_entropy_with_integer_labels(ours, labels(batch)).mean()
        return weight * soft + (1 - weight) * hard, state

    return loss


def divergence(logits: jax.Array, teacher: jax.Array, *, temperature: float) -> jax.Array:
    """Return T² · KL(softmax(teacher / T) ‖ softmax(logits / T)), the mean over examples, in nats.

    T² keeps the size of the gradient as T grows (Hinton et al., 2015). No gradient flows back into the teacher.

    Args:
      logits: (examples, classes) of the ticket.
      teacher: (examples, classes) of its teacher.
      temperature: T, above 0.

    Returns:
      A scalar.

    Raises:
      InputError: a temperature out of range, or shapes that differ.

    Examples:
      >>> import jax.numpy as jnp
      >>> float(divergence(jnp.array([[1.0, 2.0]]), jnp.array([[3.0, 4.0]]), temperature=2.0))
      0.0
    """
    _check_temperature(temperature)
    check_array("logits", logits, np.floating)
    check_array("teacher", teacher, np.floating)
    if logits.shape != teacher.shape:
        raise InputError(
            f"teacher has logits of shape {teacher.shape}, but the ticket {logits.shape}; pass the same batch"
        )
    ours, theirs = (jax.nn.log_softmax(x / temperature) for x in (logits, jax.lax.stop_gradient(teacher)))
    return temperature**2 * optax.losses.kl_divergence_with_log_targets(ours, theirs).mean()


def _check_temperature(temperature: Any) -> None:
    check_number(temperature=temperature)
    if not isinstance(temperature, jax.core.Tracer) and not 0 < known(temperature) < math.inf:
        raise InputError(f"temperature={temperature} must be above 0, such as 4")
