"""The laws of reparametrisations, for every one × framework × optimizer × dtype × density.

Stored weights are dense here, so laws 4 and 5 speak of what is realised and exported. The oracle is the inner optimizer
itself, fed the gradient that the method's paper gives.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxticket as jt
from jaxticket import reparam, scopes
from tests.conformance import table
from tests.conformance.drivers import COMPILER
from tests.conformance.pairwise import pairwise, product

STEPS = 5


class Row(NamedTuple):
    """A reparametrisation by its density, and the fraction of weights that it trains."""

    make: Callable[[float], jt.reparam.Reparam]
    trained: Callable[[float], float] = lambda density: 1.0


REPARAMS = {
    "straight_through": Row(reparam.straight_through),
    "straight_through_gradual": Row(
        lambda d: reparam.straight_through(jt.schedules.cubic(d, start=0, stop=2), scope=scopes.tree())
    ),
    "sr_ste": Row(lambda d: reparam.sr_ste(d, decay=0.0)),
    "top_kast": Row(lambda d: reparam.top_kast(d, backward=min(1.5 * d, 1.0)), lambda density: min(1.5 * density, 1.0)),
}
# nnx.Optimizer owns its parameters, and so cannot train others in their place: nnx.State can.
FACTORS = {
    "reparam": [*REPARAMS],
    "framework": [name for name in table.FRAMEWORKS if name != "nnx_optimizer"],
    "optimizer": ["momentum", "adam", "adamw_schedule", "multi_transform"],
    "dtype": table.DTYPES,
    "density": table.DENSITIES,
}
ALWAYS = lambda case: True


@pytest.mark.parametrize("case", pairwise(FACTORS, ALWAYS), ids=lambda case: "-".join(map(str, case.values())))
def test_sample(case: dict[str, Any]) -> None:
    check(case.pop("reparam"), **case)


@pytest.mark.slow
@pytest.mark.parametrize(
    "case",
    product(
        FACTORS | {"optimizer": [*table.OPTIMIZERS]}, lambda c: c["dtype"] in table.OPTIMIZERS[c["optimizer"]].dtypes
    ),
    ids=lambda case: "-".join(map(str, case.values())),
)
def test_product(case: dict[str, Any]) -> None:
    check(case.pop("reparam"), **case)


def check(name: str, framework: str, optimizer: str, dtype: str, density: float) -> None:
    row, entry = REPARAMS[name], table.OPTIMIZERS[optimizer]
    subject = row.make(density)
    tx, plain = entry.outer(subject.wrap(entry.inner())), entry.outer(entry.inner())
    params = jax.tree.map(lambda p: p.astype(dtype), table.FRAMEWORKS[framework].make())
    latent = subject.init(params, None)
    state = tx.init(latent)
    traces = []

    @partial(jax.jit, compiler_options=COMPILER)
    def step(latent: Any, state: Any, cotangents: Any, count: jax.Array) -> Any:
        traces.append(count)
        realised, back = jax.vjp(lambda latent: subject.realise(latent, count=count), latent)
        (grads,) = back(cotangents)
        updates, state = tx.update(grads, state, latent)
        mask = subject.mask(latent, count=count)
        return optax.apply_updates(latent, updates), state, grads, realised, mask

    @partial(jax.jit, compiler_options=COMPILER)
    def oracle(grads: Any, state: Any, params: Any) -> Any:
        updates, state = plain.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    for count in range(STEPS):
        cotangents = _gradients(latent, seed=count)
        before = latent, state
        latent, state, grads, realised, mask = jax.block_until_ready(step(*before, cotangents, jnp.int32(count)))
        for p, r, m in zip(*map(_leaves, (before[0], realised, mask)), strict=True):
            if p is not None and m is None:
                _same(r, p)
            elif p is not None:
                _same(r, jnp.where(m, p, 0))
        if name != "straight_through_gradual":
            for m in _leaves(mask):
                assert m is None or int(m.sum()) == max(round(density * m.size), 1), "law 1: exactly k at every step"

        trained = _largest(before[0], mask, row.trained(density))
        jax.tree.map(
            lambda g, c, t: _same(g, c if t is None else jnp.where(t, c, 0)), grads, cotangents, trained, is_leaf=_none
        )
        moved, stepped = oracle(grads, before[1], before[0])
        jax.tree.map(
            lambda new, want, old, t: _same(new, want if t is None else jnp.where(t, want, old)),
            latent,
            moved,
            before[0],
            trained,
            is_leaf=_none,
        )
        if row.trained(density) == 1:
            jax.tree.map(_same, state, stepped)
    assert len(traces) == 1, "law 8: one compile"


def _largest(latent: Any, mask: Any, share: float) -> Any:
    """The trained weights of each sparsified leaf, sorted by numpy; None where everything is trained."""

    def one(p: Any, m: Any) -> Any:
        if p is None or m is None or share == 1:
            return None
        order = np.argsort(-np.abs(np.asarray(p, np.float32)), axis=None, kind="stable")
        kept = np.zeros(p.size, bool)
        kept[order[: round(share * p.size)]] = True
        return jnp.asarray(kept.reshape(p.shape))

    return jax.tree.map(one, latent, mask, is_leaf=_none)


def _gradients(params: Any, seed: int) -> Any:
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda p: jnp.asarray(rng.choice((-1, 1), p.shape) * rng.uniform(0.5, 2, p.shape), p.dtype), params
    )


def _leaves(tree: Any) -> list[Any]:
    return jax.tree.leaves(tree, is_leaf=_none)


def _none(x: Any) -> bool:
    return x is None


def _same(a: Any, b: Any) -> None:
    np.testing.assert_array_equal(np.asarray(a), np.asarray(b))
