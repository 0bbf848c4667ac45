"""KS-Lottery: distances and probabilities against scipy, rows that changed, and what stays."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxticket import filters
from jaxticket.errors import InputError
from jaxticket.methods.finetune.ks_lottery import ks_distances, ks_lottery, ks_probabilities, transfer


def test_distances_by_hand():
    old = jnp.array([[0.0, 1, 2, 3], [0, 1, 2, 3], [1, 2, 3, 4], [0, 0, 0, 0], [5, 6, 7, 8]])
    new = jnp.array([[0.5, 1.5, 2.5, 3.5], [2, 3, 4, 5], [4, 3, 2, 1], [0, 0, 0, 1], [0, 1, 2, 3]])
    assert ks_distances(old, new).tolist() == [0.25, 0.5, 0.0, 0.25, 1.0]


@pytest.mark.parametrize("size", [10, 384])
def test_scipy(size):
    draw = np.random.default_rng(0)
    old, new = draw.normal(size=(2, 30, size)).astype(np.float32)
    new[10:20] += 0.3
    new[20:] = np.round(new[20:], 1)  # ties
    old[20:] = np.round(old[20:], 1)
    distances = ks_distances(jnp.asarray(old), jnp.asarray(new))
    tests = [stats.ks_2samp(a, b, method="asymp") for a, b in zip(old, new, strict=True)]
    np.testing.assert_allclose(distances, [test.statistic for test in tests], rtol=1e-6)
    if size == 384:
        expected = [stats.kstwobign.sf(test.statistic * np.sqrt(size / 2)) for test in tests]
        np.testing.assert_allclose(ks_probabilities(distances, size), expected, atol=0.03)
    permuted = np.random.default_rng(1).permuted(new, axis=1)
    np.testing.assert_array_equal(ks_distances(jnp.asarray(old), jnp.asarray(permuted)), distances)


def test_rates_of_rejection():
    """2,000 rows of 384 entries: of the same distribution about 4 %, of one shifted by 0.3 more than nine tenths."""
    draw = np.random.default_rng(0)
    old, new = (jnp.asarray(draw.normal(size=(2000, 384)), jnp.float32) for _ in range(2))
    rejected = lambda a, b: float((ks_probabilities(ks_distances(a, b), 384) < 0.05).mean())
    assert rejected(old, old) == 0
    assert 0.03 < rejected(old, new) < 0.06
    assert rejected(old, new + 0.3) > 0.9


def test_critical_distances():
    for size, critical in ((384, 0.0980), (4096, 0.0300)):
        below, above = ks_probabilities(jnp.array([critical - 0.003, critical + 0.001]), size)
        assert below > 0.05 > above


PARAMS = {
    "token": {"embedding": jax.random.normal(jax.random.key(0), (6, 50))},
    "output": {"kernel": jnp.ones((50, 3)), "bias": None},
}


def shift(params, mask):
    """Training that moves rows 1 and 4 far, and row 2 hardly; all else by one, where it may."""
    moved = params["token"]["embedding"] + jnp.array([0, 3.0, 0.01, 0, -3.0, 0])[:, None]
    kernel = params["output"]["kernel"]
    return {
        "token": {"embedding": jnp.where(mask["token"]["embedding"], moved, params["token"]["embedding"])},
        "output": {"kernel": jnp.where(mask["output"]["kernel"], kernel + 1, kernel), "bias": None},
    }


def test_rows_that_changed_are_tuned_alone():
    params, mask = ks_lottery(PARAMS, shift)
    assert mask["token"]["embedding"].ravel().tolist() == [False, True, False, False, True, False]
    assert not mask["output"]["kernel"].any()
    same = np.asarray(params["token"]["embedding"] == PARAMS["token"]["embedding"]).all(1)
    assert same.tolist() == [True, False, True, True, False, True]
    assert (params["output"]["kernel"] == 1).all()
    tuned = shift(PARAMS, jax.tree.map(lambda p: jnp.ones((1, 1), bool), PARAMS))
    moved = transfer(PARAMS, tuned, mask)
    np.testing.assert_array_equal(moved["token"]["embedding"], params["token"]["embedding"])
    assert (moved["output"]["kernel"] == 1).all()


def test_whole_tensors():
    _, mask = ks_lottery(PARAMS, shift, where=filters.everything(), by="tensor")
    assert mask["token"]["embedding"].tolist() == [[True]]
    assert mask["output"]["kernel"].tolist() == [[True]]
    small = lambda params, mask: jax.tree.map(lambda p: p + 1e-3, params)
    assert not ks_lottery(PARAMS, small, by="tensor")[1]["token"]["embedding"].any()


def test_errors():
    with pytest.raises(InputError, match="alpha=2"):
        ks_lottery(PARAMS, shift, alpha=2)
    with pytest.raises(InputError, match="by='column'"):
        ks_lottery(PARAMS, shift, by="column")
    with pytest.raises(InputError):
        ks_lottery(PARAMS, shift, where=filters.match("nothing"))
    with pytest.raises(InputError, match="same shape"):
        ks_distances(jnp.ones((2, 3)), jnp.ones((3, 2)))
