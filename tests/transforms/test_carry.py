"""A dense training that continues sparsely: `init(opt_state=)` carries the optimizer's state over."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxticket as jt
from jaxticket.errors import StructureError
from tests.tiers import sample

PARAMS = {"dense": {"kernel": jnp.linspace(-1.0, 1.0, 12).reshape(3, 4), "bias": jnp.ones((1, 4))}}
RATE = optax.linear_schedule(1e-2, 1e-3, 50)
PLAN = jt.static(0.5)


def make_grads(step):
    return jax.tree.map(lambda p: 0.3 + 0.1 * jnp.cos(step + jnp.arange(float(p.size)).reshape(p.shape)), PARAMS)


def train(tx, params, state, steps):
    for step in steps:
        updates, state = tx.update(make_grads(step), state, params)
        params = optax.apply_updates(params, updates)
    return params, state


def assert_same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def kinds(params):
    return jax.tree.map(lambda p: "matrix" if p.shape[0] > 1 else "vector", params)


def partition(wrap):
    return optax.multi_transform({"matrix": wrap(optax.adam(RATE)), "vector": optax.sgd(RATE, momentum=0.9)}, kinds)


# The dense and the sparse optimizer are made by one function, of the wrapper of what becomes sparse.
OPTIMIZERS = {
    "adamw": lambda wrap: wrap(optax.adamw(RATE)),
    "adagrad": lambda wrap: wrap(optax.adagrad(1e-2, initial_accumulator_value=0.1)),
    "momentum": lambda wrap: wrap(optax.sgd(RATE, momentum=0.9)),
    "muon": lambda wrap: wrap(optax.contrib.muon(RATE)),
    "chain around": lambda wrap: optax.chain(optax.clip(1.0), wrap(optax.adam(RATE))),
    "chain inside": lambda wrap: wrap(optax.chain(optax.clip(1.0), optax.adam(RATE), optax.ema(0.9))),
    "partition": partition,
    "MultiSteps": lambda wrap: optax.MultiSteps(wrap(optax.adam(RATE)), 2).gradient_transformation(),
}


def both(name, plan=PLAN):
    make = OPTIMIZERS[name]
    return make(lambda inner: inner), make(lambda inner: jt.sparsify(inner, plan, key=jax.random.key(0)))


@pytest.mark.parametrize("name", sample(OPTIMIZERS, ["adamw", "partition", "MultiSteps"]))
def test_moments_outside_the_mask_are_fresh_and_all_else_continues(name):
    dense, sparse = both(name)
    params, dense_state = train(dense, PARAMS, dense.init(PARAMS), range(5))
    masked, state = jt.init(sparse, params, opt_state=dense_state)
    mask = jt.mask_of(state)
    assert_same(masked, jt.apply_mask(params, mask))
    fresh = sparse.init(params)

    def check(path, new, old, first):
        kept = mask["dense"]["kernel"]
        if "['inner']" in jax.tree_util.keystr(path) and jnp.shape(old) == kept.shape:
            assert not np.array_equal(old, first)
            old = jnp.where(kept, old, first)
        np.testing.assert_array_equal(new, old)

    is_sparse = lambda x: isinstance(x, jt.transforms.SparseState)
    bare = lambda s: jax.tree.map(lambda x: {"inner": x.inner} if is_sparse(x) else x, s, is_leaf=is_sparse)
    old = jax.tree.map(lambda s, d: {"inner": d} if is_sparse(s) else d, state, dense_state, is_leaf=is_sparse)
    jax.tree_util.tree_map_with_path(check, bare(state), old, bare(fresh))


@pytest.mark.parametrize("name", sample(OPTIMIZERS, ["adamw", "chain inside"]))
def test_at_density_1_the_dense_training_continues_bit_for_bit(name):
    dense, sparse = both(name, jt.static(1.0))
    params, dense_state = train(dense, PARAMS, dense.init(PARAMS), range(5))
    expected, _ = train(dense, params, dense_state, range(5, 10))
    continued, _ = train(sparse, *jt.init(sparse, params, opt_state=dense_state), range(5, 10))
    assert_same(continued, expected)


@pytest.mark.parametrize("plan", [jt.rigl(0.5, steps=20, every=3), jt.gradual(0.25, steps=20, every=2)])
def test_a_plan_starts_from_the_carried_state_and_stays_exact(plan):
    dense, sparse = both("adamw", plan)
    params, dense_state = train(dense, PARAMS, dense.init(PARAMS), range(5))
    params, state = jt.init(sparse, params, opt_state=dense_state)
    assert int(state.steps) == 0
    assert int(state.inner[0].count) == 5
    params, state = train(sparse, params, state, range(5, 12))
    assert int(jt.masks.outside(params, jt.mask_of(state))) == 0


def test_the_dense_state_stays_valid_when_the_new_one_is_donated():
    dense, sparse = both("adamw")
    params, dense_state = train(dense, PARAMS, dense.init(PARAMS), range(2))
    _, state = jt.init(sparse, params, opt_state=dense_state)
    jax.block_until_ready(jax.jit(lambda inner: jax.tree.map(lambda x: x + 1, inner), donate_argnums=0)(state.inner))
    assert int(dense_state[0].count) == 2
    assert np.isfinite(dense_state[0].mu["dense"]["kernel"]).all()


OTHERS = {
    "another optimizer": optax.sgd(RATE, momentum=0.9).init(PARAMS),
    "an optimizer with moments of the same names": optax.chain(
        optax.scale_by_belief(), optax.add_decayed_weights(1e-4), optax.scale_by_learning_rate(RATE)
    ).init(PARAMS),
    "a bare state": optax.adamw(RATE).init(PARAMS)[0],
    "a sparse state": jt.sparsify(optax.adamw(RATE), PLAN).init(PARAMS),
    "another dtype": optax.adamw(RATE, mu_dtype=jnp.bfloat16).init(PARAMS),
    "another width": optax.adamw(RATE).init({"dense": {"kernel": jnp.ones((3, 5)), "bias": jnp.ones((1, 5))}}),
    "other parameters": optax.adamw(RATE).init({"conv": PARAMS["dense"]}),
    "no state": {"opt_state": jnp.ones(3)},
}


@pytest.mark.parametrize("other", OTHERS)
def test_the_state_of_another_optimizer_is_refused_by_its_first_difference(other):
    with pytest.raises(StructureError, match="opt_state") as error:
        jt.init(jt.sparsify(optax.adamw(RATE), PLAN), PARAMS, opt_state=OTHERS[other])
    assert len(str(error.value)) < 400
