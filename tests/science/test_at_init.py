"""Pruning at initialisation of a deep net, on real digits: what collapses and what trains (Tanaka et al., 2020).

Scikit-learn's 8 × 8 digits, 1,200 to train and 597 to test; six hidden layers of 100 rectified units, He
initialisation, biases 0; masks from the first 100 training images; Adam 1.2e-3, batches of 60, 1,000 steps. Eight seeds
in one program. GraSP and FORCE are too noisy at this size for an order to be asserted.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxticket as jt
from jaxticket import diagnostics, scopes, scores
from tests.science.digits import accuracy, apply, digits, init, loss

STEPS, BATCH, SEEDS = 1000, 60, 8
WIDTHS = (64, *[100] * 6, 10)
PRUNABLE = 64 * 100 + 5 * 100 * 100 + 100 * 10


HE = jax.nn.initializers.variance_scaling(2.0, "fan_in", "normal")  # He's own, not truncated


def trained_accuracy(params, mask, key):
    (images, labels), test = digits()
    tx = jt.sparsify(optax.adam(1.2e-3), jt.static(), mask=mask)

    def step(carry, i):
        params, state = carry
        rows = jax.random.randint(jax.random.fold_in(key, i), (BATCH,), 0, len(labels))
        updates, state = tx.update(jax.grad(loss)(params, (images[rows], labels[rows])), state, params)
        return (optax.apply_updates(params, updates), state), None

    (params, _), _ = jax.lax.scan(step, jt.init(tx, params), jnp.arange(STEPS))
    return accuracy(params, test)


# One program trains under every mask.
train = jax.jit(jax.vmap(trained_accuracy))


def pruned_and_trained(name, score, density, rounds=1):
    init_key, mask_key, order_key = jax.random.split(jax.random.key(0), 3)
    params = jax.vmap(lambda key: init(key, WIDTHS, HE))(jax.random.split(init_key, SEEDS))
    first = jt.start(score, density, scope=scopes.tree(), rounds=rounds)
    make = jax.jit(jax.vmap(lambda p, k: first.init(p, None, key=k)[0]))
    mask = make(params, jax.random.split(mask_key, SEEDS))
    layers = np.stack([layer["kernel"].sum((1, 2)) for layer in mask])
    assert (layers.sum(0) == round(density * PRUNABLE)).all()
    found = np.asarray(train(params, mask, jax.random.split(order_key, SEEDS)))
    print(f"{name} at {density:.0%}: {found.mean():.1f} ± {half(found):.1f}, smallest layer {layers.min(0)}")
    return found


def half(sample):
    return diagnostics.interval(sample.tolist()).half_width


def on_data(factory):
    (images, labels), _ = digits()
    return factory(loss, [(images[:100], labels[:100])])


@pytest.mark.science
def test_synflow_in_rounds_trains_where_one_round_and_magnitude_collapse_and_snip_lies_between():
    synflow = scores.synflow(apply, digits()[0][0])
    rounds = pruned_and_trained("SynFlow, 100 rounds", synflow, 0.01, rounds=100)
    snip = pruned_and_trained("SNIP", on_data(scores.snip), 0.01)
    magnitude = pruned_and_trained("magnitude", scores.magnitude, 0.01)
    gaps = {
        "over one round": (rounds - pruned_and_trained("SynFlow, 1 round", synflow, 0.01), 40),
        "over magnitude": (rounds - magnitude, 40),
        "over SNIP": (rounds - snip, 15),
        "of SNIP over magnitude": (snip - magnitude, 15),
    }
    for name, (gap, points) in gaps.items():
        assert gap.mean() >= points, name
        assert gap.mean() - half(gap) > 0, name


@pytest.mark.science
def test_snip_trains_where_random_collapses():
    gap = pruned_and_trained("SNIP", on_data(scores.snip), 0.02) - pruned_and_trained("random", scores.random, 0.02)
    assert gap.mean() >= 30.0
    assert gap.mean() - half(gap) > 0
