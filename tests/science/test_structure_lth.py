"""The channels that keep most weights of a ticket are those that its network needs, on digits."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxticket as jt
from jaxticket import filters, loops, schedules
from jaxticket.methods.channels.structure_lth import refill
from tests.science.digits import BATCH, accuracy, digits, init, loss

pytestmark = pytest.mark.science
SEEDS, ROUNDS, STEPS, REWOUND = 4, 6, 400, 40


@functools.partial(jax.jit, static_argnames="steps")
def fit(params, mask, keys, x, y, *, steps):
    def train_lane(params, mask, key):
        tx = jt.sparsify(optax.adam(1.2e-3), jt.static(), mask=mask)

        def step(i, carry):
            rows = jax.random.randint(jax.random.fold_in(key, i), (BATCH,), 0, len(y))
            updates, state = tx.update(jax.grad(loss)(carry[0], (x[rows], y[rows])), carry[1], carry[0])
            return optax.apply_updates(carry[0], updates), state

        return jax.lax.fori_loop(0, steps, step, jt.init(tx, params))[0]

    return jax.vmap(train_lane)(params, mask, keys)


def train(params, mask, keys, *, steps):
    return fit(params, mask, keys, *digits()[0], steps=steps)


def draw(mask, key):
    """As many channels, at random."""
    return jax.tree.map(lambda m: jax.random.permutation(key, m, axis=1), mask)


def test_refilled_channels_are_those_that_matter():
    keys = jax.random.split(jax.random.key(0), SEEDS)
    params = jax.vmap(init)(keys)
    whole = filters.full_mask(jax.tree.map(lambda p: p[0], params), filters.weights(exclude="^2/"))
    whole = jax.tree.map(lambda m: jnp.broadcast_to(m, (SEEDS, *m.shape)), whole)
    rewound = train(params, whole, keys, steps=REWOUND)
    mask = whole
    for density in schedules.levels(ROUNDS + 1, rate=0.2)[1:]:
        trained = train(rewound, mask, keys, steps=STEPS)
        prune = functools.partial(loops.prune_by(), density=density, key=keys[0])
        mask = jax.vmap(lambda p, m, prune=prune: prune(p, m))(trained, mask)
    trained = train(rewound, mask, keys, steps=STEPS)
    most = jax.vmap(refill)(mask)
    fewest = jax.vmap(lambda m: refill(m, scores=jax.tree.map(lambda x: -x.astype(jnp.float32), m)))(mask)
    random = jax.vmap(draw)(most, keys)
    test = digits()[1]
    shown = lambda params: np.asarray(jax.vmap(lambda p: accuracy(p, test))(params))
    left = {name: shown(jt.apply_mask(trained, m)) for name, m in {"most": most, "random": random}.items()}
    left["fewest"] = shown(jt.apply_mask(trained, fewest))
    retrained = {name: shown(train(rewound, m, keys, steps=STEPS)) for name, m in [("most", most), ("random", random)]}
    retrained["unstructured"] = shown(trained)
    print({name: values.mean().round(2) for name, values in left.items()}, "without training")
    print({name: values.mean().round(2) for name, values in retrained.items()}, "trained again")
    # Random channels, and those that a wrong order keeps, lose more at once.
    assert (left["most"] > left["random"]).all()
    assert (left["most"] > left["fewest"]).all()
    assert left["random"].mean() > left["fewest"].mean() + 5
    assert retrained["most"].mean() > retrained["random"].mean() - 1
    assert retrained["unstructured"].mean() > retrained["most"].mean() - 1
