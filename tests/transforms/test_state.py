"""The state of `sparsify` in the hands of others: serialisation, processes, casts, optax's tools, saved runs."""

import io
from typing import Any, NamedTuple

import equinox as eqx
import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from flax.training.train_state import TrainState
from jax.experimental import multihost_utils
from jax.sharding import PartitionSpec as P

import jaxticket as jt
from jaxticket import tickets
from jaxticket.transforms import SparseState

PARAMS = {"kernel": jnp.arange(16.0).reshape(4, 4), "bias": jnp.ones(4)}
SPECS = {"kernel": P("x"), "bias": P()}
PLANS = {
    "static": jt.static(0.25),
    "rigl": jt.rigl(0.25, every=1, stop=99),
    "snfs": jt.snfs(0.25, every=1, stop=99),
    "itop": jt.itop(0.25, steps=99, every=1, grow=jt.scores.unfired),
    "iss_p": jt.iss_p(0.25, stop=50),
}


def make(plan="rigl", key=None):
    return jt.sparsify(optax.adam(0.1), PLANS[plan], key=jax.random.key(0) if key is None else key)


def steps(tx, params, state, count=3):
    for _ in range(count):
        updates, state = tx.update(params, state, params)
        params = optax.apply_updates(params, updates)
    return params, state


def by_equinox(state):
    file = io.BytesIO()
    eqx.tree_serialise_leaves(file, state)
    file.seek(0)
    return eqx.tree_deserialise_leaves(file, state)


def by_train_state(state):
    held = TrainState(step=0, apply_fn=None, params=PARAMS, tx=make(), opt_state=state)
    return flax.serialization.from_bytes(held, flax.serialization.to_bytes(held)).opt_state


TRIPS = {
    "flax": lambda state: flax.serialization.from_bytes(state, flax.serialization.to_bytes(state)),
    "train state": by_train_state,
    "equinox": by_equinox,
    "processes": lambda state: jax.tree.map(jnp.asarray, multihost_utils.process_allgather(state, tiled=True)),
    "numpy": lambda state: jax.tree.map(np.asarray, state),
}


@pytest.mark.parametrize("trip", TRIPS)
def test_a_state_returns_from_others_and_trains_on(trip):
    tx = make()
    params, state = steps(tx, *jt.init(tx, PARAMS))
    expected, returned = steps(tx, params, state), steps(tx, params, TRIPS[trip](state))
    jax.tree.map(np.testing.assert_array_equal, returned, expected)


def test_tree_cast_passes():
    cast = optax.tree_utils.tree_cast(make().init(PARAMS), jnp.bfloat16)
    assert {leaf.dtype for leaf in jax.tree.leaves(cast)} == {jnp.dtype("bfloat16")}


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg", "unsafe_rbg"])
def test_any_implementation_of_keys_draws_as_itself(impl):
    key = jax.random.key(7, impl=impl)
    tx = make(key=key)
    state = tx.init(PARAMS)
    np.testing.assert_array_equal(state.key, jax.random.key_data(key))
    plan = jt.Plan(
        jt.transforms.chain(jt.start(jt.scores.random, 0.25), jt.regrow(jt.scores.magnitude, seen, 0.5)), every
    )
    SEEN.clear()
    tx = jt.sparsify(optax.sgd(0.1), plan, key=key)
    tx.update(PARAMS, tx.init(PARAMS), PARAMS)
    assert {str(impl)} == SEEN


SEEN: set[str] = set()


def seen(params, *, key, **signals):
    SEEN.add(str(jax.random.key_impl(key)))
    return jt.scores.random(params, key=key, **signals)


def every(count):
    return count >= 0


def test_old_and_new_keys_draw_the_same():
    raw, typed = make(key=jax.random.PRNGKey(3)), make(key=jax.random.key(3))
    jax.tree.map(
        np.testing.assert_array_equal, steps(raw, *jt.init(raw, PARAMS)), steps(typed, *jt.init(typed, PARAMS))
    )


def test_tree_get_has_one_count():
    assert optax.tree_utils.tree_get(steps(make(), *jt.init(make(), PARAMS))[1], "count") == 3
    assert optax.tree_utils.tree_get(make().init(PARAMS), "steps") == 0


@pytest.mark.parametrize("plan", PLANS)
def test_specs_of_a_whole_state(plan):
    specs = jt.sharding.state_specs(make(plan), PARAMS, SPECS)
    state = make(plan).init(PARAMS)
    assert jax.tree.structure(specs) == jax.tree.structure(state)
    assert specs.mask == {"kernel": P("x", None), "bias": None}
    assert specs.key == P()
    by_optax = optax.tree_map_params(
        make(plan),
        lambda leaf, spec: None if leaf is None else spec,
        state,
        SPECS,
        transform_non_params=lambda _: P(),
        is_leaf=lambda x: x is None,
    )
    trimmed = lambda spec: P(*([axis for axis in spec if axis]))
    assert jax.tree.map(trimmed, specs) == by_optax


def test_masks_of_parts_of_an_nnx_state():
    class Network(nnx.Module):
        def __init__(self):
            self.a, self.b = (nnx.Linear(4, 4, rngs=nnx.Rngs(seed)) for seed in range(2))

    def labels(params):
        return jax.tree_util.tree_map_with_path(lambda path, _: path[0].key, params)

    plans = {name: jt.sparsify(optax.sgd(0.1), jt.static(d)) for name, d in (("a", 0.25), ("b", 0.5))}
    model = Network()
    optimizer = nnx.Optimizer(model, optax.partition(plans, labels), wrt=nnx.Param)
    params = jt.mask_params(nnx.state(model, nnx.Param), optimizer.opt_state)
    assert [int(jnp.sum(params[name]["kernel"].get_value() != 0)) for name in "ab"] == [4, 8]


class OfFormatOne(NamedTuple):
    """A `SparseState` as version 0.1 saved it until its key became data."""

    count: Any
    mask: Any
    refresh: Any
    inner: Any
    key: Any


def old_ticket(params, state, impl):
    key = jax.random.wrap_key_data(state.key, impl=impl)
    return tickets.Ticket(params, jt.mask_of(state), 3, opt_state=(OfFormatOne(state.steps, *state[1:4], key),))


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg"])
def test_a_saved_run_of_before_resumes(tmp_path, impl):
    tx = make(key=jax.random.key(5, impl=impl))
    params, state = steps(tx, *jt.init(tx, PARAMS))
    old, new = old_ticket(params, state, impl), tickets.Ticket(params, jt.mask_of(state), 3, opt_state=(state,))
    jt.save(tmp_path / "old", old)
    loaded = jt.load(tmp_path / "old", like=new)
    assert isinstance(loaded.opt_state[0], SparseState)
    jax.tree.map(np.testing.assert_array_equal, loaded.opt_state, new.opt_state)
    jt.save(tmp_path / "new", new)
    records = [(tmp_path / name / "record.json").read_text() for name in ("old", "new")]
    assert len(records[0]) == len(records[1])
    again = jt.load(tmp_path / "new", like=jax.eval_shape(lambda: new))
    jax.tree.map(np.testing.assert_array_equal, again.opt_state, new.opt_state)
    # By these hashes a run knows the states of its own trainings.
    assert tickets.fingerprint(old.opt_state) == tickets.fingerprint(new.opt_state)


def test_replicates_are_saved_as_before(tmp_path):
    keys = jax.random.split(jax.random.key(0), 3)
    state = jax.vmap(lambda key: make(key=key).init(PARAMS))(keys)
    params = jax.tree.map(lambda p: jnp.stack([p] * 3), PARAMS)
    old, new = old_ticket(params, state, "threefry2x32"), tickets.Ticket(params, state.mask, opt_state=(state,))
    jt.save(tmp_path / "old", old)
    assert jt.load(tmp_path / "old", like=new).opt_state[0].key.shape == (3, 2)
    assert tickets.fingerprint(old.opt_state) == tickets.fingerprint(new.opt_state)
