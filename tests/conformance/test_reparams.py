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
from jaxticket import _tree, reparam, scopes
from jaxticket.reparam import Latent
from tests.conformance import table
from tests.conformance.covering import covering, product
from tests.conformance.drivers import COMPILER

STEPS = 5


class Row(NamedTuple):
    """A reparametrisation by its density, and what it promises beside the laws.

    Attributes:
      gradient: (latent, cotangents of the parameters) -> the gradient that the paper gives, None where goldens tell it.
      trained: the fraction of weights that get it and move.
      groups: those of a `Latent` that are trained; nothing moves the others. None where they take turns, by optimizers
        of their own, as their tests check.
      value: latent -> what kept weights are realised as; None if it is more than a copy of something.
      hard: the step from which masked weights are exact zeros and kept ones have their value.
      exact: the step from which each leaf keeps exactly k, None if never.
    """

    make: Callable[[float], reparam.Reparam]
    gradient: Callable[[Any, Any], Any] | None = lambda latent, cotangents: cotangents
    trained: Callable[[float], float] = lambda density: 1.0
    groups: tuple[str, ...] | None = ("weights", "learned")
    value: Callable[[Any], Any] | None = lambda latent: latent
    hard: int = 0
    exact: int | None = 0


def _scored(slope: Callable[[jax.Array], jax.Array]) -> Callable[[Latent, Any], Latent]:
    """Scores s get slope(s) · w · cotangent at all entries, the weights beside them nothing."""

    def gradient(latent: Latent, cotangents: Any) -> Latent:
        weights = _tree.tree_map(lambda s, c: c if s is None else jnp.zeros_like(c), latent.learned, cotangents)
        one = lambda s, w, c: slope(s) * (w * c)
        learned = _tree.map_present(one, latent.learned, latent.weights, cotangents)
        return Latent(weights, learned, jax.tree.map(jnp.zeros_like, latent.constants))

    return gradient


def _turned(latent: Latent) -> Any:
    return _tree.tree_map(lambda s, w: w if s is None else w * jnp.sign(s), latent.learned, latent.weights)


REPARAMS = {
    "straight_through": Row(reparam.straight_through),
    "straight_through_gradual": Row(
        lambda d: reparam.straight_through(jt.schedules.cubic(d, start=0, stop=2), scope=scopes.tree()), exact=None
    ),
    "sr_ste": Row(lambda d: reparam.sr_ste(d, decay=0.0)),
    "top_kast": Row(
        lambda d: reparam.top_kast(d, backward=min(1.5 * d, 1.0)), trained=lambda density: min(1.5 * density, 1.0)
    ),
    "edge_popup": Row(reparam.edge_popup, _scored(jnp.sign), groups=("learned",), value=lambda latent: latent.weights),
    "biprop": Row(reparam.biprop, _scored(jnp.sign), groups=("learned",), value=None),
    "signed_supermask": Row(
        lambda d: reparam.signed_supermask(1 - d),
        _scored(jnp.ones_like),
        groups=("learned",),
        value=_turned,
        exact=None,
    ),
    "pdp": Row(lambda d: reparam.pdp(d, start=1, ramp=2, stop=3, scope=scopes.leaf()), gradient=None, hard=3, exact=2),
    "soft_threshold": Row(lambda d: reparam.soft_threshold(initial=-1.0), gradient=None, value=None, exact=None),
    "continuous_sparsification": Row(
        lambda d: reparam.continuous_sparsification(stop=3, initial=d),
        gradient=None,
        value=lambda latent: latent.weights,
        hard=3,
        exact=None,
    ),
    "hard_concrete": Row(lambda d: reparam.hard_concrete(stop=3), gradient=None, value=None, exact=None),
    "weight_compander": Row(lambda d: reparam.weight_compander(height=3.0), gradient=None, value=None, exact=None),
    "additive": Row(
        lambda d: reparam.additive(rank=1, residual_density=d),
        gradient=None,
        groups=("learned",),
        value=None,
        exact=None,
    ),
    "bip": Row(
        lambda d: reparam.bip(d, scope=scopes.leaf()), gradient=None, groups=None, value=lambda latent: latent.weights
    ),
}
# nnx.Optimizer owns its parameters, and so cannot train others in their place: nnx.State can.
FACTORS = {
    "reparam": [*REPARAMS],
    "framework": [name for name in table.FRAMEWORKS if name != "nnx_optimizer"],
    "optimizer": ["momentum", "adam", "adamw_schedule", "multi_transform"],
    "dtype": table.DTYPES,
    "density": table.DENSITIES,
}
# What is only realised in another way meets a few in the sample, and all in the product.
OTHERS = ("biprop", "signed_supermask", "pdp", "bip")
# What no selection at each step could break is in the product only.
SIMPLE = ("soft_threshold", "continuous_sparsification", "hard_concrete", "weight_compander", "additive")
FEW = {"framework": ("dict", "nnx_state"), "optimizer": ("momentum", "adam")}


def _sampled(case: dict[str, Any]) -> bool:
    few = case["reparam"] in OTHERS
    return case["reparam"] not in SIMPLE and (not few or all(case[factor] in some for factor, some in FEW.items()))


def _name(case: dict[str, Any]) -> str:
    return "-".join(map(str, case.values()))


@pytest.mark.parametrize("case", covering(FACTORS, _sampled), ids=_name)
def test_every_value(case: dict[str, Any]) -> None:
    check(**case)


@pytest.mark.breadth
@pytest.mark.parametrize("case", covering(FACTORS, _sampled, together=2), ids=_name)
def test_every_pair(case: dict[str, Any]) -> None:
    check(**case)


def _defined(case: dict[str, Any]) -> bool:
    if case["optimizer"] == "inject_hyperparams" and case["dtype"] != "float32" and case["reparam"] in SIMPLE:
        return False  # one dtype for all rates: beside float32 thresholds, the moments of 16-bit weights change theirs
    scored = REPARAMS[case["reparam"]].groups == ("learned",)
    if case["optimizer"] == "multi_steps" and case["dtype"] == "float16" and scored:
        return False  # gradients of scores may cancel, and where their squares underflow, Adam divides by 0
    return case["dtype"] in table.OPTIMIZERS[case["optimizer"]].dtypes


def all_cases() -> list[dict[str, Any]]:
    return product(FACTORS | {"optimizer": [*table.OPTIMIZERS]}, _defined)


@pytest.mark.slow
def test_product(product_case: dict[str, Any]) -> None:
    check(**product_case)


def check(reparam: str, framework: str, optimizer: str, dtype: str, density: float) -> None:
    row, entry = REPARAMS[reparam], table.OPTIMIZERS[optimizer]
    subject = row.make(density)
    tx, plain = entry.outer(subject.wrap(entry.inner())), entry.outer(entry.inner())
    # Gradients of scores are as small as weights, and where their squares underflow, Adam in float16 divides by 0.
    far_from_zero = lambda p: (p + 0.25 * jnp.sign(p)).astype(dtype)
    params = jax.tree.map(far_from_zero, table.FRAMEWORKS[framework].make())
    latent = subject.init(params, key=jax.random.key(0))
    groups = row.groups or ()
    state, plain_state = tx.init(latent), plain.init(_part(latent, groups))
    traces = []

    @partial(jax.jit, compiler_options=COMPILER)
    def step(latent: Any, state: Any, cotangents: Any, count: jax.Array) -> Any:
        traces.append(count)
        realised, back = jax.vjp(lambda latent: subject.realise(latent, count=count), latent)
        (grads,) = back(cotangents)
        grads = jax.lax.optimization_barrier(grads)  # rounded to their dtype, as the oracle gets them
        updates, state = tx.update(grads, state, latent)
        mask = subject.mask(latent, count=count)
        return optax.apply_updates(latent, updates), state, grads, realised, mask

    @partial(jax.jit, compiler_options=COMPILER)
    def oracle(grads: Any, state: Any, params: Any) -> Any:
        updates, state = plain.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    for count in range(STEPS):
        cotangents = _gradients(params, seed=count)
        old, old_state = latent, state
        latent, state, grads, realised, mask = jax.block_until_ready(step(old, old_state, cotangents, jnp.int32(count)))
        _check_realised(row, old, realised, mask, density, count)

        trained = _largest(old, mask, row.trained(density))
        within = lambda t, new, held: new if t is None else jnp.where(t, new, held)
        if row.gradient is not None:
            expected = row.gradient(old, cotangents)
            jax.tree.map(lambda t, g, e: _same(g, within(t, e, 0)), trained, grads, expected, is_leaf=_none)

        if row.groups is None:
            continue
        # What Top-KAST holds has moments of its own, so its oracle goes on from its state.
        plain_state = plain_state if isinstance(old, Latent) else old_state
        moved, plain_state = oracle(_part(grads, groups), plain_state, _part(old, groups))
        want = old._replace(**{g: getattr(moved, g) for g in groups}) if isinstance(old, Latent) else moved
        jax.tree.map(lambda t, new, w, o: _same(new, within(t, w, o)), trained, latent, want, old, is_leaf=_none)
        if row.trained(density) == 1 and not isinstance(old, Latent):
            jax.tree.map(_same, state, plain_state)
    assert len(traces) == 1, "law 8: one compile"


def _check_realised(row: Row, latent: Any, realised: Any, mask: Any, density: float, count: int) -> None:
    weights = latent.weights if isinstance(latent, Latent) else latent
    kept = realised if row.value is None else row.value(latent)
    for w, r, m, k in zip(*map(_leaves, (weights, realised, mask, kept)), strict=True):
        if w is None:
            continue
        assert (r.shape, r.dtype) == (w.shape, w.dtype)
        if m is None:
            _same(r, w)
        elif count >= row.hard:
            _same(r, jnp.where(m, k, 0))
        if m is not None and row.exact is not None and count >= row.exact:
            assert int(m.sum()) == max(round(density * m.size), 1), "law 1: exactly k"


def _part(latent: Any, groups: tuple[str, ...]) -> Any:
    """What is trained: those groups of a `Latent`, or all of another tree."""
    if not isinstance(latent, Latent):
        return latent
    return latent._replace(**{name: () for name in latent._fields if name not in groups})


def _largest(latent: Any, mask: Any, share: float) -> Any:
    """The trained weights of each sparsified leaf, sorted by numpy; None where everything is trained."""

    def one(p: Any, m: Any) -> Any:
        if p is None or m is None:
            return None
        order = np.argsort(-np.abs(np.asarray(p, np.float32)), axis=None, kind="stable")
        kept = np.zeros(p.size, bool)
        kept[order[: round(share * p.size)]] = True
        return jnp.asarray(kept.reshape(p.shape))

    if share == 1:
        return jax.tree.map(lambda _: None, latent, is_leaf=_none)
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
