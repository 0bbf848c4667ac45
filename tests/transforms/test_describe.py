"""The table of a plan has the densities that training ends with."""

import jax
import jax.numpy as jnp
import optax
import pytest

import jaxticket as jt
from jaxticket import filters, masks, schedules, scopes, scores, transforms
from jaxticket.errors import InputError

STEPS = 40
PARAMS = {
    "0": {"kernel": jax.random.normal(jax.random.key(0), (12, 20)), "bias": jnp.ones(20)},
    "1": {"kernel": jax.random.normal(jax.random.key(1), (20, 10)), "norm": {"scale": jnp.ones(10)}},
}
PLANS = {
    "static": jt.static(0.2, scope=scopes.tree()),
    "random": jt.static(0.2, score=scores.random, allocate=jt.allocate.erk),
    "gradual": jt.gradual(0.1, steps=STEPS),
    "gradual by leaf": jt.gradual(0.2, steps=STEPS, allocate=jt.allocate.erk, where=filters.match("^0/")),
    "set": jt.sparse_evolutionary(0.2, every=5),
    "rigl": jt.rigl(0.2, steps=STEPS),
    "mest": jt.mest(0.2, steps=STEPS, excess=0.5),
    "ac_dc": jt.ac_dc(0.2, steps=STEPS),
    "iss_p": jt.iss_p(0.2, steps=STEPS),
    "granet_uniform": jt.granet_uniform(0.2, steps=STEPS),
}


@pytest.mark.parametrize("name", PLANS)
def test_it_says_where_training_ends(name):
    tx = jt.sparsify(optax.adam(0.01), PLANS[name], key=jax.random.key(3))
    params, state = jt.init(tx, PARAMS)

    @jax.jit
    def step(params, state):
        updates, state = tx.update(jax.tree.map(jnp.sin, params), state, params)
        return optax.apply_updates(params, updates), state

    for _ in range(STEPS):
        params, state = step(params, state)
    trained, told = masks.summary(params, jt.mask_of(state)), jt.describe(PLANS[name], PARAMS)
    assert told.maskable == trained.maskable
    assert [row.path for row in told.rows if row.density is None] == [r.path for r in trained.rows if r.density is None]
    if name != "static":  # all leaves compete, so that the first parameters decide
        assert told == trained
    assert "dense" in str(told)


def test_plans_that_move_weights_between_leaves_keep_their_total():
    for plan in (jt.snfs(0.2, steps=STEPS), jt.granet(0.2, steps=STEPS)):
        assert jt.describe(plan, PARAMS).maskable.kept == round(0.2 * 440)


def test_a_plan_without_a_mask_is_refused():
    plan = jt.Plan(transforms.regrow(scores.magnitude, scores.gradient, 0.3), schedules.every(5))
    with pytest.raises(InputError, match="needs a mask"):
        jt.describe(plan, PARAMS)
