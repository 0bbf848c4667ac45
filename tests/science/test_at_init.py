"""Pruning at initialisation of a deep net, on real digits: what collapses and what trains (Tanaka et al., 2020).

Scikit-learn's 8 × 8 digits, 1,200 to train and 597 to test; six hidden layers of 100 rectified units, He
initialisation, biases 0; masks from the first 100 training images; Adam 1.2e-3, batches of 60, 1,000 steps. Four seeds
in one program. GraSP and FORCE are too noisy at this size for an order to be asserted.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sklearn.datasets import load_digits

import jaxticket as jt
from jaxticket import scopes, scores

STEPS, BATCH, SEEDS = 1000, 60, 4
WIDTHS = (64, *[100] * 6, 10)
PRUNABLE = 64 * 100 + 5 * 100 * 100 + 100 * 10


@functools.cache
def digits():
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    images, labels = jnp.asarray(images[order] / 16, jnp.float32), jnp.asarray(labels[order])
    return (images[:1200], labels[:1200]), (images[1200:], labels[1200:])


def init(key):
    he = jax.nn.initializers.variance_scaling(2.0, "fan_in", "normal")  # He's own, not truncated
    keys = jax.random.split(key, len(WIDTHS) - 1)
    shapes = zip(keys, WIDTHS[:-1], WIDTHS[1:], strict=True)
    return [{"kernel": he(k, (m, n)), "bias": jnp.zeros((1, n))} for k, m, n in shapes]


def apply(params, x):
    for layer in params[:-1]:
        x = jax.nn.relu(x @ layer["kernel"] + layer["bias"])
    return x @ params[-1]["kernel"] + params[-1]["bias"]


def loss(params, batch):
    return optax.softmax_cross_entropy_with_integer_labels(apply(params, batch[0]), batch[1]).mean()


def accuracy(params, mask, key):
    (images, labels), (test_images, test_labels) = digits()
    tx = jt.sparsify(optax.adam(1.2e-3), jt.static(), mask=mask)

    def step(carry, i):
        params, state = carry
        rows = jax.random.randint(jax.random.fold_in(key, i), (BATCH,), 0, len(labels))
        updates, state = tx.update(jax.grad(loss)(params, (images[rows], labels[rows])), state, params)
        return (optax.apply_updates(params, updates), state), None

    (params, _), _ = jax.lax.scan(step, jt.init(tx, params), jnp.arange(STEPS))
    return 100 * jnp.mean(apply(params, test_images).argmax(-1) == test_labels)


# One program trains under every mask.
train = jax.jit(jax.vmap(accuracy))


def pruned_and_trained(name, score, density, rounds=1):
    init_key, mask_key, order_key = jax.random.split(jax.random.key(0), 3)
    params = jax.vmap(init)(jax.random.split(init_key, SEEDS))
    first = jt.start(score, density, scope=scopes.tree(), rounds=rounds)
    make = jax.jit(jax.vmap(lambda p, k: first.init(p, None, key=k)[0]))
    mask = make(params, jax.random.split(mask_key, SEEDS))
    layers = np.stack([layer["kernel"].sum((1, 2)) for layer in mask])
    assert (layers.sum(0) == round(density * PRUNABLE)).all()
    found = np.asarray(train(params, mask, jax.random.split(order_key, SEEDS)))
    print(f"{name} at {density:.0%}: {found.mean():.1f} ± {half(found):.1f}, smallest layer {layers.min(0)}")
    return found


def half(sample):
    return 3.182 * sample.std(ddof=1) / np.sqrt(SEEDS)  # Student's t, 95 %, 3 degrees of freedom


def on_data(factory):
    (images, labels), _ = digits()
    return factory(loss, [(images[:100], labels[:100])])


@pytest.mark.science
def test_synflow_in_rounds_trains_where_one_round_and_magnitude_collapse():
    synflow = scores.synflow(apply, digits()[0][0])
    rounds = pruned_and_trained("SynFlow, 100 rounds", synflow, 0.01, rounds=100)
    for name, score in (("SynFlow, 1 round", synflow), ("magnitude", scores.magnitude)):
        gap = rounds - pruned_and_trained(name, score, 0.01)
        assert gap.mean() >= 40.0
        assert gap.mean() - half(gap) > 0


@pytest.mark.science
def test_snip_trains_where_random_collapses():
    gap = pruned_and_trained("SNIP", on_data(scores.snip), 0.02) - pruned_and_trained("random", scores.random, 0.02)
    assert gap.mean() >= 30.0
    assert gap.mean() - half(gap) > 0
