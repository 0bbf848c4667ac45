"""Every optimizer that optax and its contrib export trains under plans that keep, grow and restart weights."""

import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from optax import contrib

import jaxticket as jt
from tests.tiers import sample

RNG = np.random.default_rng(0)
PARAMS = {"a": {"kernel": jnp.asarray(RNG.normal(size=(4, 4)), jnp.float32), "bias": jnp.ones(4)}}
PLANS = {
    "static": jt.static(0.25),
    "rigl": jt.rigl(0.25, every=1, stop=99),
    "ac_dc": jt.ac_dc(0.25, steps=6, compress=(0.25, 0.75), decompress=(0.5,)),
}


def loss(params: Any) -> jax.Array:
    return sum(jnp.sum(jnp.sin(x) ** 2) for x in jax.tree.leaves(params))


def kinds(params: Any) -> Any:
    return jax.tree.map(lambda p: "matrix" if p.ndim == 2 else "vector", params)


def matrices(params: Any) -> Any:
    return jax.tree.map(lambda p: p.ndim == 2, params)


def adam() -> optax.GradientTransformation:
    return optax.adam(0.1)


def in_a_list() -> optax.GradientTransformation:
    """A user's momentum, whose state is a list of arrays."""

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        leaves, structure = jax.tree.flatten(updates)
        state = [0.9 * s + u for s, u in zip(state, leaves, strict=True)]
        return jax.tree.unflatten(structure, [-0.1 * s for s in state]), state

    return optax.GradientTransformation(lambda params: [jnp.zeros_like(p) for p in jax.tree.leaves(params)], update)


# Those that need more than a learning rate.
MADE: dict[str, Callable[[], Any]] = {
    "adaptive_grad_clip": lambda: optax.adaptive_grad_clip(0.1),
    "add_decayed_weights": lambda: optax.add_decayed_weights(0.1),
    "add_noise": lambda: optax.add_noise(0.1, 0.5, 0),
    "apply_every": lambda: optax.apply_every(2),
    "apply_if_finite": lambda: optax.apply_if_finite(adam(), 3),
    "chain": lambda: optax.chain(optax.trace(0.9), optax.scale(-0.1)),
    "clip": lambda: optax.clip(1.0),
    "clip_by_block_rms": lambda: optax.clip_by_block_rms(1.0),
    "clip_by_global_norm": lambda: optax.clip_by_global_norm(1.0),
    "conditionally_mask": lambda: optax.conditionally_mask(adam(), lambda step, **_: step % 2 == 0),
    "conditionally_transform": lambda: optax.conditionally_transform(adam(), lambda step, **_: step % 2 == 0),
    "ema": lambda: optax.ema(0.9),
    "flatten": lambda: optax.flatten(adam()),
    "freeze": lambda: optax.freeze(matrices),
    "inject_hyperparams": lambda: optax.inject_hyperparams(optax.adam)(learning_rate=0.1),
    "inject_stateful_hyperparams": lambda: optax.inject_stateful_hyperparams(optax.adam)(learning_rate=0.1),
    "lbfgs": lambda: optax.lbfgs(0.1, linesearch=None),
    "masked": lambda: optax.masked(adam(), matrices),
    "mechanize": lambda: contrib.mechanize(adam()),
    "multi_transform": lambda: optax.multi_transform({"matrix": adam(), "vector": optax.sgd(0.1)}, kinds),
    "named_chain": lambda: optax.named_chain(("adam", adam())),
    "noisy_sgd": lambda: optax.noisy_sgd(0.1, key=0),
    "partition": lambda: optax.partition({"matrix": adam(), "vector": optax.sgd(0.1)}, kinds),
    "sam": lambda: contrib.sam(optax.sgd(0.1), optax.sgd(0.01)),
    "scale": lambda: optax.scale(-0.1),
    "scale_by_backtracking_linesearch": lambda: optax.scale_by_backtracking_linesearch(2),
    "scale_by_schedule": lambda: optax.scale_by_schedule(lambda count: -0.1),
    "scale_by_zoom_linesearch": lambda: optax.scale_by_zoom_linesearch(2),
    "schedule_free": lambda: contrib.schedule_free(optax.sgd(0.1), 0.1),
    "selective_transform": lambda: optax.selective_transform(adam(), freeze_mask=matrices),
    "split_real_and_imaginary": lambda: contrib.split_real_and_imaginary(adam()),
    "stateless": lambda: optax.stateless(lambda updates, params: updates),
    "stateless_with_tree_map": lambda: optax.stateless_with_tree_map(lambda update, param: update),
    "trace": lambda: optax.trace(0.9),
    "with_extra_args_support": lambda: optax.with_extra_args_support(adam()),
    "a list of the user's": in_a_list,
}
OTHERS = {
    "differentially_private_aggregate": "takes a gradient of each example",
    "dpsgd": "takes a gradient of each example",
    "lookahead": "takes fast and slow parameters: refused by jt.init, tests/transforms/test_order.py",
    "scale_by_muon": "a part of muon, which fails without its dimension numbers, in plain optax too",
    "measure_with_ema": "a part of other transforms, with a function of the user's",
    "snapshot": "a part of other transforms, with a function of the user's",
}
ASKS = {  # what they need beside gradients
    "lbfgs": {"value": loss, "grad": jax.grad(loss), "value_fn": loss},
    "scale_by_backtracking_linesearch": {"value": loss, "grad": jax.grad(loss), "value_fn": loss},
    "scale_by_zoom_linesearch": {"value": loss, "grad": jax.grad(loss), "value_fn": loss},
    "sam": {},
}
ALWAYS = {"value": loss, "obj_fn": lambda params, *_: loss(params)}
PASSED_AS_THEY_ARE = ("value_fn", "obj_fn")


def exported() -> dict[str, Callable[..., Any]]:
    """Functions of optax and its contrib that return a gradient transformation."""
    found = {}
    for module in (optax, contrib):
        for name in dir(module):
            function = getattr(module, name)
            if not name.startswith("_") and inspect.isfunction(function):
                returned = str(inspect.signature(function).return_annotation)
                if "GradientTransformation" in returned:
                    found[name] = function
    return found


EXPORTED = exported()


def make(name: str) -> Any:
    if name in MADE:
        return MADE[name]()
    function = EXPORTED[name]
    rate = inspect.signature(function).parameters.get("learning_rate")
    return function(learning_rate=0.01) if rate is not None and rate.default is rate.empty else function()


def test_the_list_is_whole():
    assert len(EXPORTED) > 100
    assert set(OTHERS) <= set(EXPORTED)


NAMES = sorted({*EXPORTED, *MADE} - set(OTHERS))
CASES = [(name, plan) for name in NAMES for plan in PLANS]
SAMPLE = [(name, "rigl") for name in ("sm3", "flatten", "lbfgs", "a list of the user's", "adam")]
BREADTH = [(name, "rigl") for name in NAMES]


@pytest.mark.parametrize(("name", "plan"), sample(CASES, SAMPLE, breadth=BREADTH))
def test_it_trains_under_a_plan(name, plan):
    tx = jt.sparsify(make(name), PLANS[plan], key=jax.random.key(0))
    params, state = jt.init(tx, PARAMS)

    @jax.jit
    def step(params: Any, state: Any) -> Any:
        asked = ASKS.get(name, ALWAYS)
        extra = {key: f if key in PASSED_AS_THEY_ARE else f(params) for key, f in asked.items()}
        updates, state = tx.update(jax.grad(loss)(params), state, params, **extra)
        return optax.apply_updates(params, updates), state

    for _ in range(3):
        with jax.numpy_rank_promotion("allow" if name == "scale_by_distance_over_gradients" else "raise"):
            params, state = step(params, state)
        assert int(jt.masks.outside(params, jt.mask_of(state))) == 0
    assert all(jnp.isfinite(p).all() for p in jax.tree.leaves(params))


def test_moments_beside_a_list_are_those_of_newborn_weights():
    """sm3 keeps its cover in lists, and its momentum as a tree: the second starts anew."""
    inner = optax.sm3(0.1, momentum=0.9)
    state = inner.init(PARAMS)
    _, state = inner.update(PARAMS, state, PARAMS)
    chosen = {"a": {"kernel": jnp.eye(4, dtype=bool), "bias": None}}
    reset = jt.transforms.reset_moments(inner, state, PARAMS, chosen)
    moved = [not np.array_equal(x, y) for x, y in zip(jax.tree.leaves(reset), jax.tree.leaves(state), strict=True)]
    assert sum(moved) == 1


def test_the_state_of_another_optimizer_is_refused_there_too():
    chosen = {"a": {"kernel": jnp.eye(4, dtype=bool), "bias": None}}
    with pytest.raises(jt.errors.StructureError, match="state is not that of inner"):
        jt.transforms.reset_moments(optax.flatten(adam()), optax.sgd(0.1).init(PARAMS), PARAMS, chosen)
