"""Dynamic sparse training and alternation, method by method: the published counts, against oracles in numpy."""

import functools
import itertools
import json
import math
import pathlib

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxticket as jt
from jaxticket import schedules, scopes, scores, transforms, units
from jaxticket.errors import InputError
from jaxticket.selection import _redistribution

GOLDEN = json.loads((pathlib.Path(__file__).parents[1] / "golden" / "dynamic.json").read_text())
KEY = jax.random.key(0)
SHAPES = {"a": (6, 10), "b": (10, 8)}


def make_params(seed=0):
    rng = np.random.default_rng(seed)
    return {name: {"kernel": jnp.asarray(rng.normal(size=shape), jnp.float32)} for name, shape in SHAPES.items()}


def make_grads(step, scale=(1.0, 1.0)):
    rng = np.random.default_rng(100 + step)
    return {
        name: {"kernel": jnp.asarray(s * rng.normal(size=shape), jnp.float32)}
        for (name, shape), s in zip(SHAPES.items(), scale, strict=True)
    }


def trajectory(plan, steps, *, inner=None, grads=make_grads):
    """(params, mask) before each step and after the last, as numpy arrays by leaf."""
    tx = jt.sparsify(optax.sgd(0.05) if inner is None else inner, plan, key=KEY)
    params, state = jt.init(tx, make_params())
    step = jax.jit(tx.update)
    seen = [(params, jt.mask_of(state))]
    for i in range(steps):
        updates, state = step(grads(i), state, params)
        params = optax.apply_updates(params, updates)
        seen.append((params, jt.mask_of(state)))
    return [{name: (np.asarray(p[name]["kernel"]), np.asarray(m[name]["kernel"])) for name in SHAPES} for p, m in seen]


def counts(seen):
    return [{name: int(mask.sum()) for name, (_, mask) in at.items()} for at in seen]


def totals(seen):
    return [sum(at.values()) for at in counts(seen)]


@pytest.mark.parametrize("case", GOLDEN["regrow"], ids=lambda case: case["name"])
def test_golden_regrowth(case):
    """By hand: gradients of survivors do not count, a dropped weight may return, ties go to the lower index."""
    evolve = jt.regrow(scores.magnitude, scores.gradient, case["drop_fraction"])
    params, grads = {"w": jnp.asarray([case["weights"]])}, {"w": jnp.asarray([case["grads"]])}
    mask = {"w": jnp.asarray([case["mask"]], bool)}
    new, _ = evolve.update(mask, (), params=params, grads=grads, count=0, key=None, aux=None)
    assert np.flatnonzero(new["w"]).tolist() == case["kept"]


@pytest.mark.parametrize("case", GOLDEN["drop_fraction"], ids=lambda case: str(case["count"]))
def test_golden_drop_fractions(case):
    schedule = schedules.cosine(case["initial"], stop=case["stop"], final=case["final"])
    np.testing.assert_allclose(schedule(case["count"]), case["value"], rtol=1e-6)


@hypothesis.given(density=st.floats(0.05, 1), fraction=st.floats(0, 1), seed=st.integers(0, 99), spread=st.booleans())
@hypothesis.settings(max_examples=40)
def test_growth_keeps_the_total_and_takes_the_largest_dense_gradients(density, fraction, seed, spread):
    params, grads = make_params(seed), make_grads(seed, scale=(1.0, 5.0))
    mask = jt.select(scores.random(params, key=jax.random.key(seed)), jnp.float32(density))
    make = jt.redistribute if spread else jt.regrow
    new, _ = make(scores.magnitude, scores.gradient, jnp.float32(fraction)).update(
        mask, (), params=jt.apply_mask(params, mask), grads=grads, count=0, key=None, aux=None
    )
    total = 0
    for name in SHAPES:
        m, n, g, p = (np.asarray(tree[name]["kernel"]).ravel() for tree in (mask, new, grads, params))
        total += int(n.sum()) - int(m.sum())
        if not spread:
            assert n.sum() == m.sum()
        # Survivors are the largest weights of the mask; the rest has the largest gradients of everything else.
        p, g = np.where(m, np.abs(p), -1), np.abs(g)
        order = np.argsort(-p, kind="stable")
        kept = 0
        while kept < m.sum() and n[order[kept]]:
            kept += 1
        fits = []
        for k in range(kept + 1):
            survivors = np.zeros_like(m)
            survivors[order[:k]] = True
            grown = np.argsort(-np.where(survivors, -1, g), kind="stable")[: int(n.sum()) - k]
            expected = survivors.copy()
            expected[grown] = True
            fits.append(bool((expected == n).all()))
        assert any(fits)
    assert total == 0


@hypothesis.given(
    strengths=st.lists(st.one_of(st.floats(0, 1e6, width=32), st.just(float("nan"))), min_size=1, max_size=6),
    rooms=st.lists(st.integers(0, 500), min_size=6, max_size=6),
    part=st.floats(0, 1),
)
@hypothesis.settings(max_examples=80)
def test_dealing_is_exact_and_fair(strengths, rooms, part):
    room = np.asarray(rooms[: len(strengths)], np.int32)
    total = round(part * int(room.sum()))
    share = _redistribution.shares(jnp.asarray(strengths, jnp.float32))
    dealt = np.asarray(jax.jit(_redistribution.deal)(share, jnp.int32(total), jnp.asarray(room)))
    assert dealt.sum() == total
    assert ((dealt >= 0) & (dealt <= room)).all()
    if (np.asarray(share) * total + 1 <= room).all():
        assert (np.abs(dealt - np.asarray(share) * total) <= 1).all()


def test_snfs_moves_weights_to_the_leaf_of_larger_momentum():
    plan = jt.snfs(0.3, stop=40, every=2)
    seen = trajectory(plan, 20, grads=functools.partial(make_grads, scale=(0.1, 10.0)))
    assert set(totals(seen)) == {round(0.3 * 140)}
    assert counts(seen)[-1]["b"] > counts(seen)[0]["b"]
    even = trajectory(plan, 20, grads=functools.partial(make_grads, scale=(10.0, 0.1)))
    assert counts(even)[-1]["a"] > counts(even)[0]["a"]


def test_snfs_goes_by_averages_of_dense_gradients():
    """The first refresh, count for count: mean momentum of the living, ceil of the dropped, largest momentum grown."""
    plan = jt.snfs(0.3, stop=100, every=3, drop_fraction=0.4)
    seen = trajectory(plan, 4)
    fraction = float(schedules.cosine(0.4, stop=100, final=0.005)(3))
    momentum = {name: np.zeros(shape, np.float32) for name, shape in SHAPES.items()}
    for i in range(4):  # observed at the steps 0 … 3, the refresh is at 3
        for name in SHAPES:
            momentum[name] = 0.9 * momentum[name] + 0.1 * np.asarray(make_grads(i)[name]["kernel"])
    before, after = seen[3], seen[4]
    strength = np.array([np.abs(momentum[n])[before[n][1]].mean() for n in SHAPES])
    share = strength / strength.sum()
    keep = {}
    for name, s in zip(SHAPES, share, strict=True):
        mask = before[name][1]
        dead = 1 - mask.mean()
        rate = min(dead, fraction) if s > 0.5 and dead < 0.2 else fraction
        keep[name] = int(mask.sum()) - int(np.ceil(rate * mask.sum()))
    removed = sum(int(before[n][1].sum()) - keep[n] for n in SHAPES)
    for name, s in zip(SHAPES, share, strict=True):
        weights, mask = before[name]
        grown = int(after[name][1].sum()) - keep[name]
        assert abs(grown - s * removed) < 1
        survivors = np.zeros(mask.size, bool)
        survivors[np.argsort(-np.where(mask, np.abs(weights), -1).ravel(), kind="stable")[: keep[name]]] = True
        rest = np.where(survivors, -1, np.abs(momentum[name]).ravel())
        survivors[np.argsort(-rest, kind="stable")[:grown]] = True
        np.testing.assert_array_equal(after[name][1].ravel(), survivors)


def test_an_average_passes_by_the_cond_of_a_refresh():
    """The moments of dead weights move at every step; a refresh must not copy them."""
    plan = jt.snfs(0.3, stop=100, every=3)
    tx = jt.sparsify(optax.sgd(0.05), plan, key=KEY)
    params, state = jt.init(tx, make_params())
    jaxpr = jax.make_jaxpr(tx.update)(make_grads(0), state, params)
    (cond,) = (eqn for eqn in jaxpr.eqns if eqn.primitive.name == "cond")
    assert not [v for v in cond.outvars if v.aval.dtype == jnp.float32]


def test_itop_explores_more_than_its_density():
    """The union of all masks grows; a static mask explores its density and no more (Liu et al., 2021)."""
    explored = {}
    for name, plan in {"itop": jt.itop(0.2, steps=40, every=4), "static": jt.static(0.2)}.items():
        seen = trajectory(plan, 40)
        union = [at["a"][1] for at in seen]
        rates = [np.logical_or.reduce(union[: i + 1]).mean() for i in range(len(union))]
        assert all(a <= b for a, b in itertools.pairwise(rates))
        explored[name] = rates[-1]
    assert explored["static"] == 0.2
    assert explored["itop"] > 0.4


@pytest.mark.parametrize("initial", [0.5, 1.0])
def test_granet_prunes_the_tree_and_regrows_each_leaf(initial):
    plan = jt.granet(0.1, initial=initial, stop=8, steps=40, every=4)
    seen = trajectory(plan, 16)
    target = schedules.cubic(0.1, start=0, stop=8, initial=initial)
    expected = round(140 * initial)
    for step, total in enumerate(totals(seen)[1:]):
        if step % 4 == 0:
            expected = int(np.rint(np.float32(target(step)) * np.float32(140)))
        assert total == expected
    assert expected == 14
    # At the refresh of step 4: the largest weights of the tree stay, so many a leaf; then each leaf exchanges a part.
    before, after = seen[4], seen[5]
    keys = np.concatenate([np.where(m, np.abs(p), -1).ravel() for p, m in before.values()])
    pruned = np.zeros(keys.size, bool)
    pruned[np.argsort(-keys, kind="stable")[: totals(seen)[5]]] = True
    assert counts(seen)[5] == {"a": int(pruned[:60].sum()), "b": int(pruned[60:].sum())}
    fraction = float(schedules.cosine(0.5, stop=40, final=0.005)(4))
    for name, part in (("a", pruned[:60]), ("b", pruned[60:])):
        keep = int(part.sum()) - math.ceil(fraction * part.sum())
        survivors = np.zeros(part.size, bool)
        survivors[np.argsort(-np.where(part, np.abs(before[name][0]).ravel(), -1), kind="stable")[:keep]] = True
        gradient = np.where(survivors, -1, np.abs(np.asarray(make_grads(4)[name]["kernel"])).ravel())
        survivors[np.argsort(-gradient, kind="stable")[: part.sum() - keep]] = True
        np.testing.assert_array_equal(after[name][1].ravel(), survivors)
    masks = [at["a"][1] for at in seen[9:]]
    assert any((new & ~old).any() for old, new in itertools.pairwise(masks)), "regrowth goes on after the pruning"


def test_granet_at_the_published_midpoint():
    """d_i = .5, d_f = .05: sparsity .5 + .45 · .875 = .89375 half way (Liu et al., 2021)."""
    plan = jt.granet(0.05, initial=0.5, stop=8, steps=40, every=4)
    assert totals(trajectory(plan, 6))[5] == round((1 - 0.89375) * 140)


def test_mest_weighs_gradients_when_it_drops():
    plan = jt.mest(0.3, stop=100, every=2, gradient_weight=3.0, drop_fraction=0.5)
    seen = trajectory(plan, 3)
    fraction = 0.5
    for name in SHAPES:
        weights, mask = seen[2][name]
        importance = np.abs(weights) + np.float32(3) * np.abs(np.asarray(make_grads(2)[name]["kernel"]))
        keep = int(np.rint(np.float32(mask.sum()) * np.float32(1 - np.float32(fraction))))
        kept = np.argsort(-np.where(mask, importance, -1).ravel(), kind="stable")[:keep]
        assert seen[3][name][1].ravel()[kept].all()
    assert totals(seen) == [42] * 4


def test_ac_dc_takes_turns_and_ends_sparse():
    plan = jt.ac_dc(0.2, steps=20, compress=(0.1, 0.7), decompress=(0.4,))
    seen = trajectory(plan, 20)
    sparse = [2 <= step < 8 or step >= 14 for step in range(20)]
    assert totals(seen)[1:] == [28 if s else 140 for s in sparse]
    for name in SHAPES:
        masks = [at[name][1] for at in seen]
        assert all((masks[3] == m).all() for m in masks[3:9]), "a mask stays for its phase"
        before, after = seen[8][name][0], seen[9][name][0]
        assert (before[~masks[8]] == 0).all()
        # What comes back starts from zero: one step of plain descent away from it.
        expected = before - np.float32(0.05) * np.asarray(make_grads(8)[name]["kernel"])
        np.testing.assert_allclose(after, expected, rtol=1e-6)
    keys = np.concatenate([np.abs(p).ravel() for p, _ in seen[14].values()])
    best = np.zeros(140, bool)
    best[np.argsort(-keys, kind="stable")[:28]] = True
    np.testing.assert_array_equal(np.concatenate([m.ravel() for _, m in seen[15].values()]), best)


def test_ac_dc_of_a_density_of_one_never_restarts():
    inner = optax.sgd(0.05, momentum=0.9)
    kept = trajectory(jt.ac_dc(1.0, steps=10, compress=(0.2, 0.7), decompress=(0.5,)), 10, inner=inner)
    plain = trajectory(jt.static(), 10, inner=inner)
    for name in SHAPES:
        np.testing.assert_array_equal(kept[-1][name][0], plain[-1][name][0])


@pytest.mark.parametrize("case", GOLDEN["shrink"], ids=lambda case: str(case["rate"]))
def test_golden_shrinkage(case):
    params = {"w": jnp.asarray([case["weights"]])}
    tx = transforms.shrink(case["density"], case["rate"], stop=1)
    zeros = {"w": jnp.zeros_like(params["w"])}
    updates, state = tx.update(zeros, tx.init(params), params)
    np.testing.assert_allclose(optax.apply_updates(params, updates)["w"][0], case["shrunk"], rtol=1e-6, atol=1e-8)
    updates, _ = tx.update(zeros, state, params)
    np.testing.assert_array_equal(updates["w"], zeros["w"], err_msg="no more from `stop` on")


def test_iss_p_shrinks_what_the_step_leaves_smallest_and_then_cuts():
    plan = jt.iss_p(0.3, stop=6, rate=0.8)
    seen = trajectory(plan, 9)
    assert totals(seen) == [140] * 7 + [42] * 3
    for name, shape in SHAPES.items():
        size = shape[0] * shape[1]
        for step in range(6):
            moved = seen[step][name][0] - np.float32(0.05) * np.asarray(make_grads(step)[name]["kernel"])
            smallest = np.argsort(-np.abs(moved).ravel(), kind="stable")[round(0.3 * size) :]
            expected = moved.ravel().copy()
            expected[smallest] *= np.float32(0.8)
            np.testing.assert_allclose(seen[step + 1][name][0].ravel(), expected, rtol=1e-5, atol=1e-7)
        masks = [at[name][1] for at in seen]
        assert (masks[7] == masks[8]).all()
        assert (masks[8] == masks[9]).all()


@hypothesis.given(m=st.integers(1, 5), axis=st.sampled_from([-2, -1]), seed=st.integers(0, 9), n=st.integers(1, 5))
@hypothesis.settings(max_examples=6)
def test_groups_keep_n_of_m_through_drop_and_grow(m, axis, seed, n):
    """On every axis, with a remainder, at the start and after each exchange."""
    n = min(n, m)
    scope = scopes.groups(m, axis=axis)
    params = {"w": jax.random.normal(jax.random.key(seed), (7, 9))}
    mask = jt.select(params, n / m, scope=scope)
    evolve = jt.regrow(scores.magnitude, scores.gradient, 0.5, scope=scope)
    grads = {"w": jax.random.normal(jax.random.key(seed + 100), (7, 9))}
    new, _ = evolve.update(mask, (), params=params, grads=grads, count=0, key=None, aux=None)
    for kept in (mask, new):
        along = np.moveaxis(np.asarray(kept["w"]), axis, -1)
        for start in range(0, along.shape[-1], m):
            group = along[..., start : start + m]
            assert (group.sum(-1) == max(round(n / m * group.shape[-1]), 1)).all()


@pytest.mark.parametrize("unit", [units.block(2, 2), units.axis(-1)], ids=["block", "channel"])
def test_units_are_exchanged_whole(unit):
    plan = jt.rigl(0.5, stop=100, every=2, unit=unit, allocate=None, drop_fraction=0.5)
    seen = trajectory(plan, 7)
    assert any((seen[i]["a"][1] != seen[i + 1]["a"][1]).any() for i in range(7))
    for at in seen:
        for weights, mask in at.values():
            wide = np.broadcast_to(mask, weights.shape)
            assert set(np.unique(unit.pool({"m": jnp.asarray(wide, jnp.float32)})["m"])) == {0.0, 1.0}
            assert (weights[~wide] == 0).all()


def test_densities_are_hyperparameters():
    """`inject_hyperparams` keeps the density in the optimizer's state: cells of a comparison share one program."""
    traces = []
    inject = optax.inject_hyperparams(
        lambda density: jt.sparsify(optax.sgd(0.05), jt.gradual(density, stop=4, every=2), key=KEY)
    )

    @jax.jit
    @jax.vmap
    def step(params, state):
        traces.append(params)
        updates, state = inject(density=0.5).update(make_grads(0), state, params)
        return optax.apply_updates(params, updates), state

    cells = [jt.init(inject(density=d), make_params()) for d in (0.1, 0.4, 0.7)]
    params, state = jax.tree.map(lambda *xs: jnp.stack(xs), *cells)
    for _ in range(6):
        params, state = step(params, state)
    kept = jt.mask_of(state)["a"]["kernel"].sum((1, 2))
    assert kept.tolist() == [6, 24, 42]
    assert len(traces) == 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: jt.ac_dc(0.1, steps=10, compress=(0.1,), decompress=(0.5,)), "take turns"),
        (lambda: jt.ac_dc(0.1, steps=10, compress=(0.5, 0.4), decompress=(0.45,)), "take turns"),
        (lambda: jt.iss_p(0.1, stop=10, rate=1.5), "rate=1.5"),
        (lambda: jt.iss_p(0.1, stop=-1), "step=-1"),
        (lambda: transforms.average_gradients(jt.start(scores.magnitude, 0.5), decay=1.0), "decay=1.0"),
        (
            lambda: transforms.average_gradients(transforms.average_gradients(jt.start(scores.magnitude, 0.5))),
            "observes gradients by itself",
        ),
        (lambda: jt.granet(0.1, stop=10, steps=0), "steps=0"),
        (lambda: schedules.cosine(0.1, stop=10, final=0.2), "final=0.2"),
        (lambda: scores.weighted_sum(), "at least one pair"),
        (lambda: jt.gradual(0.1, stop=10, minimum=3), "minimum=3"),
        (
            lambda: jt.redistribute(scores.magnitude, scores.gradient, 0.1).init(make_params(), None, key=None),
            "needs a mask",
        ),
        (
            lambda: jax.eval_shape(
                lambda m, s: _redistribution.redistribute(m, drop=s, grow=s, drop_fraction=0.1, unit=units.element()),
                jax.ShapeDtypeStruct((2**16, 2**16), bool),
                jax.ShapeDtypeStruct((2**16, 2**16), jnp.float32),
            ),
            "int32",
        ),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(InputError, match=message):
        call()


def test_global_pruning_with_a_floor_empties_no_leaf():
    """One leaf's weights are tiny: without a floor it dies, with one it keeps that many, and the total is exact."""
    params = make_params()
    params["a"]["kernel"] *= 1e-3
    for minimum, kept in ((0, 0), (4, 4)):
        plan = jt.gradual(0.1, stop=2, every=1, scope=scopes.tree(), minimum=minimum)
        tx = jt.sparsify(optax.sgd(0.0), plan)
        state = jt.init(tx, params)[1]
        update = jax.jit(tx.update)
        for i in range(3):
            _, state = update(make_grads(i), state, params)
        found = {name: int(m["kernel"].sum()) for name, m in jt.mask_of(state).items()}
        assert found == {"a": kept, "b": 14 - kept}


@pytest.mark.parametrize("case", GOLDEN["redistribute"], ids=lambda case: case["name"])
def test_golden_redistribution(case):
    """By the authors' code: the cap of nearly dense leaves, and the 1 % of a leaf that stays dead."""
    n = case["size"]
    params = {name: jnp.arange(float(n), 0, -1)[None] for name in "ab"}
    grads = {name: jnp.full((1, n), mean, jnp.float32) for name, mean in zip("ab", case["momentum"], strict=True)}
    mask = {name: (jnp.arange(n) < case["alive"])[None] for name in "ab"}
    evolve = jt.redistribute(scores.magnitude, scores.gradient, case["drop_fraction"])
    new, _ = evolve.update(mask, (), params=params, grads=grads, count=0, key=None, aux=None)
    assert [int(new[name].sum()) for name in "ab"] == case["kept"]


def test_itop_rounds_the_dropped_weights_up_and_waits_for_a_period():
    """Of ten living weights 0.21 are 2.1: the authors drop three (the nearest would be two)."""
    plan = jt.itop(0.2, steps=10**9, every=4)
    assert [t for t in range(13) if plan.when(t)] == [4, 8, 12]
    mask = jnp.arange(100) < 10
    values = jnp.arange(100.0, 0, -1)
    for fraction, rounding, kept in (
        (0.21, "nearest", 8),
        (0.21, "up", 7),
        (0.3, "up", 7),
        (0.001, "up", 9),
        (0.0, "up", 10),
    ):
        new = jt.drop_and_grow(mask, drop=values, grow=-values, drop_fraction=fraction, rounding=rounding)
        assert int((new & mask).sum()) == kept, (fraction, rounding)
    seen = trajectory(jt.itop(0.2, steps=40, every=4, grow=scores.gradient), 5)
    fraction = float(schedules.cosine(0.5, stop=40, final=0.005)(4))
    for name in SHAPES:
        (weights, mask), (_, new) = seen[4][name], seen[5][name]
        keep = int(mask.sum()) - math.ceil(fraction * mask.sum())
        survivors = np.zeros(mask.size, bool)
        survivors[np.argsort(-np.where(mask, np.abs(weights), -1).ravel(), kind="stable")[:keep]] = True
        gradient = np.where(survivors, -1, np.abs(np.asarray(make_grads(4)[name]["kernel"])).ravel())
        survivors[np.argsort(-gradient, kind="stable")[: mask.sum() - keep]] = True
        np.testing.assert_array_equal(new.ravel(), survivors)


def test_itop_grows_where_no_weight_was_before():
    """random_unfired: new places as long as there are any, and then any place; the count is exact."""
    plan = jt.itop(0.2, steps=10**6, every=1, drop_fraction=0.5, grow=scores.unfired, allocate=None)
    tx = jt.sparsify(optax.sgd(0.05), plan, key=KEY)
    params, state = jt.init(tx, make_params())
    step = jax.jit(tx.update)
    for i in range(12):
        ever = jt.transforms.explored_of(state)
        updates, state = step(make_grads(i), state, params)
        params = optax.apply_updates(params, updates)
        for name, shape in SHAPES.items():
            size = shape[0] * shape[1]
            new, fired = (np.asarray(t[name]["kernel"]) for t in (jt.mask_of(state), ever))
            assert new.sum() == round(0.2 * size)
            dropped = math.ceil(0.5 * new.sum())
            if i:
                assert (new & ~fired).sum() == min(dropped, size - fired.sum())
    assert all(bool(m.all()) for m in jax.tree.leaves(jt.transforms.explored_of(state)))
    with pytest.raises(InputError, match="track_explored"):
        scores.unfired(make_params(), key=KEY)


def test_set_waits_for_a_period():
    plan = jt.sparse_evolutionary(0.1, steps=1000)
    assert [t for t in range(31) if plan.when(t)] == [10, 20, 30]


def test_golden_set_by_sign():
    """Of six positive and three negative weights a third each goes, closest to zero, and the zero; all restart at 0."""
    weights = jnp.array([[6.0, 5, 4, 3, 2, 1, -9, -8, -7, 0, 0, 0]])
    mask = {"kernel": (jnp.arange(12) < 10)[None]}
    plan = jt.sparse_evolutionary(0.8, every=1, drop_fraction=1 / 3, removal="sign")
    plan = plan._replace(when=schedules.at([0]))
    seen = set()
    for seed in range(20):
        tx = jt.sparsify(optax.sgd(0.0), plan, mask=mask, key=jax.random.key(seed))
        params, state = jt.init(tx, {"kernel": weights})
        updates, state = tx.update(params, state, params)
        new = np.asarray(jt.mask_of(state)["kernel"][0])
        assert new.sum() == 10
        np.testing.assert_array_equal(
            optax.apply_updates(params, updates)["kernel"][0], [6, 5, 4, 3, 0, 0, -9, -8, 0, 0, 0, 0]
        )
        assert new[[0, 1, 2, 3, 6, 7]].all()
        seen |= set(np.flatnonzero(new).tolist())
    assert seen == set(range(12))
    tx = jt.sparsify(optax.sgd(0.0), plan, mask={"kernel": jnp.ones((1, 12), bool)}, key=KEY)
    params, state = jt.init(tx, {"kernel": weights})
    assert not tx.update(params, state, params)[0]["kernel"].any(), "a dense leaf has nothing to exchange"
    with pytest.raises(InputError, match="has no sign"):
        jt.sparse_evolutionary(0.1, removal="sign", unit=units.axis(-1))
