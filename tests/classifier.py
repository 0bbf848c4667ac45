"""The small classifier of tests that train on parts of the examples: data, logits, and the loss of any logits."""

import jax
import jax.numpy as jnp
import optax

from jaxticket import training


def examples(count, features, *, noise):
    """(inputs, labels) of three classes, which a linear classifier tells apart but for the noise in its scores."""
    x = jax.random.normal(jax.random.key(7), (count, features))
    return x, jnp.argmax(x[:, :3] + noise * jax.random.normal(jax.random.key(8), (count, 3)), -1)


def logits(params, state, batch, key):
    """Those of a linear classifier, for its loss and for what observes it."""
    return batch.examples[0] @ params["kernel"] + params["bias"][None], state


def loss_of(logits):
    """The mean cross-entropy of such logits over the examples of a batch that are real."""

    def loss(params, state, batch, key):
        found, state = logits(params, state, batch, key)
        values = optax.softmax_cross_entropy_with_integer_labels(found, batch.examples[1])
        return training.mean(values, batch.real), state

    return loss
