"""Plans over traced groups: their states hold masks of channels, and train as those with masks of weights do."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxticket as jt
from jaxticket import structure
from jaxticket.errors import StructureError
from jaxticket.transforms._unit_mask import UnitMask
from tests.structure.test_removal import X, mlp, mlp_params

PARAMS = mlp_params()
GROUPS = structure.trace(mlp, PARAMS, X)
EVERYTHING = jt.filters.everything()
CHANNELS = {"unit": structure.unit(GROUPS), "where": EVERYTHING}
EVOLVING = {"every": 2, "allocate": None, **CHANNELS}
PLANS = {
    "static": jt.static(0.5, **CHANNELS),
    "gradual": jt.gradual(0.5, stop=8, every=2, **CHANNELS),
    "rigl": jt.rigl(0.5, stop=8, **EVOLVING),
    "set": jt.sparse_evolutionary(0.5, stop=8, **EVOLVING),
    "itop": jt.itop(0.5, steps=9, **EVOLVING),
    "granet": jt.granet(0.5, steps=9, stop=8, **EVOLVING),
    "mest": jt.mest(0.5, stop=8, **EVOLVING),
    "snfs": jt.snfs(0.5, stop=8, **EVOLVING),
    "ac_dc": jt.ac_dc(0.5, steps=9, scope=jt.scopes.leaf(), **CHANNELS),
}
STILL = ("static", "rigl", "granet")  # a dead channel has no gradient by which it could grow


def optimizer(plan, **options):
    return jt.sparsify(optax.adam(1e-2), plan, key=jax.random.key(0), **options)


def stepper(tx):
    @jax.jit
    def step(params, state):
        grads = jax.grad(lambda p: jnp.mean((mlp(p, X) - 1) ** 2))(params)
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    return step


@pytest.mark.parametrize("name", PLANS)
def test_states_hold_masks_of_channels_and_train_as_with_masks_of_weights(name):
    plan = PLANS[name]
    tx = optimizer(plan)
    full = optimizer(plan._replace(refresh=plan.refresh._replace(unit=None)))
    (params, state), (same, wide) = jt.init(tx, PARAMS), jt.init(full, PARAMS)
    assert isinstance(state.mask, UnitMask)
    assert not isinstance(wide.mask, UnitMask)
    assert sum(x.nbytes for x in jax.tree.leaves(state.mask)) == sum(g.width for g in GROUPS)
    step, step_wide = stepper(tx), stepper(full)
    seen = set()
    for _ in range(9):
        params, state = step(params, state)
        same, wide = step_wide(same, wide)
        jax.tree.map(np.testing.assert_array_equal, (params, state.inner), (same, wide.inner))
        kept, expected = (structure.channels(jt.mask_of(s), GROUPS) for s in (state, wide))
        jax.tree.map(np.testing.assert_array_equal, kept, expected)
        seen.add(tuple(tuple(k) for k in kept.values()))
    assert step._cache_size() == 1
    assert len(seen) > 1 or name in STILL
    assert sum(int(k.sum()) for k in kept.values()) == 7


def test_no_full_mask_leaves_a_refresh():
    tx = optimizer(PLANS["rigl"])
    params, state = jt.init(tx, PARAMS)
    equations = jax.make_jaxpr(tx.update)(params, state, params).eqns
    refreshed = [v.aval for e in equations if e.primitive.name == "cond" for v in e.outvars]
    masks = [a.shape for a in refreshed if a.dtype == bool]
    assert sorted(masks) == [(6,), (6,), (8,), (8,)]  # the new mask, and the part of the old one that stays


def test_a_step_writes_no_mask_entry_by_entry():
    tx = optimizer(PLANS["static"])
    params, state = jt.init(tx, PARAMS)
    assert "scatter" not in jax.jit(tx.update).lower(params, state, params).as_text()


def test_stacked_states_have_stacked_masks():
    tx = optimizer(PLANS["set"])
    many = jax.vmap(lambda scale: jt.init(tx, jax.tree.map(lambda p: p * scale, PARAMS)))(jnp.arange(1.0, 4.0))
    params, state = jax.vmap(stepper(tx))(*many)
    kept = jt.apply_mask(params, jt.mask_of(state))
    jax.tree.map(np.testing.assert_array_equal, kept, params)
    single = jt.mask_of(jax.tree.map(lambda x: x[1], state))
    jax.tree.map(np.testing.assert_array_equal, jax.tree.map(lambda m: m[1], jt.mask_of(state)), single)


def test_a_given_mask_of_whole_channels_is_the_first_one():
    given = jt.select(PARAMS, 0.5, unit=CHANNELS["unit"])
    tx = optimizer(PLANS["rigl"], mask=given)
    jax.tree.map(np.testing.assert_array_equal, jt.mask_of(jt.init(tx, PARAMS)[1]), given)


def test_a_given_mask_that_cuts_channels_raises():
    given = jt.select(jt.filters.only(PARAMS, jt.filters.weights()), 0.5)
    with pytest.raises(StructureError, match="mask drops a part of a unit at 'a/kernel'"):
        optimizer(PLANS["rigl"], mask=given).init(PARAMS)


def test_a_saved_state_loads(tmp_path):
    tx = optimizer(PLANS["rigl"])
    params, state = stepper(tx)(*jt.init(tx, PARAMS))
    ticket = jt.Ticket(params, jt.mask_of(state), step=1, opt_state=state)
    jt.save(tmp_path / "ticket", ticket)
    loaded = jt.load(tmp_path / "ticket", like=ticket)
    assert jax.tree.structure(loaded.opt_state) == jax.tree.structure(state)
    jax.tree.map(np.testing.assert_array_equal, loaded.opt_state, state)


def test_a_shrunk_state_holds_a_mask_of_the_smaller_parameters():
    tx = optimizer(PLANS["gradual"])
    params, state = jt.init(tx, PARAMS)
    for _ in range(9):
        params, state = stepper(tx)(params, state)
    kept = structure.channels(jt.mask_of(state), GROUPS)
    smaller = structure.shrink(params, kept, GROUPS)
    mask = jt.mask_of(structure.shrink(state, kept, GROUPS))
    assert all(m.all() for m in jax.tree.leaves(mask))
    jax.tree.map(np.testing.assert_array_equal, jt.apply_mask(smaller, mask), smaller)
    whole = structure.expand(structure.shrink(state, kept, GROUPS), kept, GROUPS)
    jax.tree.map(np.testing.assert_array_equal, jt.apply_mask(params, jt.mask_of(whole)), params)


def test_states_are_laid_out_on_a_mesh():
    mesh = jax.make_mesh((4, 2), ("data", "model"))
    by_row = jax.tree.map(lambda p: jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec()), PARAMS)
    tx = optimizer(PLANS["rigl"])
    shardings = jt.sharding.state_shardings(tx, PARAMS, by_row)
    state = jax.jit(tx.init, out_shardings=shardings)(PARAMS)
    jax.tree.map(np.testing.assert_array_equal, jt.mask_of(state), jt.mask_of(tx.init(PARAMS)))
