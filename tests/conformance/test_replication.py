"""Laws 2 and 8 for every plan: replicates under nested vmap, and under pmap, are the runs that each would be alone."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxticket as jt
from tests.conformance import table
from tests.conformance.drivers import COMPILER
from tests.tiers import sample

PLANS = table.PLANS | table.RECOMBINED
OUTER, INNER = 2, 2


def _start(plan: jt.Plan, key: jax.Array) -> tuple[Any, Any]:
    params_key, plan_key = jax.random.split(key)
    keys = jax.random.split(params_key)
    params = {
        name: {"kernel": jax.random.normal(k, shape)}
        for name, k, shape in zip("ab", keys, [(6, 4), (4, 8)], strict=True)
    }
    return jt.init(jt.sparsify(optax.adam(1e-2), plan, key=plan_key), params)


@pytest.mark.parametrize("name", sample(PLANS, ("rigl",), breadth=("sparse_evolutionary", "ac_dc")))
def test_replicates_are_runs_of_their_own(name: str) -> None:
    plan = PLANS[name].make(0.5)
    tx = jt.sparsify(optax.adam(1e-2), plan)
    traces = []

    def step(params: Any, state: Any) -> tuple[Any, Any]:
        # Elementwise, so that no sum depends on how replicates are laid out.
        updates, state = tx.update(jax.tree.map(jnp.cos, params), state, params)
        return optax.apply_updates(params, updates), state

    keys = jax.random.split(jax.random.key(0), (OUTER, INNER))
    firsts = [[_start(plan, key) for key in row] for row in keys]
    stack = lambda trees: jax.tree.map(lambda *xs: jnp.stack(xs), *trees)
    nested = stack([stack(row) for row in firsts])
    parallel = stack([firsts[0][0], firsts[1][1]])
    alone = firsts[1][1]

    def counted(params: Any, state: Any) -> tuple[Any, Any]:
        traces.append(name)
        return step(params, state)

    single = jax.jit(step, compiler_options=COMPILER)
    both = jax.jit(jax.vmap(jax.vmap(counted)), compiler_options=COMPILER)
    devices = jax.pmap(step, devices=jax.devices()[:2])
    for _ in range(table.STEPS):
        alone, nested = single(*alone), both(*nested)
        parallel = jax.block_until_ready(devices(*parallel))
    assert traces == [name], "law 8: one compile"
    jax.tree.map(partial(_close, name), jax.tree.map(lambda x: x[1, 1], _arrays(nested)), _arrays(alone))
    # Masks have the same bits; weights may differ in the last one, where batched loops are vectorised otherwise.
    jax.tree.map(partial(_same, name), jax.tree.map(lambda m: m[1, 1], jt.mask_of(nested[1])), jt.mask_of(alone[1]))
    _same(name, jax.tree.leaves(jt.mask_of(parallel[1]))[0][1], jax.tree.leaves(jt.mask_of(alone[1]))[0])
    masks = np.asarray(jax.tree.leaves(jt.mask_of(nested[1]))[0]).reshape(OUTER * INNER, -1)
    assert len(np.unique(masks, axis=0)) > 1 or not PLANS[name].regrows, "each replicate has a mask of its own"


def _arrays(carry: Any) -> Any:
    params, state = carry
    return params, state._replace(key=None)


def _close(name: str, a: jax.Array, b: jax.Array) -> None:
    np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=1e-5, atol=1e-6, err_msg=name)


def _same(name: str, a: jax.Array, b: jax.Array) -> None:
    np.testing.assert_array_equal(np.asarray(a), np.asarray(b), err_msg=name)
