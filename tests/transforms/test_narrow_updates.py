"""Law 4 where updates have another dtype than the parameters: what is masked is an exact zero all the same."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxticket as jt
from jaxticket import schedules, transforms
from tests.tiers import sample

WEIGHTS = np.random.default_rng(0).normal(size=(8, 8))
DTYPES = ("bfloat16", "float16", "float32")
PAIRS = [(p, u) for p in DTYPES for u in DTYPES if p != u]


def narrow(dtype):
    """The last link of an inner chain: updates in a dtype of its own."""
    return optax.stateless(lambda updates, params: jax.tree.map(lambda u: u.astype(dtype), updates))


def mask():
    return {"a": {"kernel": jnp.asarray(WEIGHTS > 0.7)}, "b": {"kernel": None}}


ENDS = {  # the transforms that set weights to zero
    "static": lambda dtype: jt.sparsify(optax.chain(optax.sgd(0.1), narrow(dtype)), jt.static(0.25)),
    "rigl": lambda dtype: jt.sparsify(
        optax.chain(optax.adam(0.1), narrow(dtype)), jt.rigl(0.25, every=1, stop=9), key=jax.random.key(0)
    ),
    "keep_params_sparse": lambda dtype: optax.chain(optax.sgd(0.1), narrow(dtype), jt.keep_params_sparse(mask())),
    "project_l0": lambda dtype: optax.chain(optax.sgd(0.1), narrow(dtype), transforms.project_l0(0.25)),
    "soft_prune": lambda dtype: optax.chain(
        optax.sgd(0.1), narrow(dtype), transforms.soft_prune(0.25, when=schedules.every(1))
    ),
    "shrink": lambda dtype: optax.chain(optax.sgd(0.1), narrow(dtype), transforms.shrink(0.25, 0.0, stop=99)),
    "prox_l1": lambda dtype: optax.chain(optax.sgd(0.1), narrow(dtype), transforms.prox_l1(0.7)),
}


ENDS_ALONE = {
    "soft_prune": transforms.soft_prune(0.25, when=schedules.every(1)),
    "project_l0": transforms.project_l0(0.25),
    "prox_l1": transforms.prox_l1(0.7, jt.filters.match("kernel$")),
    "shrink": transforms.shrink(0.25, 0.0, stop=99),
}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize(("held", "given"), sample(PAIRS, [("float32", "bfloat16"), ("float16", "bfloat16")]))
def test_what_is_pruned_is_an_exact_zero(end, held, given):
    params = {name: {"kernel": jnp.asarray(WEIGHTS, held)} for name in "ab"}
    tx = ENDS[end](given)
    state = tx.init(params)
    for step in range(3):
        grads = jax.tree.map(lambda p: 0.3 * jnp.cos(p + step), params)
        updates, state = tx.update(grads, state, params)
        params = optax.apply_updates(params, updates)
        weights = np.asarray(params["a"]["kernel"])
        # After each step: what an update in bfloat16 leaves of a float32 weight is gone after three.
        if end in ("static", "rigl"):
            assert not weights[~np.asarray(jt.mask_of(state)["a"]["kernel"])].any()
        elif end == "keep_params_sparse":
            assert not weights[~np.asarray(mask()["a"]["kernel"])].any()
        else:
            assert (weights == 0).sum() > 16 if end == "prox_l1" else (weights == 0).sum() == 48
    assert params["a"]["kernel"].dtype == jnp.dtype(held)


def test_gradients_narrower_than_the_parameters_clear_them_too():
    params = {"kernel": jnp.asarray(np.random.default_rng(1).normal(size=(32, 32)), jnp.float32)}
    tx = jt.sparsify(optax.sgd(0.1), jt.static(0.25))
    updates, _ = tx.update({"kernel": jnp.ones((32, 32), jnp.float16)}, tx.init(params), params)
    assert int(jnp.sum(optax.apply_updates(params, updates)["kernel"] != 0)) == 256


def test_float64_weights_under_float32_updates():
    with jax.enable_x64(True):
        params = {"kernel": jnp.asarray(WEIGHTS)}
        tx = jt.sparsify(optax.chain(optax.sgd(0.1), narrow("float32")), jt.static(0.25))
        updates, _ = tx.update({"kernel": jnp.ones((8, 8))}, tx.init(params), params)
        assert int(jnp.sum(optax.apply_updates(params, updates)["kernel"] != 0)) == 16


@pytest.mark.parametrize("end", ["soft_prune", "project_l0", "prox_l1", "shrink"])
def test_integers_beside_the_weights_pass(end):
    params = {"a": {"kernel": jnp.asarray(WEIGHTS, jnp.float32)}, "step": jnp.zeros((), jnp.int32)}
    tx = ENDS_ALONE[end]
    grads = {"a": {"kernel": jnp.ones((8, 8), jnp.bfloat16)}, "step": jnp.zeros((), jnp.int32)}
    updates, _ = tx.update(grads, tx.init(params), params)
    moved = optax.apply_updates(params, updates)
    assert moved["step"] == 0
    assert (moved["a"]["kernel"] == 0).any()
