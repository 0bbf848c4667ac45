"""One bad batch is named, with the leaf, instead of turning scores or weights into NaN."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxticket as jt
from jaxticket import scores, units
from jaxticket.errors import InputError
from jaxticket.methods.finetune.sparsegpt import sparsegpt

RNG = np.random.default_rng(0)
PARAMS = {
    "a": {"kernel": jnp.asarray(RNG.normal(size=(6, 5)), jnp.float32)},
    "b": {"kernel": jnp.asarray(RNG.normal(size=(5, 3)), jnp.float32)},
}
GOOD = jnp.asarray(RNG.normal(size=(8, 6)), jnp.float32)
BAD = {"nan": GOOD.at[2, 3].set(jnp.nan), "inf": GOOD.at[2, 3].set(jnp.inf)}


def apply(params, x):
    return jnp.tanh(x @ params["a"]["kernel"]) @ params["b"]["kernel"]


def loss(params, x):
    return jnp.mean(apply(params, x) ** 2)


def batches(bad):
    return [GOOD, GOOD + 1, BAD[bad]]


CHANNELS = units.axis(-1)
SCORES = {
    "snip": lambda x: scores.snip(loss, x),
    "grasp": lambda x: scores.grasp(loss, x),
    "fisher": lambda x: scores.fisher(loss, x),
    "taylor": lambda x: scores.taylor(loss, x, unit=CHANNELS),
    "activation_taylor": lambda x: scores.activation_taylor(loss, x),
    "wanda": lambda x: scores.wanda(apply, x),
    "activation_norm": lambda x: scores.activation_norm(apply, x),
    "mean_activation": lambda x: scores.mean_activation(apply, x),
}


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("bad", BAD)
def test_the_batch_and_the_leaf_are_named(score, bad):
    scored = SCORES[score](batches(bad))
    with pytest.raises(InputError, match=r"batches\[2\] gives '[ab]/kernel"):
        scored(PARAMS)


def test_good_batches_pass_and_traced_scores_are_not_looked_at():
    scored = scores.snip(loss, [GOOD])
    jax.tree.map(np.testing.assert_array_equal, jax.jit(scored)(PARAMS), scored(PARAMS))
    assert jnp.isnan(jax.jit(scores.snip(loss, batches("nan")))(PARAMS)["a"]["kernel"]).any()


@pytest.mark.parametrize("bad", BAD)
def test_sparsegpt_names_the_batch_and_the_leaf(bad):
    with pytest.raises(InputError, match=r"batches\[2\] gives 'a/kernel'"):
        sparsegpt(PARAMS, apply, batches(bad), 0.5)


def test_sparsegpt_says_that_inputs_depend_on_each_other():
    twice = jnp.concatenate([GOOD[:, :3], GOOD[:, :3]], 1)
    with pytest.raises(InputError, match=r"a/kernel: inputs depend .* pass a larger damping"):
        sparsegpt(PARAMS, apply, [1e3 * twice], 0.5, damping=1e-9)
    pruned, _ = sparsegpt(PARAMS, apply, [1e3 * twice], 0.5)
    assert all(bool(jnp.isfinite(p).all()) for p in jax.tree.leaves(pruned))


def test_a_plan_whose_score_reads_a_bad_batch_stops_before_training():
    plan = jt.static(0.5, score=scores.snip(loss, batches("nan")), scope=jt.scopes.tree())
    with pytest.raises(InputError, match=r"batches\[2\]"):
        plan.refresh.init(PARAMS, None, key=None)
