"""A search for widths spends its budget on the layer that sees the digits, and not on the one that sees noise."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxticket.methods.channels import tas
from tests.science.digits import digits

pytestmark = pytest.mark.science
SEEDS, WIDTH, TARGET, PIXELS = 4, 40, 0.65, 64
CHOICES = tas.width_choices(WIDTH)
TABLE = jnp.asarray(tas.resizes(CHOICES))


def apply(weights, x, draw):
    """Two hidden layers side by side: the first reads the image, the second numbers that say nothing."""
    hidden = []
    for at, inputs in enumerate((x[:, :PIXELS], x[:, PIXELS:])):
        pair = draw.pairs[at]
        own = jax.nn.standardize(inputs @ weights["hidden"][at], axis=0)
        own = (own[None] * weights["scale"][at][pair][:, None]) @ TABLE[pair, pair.max()]
        hidden.append(jax.nn.relu(jnp.tensordot(draw.weights[at], own, axes=1)))
    return jnp.concatenate(hidden, axis=1) @ weights["output"]


def init(key):
    kernel = jax.nn.initializers.he_normal()
    first, second = jax.random.split(key)
    scale = jnp.ones((2, len(CHOICES), WIDTH))
    return {
        "hidden": jnp.stack([kernel(k, (PIXELS, WIDTH)) for k in jax.random.split(first)]),
        "scale": scale,
        "output": kernel(second, (2 * WIDTH, 10)),
    }


def cost(widths, _):
    return (PIXELS + 10) * (widths[0] + widths[1])


NET = tas.Supernet((CHOICES, CHOICES), ((1,),), init, apply, cost, cost)


def halves(key, labels=lambda y: y):
    x, y = digits()[0]
    x = jnp.concatenate([4 * x - 1, jax.random.normal(key, x.shape)], axis=1)
    return (x[:600], labels(y[:600])), (x[600:], labels(y[600:]))


def entropy(logits):
    chances = jax.nn.softmax(logits.widths)
    return float(-jnp.sum(chances * jnp.log(chances), axis=1).mean())


def test_the_layer_of_noise_shrinks_and_the_budget_is_met():
    how = {"fraction": TARGET, "epochs": 30, "batch_size": 60, "logit_rate": 0.05, "optimizer": optax.adam}
    how |= {"learning_rate": optax.constant_schedule(2e-3), "tolerance": 0.02}
    find = tas.search(NET, *halves(jax.random.key(7)), **how)
    # Without a task no layer is worth more than the other.
    blind = tas.search(NET, *halves(jax.random.key(7), jnp.zeros_like), **how)
    keys = jax.random.split(jax.random.key(0), SEEDS)
    found, other = ([search(key) for key in keys] for search in (find, blind))
    useful, useless = np.transpose([outcome.widths for outcome in found])
    apart = np.array([outcome.widths for outcome in other])
    print("image", useful, "noise", useless, "without a task", apart.tolist())
    reached = [outcome.likeliest / cost((WIDTH, WIDTH), (1,)) for outcome in found]
    entropies = [entropy(outcome.logits) for outcome in found]
    print("cost", np.round(reached, 3), "entropy", np.round(entropies, 2), "at first", round(np.log(len(CHOICES)), 2))
    assert (np.abs(np.array(reached) / TARGET - 1) < 0.1).all()
    assert max(entropies) < np.log(len(CHOICES)) - 0.3
    assert (useless == CHOICES[0]).sum() >= SEEDS - 1
    assert (useful > useless).all()
    assert (useful - useless).mean() > 2 * np.abs(apart[:, 0] - apart[:, 1]).mean()
