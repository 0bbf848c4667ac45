"""SLaK's training: ratios of SNIP, random regrowth with a cosine, and averages in which newborn weights start anew."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxticket import filters, masks, models, schedules
from jaxticket.errors import InputError
from jaxticket.methods.channels.slak import average, ratios, slak


def refresh(plan, params, mask, state, count):
    signals = {"params": params, "grads": params, "count": jnp.int32(count), "key": jax.random.key(count), "aux": None}
    return plan.refresh.update(mask, state, **signals)


def test_ratios_keep_the_threshold():
    """Of scores 5 to 1 the density 0.4 keeps two; the authors' strict threshold keeps one."""
    score = {"kernel": jnp.array([[5.0, 4.0, 3.0, 2.0, 1.0]])}
    assert ratios(score, score, 0.4) == {"kernel": 0.4}
    strict = score["kernel"] > jax.lax.top_k(score["kernel"], int(5 * 0.4))[0][0, -1]
    assert int(strict.sum()) == 1


def test_nearly_dense_leaves_are_dense():
    score = {"a": {"kernel": jnp.full((10, 10), 9.0).at[0, 0].set(0)}, "b": {"kernel": jnp.ones((10, 10))}}
    shares = ratios(score, score, 0.5)
    assert shares["a"]["kernel"] == 1.0
    assert shares["b"]["kernel"] == pytest.approx(0.01)


def test_every_kernel_is_sparsified():
    params, _ = jax.eval_shape(models.slak(kernels=(7,), depths=(1,), dims=(8,)).init, jax.random.key(0))
    assert filters.weights()(params) == jax.tree.map(lambda x: x.ndim in (2, 4), params)


def test_drop_fraction():
    falls = {0.5: [0.5, 0.427509, 0.2525, 0.077491, 0.005], 0.3: [0.3, None, 0.1525, None, 0.005]}
    for initial, expected in falls.items():
        fraction = schedules.cosine(initial, stop=100, final=0.005)
        for t, value in zip((0, 25, 50, 75, 100), expected, strict=True):
            assert value is None or float(fraction(jnp.int32(t))) == pytest.approx(value, abs=1e-6)


@pytest.mark.parametrize(("every", "refreshes"), [(2000, 46), (100, 936)])
def test_refreshes_of_300_epochs(every, refreshes):
    plan = slak(1.0, steps=93_600, every=every)
    assert int(jax.vmap(plan.when)(jnp.arange(1, 93_601)).sum()) == refreshes


def test_refresh_replaces_the_smallest():
    """Of ten weights a quarter is dropped, rounded up: three. As many grow, so the number stays."""
    params = {"kernel": jnp.arange(1.0, 41.0).reshape(4, 10)}
    plan = slak({"kernel": 0.25}, steps=1000, every=1, drop_fraction=0.25)
    mask, state = plan.refresh.init(params, None, key=jax.random.key(0))
    assert int(masks.nnz(params, mask)) == 10
    worst = np.sort(np.asarray(params["kernel"])[np.asarray(mask["kernel"])])
    new, _ = refresh(plan, params, mask, state, 1)
    assert int(masks.nnz(params, new)) == 10
    kept = np.asarray(params["kernel"])[np.asarray(new["kernel"])]
    assert set(worst[3:]) <= set(kept)  # the seven largest stay
    assert set(kept) != set(worst)


def test_average():
    mean, params = {"w": jnp.array([0.5, 0.2, 0.0]), "b": jnp.zeros(1)}, {"w": jnp.array([1.0, 1, 2]), "b": jnp.ones(1)}
    new = average(mean, params, {"w": jnp.array([True, False, True]), "b": None})
    np.testing.assert_allclose(new["w"], [0.50005, 0, 2], rtol=1e-6)
    np.testing.assert_allclose(new["b"], [1e-4], rtol=1e-3)  # a dense leaf has no newborn weights
    with pytest.raises(InputError, match="decay=2"):
        average(mean, params, {"w": None, "b": None}, decay=2)


def test_errors():
    with pytest.raises(InputError, match="initial=2"):
        slak(0.5, steps=10, drop_fraction=2)
    with pytest.raises(InputError, match="stop"):
        slak(0.5, steps=0)
