"""Linear mode connectivity on real digits: LeNet-300-100 is stable to the order of the data from its initialisation on.

After Frankle, Dziugaite, Roy & Carbin, "Linear Mode Connectivity and the Lottery Ticket Hypothesis" (2020). 3,500
images to train, 1,000 to test; Adam 1.2e-3, batches of 60, 12 epochs. Four pairs of each kind.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxticket import data, diagnostics, filters, models, training

pytestmark = pytest.mark.science

PAIRS, EPOCHS, BATCH = 4, 12, 60
MODEL = models.lenet_300_100()


@pytest.fixture(scope="module")
def digits():
    return data.mnist5k(seed=0)


@pytest.fixture(scope="module")
def train(digits):
    """(initialisation, order of the data) -> one end of a path; both are seeds, and each pair is trained once."""

    def loss(params, state, batch, key):
        logits, state = MODEL.apply(params, state, batch.x, train=True, key=key)
        return optax.softmax_cross_entropy_with_integer_labels(logits, batch.y).mean(), state

    schedule = optax.constant_schedule(1.2e-3)
    recipe = training.Recipe(loss=loss, data=digits.train, learning_rate=schedule, batch_size=BATCH)
    fit, steps = training.fit(recipe), EPOCHS * recipe.steps_per_epoch

    @functools.cache
    def end(initialisation, order):
        params, state = MODEL.init(jax.random.key(initialisation))
        mask = filters.full_mask(params, filters.weights())
        fitted = fit(params, state, mask, jax.random.key(1000 + order), step=0, steps=steps, opt_state=None)
        return diagnostics.Endpoint(fitted.params, mask, fitted.state)

    return end


@pytest.fixture(scope="module")
def barrier(digits):
    @jax.jit
    def error(params, state, split):
        logits, _ = MODEL.apply(params, state, split.x, train=False, key=None)
        return jnp.mean(jnp.argmax(logits, -1) != split.y)

    return functools.partial(diagnostics.barrier, lambda params, state: error(params, state, digits.test))


def heights(kind, found):
    values = [f.height for f in found]
    mean, half_width = interval = diagnostics.interval(values)
    print(f"{kind}: {mean:.4f} ± {half_width:.4f}, {np.round(values, 4)}")
    return interval


def test_one_rewind_point_leads_to_one_region_and_two_initialisations_do_not(train, barrier):
    same = [barrier(train(i, 0), train(i, 1)) for i in range(PAIRS)]
    independent = [barrier(train(i, 0), train(PAIRS + i, 1)) for i in range(PAIRS)]
    low, high = heights("same initialisation", same), heights("independent initialisations", independent)
    assert all(f.stable for f in same)
    assert not any(f.stable for f in independent)
    assert low.high < high.low
    # The paper's other measure: the runs end nearer to each other too.
    distances = [diagnostics.interval(f.distance for f in found) for found in (same, independent)]
    assert distances[0].high < distances[1].low


def permuted(params, key):
    """The same function: hidden units of both layers in another order."""
    first, second = (jax.random.permutation(k, n) for k, n in zip(jax.random.split(key), (300, 100), strict=True))
    layers = {name: layer["kernel"] for name, layer in params.items()}
    return {
        "hidden1": {"kernel": layers["hidden1"][:, first], "bias": params["hidden1"]["bias"][first]},
        "hidden2": {"kernel": layers["hidden2"][first][:, second], "bias": params["hidden2"]["bias"][second]},
        "output": {"kernel": layers["output"][second], "bias": params["output"]["bias"]},
    }


def test_permuted_hidden_units_lie_behind_a_barrier_though_they_are_the_same_function(train, barrier):
    same = [barrier(train(i, 0), train(i, 1)) for i in range(PAIRS)]
    ends = [train(i, 0) for i in range(PAIRS)] + [train(PAIRS + i, 1) for i in range(PAIRS)]
    found = [barrier(end, end._replace(params=permuted(end.params, jax.random.key(i)))) for i, end in enumerate(ends)]
    for path in found:
        # Sums in another order may tip the scales for an image or two.
        assert abs(path.errors[0] - path.errors[-1]) <= 0.002
    assert heights("same initialisation", same).high < heights("permuted units", found).low
