"""Complex weights are ranked by their modulus, beside real ones, and obey the same laws."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxticket as jt
from jaxticket import filters, reparam, scopes, scores
from jaxticket.errors import InputError

REAL = jnp.array([[0.1, 2.0], [3.0, 0.2]])
COMPLEX = jnp.array([[1 + 1j, 0.1j], [-4.0, 3j]], jnp.complex64)
PARAMS = {"real": {"kernel": REAL}, "complex": {"kernel": COMPLEX, "bias": jnp.ones(2, jnp.complex64)}}
GRADS = jax.tree.map(lambda p: jnp.ones_like(p) * (1j if jnp.iscomplexobj(p) else 1.0), PARAMS)
SIGNALS = {"grads": GRADS, "key": jax.random.key(0), "aux": optax.adam(0.1).init(PARAMS)}


def test_the_default_filter_takes_them():
    chosen = filters.weights()(PARAMS)
    assert chosen["complex"] == {"kernel": True, "bias": False}


@pytest.mark.parametrize(
    "score", [scores.magnitude, scores.random, scores.gradient, scores.saliency, scores.movement, scores.momentum]
)
def test_scores_are_real(score):
    scored = score(PARAMS, **SIGNALS)
    assert {leaf.dtype for leaf in jax.tree.leaves(scored)} == {jnp.dtype("float32")}


def test_movement_is_the_slope_along_the_weight():
    """The derivative of the loss as all of a weight shrinks, which is what real parts and imaginary parts give."""
    loss = lambda w: jnp.sum(jnp.abs(w - (1 + 2j)) ** 2)
    (slope,) = jax.tree.leaves(
        scores.movement({"w": COMPLEX[0, :1]}, grads=jax.grad(lambda p: loss(p["w"]))({"w": COMPLEX[0, :1]}))
    )
    by_hand = jax.grad(lambda t: loss(t * COMPLEX[0, :1]))(1.0)
    np.testing.assert_allclose(slope, [-by_hand], rtol=1e-6)


def test_they_compete_by_modulus():
    mask = jt.select(scores.magnitude(PARAMS), 0.5, where=filters.weights(), scope=scopes.tree())
    np.testing.assert_array_equal(mask["real"]["kernel"], [[False, True], [True, False]])
    np.testing.assert_array_equal(mask["complex"]["kernel"], [[False, False], [True, True]])


@pytest.mark.parametrize(
    "plan", [jt.static(0.5), jt.rigl(0.5, stop=20, every=2, allocate=None)], ids=["static", "rigl"]
)
def test_masked_weights_are_exact_zeros(plan):
    tx = jt.sparsify(optax.adam(0.1), plan, key=jax.random.key(0))
    params, state = jt.init(tx, PARAMS)
    for _ in range(5):
        updates, state = tx.update(GRADS, state, params)
        params = optax.apply_updates(params, updates)
        mask = jt.mask_of(state)
        for name in ("real", "complex"):
            kernel, kept = (np.asarray(tree[name]["kernel"]) for tree in (params, mask))
            assert kept.sum() == 2
            assert kernel.dtype == PARAMS[name]["kernel"].dtype
            assert (kernel[~kept] == 0).all()


@pytest.mark.parametrize(
    "method", [reparam.soft_threshold(), reparam.edge_popup(0.5), reparam.hard_concrete(stop=10)], ids=["s", "e", "h"]
)
def test_methods_with_real_gates_refuse_them(method):
    with pytest.raises(InputError, match=r"complex/kernel.*complex64"):
        method.init(PARAMS, key=jax.random.key(0))


def test_gates_by_rank_take_them():
    params, mask = reparam.export(method := reparam.straight_through(0.5), method.init(PARAMS), count=jnp.int32(0))
    assert (np.asarray(params["complex"]["kernel"] != 0) == np.asarray(mask["complex"]["kernel"])).all()
    assert mask["complex"]["kernel"].sum() == 2


def test_scores_that_need_real_weights_name_the_leaf():
    loss = lambda params, batch: jnp.sum(params["real"]["kernel"] ** 2)
    snip = jt.static(0.5, score=scores.snip(loss, [jnp.ones(2)]))
    with pytest.raises(InputError, match="complex/kernel"):
        jt.init(jt.sparsify(optax.sgd(0.1), snip), PARAMS)
