"""Allocations where they matter: pruning at once without training, and random masks, on real digits.

Scikit-learn's digits, enlarged to 28 × 28, 1,300 to train and 497 to test; 784-300-100-10, Adam 1e-3, batches of 64,
1,000 steps. Four seeds in one program. That rate-distortion beats global magnitude is not so on nets this small.
"""

import collections
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxticket as jt
from jaxticket import allocate, diagnostics, scores
from tests.science.digits import accuracy, apply, digits, init, loss

STEPS, BATCH, SEEDS = 1000, 64, 4
WIDTHS = (784, 300, 100, 10)


@functools.cache
def large_digits():
    return tuple(
        (jax.image.resize(images.reshape(-1, 8, 8), (len(labels), 28, 28), "bilinear").reshape(-1, 784), labels)
        for images, labels in digits(1300)
    )


# One program trains under every mask.
@jax.jit
@jax.vmap
def trained(params, mask, key):
    images, labels = large_digits()[0]
    tx = jt.sparsify(optax.adam(1e-3), jt.static(), mask=mask)

    def step(carry, i):
        params, state = carry
        rows = jax.random.randint(jax.random.fold_in(key, i), (BATCH,), 0, len(labels))
        updates, state = tx.update(jax.grad(loss)(params, (images[rows], labels[rows])), state, params)
        return (optax.apply_updates(params, updates), state), None

    return jax.lax.scan(step, jt.init(tx, params), jnp.arange(STEPS))[0][0]


def trained_under_random_masks(densities_of):
    init_keys, mask_keys, order_keys = (jax.random.split(key, SEEDS) for key in jax.random.split(jax.random.key(0), 3))
    params = jax.vmap(lambda key: init(key, WIDTHS, jax.nn.initializers.he_normal()))(init_keys)
    densities = densities_of(jax.tree.map(lambda p: p[0], params))
    masks = jax.jit(jax.vmap(lambda p, k: jt.select(scores.random(p, key=k), densities)))(params, mask_keys)
    return trained(params, masks, order_keys)


@jax.jit
def change(params, densities, inputs):
    """Mean squared change of the logits under pruning by magnitude."""
    masked = jt.apply_mask(params, jt.select(scores.magnitude(params), densities))
    return jnp.mean(jnp.square(apply(masked, inputs) - apply(params, inputs)))


def report(name, found):
    mean, half = diagnostics.interval([float(value) for value in found])
    print(f"{name}: {mean:.3g} ± {half:.2g}")
    return mean - half


@pytest.mark.science
def test_rate_distortion_beats_uniform_and_what_layers_change_adds_up():
    density, test, calibration = 0.05, large_digits()[1], large_digits()[0][0][:256]
    replicates = trained_under_random_masks(lambda params: allocate.uniform(params, 1.0))
    found = collections.defaultdict(list)

    for i in range(SEEDS):
        params = jax.tree.map(lambda p: p[i], replicates)
        densities = {
            "rate-distortion": allocate.rate_distortion(params, apply, calibration, density),
            "uniform": allocate.uniform(params, density),
            "global magnitude": allocate.from_scores(params, scores.magnitude(params), density),
        }
        for name, of_leaves in densities.items():
            mask = jt.select(scores.magnitude(params), of_leaves)
            found[name].append(float(accuracy(jt.apply_mask(params, mask), test)))
        found["dense"].append(float(accuracy(params, test)))
        full, best = allocate.uniform(params, 1.0), densities["rate-distortion"]
        lone = [[*full[:j], best[j], *full[j + 1 :]] for j in range(len(full))]
        joint, even, *alone = (float(change(params, d, calibration)) for d in (best, densities["uniform"], *lone))
        found["joint / sum"].append(joint / sum(alone))
        found["change to uniform's"].append(joint / even)
    for name, values in found.items():
        report(name, values)
    assert report("gain over uniform", np.subtract(found["rate-distortion"], found["uniform"])) > 0
    assert np.mean(np.subtract(found["rate-distortion"], found["uniform"])) >= 20.0
    assert max(found["change to uniform's"]) < 1
    assert 0.8 <= min(found["joint / sum"]) <= max(found["joint / sum"]) <= 1.2


@pytest.mark.science
def test_random_masks_are_better_with_erk_than_uniform():
    found = {}
    for kind in (allocate.erk, allocate.uniform):
        params = trained_under_random_masks(lambda params: kind(params, 0.02))
        found[kind.__name__] = np.asarray(jax.vmap(accuracy, (0, None))(params, large_digits()[1]))
        report(f"random, {kind.__name__}, 2 %", found[kind.__name__])
    assert found["erk"].mean() >= found["uniform"].mean()
