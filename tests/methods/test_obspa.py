"""OBSPA against the optimal brain surgeon channel by channel, its goldens, and what magnitude leaves of the outputs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxticket as jt
from jaxticket import structure
from jaxticket.errors import InputError
from jaxticket.methods.channels import obspa as module
from jaxticket.methods.channels.obspa import obspa
from tests.structure import _removal


def product(params, x):
    return x @ params["a"]["kernel"] @ params["b"]["kernel"]


def identity_reader(consumer):
    """A layer whose inputs are what `a` passes on: the identity, so that its inputs are the data."""
    inputs = consumer.shape[0]
    params = {"a": {"kernel": jnp.eye(inputs)}, "b": {"kernel": jnp.asarray(consumer, jnp.float32)}}
    return params, structure.trace(product, params, jnp.ones((1, inputs)))


def inputs_of(hessian):
    """Return data X with 2XᵀX equal to a matrix."""
    return jnp.asarray(np.linalg.cholesky(np.asarray(hessian, float) / 2).T, jnp.float32)


def pruned(consumer, hessian, fraction):
    params, groups = identity_reader(np.asarray(consumer))
    new, kept = obspa(params, product, [inputs_of(hessian)], groups, fraction, damping=1e-7)
    return np.asarray(new["b"]["kernel"]), kept["a/kernel:1"]


def test_goldens():
    weights = np.array([[1.0, 2.0], [3.0, -1.0]]).T
    new, kept = pruned(weights, 2 * np.eye(2), 0.5)  # scores 20 and 10: input 1 goes, nothing to make up for
    np.testing.assert_allclose(new.T, [[1, 0], [3, 0]], atol=1e-5)
    np.testing.assert_array_equal(kept, [True, False])
    new, kept = pruned(weights, [[2, 1], [1, 2]], 0.5)  # scores 15 and 7.5
    np.testing.assert_allclose(new.T, [[2, 0], [2.5, 0]], atol=1e-5)
    np.testing.assert_array_equal(kept, [True, False])
    # Two inputs at once: removed one after the other without a downdate, index 0 would come back as .8333.
    params, groups = identity_reader(np.array([[0.1], [0.1], [1.0]]))
    hessian = [[2, 1, 0], [1, 2, 1], [0, 1, 2]]
    new, kept = obspa(params, product, [inputs_of(hessian)], groups, 1 / 3, damping=1e-7)
    np.testing.assert_array_equal(kept["a/kernel:1"], [False, False, True])
    np.testing.assert_allclose(new["b"]["kernel"][:, 0], [0, 0, 1.05], atol=1e-5)


def test_a_dependent_input_moves_onto_the_other():
    params, groups = identity_reader(np.array([[1.0, -1.0], [2.0, 0.5]]))
    x = jnp.array([[1.0, 2.0], [-3.0, -6.0], [0.5, 1.0]])  # x2 = 2 x1
    new, kept = obspa(params, product, [x], groups, 0.5, damping=1e-6)
    (gone,) = np.flatnonzero(~kept["a/kernel:1"])
    expected = np.zeros((2, 2))
    expected[1 - gone] = {1: [5.0, 0.0], 0: [2.5, 0.0]}[gone]
    np.testing.assert_allclose(new["b"]["kernel"], expected, atol=1e-3)


def surgeon(weight, hessian, entries):
    """Return the scores of channels by their definition, in float64; `entries` are the rows of each."""
    inverse = np.linalg.inv(hessian)
    scores = []
    for rows in entries:
        inner = np.linalg.inv(inverse[np.ix_(rows, rows)])
        scores.append(sum(w[rows] @ inner @ w[rows] for w in weight.T))
    return np.array(scores)


def updated(weight, hessian, gone):
    inverse = np.linalg.inv(hessian)
    delta = inverse[:, gone] @ np.linalg.inv(inverse[np.ix_(gone, gone)]) @ weight[gone]
    return weight - delta


def convolve(params, x):
    x = jax.lax.conv_general_dilated(
        x, params["a"]["kernel"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    return jax.lax.conv_general_dilated(
        jnp.tanh(x), params["b"]["kernel"], (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def test_taps_of_a_convolution_go_together():
    keys = jax.random.split(jax.random.key(0), 3)
    params = {
        "a": {"kernel": jax.random.normal(keys[0], (3, 3, 2, 5))},
        "b": {"kernel": jax.random.normal(keys[1], (2, 2, 5, 3))},
    }
    x = jax.random.normal(keys[2], (6, 7, 7, 2))
    groups = structure.trace(convolve, params, x)
    new, kept = obspa(params, convolve, [x[:3], x[3:]], groups, 0.6)
    hidden = np.asarray(
        jnp.tanh(
            jax.lax.conv_general_dilated(
                x, params["a"]["kernel"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
        ),
        np.float64,
    )
    patches = np.stack([hidden[:, i : i + 6, j : j + 6] for i in (0, 1) for j in (0, 1)], axis=3)  # (n, 6, 6, taps, 5)
    columns = patches.reshape(-1, 20)
    hessian = 2 * columns.T @ columns
    hessian += 0.01 * np.mean(np.diag(hessian)) * np.eye(20)
    weight = np.asarray(params["b"]["kernel"], np.float64).reshape(20, 3)
    scores = surgeon(weight, hessian, [np.arange(4) * 5 + c for c in range(5)])
    gone = np.sort(np.argsort(scores)[:2])
    np.testing.assert_array_equal(np.flatnonzero(~kept["a/kernel:3"]), gone)
    rows = np.concatenate([np.arange(4) * 5 + c for c in gone])
    expected = updated(weight, hessian, rows).reshape(2, 2, 5, 3)
    np.testing.assert_allclose(new["b"]["kernel"], expected, rtol=1e-3, atol=1e-3)
    assert not np.any(new["a"]["kernel"][..., gone])
    # What comes out is a network of which the channels can be removed.
    smaller, run = structure.shrink(new, kept, groups), structure.replay(convolve, kept, groups)
    np.testing.assert_allclose(run(smaller, x), convolve(new, x), rtol=1e-4, atol=1e-4)


def relu_net(params, x):
    return jax.nn.relu(x @ params["a"]["kernel"]) @ params["b"]["kernel"]


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2))])
def test_outputs_stay_closer_than_by_magnitude_and_at_random(seed):
    keys = jax.random.split(jax.random.key(seed), 4)
    mix = jax.random.normal(keys[0], (6, 12)) / 6**0.5  # hidden units that stand in for each other
    params = {
        "a": {"kernel": mix @ jax.random.normal(keys[1], (12, 32))},
        "b": {"kernel": jax.random.normal(keys[2], (32, 5))},
    }
    x, test = jnp.split(jax.random.normal(keys[3], (400, 6)), 2)
    groups = structure.trace(relu_net, params, x)
    error = lambda p: float(jnp.mean((relu_net(p, test) - relu_net(params, test)) ** 2))
    new, kept = obspa(params, relu_net, [x], groups, 0.7)
    by_size = structure.choose(structure.group_magnitude(params, groups), groups, 0.7)
    drawn = structure.choose({"a/kernel:1": jax.random.uniform(keys[0], (32,))}, groups, 0.7)
    zeroed = _removal.zeroed(params, kept, groups)
    assert error(new) < 0.5 * error(zeroed)
    for other in (by_size, drawn):
        assert error(new) < 0.5 * error(_removal.zeroed(params, other, groups))
    # Random inputs do where there are no data.
    free, _ = obspa(params, relu_net, [jax.random.uniform(keys[1], (300, 6), minval=-2, maxval=2)], groups, 0.7)
    assert error(free) < error(zeroed)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"damping": 0.0}, "damping is 0.0"),
        ({"batches": []}, "batches is empty"),
        ({"batches": [jnp.full((4, 6), jnp.nan)]}, "inputs of a/kernel are not all finite"),
        ({"budget": 0.001}, "cannot be met"),
        ({"ranking": "best"}, "ranking is 'best'"),
    ],
)
def test_bad_input_is_named(change, match):
    params = {"a": {"kernel": jnp.ones((6, 8))}, "b": {"kernel": jnp.ones((8, 2))}}
    groups = structure.trace(relu_net, params, jnp.ones((4, 6)))
    arguments = {"batches": [jnp.ones((4, 6))], "budget": 0.5, **change}
    batches, budget = arguments.pop("batches"), arguments.pop("budget")
    with pytest.raises(InputError, match=match):
        obspa(params, relu_net, batches, groups, budget, **arguments)


def test_groups_that_no_layer_reads_are_refused():
    params = {"w": jnp.ones((6, 8))}
    groups = structure.trace(lambda p, x: jnp.mean(x @ p["w"], axis=-1), params, jnp.ones((4, 6)))
    with pytest.raises(InputError, match="no layer reads a channel"):
        obspa(params, lambda p, x: jnp.mean(x @ p["w"], axis=-1), [jnp.ones((4, 6))], groups, 0.5, allow_inexact=True)
    assert jt.structure is structure


def test_dtypes_stay_and_dead_layers_pass():
    params = {
        "a": {"kernel": jnp.zeros((6, 8), jnp.bfloat16)},
        "b": {"kernel": jnp.ones((8, 2), jnp.bfloat16)},
    }
    groups = structure.trace(relu_net, params, jnp.ones((4, 6), jnp.bfloat16))
    new, kept = obspa(params, relu_net, [jnp.ones((4, 6), jnp.bfloat16)], groups, 0.5)
    assert new["b"]["kernel"].dtype == jnp.bfloat16
    assert kept["a/kernel:1"].sum() == 4
    assert bool(jnp.isfinite(new["b"]["kernel"]).all())


def test_a_weight_that_is_also_read_by_its_transpose_is_not_updated(monkeypatch):
    keys = jax.random.split(jax.random.key(0), 3)
    shapes = {"a": (4, 6), "w": (6, 9), "b": (6, 2)}
    params = {name: {"kernel": jax.random.normal(keys[0], shape)} for name, shape in shapes.items()}

    def apply(p, x):
        h = jnp.tanh(x @ p["a"]["kernel"])
        return jnp.tanh(jnp.tanh(h @ p["w"]["kernel"]) @ p["w"]["kernel"].T) @ p["b"]["kernel"]

    x = jax.random.normal(keys[2], (20, 4))
    groups = structure.trace(apply, params, x)
    sizes = []
    gram = module.gram
    monkeypatch.setattr(module, "gram", lambda product: sizes.append(product.shape) or gram(product))
    new, kept = obspa(params, apply, [x], groups, 0.8)
    assert sizes == [(4, 6), (6, 2)]  # the products of all entries of w with each other are never made
    mask = structure.spread(kept, groups, params)
    assert 0 < np.mean(mask["w"]["kernel"]) < 1
    np.testing.assert_array_equal(new["w"]["kernel"], jnp.where(mask["w"]["kernel"], params["w"]["kernel"], 0))
    alone = lambda p, x: jnp.tanh(x @ p["kernel"]) @ p["kernel"].T
    x = x @ params["a"]["kernel"]
    with pytest.raises(InputError, match="no layer reads a channel"):
        obspa(params["w"], alone, [x], structure.trace(alone, params["w"], x), 0.5)
