"""Laws 4 to 8 for every transform × framework × optimizer × dtype × density: each value, each pair, or the product.

The oracle is the text of the laws. Around the inner optimizer stands the least that they demand (masked gradients in,
newborn weights reset), and whatever optax puts around the sparse transform is put around that. From the same state it
takes the same step, and every bit of what is kept must agree.
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
from tests.conformance import table
from tests.conformance.covering import Case, covering, product
from tests.conformance.drivers import COMPILER, Start

FACTORS = {  # the longest two first: the sample then is no longer than their product
    "optimizer": [*table.OPTIMIZERS],
    "transform": [*table.CONSTRAINTS, *table.PLANS, *table.RECOMBINED],
    "framework": [*table.FRAMEWORKS],
    "dtype": table.DTYPES,
    "density": table.DENSITIES,
}
# Every optimizer meets one of each kind, and every transform every framework; the whole product is `slow`.
KINDS = FACTORS | {"transform": ["freeze", "keep_params_sparse", "gradual", "rigl"]}
OTHERS = FACTORS | {
    "transform": [name for name in FACTORS["transform"] if name not in KINDS["transform"]],
    "optimizer": ["momentum", "clip_adam", "multi_transform"],
}


def _valid(case: Case) -> bool:
    return case["dtype"] in table.OPTIMIZERS[case["optimizer"]].dtypes


def _name(case: Case) -> str:
    return "-".join(map(str, case.values()))


@pytest.mark.parametrize("case", [*covering(KINDS, _valid), *covering(OTHERS, _valid)], ids=_name)
def test_every_value(case: Case) -> None:
    check(**case)


@pytest.mark.breadth
@pytest.mark.parametrize(
    "case", [*covering(KINDS, _valid, together=2), *covering(OTHERS, _valid, together=2)], ids=_name
)
def test_every_pair(case: Case) -> None:
    check(**case)


def all_cases() -> list[Case]:
    return product(FACTORS, _valid)


@pytest.mark.slow
def test_product(product_case: Case) -> None:
    check(**product_case)


def check(transform: str, framework: str, optimizer: str, dtype: str, density: float) -> None:
    opt = table.OPTIMIZERS[optimizer]
    subject = (_constrained if transform in table.CONSTRAINTS else _sparsified)(transform, opt, dtype, density)
    model = table.FRAMEWORKS[framework]
    run = model.driver(model.make(), subject.start)
    opt = _with_what_follows(opt, transform, density)
    oracle, plain = _oracle(opt), _plain(opt)
    mask = subject.mask(run)
    born_ever = False

    assert {p.dtype for p in jax.tree.leaves(run.params)} == {jnp.dtype(dtype)}
    if subject.lands_on_zeros:
        _assert_zeros("law 5: stored parameters are masked from step 0 on", run.params, mask)

    for count in range(table.STEPS):
        grads = _gradients(run.params, seed=count)
        params, state = run.params, run.opt_state
        run.step(grads)

        old, mask = mask, subject.mask(run)
        # A living weight moves at each step, so that a zero shows a newborn one; its moments must agree.
        old = jax.tree.map(lambda o, p: o & (p != 0), old, run.params) if subject.reborn else old
        born = jax.tree.map(lambda new, old: new & ~old, mask, old)
        born_now = any(b.any() for b in jax.tree.leaves(born))
        born_ever |= born_now
        anew = subject.restarts_all and born_now
        restarted = _full(params) if anew else born
        if subject.lands_on_zeros:
            _assert_zeros(f"law 4: masked weights are exact zeros (step {count})", run.params, mask)
        else:
            outside = jax.tree.map(jnp.logical_not, mask)
            _assert_same_bits(f"frozen weights stay (step {count})", run.params, params, where=outside)
        subject.check_density(run)
        assert all(jnp.isfinite(p).all() for p in jax.tree.leaves(run.params)), f"{optimizer} is not for {dtype}"

        stayed = mask if subject.restarts_all else jax.tree.map(jnp.logical_and, mask, old)
        _assert_zeros(
            f"law 6: newborn weights wait a step (step {count})",
            run.params,
            jax.tree.map(lambda m, s: s | ~m, mask, stayed),
        )
        seen = stayed if subject.masks_gradients else _full(params)
        expected, expected_state = oracle(grads, _inner(state), params, seen, seen, restarted, anew)
        _assert_same_bits(f"law 4: kept weights move as under {optimizer} (step {count})", run.params, expected, stayed)
        _assert_same_bits(f"laws 5, 6: the state of {optimizer} (step {count})", _inner(run.opt_state), expected_state)
        if opt.elementwise:
            expected, _ = oracle(grads, _inner(state), params, _full(params), seen, restarted, anew)
            _assert_same_bits(f"law 4: … fed the dense gradient (step {count})", run.params, expected, stayed)
        if density == 1:
            expected = plain(grads, _inner(state), params)
            _assert_same_bits(
                f"law 4: density 1 is {optimizer} (step {count})", (run.params, _inner(run.opt_state)), expected
            )

    assert run.traces == 1, f"law 8: one compile, not {run.traces}"
    assert born_ever == (subject.regrows and density < 1), "the run shows births where the plan regrows, and only there"


class Subject(NamedTuple):
    """A transform under test, and what it promises."""

    start: Start
    mask: Callable[[Any], Any]  # driver -> mask, with True for leaves that are not sparsified
    lands_on_zeros: bool = True
    masks_gradients: bool = False
    regrows: bool = False
    reborn: bool = False
    restarts_all: bool = False  # moments of all weights, when some are born
    check_density: Callable[[Any], None] = lambda run: None


_PLANS = table.PLANS | table.RECOMBINED


def _with_what_follows(optimizer: table.Optimizer, transform: str, density: float) -> table.Optimizer:
    """The optimizer with what the plan puts after it, for the laws speak of both together."""
    after = _PLANS[transform].make(density).after if transform in _PLANS else None
    return optimizer if after is None else optimizer._replace(inner=lambda: optax.chain(optimizer.inner(), after))


def _constrained(name: str, optimizer: table.Optimizer, dtype: str, density: float) -> Subject:
    def mask_for(params: Any) -> Any:
        chosen = jt.filters.only(params, jt.filters.weights())
        rng = np.random.default_rng(0)
        return jax.tree.map(
            lambda p: None if p is None else jnp.asarray(rng.random(p.shape) < density),
            chosen,
            is_leaf=lambda x: x is None,
        )

    def start(params: Any) -> tuple[optax.GradientTransformation, Any, Any]:
        params = _cast(params, dtype)
        mask = mask_for(params)
        if name != "freeze":
            params = jt.apply_mask(params, mask)
        # Named, so that `_inner` finds the inner state.
        chain = optax.named_chain(("inner", optimizer.inner()), ("sparse", table.CONSTRAINTS[name](mask)))
        tx = optimizer.outer(chain)
        return tx, params, tx.init(params)

    return Subject(start, lambda run: _filled(mask_for(run.params), run.params), lands_on_zeros=name != "freeze")


def _sparsified(name: str, optimizer: table.Optimizer, dtype: str, density: float) -> Subject:
    entry = _PLANS[name]
    plan = entry.make(density)

    def start(params: Any) -> tuple[optax.GradientTransformation, Any, Any]:
        tx = optimizer.outer(jt.sparsify(optimizer.inner(), plan, key=jax.random.key(0)))
        return tx, *jt.init(tx, _cast(params, dtype))

    def check_density(run: Any) -> None:
        """Exactly k of each leaf; a step is an optimizer step, so the count is the transform's own."""
        law = entry.density(run.params, density, max(int(_sparse(run.opt_state).steps) - 1, 0))
        pairs = list(zip(*map(_leaves, (jt.mask_of(run.opt_state), run.params)), strict=True))
        wide = [m if m is None else np.broadcast_to(m, p.shape) for m, p in pairs]
        if isinstance(law, float):
            kept = sum(int(m.sum()) for m in wide if m is not None)
            assert kept == round(law * sum(m.size for m in wide if m is not None)), "law 1: exactly k of the tree"
            return
        for mask, share in zip(wide, _leaves(law), strict=True):
            if mask is not None:
                assert int(mask.sum()) == max(round(float(share) * mask.size), 1), "law 1: exactly k at every step"

    return Subject(
        start,
        lambda run: _filled(jt.mask_of(run.opt_state), run.params),
        masks_gradients=True,
        regrows=entry.regrows,
        reborn=entry.reborn,
        restarts_all=plan.newborn == "reset_all",
        check_density=check_density,
    )


def _oracle(optimizer: table.Optimizer) -> Callable[..., tuple[Any, Any]]:
    """One step, jitted: grads, state, params, mask of grads, mask of params, born, all anew -> params, state."""
    inner = optax.with_extra_args_support(optimizer.inner())

    @partial(jax.jit, compiler_options=COMPILER)
    def step(grads: Any, state: Any, params: Any, grad_mask: Any, mask: Any, born: Any, anew: Any) -> Any:
        def update(grads: Any, state: Any, params: Any) -> Any:
            start = jax.tree.map(lambda p: jnp.where(anew, p, 0), _where(mask, params))
            state = _reset(state, inner.init(start), born, anew)
            updates, stepped = inner.update(_where(grad_mask, grads), state, _where(mask, params))
            return updates, stepped

        tx = optimizer.outer(optax.GradientTransformation(inner.init, update))
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    return step


def _plain(optimizer: table.Optimizer) -> Callable[..., tuple[Any, Any]]:
    tx = optimizer.outer(optimizer.inner())

    @partial(jax.jit, compiler_options=COMPILER)
    def step(grads: Any, state: Any, params: Any) -> tuple[Any, Any]:
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    return step


def _reset(state: Any, fresh: Any, born: Any, anew: Any) -> Any:
    """Fresh entries for the newborn, in every leaf that lies at a parameter's path and has its shape.

    Where all are `anew`, so is the only whole number beside them, which counts their steps. Goes by paths, and so
    shares nothing with the library, which goes by `optax.tree_map_params`.
    """
    births = jax.tree_util.tree_leaves_with_path(born)

    leaves = jax.tree_util.tree_leaves_with_path(state)
    # The places of the nodes that hold moments, and of the whole numbers in a node: field names end their paths.
    holders = {path[: -len(name) - 1] for path, _ in leaves for name, _ in births if path[-len(name) :] == name}
    numbers = [path for path, leaf in leaves if jnp.shape(leaf) == () and jnp.issubdtype(leaf.dtype, jnp.integer)]

    def one(path: tuple[Any, ...], leaf: Any, new: Any) -> Any:
        for name, entries in births:
            if path[-len(name) :] == name and jnp.shape(leaf) == entries.shape:
                return jnp.where(entries, new, leaf)
        if path in numbers and path[:-1] in holders and [p[:-1] for p in numbers].count(path[:-1]) == 1:
            return jnp.where(anew, new, leaf)
        return leaf

    return jax.tree_util.tree_map_with_path(one, state, fresh)


def _is_sparse(x: Any) -> bool:
    return isinstance(x, jt.transforms.SparseState) or (isinstance(x, dict) and x.keys() == {"inner", "sparse"})


def _sparse(state: Any) -> Any:
    (found,) = (s for s in jax.tree.leaves(state, is_leaf=_is_sparse) if _is_sparse(s))
    return found


def _inner(state: Any) -> Any:
    """The optimizer state as it would be without the sparse transform in it."""

    def one(x: Any) -> Any:
        return x["inner"] if isinstance(x, dict) else x.inner if _is_sparse(x) else x

    return jax.tree.map(one, state, is_leaf=_is_sparse)


def _leaves(tree: Any) -> list[Any]:
    return jax.tree.leaves(tree, is_leaf=lambda x: x is None)


def _gradients(params: Any, seed: int) -> Any:
    """Dense gradients, none of them so small that its square is nothing in half precision."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda p: jnp.asarray(rng.choice((-1, 1), p.shape) * rng.uniform(0.5, 2, p.shape), p.dtype), params
    )


def _cast(params: Any, dtype: str) -> Any:
    return jax.tree.map(lambda p: p.astype(dtype), params)


def _full(params: Any) -> Any:
    return jax.tree.map(lambda p: jnp.ones(p.shape, bool), params)


def _filled(mask: Any, params: Any) -> Any:
    """The mask with True in place of None, in the containers of the parameters, so that one structure serves all."""
    pairs = zip(_leaves(mask), _leaves(params), strict=True)
    filled = [jnp.broadcast_to(True if m is None else m, p.shape) for m, p in pairs if p is not None]
    return jax.tree.unflatten(jax.tree.structure(params), filled)


def _where(mask: Any, tree: Any) -> Any:
    return jax.tree.map(lambda m, x: jnp.where(m, x, 0), mask, tree)


def _assert_zeros(law: str, params: Any, mask: Any) -> None:
    for p, m in zip(jax.tree.leaves(params), jax.tree.leaves(mask), strict=True):
        np.testing.assert_array_equal(np.asarray(p)[~np.asarray(m)], 0, err_msg=law)


def _assert_same_bits(law: str, actual: Any, expected: Any, where: Any = True) -> None:
    """Equal bits; any NaN equals any other. A zero's sign counts."""
    assert jax.tree.structure(actual) == jax.tree.structure(expected), law

    def one(path: tuple[Any, ...], a: Any, b: Any, where: Any) -> None:
        a, b = np.asarray(a), np.asarray(b)
        assert (a.dtype, a.shape) == (b.dtype, b.shape), f"{law}: {jax.tree_util.keystr(path)}"
        same = (
            (a == b) & (np.signbit(a) == np.signbit(b)) | np.isnan(a) & np.isnan(b) if a.dtype.kind != "b" else a == b
        )
        wrong = ~same & np.asarray(where)
        assert not wrong.any(), f"{law}: {jax.tree_util.keystr(path)}\n{a[wrong]}\ninstead of\n{b[wrong]}"

    wheres = where if where is not True else jax.tree.map(lambda _: True, actual)
    jax.tree_util.tree_map_with_path(one, actual, expected, wheres)
