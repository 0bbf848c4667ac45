"""Recurrent classifiers: golden values of small cells, padding, masks inside the loop, skips."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxticket as jt
from jaxticket import models
from jaxticket.errors import InputError


def scalar(w_ih, w_hh):
    """A network of one tanh unit that reads 1 at each token and shows its state."""
    part = lambda w: {"kernel": jnp.full((1, 1, 1), w), "bias": jnp.zeros((1, 1))}
    return {
        "token": {"embedding": jnp.ones((2, 1))},
        "layer1": {"input": part(w_ih), "recurrent": part(w_hh)},
        "output": {"kernel": jnp.ones((1, 1)), "bias": jnp.zeros(1)},
    }


def run(model, params, x):
    return model.apply(params, None, x, train=False, key=None)[0]


@pytest.fixture(scope="module")
def tanh():
    return models.recurrent(cell="tanh", widths=(1,), classes=1, vocabulary=2)


@pytest.mark.parametrize(
    ("w_ih", "w_hh", "state"),
    [(0.0, 0.5, 0.0), (2.0, 0.0, np.tanh(2.0)), (2.0, 0.5, np.tanh(2 + 0.5 * np.tanh(2.0)))],
)
def test_one_tanh_unit(tanh, w_ih, w_hh, state):
    np.testing.assert_allclose(run(tanh, scalar(w_ih, w_hh), jnp.ones((1, 2), int)), [[state]], rtol=1e-6)


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_padding_changes_nothing(cell):
    model = models.recurrent(cell=cell, widths=(4, 3), vocabulary=9)
    params, _ = model.init(jax.random.key(0))
    x = jnp.array([[3, 1, 4, 0, 0], [2, 7, 1, 8, 2]])
    np.testing.assert_allclose(run(model, params, x)[:1], run(model, params, x[:1, :3]), rtol=1e-5, atol=1e-6)


def test_a_skip_is_added_to_its_target():
    model = models.recurrent(cell="relu", widths=(3, 2, 2), vocabulary=5, skips=[(1, 3)])
    plain = models.recurrent(cell="relu", widths=(3, 2, 2), vocabulary=5)
    params, _ = model.init(jax.random.key(1))
    x = jnp.array([[1, 2, 3]])
    without = jax.tree.map(jnp.zeros_like, params["skip1_3"])
    np.testing.assert_allclose(run(model, {**params, "skip1_3": without}, x), run(plain, params, x), rtol=1e-6)
    assert not np.allclose(run(model, params, x), run(plain, params, x))


def test_masks_act_on_the_kernels_of_the_loop():
    model = models.recurrent(cell="lstm", widths=(4,), vocabulary=5)
    params, _ = model.init(jax.random.key(0))
    mask = jt.select(jt.scores.magnitude(params), 0.0, where=jt.filters.match("recurrent/kernel"))
    gone = {**params["layer1"]["recurrent"], "kernel": jnp.zeros((4, 4, 4))}
    zeroed = {**params, "layer1": {**params["layer1"], "recurrent": gone}}
    x = jnp.array([[1, 2, 3]])
    np.testing.assert_array_equal(run(model, jt.apply_mask(params, mask), x), run(model, zeroed, x))


@pytest.mark.parametrize(
    "options",
    [
        {"cell": "elman"},
        {"widths": ()},
        {"widths": (4, 0)},
        {"classes": 0},
        {"vocabulary": 0},
        *({"skips": [skip]} for skip in ((1, 2), (0, 2), (1, 4), (3, 1))),
    ],
)
def test_bad_sizes(options):
    with pytest.raises(InputError, match=next(iter(options))):
        models.recurrent(**{"cell": "tanh", **options})


def test_tokens_are_integers(tanh):
    with pytest.raises(InputError, match="int"):
        run(tanh, scalar(1.0, 1.0), jnp.ones((1, 2)))
