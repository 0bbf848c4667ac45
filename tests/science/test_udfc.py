"""UDFC on real digits: units that go are made up for without data.

The problem of `digits`, with three seeds. Half of the units of both hidden layers go, by the size of their weights.
What is left with nothing in their place is the control.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxticket import diagnostics, structure, units
from jaxticket.methods.channels.udfc import udfc
from tests.science.digits import BATCH, accuracy, apply, digits, init, loss

pytestmark = pytest.mark.science

SEEDS, GONE = 3, 0.5


@jax.jit
def train(key):
    (images, labels), _ = digits()
    tx, params = optax.adam(1.2e-3), init(key)

    def step(carry, i):
        params, state = carry
        rows = jax.random.randint(jax.random.fold_in(key, i), (BATCH,), 0, len(labels))
        updates, state = tx.update(jax.grad(loss)(params, (images[rows], labels[rows])), state, params)
        return (optax.apply_updates(params, updates), state), None

    return jax.lax.scan(step, (params, tx.init(params)), jnp.arange(800))[0][0]


def test_units_are_made_up_for():
    images, labels = digits()[1]
    gained, errors = [], []
    for seed in range(SEEDS):
        params = train(jax.random.key(seed))
        groups = structure.trace(apply, params, images)
        sizes = jax.tree.map(jnp.abs, params)
        kept = structure.choose(structure.pool(sizes, groups, reduce=units.total), groups, 1 - GONE)
        rebuilt, plain = (
            udfc(params, groups, kept),
            structure.expand(structure.shrink(params, kept, groups), kept, groups),
        )
        gained.append(float(accuracy(rebuilt, (images, labels)) - accuracy(plain, (images, labels))))
        dense = apply(params, images)
        errors.append([float(jnp.mean((apply(p, images) - dense) ** 2)) for p in (rebuilt, plain)])
    interval = diagnostics.interval(gained)
    print(f"points over a plain removal: {interval.mean:.2f} ± {interval.half_width:.2f}; errors {errors}")
    assert np.mean(gained) >= 1
    assert all(rebuilt < plain for rebuilt, plain in errors)
