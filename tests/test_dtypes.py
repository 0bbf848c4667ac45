"""Numbers of 64 bits and of 16, strict promotion, NaN traps and integers without gradient: nothing stops a training."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxticket as jt
from jaxticket import diagnostics, selection, training
from jaxticket.errors import StoppedError
from jaxticket.methods.finetune.sparsegpt import sparsegpt
from jaxticket.tickets import StepCheckpoint
from tests.tiers import sample

KERNEL = np.random.default_rng(0).normal(size=(8, 8))
PARAMS = {"kernel": jnp.asarray(KERNEL, jnp.float32), "bias": jnp.ones(8, jnp.float32)}
X = np.random.default_rng(1).normal(size=(32, 8))
KEY = jax.random.key(0)
PLANS = {
    "snfs": lambda fraction=0.5: jt.snfs(0.25, every=1, stop=9, drop_fraction=fraction),
    "rigl": lambda fraction=0.3: jt.rigl(0.25, every=1, stop=9, drop_fraction=fraction),
    "itop": lambda fraction=0.5: jt.itop(0.25, steps=9, every=1, drop_fraction=fraction),
    "granet": lambda fraction=0.5: jt.granet(0.25, stop=6, steps=9, every=1, drop_fraction=fraction),
    "granet_uniform": lambda fraction=0.5: jt.granet_uniform(
        0.25, stop=6, steps=9, every=1, last=None, drop_fraction=fraction
    ),
    "set": lambda fraction=0.3: jt.sparse_evolutionary(0.25, every=1, drop_fraction=fraction),
    "by sign": lambda fraction=0.3: jt.sparse_evolutionary(0.25, every=1, removal="sign", drop_fraction=fraction),
    "mest": lambda: jt.mest(0.25, stop=9, every=1),
    "ac_dc": lambda: jt.ac_dc(0.25, steps=6, compress=(0.25, 0.75), decompress=(0.5,)),
    "gradual": lambda: jt.gradual(0.25, stop=6, every=1),
    "iss_p": lambda: jt.iss_p(0.25, stop=5),
}
ALL, SOME = list(PLANS), ["snfs", "granet"]


def as_dtype(tree, dtype):
    return jax.tree.map(lambda x: x.astype(dtype), tree)


def train(plan, params, grads, inner=None):
    tx = jt.sparsify(inner or optax.sgd(0.1), plan, key=KEY)
    params, state = jt.init(tx, params)
    for _ in range(2):
        updates, state = tx.update(grads, state, params)
        params = optax.apply_updates(params, updates)
    assert int(jt.masks.outside(params, jt.mask_of(state))) == 0
    return jt.mask_of(state)


@pytest.mark.parametrize("plan", sample(ALL, SOME))
@pytest.mark.parametrize("held", ["float32", "float64"])
def test_plans_train_with_64_bits(plan, held):
    with jax.enable_x64(True):
        train(PLANS[plan](), as_dtype(PARAMS, held), as_dtype(PARAMS, "float64"))


@pytest.mark.parametrize("plan", sample(ALL, SOME))
def test_plans_train_under_strict_promotion(plan):
    with jax.numpy_dtype_promotion("strict"):
        train(PLANS[plan](), PARAMS, PARAMS)


@pytest.mark.parametrize("plan", sample(ALL, SOME))
def test_plans_train_beside_integers_without_gradient(plan):
    params = {**PARAMS, "step": jnp.zeros((), jnp.int32)}
    grads = jax.grad(lambda p: jnp.sum(p["kernel"] ** 2 * p["bias"][None]), allow_int=True)(params)
    floats = optax.masked(optax.sgd(0.1), lambda p: {"kernel": True, "bias": True, "step": False})
    tx = jt.sparsify(floats, PLANS[plan](), key=KEY)
    params, state = jt.init(tx, params)
    updates, state = tx.update(grads, state, params)
    assert updates["step"].dtype == jax.dtypes.float0
    assert updates["kernel"].shape == (8, 8)


@pytest.mark.parametrize("plan", sample(ALL, SOME))
def test_plans_train_under_debug_nans(plan):
    with jax.debug_nans(True):
        train(PLANS[plan](), PARAMS, PARAMS)


@pytest.mark.parametrize("plan", sample([p for p in ALL if PLANS[p].__defaults__], ["snfs", "itop", "granet"]))
def test_drop_fractions_may_be_traced(plan):
    def mask(fraction):
        tx = jt.sparsify(optax.sgd(0.1), PLANS[plan](fraction), key=KEY)
        return jt.mask_of(tx.update(PARAMS, tx.init(PARAMS)._replace(steps=jnp.int32(1)), PARAMS)[1])

    jax.tree.map(np.testing.assert_array_equal, jax.jit(mask)(0.4), mask(0.4))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_threshold_under_debug_nans(dtype):
    scores = {"a": jnp.arange(8).astype(dtype)}
    with jax.debug_nans(True):
        assert selection.threshold(scores, 3) == 5
    assert jnp.isnan(selection.threshold({"a": jnp.array([1.0, jnp.nan])}, 2))


def bowl(params):
    return jnp.sum(jnp.square(params["w"]) * jnp.array([2.0, -0.5], params["w"].dtype))


@pytest.mark.parametrize("x64", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "float64"])
def test_curvature_in_any_dtype(dtype, x64):
    with jax.enable_x64(x64):
        params = {"w": jnp.ones(2).astype(dtype)}
        top = diagnostics.hessian_top(params, bowl, key=KEY)
        assert abs(float(top.value) - 4) < 0.05
        assert top.vector["w"].dtype == params["w"].dtype
        assert top.value.dtype.itemsize >= 4
        trace = diagnostics.hessian_trace(params, bowl, key=KEY, samples=2)
        np.testing.assert_allclose(np.asarray(trace, np.float64), 3, rtol=0.02)


@pytest.mark.parametrize("held", ["float32", "float64"])
def test_sparsegpt_with_batches_of_64_bits(held):
    with jax.enable_x64(True):
        params, apply = as_dtype(PARAMS, held), lambda p, x: x @ p["kernel"] + p["bias"][None]
        pruned, mask = sparsegpt(params, apply, [jnp.asarray(X)], density=0.5)
        assert pruned["kernel"].dtype == jnp.dtype(held)
        assert int(mask["kernel"].sum()) == 32
        _, narrow = sparsegpt(PARAMS, apply, [jnp.asarray(X, jnp.float32)], density=0.5)
        assert (mask["kernel"] == narrow["kernel"]).mean() > 0.9


@pytest.mark.parametrize("subset", [False, True])
def test_a_fit_on_64_bits_resumes(subset, tmp_path):
    with jax.enable_x64(True):
        read = (lambda batch: batch.examples) if subset else (lambda batch: batch)
        loss = lambda p, state, batch, key: (jnp.mean((read(batch) @ p["kernel"]) ** 2), state)
        recipe = training.Recipe(
            loss=loss, data=jnp.asarray(X), learning_rate=optax.constant_schedule(0.1), batch_size=4
        )
        params, mask = {"kernel": PARAMS["kernel"]}, {"kernel": jnp.ones((8, 8), bool)}
        others = {"step": 0, "steps": 20} | ({"subset": jnp.arange(32) < 20} if subset else {})
        calls, resumed = [], []
        checkpoint = StepCheckpoint(tmp_path / "s", every=0, stop=lambda: bool(calls) and not resumed)
        fit = training.fit(recipe, checkpoint=checkpoint, progress=lambda *seen: calls.append(seen))
        with pytest.raises(StoppedError):
            fit(params, None, mask, KEY, **others)
        resumed.append(True)
        again, whole = fit(params, None, mask, KEY, **others), training.fit(recipe)(params, None, mask, KEY, **others)
        np.testing.assert_array_equal(again.params["kernel"], whole.params["kernel"])
        assert again.loss == whole.loss
