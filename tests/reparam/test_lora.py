"""LoRA: factors of a decoder's kernels, trained alone, merged, and pruned by a plan as any leaves."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxticket as jt
from jaxticket import filters, models, reparam
from tests.conformance.drivers import COMPILER

RANK, ALPHA = 2, 16
TARGETS = filters.match("attention/(query|value)/kernel")
FACTORS = filters.match("^learned/")


@functools.cache
def problem():
    model = models.decoder(vocabulary=20, layers=2, heads=4, key_value_heads=2, width=8, hidden=12, depth=4)
    params, _ = model.init(jax.random.key(0))
    lora = reparam.additive(rank=RANK, residual_density=0, scale=ALPHA / RANK, where=TARGETS)
    tokens = jax.random.randint(jax.random.key(1), (4, 9), 0, 20)

    def loss(params):
        logits, _ = model.apply(params, None, tokens[:, :-1], train=False, key=None)
        return optax.softmax_cross_entropy_with_integer_labels(logits, tokens[:, 1:]).mean()

    return params, lora, loss


def train(tx, latent, state, lora, loss, steps=60):
    @functools.partial(jax.jit, compiler_options=COMPILER)
    def step(latent, state):
        value, grads = jax.value_and_grad(lambda latent: loss(lora.realise(latent, count=0)))(latent)
        updates, state = tx.update(grads, state, latent)
        return optax.apply_updates(latent, updates), state, value

    values = []
    for _ in range(steps):
        latent, state, value = step(latent, state)
        values.append(float(value))
    return latent, state, values


def test_factors_are_those_of_inputs_and_outputs():
    """Of the query (width, heads, head size) as a layer of width inputs, not of width · heads."""
    params, lora, _ = problem()
    latent = lora.init(params, key=jax.random.key(2))
    factors = latent.learned["blocks"]["block1"]["attention"]
    assert (factors["query"]["kernel"].left.shape, factors["query"]["kernel"].right.shape) == ((8, RANK), (RANK, 16))
    assert (factors["value"]["kernel"].left.shape, factors["value"]["kernel"].right.shape) == ((8, RANK), (RANK, 8))
    assert factors["out"]["kernel"] is None
    assert sum(leaf.size for leaf in jax.tree.leaves(latent.learned)) == 2 * RANK * ((8 + 16) + (8 + 8))
    jax.tree.map(np.testing.assert_array_equal, lora.realise(latent, count=0), params)


def test_factors_are_trained_alone_and_merge():
    params, lora, loss = problem()
    tx, latent = lora.wrap(optax.adamw(3e-2, weight_decay=0.1)), lora.init(params, key=jax.random.key(2))
    latent, _, values = train(tx, latent, tx.init(latent), lora, loss)
    assert values[-1] < values[0] - 0.1
    jax.tree.map(np.testing.assert_array_equal, latent.weights, params)
    merged, _ = reparam.export(lora, latent, count=0)
    factor = latent.learned["blocks"]["block2"]["attention"]["query"]["kernel"]
    change = (
        merged["blocks"]["block2"]["attention"]["query"]["kernel"]
        - params["blocks"]["block2"]["attention"]["query"]["kernel"]
    )
    x = jax.random.normal(jax.random.key(3), (5, 8))
    expected = ALPHA / RANK * (x @ factor.left) @ factor.right
    np.testing.assert_allclose(jnp.einsum("bw,whd->bhd", x, change).reshape(5, -1), expected, atol=1e-4)
    assert np.linalg.matrix_rank(np.asarray(change).reshape(8, -1), tol=1e-5) == RANK
    untouched = merged["blocks"]["block1"]["mlp"]["hidden"]["kernel"]
    np.testing.assert_array_equal(untouched, params["blocks"]["block1"]["mlp"]["hidden"]["kernel"])


@pytest.mark.parametrize("name", ["static", "gradual", "rigl"])
def test_a_plan_prunes_the_factors(name):
    params, lora, loss = problem()
    plans = {
        "static": jt.static(0.5, where=FACTORS),
        "gradual": jt.gradual(0.5, start=0, stop=12, every=4, where=FACTORS),
        "rigl": jt.rigl(0.5, stop=15, every=5, where=FACTORS),
    }
    tx = jt.sparsify(lora.wrap(optax.adam(3e-2)), plans[name], key=jax.random.key(4))
    latent, state = jt.init(tx, lora.init(params, key=jax.random.key(2)))
    latent, state, values = train(tx, latent, state, lora, loss)
    mask = jt.mask_of(state)
    assert not jax.tree.leaves(mask.weights)
    kept = sum(int(m.sum()) for m in jax.tree.leaves(mask.learned))
    assert kept == pytest.approx(0.5 * sum(leaf.size for leaf in jax.tree.leaves(latent.learned)), rel=0.02)
    jax.tree.map(np.testing.assert_array_equal, jt.apply_mask(latent.learned, mask.learned), latent.learned)
    jax.tree.map(np.testing.assert_array_equal, latent.weights, params)
    assert values[-1] < values[0]
