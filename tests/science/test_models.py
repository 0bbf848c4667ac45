"""Each kind of model learns what it is for: digits from pixels, or a token that came two before.

Four replicates, which differ in initialisation and order, at batch size 50. 1,000 digits of 14 × 14 pixels to train
and 500 to test, evaluated by running statistics; 1,000 sequences of 12 out of 16 tokens to train and 200 to test.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxticket import data, diagnostics, filters, models, training
from jaxticket.data import Split

pytestmark = pytest.mark.science

REPLICATES, BATCH, VOCABULARY = 4, 50, 16
IMAGE = (14, 14, 1)

# The model, Adam's learning rate, steps, and the accuracy that the whole interval must pass; chance is 0.10.
OF_IMAGES = {
    "conv_2": (models.conv_2(shape=IMAGE), 1e-3, 40, 0.80),
    "wide_resnet": (models.wide_resnet(depth=10, width=1, channels=1), 3e-3, 80, 0.88),
}

# As above; chance is 0.06, and so is what the current token tells.
OF_TOKENS = {
    "gpt": (models.gpt(vocabulary=VOCABULARY, context=12, layers=2, heads=2, width=32), 3e-3, 120, 0.95),
    "lstm": (models.lstm(vocabulary=VOCABULARY, width=32, layers=1, dropout=0.1), 2e-2, 300, 0.95),
}


@pytest.fixture(scope="module")
def digits():
    def small(split, examples):
        x = np.asarray(split.x)[:examples].reshape(-1, 14, 2, 14, 2, 1).mean((2, 4))
        return Split(jnp.asarray(x), split.y[:examples])

    whole = data.mnist5k(seed=0)
    return small(whole.train, 1000), small(whole.test, 500)


@pytest.fixture(scope="module")
def echoes():
    x = np.random.default_rng(0).integers(VOCABULARY, size=(1200, 12), dtype=np.int32)
    y = np.concatenate([x[:, :2], x[:, :-2]], axis=1)
    return Split(jnp.asarray(x[:1000]), jnp.asarray(y[:1000])), Split(jnp.asarray(x[1000:]), jnp.asarray(y[1000:]))


def accuracy(case, train, test):
    """On the test examples: the interval over replicates."""
    model, learning_rate, steps, _ = case

    def loss(params, state, batch, key):
        logits, state = model.apply(params, state, batch.x, train=True, key=key)
        return optax.softmax_cross_entropy_with_integer_labels(logits, batch.y).mean(), state

    @jax.jit
    def correct(params, state):
        logits, _ = model.apply(params, state, test.x, train=False, key=None)
        return jnp.mean(jnp.argmax(logits, -1) == test.y)

    schedule = optax.constant_schedule(learning_rate)
    fit = training.fit(training.Recipe(loss=loss, data=train, learning_rate=schedule, batch_size=BATCH))
    init = jax.jit(model.init)

    def replicate(seed):
        params, state = init(jax.random.key(seed))
        mask = filters.full_mask(params, filters.weights())
        fitted = fit(params, state, mask, jax.random.key(100 + seed), step=0, steps=steps, opt_state=None)
        return correct(fitted.params, fitted.state)

    return diagnostics.interval(map(replicate, range(REPLICATES)))


@pytest.mark.parametrize("name", OF_IMAGES)
def test_images_are_told_apart(name, digits):
    assert accuracy(OF_IMAGES[name], *digits).low > OF_IMAGES[name][-1]


@pytest.mark.parametrize("name", OF_TOKENS)
def test_tokens_are_remembered(name, echoes):
    assert accuracy(OF_TOKENS[name], *echoes).low > OF_TOKENS[name][-1]
