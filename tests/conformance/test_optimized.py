"""Law 4 at the compiler's default optimisation, which the tests turn off for speed.

What is compared are the updates and the optimizer's state of one compiled `update`. A whole training step may differ
from plain optax's in the last bit even at density 1: XLA contracts `params + (-lr * direction)` into one fused
multiply-add, and cannot where a mask stands between both.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxticket as jt
from tests.conformance import table
from tests.tiers import sample

SHAPES = {"a": {"kernel": (37, 53), "bias": (1, 53)}, "b": {"kernel": (53, 8)}}


def noise(seed):
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda s: jnp.asarray(rng.normal(size=s), jnp.float32), SHAPES, is_leaf=lambda s: isinstance(s, tuple)
    )


@pytest.mark.parametrize(
    "optimizer",
    sample(
        table.OPTIMIZERS,
        ("momentum", "multi_transform"),
        breadth=("adamw_schedule", "lamb", "multi_steps", "schedule_free"),
    ),
)
def test_density_one_gives_the_updates_of_the_inner_optimizer(optimizer):
    entry = table.OPTIMIZERS[optimizer]
    plain = entry.outer(entry.inner())
    sparse = entry.outer(jt.sparsify(entry.inner(), table.PLANS["gradual"].make(1.0)))
    optimized = {"xla_backend_optimization_level": 3}
    update, sparse_update = (jax.jit(tx.update, compiler_options=optimized) for tx in (plain, sparse))
    params = noise(0)
    state, sparse_state = plain.init(params), sparse.init(params)
    for step in range(4):
        grads = noise(step + 1)
        updates, state = update(grads, state, params)
        sparse_updates, sparse_state = sparse_update(grads, sparse_state, params)
        jax.tree.map(np.testing.assert_array_equal, sparse_updates, updates)
        params = optax.apply_updates(params, updates)
