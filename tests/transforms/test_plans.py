"""What each plan does step by step: schedules, exact counts, newborn weights, rest on refresh, growth."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxticket as jt
from jaxticket import schedules, scopes, scores, units
from jaxticket.errors import InputError, NoMatchError, StructureError

KEY = jax.random.key(0)


def make_params(seed=0, shape=(10, 20)):
    rng = np.random.default_rng(seed)
    return {
        "dense": {"kernel": jnp.asarray(rng.normal(size=shape), jnp.float32), "bias": jnp.ones(shape[1])},
        "out": {"kernel": jnp.asarray(rng.normal(size=(shape[1], 5)), jnp.float32)},
    }


def make_grads(step):
    rng = np.random.default_rng(100 + step)
    return jax.tree.map(lambda p: jnp.asarray(rng.normal(size=p.shape), jnp.float32), make_params())


def trajectory(tx, steps, params=None):
    """(params, state) before each step, and after the last."""
    carry = jt.init(tx, make_params() if params is None else params)
    step = jax.jit(lambda g, s, p: tx.update(g, s, p))
    seen = [carry]
    for i in range(steps):
        updates, state = step(make_grads(i), carry[1], carry[0])
        carry = optax.apply_updates(carry[0], updates), state
        seen.append(carry)
    return seen


def kept(state):
    mask = jt.mask_of(state)
    return {name: int(mask[name]["kernel"].sum()) for name in mask}


def test_gradual_follows_the_cubic_at_every_step():
    plan = jt.gradual(0.1, start=2, stop=10, every=3)  # due at 2, 5, 8 and 10
    schedule = schedules.cubic(0.1, start=2, stop=10)
    expected, due = 200, {2, 5, 8, 10}
    for step, (_, state) in enumerate(trajectory(jt.sparsify(optax.adam(0.01), plan), 12)[1:]):
        if step in due:
            expected = int(np.rint(np.float32(schedule(step)) * np.float32(200)))
        assert kept(state)["dense"] == expected, step
    assert expected == 20


def test_gradual_masks_nest_and_never_revive():
    states = [s for _, s in trajectory(jt.sparsify(optax.adam(0.1), jt.gradual(0.2, stop=8, every=2)), 10)]
    masks = [jt.mask_of(s)["dense"]["kernel"] for s in states]
    assert all(not bool(jnp.any(new & ~old)) for old, new in itertools.pairwise(masks))


def test_gradual_shares_the_final_density_among_leaves():
    plan = jt.gradual(0.3, stop=4, every=2, allocate=jt.allocate.erk)
    final = jt.allocate.erk(make_params(), 0.3)
    state = trajectory(jt.sparsify(optax.sgd(0.1), plan), 6)[-1][1]
    assert kept(state) == {"dense": round(200 * final["dense"]["kernel"]), "out": round(100 * final["out"]["kernel"])}


def test_one_shot_is_a_schedule():
    plan = jt.gradual(schedules.one_shot(0.25, step=3), start=3, stop=3)
    counts = [kept(s)["dense"] for _, s in trajectory(jt.sparsify(optax.sgd(0.1), plan), 5)]
    assert counts == [200, 200, 200, 200, 50, 50]


def test_gradual_over_the_tree_has_one_pool():
    plan = jt.gradual(0.1, stop=2, every=1, scope=scopes.tree())
    state = trajectory(jt.sparsify(optax.sgd(0.1), plan), 4)[-1][1]
    assert sum(kept(state).values()) == 30


@pytest.mark.parametrize("unit", [units.axis(-1), units.block(5, 5)])
def test_plans_of_units_keep_units_whole(unit):
    plan = jt.gradual(0.5, stop=2, every=1, unit=unit)
    params, state = trajectory(jt.sparsify(optax.adam(0.1), plan), 4)[-1]
    mask = jnp.broadcast_to(jt.mask_of(state)["dense"]["kernel"], (10, 20))
    assert int(mask.sum()) == 100
    pooled = unit.pool({"m": mask.astype(jnp.float32)})["m"]
    assert set(np.unique(pooled)) == {0.0, 1.0}
    assert not np.asarray(params["dense"]["kernel"])[~np.asarray(mask)].any()


def test_channel_plans_hold_one_byte_a_channel():
    tx = jt.sparsify(optax.sgd(0.1), jt.gradual(0.4, stop=2, every=1, unit=units.axis(-1)))
    assert jt.mask_of(tx.init(make_params()))["dense"]["kernel"].shape == (1, 20)


def test_rigl_grows_where_the_dense_gradient_is_largest():
    """Against an oracle in numpy, step for step; a masked gradient would grow the lowest indices instead."""
    plan = jt.rigl(0.2, stop=100, every=2, drop_fraction=0.5, allocate=None)
    seen = trajectory(jt.sparsify(optax.sgd(0.05), plan, key=KEY), 9)
    fraction = schedules.cosine(0.5, stop=100)
    for step in range(9):
        (params, state), (new_params, new_state) = seen[step], seen[step + 1]
        old, new = (np.asarray(jt.mask_of(s)["dense"]["kernel"]) for s in (state, new_state))
        weights = np.asarray(params["dense"]["kernel"])
        if step % 2:
            assert (old == new).all()
            continue
        keep = int(np.rint(np.float32(40) * (1 - np.float32(fraction(step)))))
        magnitude = np.where(old, np.abs(weights), -1).ravel()
        survivors = np.zeros(200, bool)
        survivors[np.argsort(-magnitude, kind="stable")[:keep]] = True
        gradient = np.where(survivors, -1, np.abs(np.asarray(make_grads(step)["dense"]["kernel"])).ravel())
        survivors[np.argsort(-gradient, kind="stable")[: 40 - keep]] = True
        np.testing.assert_array_equal(new.ravel(), survivors)
        # An ordinary step for the weights that stay, just-dropped-and-regrown ones too; newborn ones are 0.
        moved = weights - np.float32(0.05) * np.asarray(make_grads(step)["dense"]["kernel"])
        np.testing.assert_allclose(new_params["dense"]["kernel"], np.where(new & old, moved, 0), rtol=1e-6)
        assert (weights[new & ~old] == 0).all()
        assert (np.asarray(new_params["dense"]["bias"]) != np.asarray(params["dense"]["bias"])).all()


def test_every_call_is_a_step_of_the_inner_optimizer():
    """So that a schedule of the learning rate ends with the training; newborn weights have no moments yet."""
    plan = jt.rigl(0.2, stop=100, every=3, allocate=None)
    seen = trajectory(jt.sparsify(optax.adam(0.05), plan, key=KEY), 7)
    for step, (_, state) in enumerate(seen):
        assert int(state.inner[0].count) == int(state.steps) == step
    for due in (0, 3, 6):
        before, after = seen[due][1], seen[due + 1][1]
        born = np.asarray(after.mask["dense"]["kernel"] & ~before.mask["dense"]["kernel"])
        stayed = np.asarray(after.mask["dense"]["kernel"] & before.mask["dense"]["kernel"])
        grads = np.asarray(make_grads(due)["dense"]["kernel"])
        mu, old_mu = (np.asarray(s.inner[0].mu["dense"]["kernel"]) for s in (after, before))
        assert (mu[born] == 0).all()
        np.testing.assert_allclose(mu[stayed], (0.9 * old_mu + 0.1 * grads)[stayed], rtol=1e-5, atol=1e-7)


def test_set_moves_the_weights_on_a_refresh_and_newborn_start_from_nothing():
    """They are 0 through the refresh; their first step is that of adam at zero moments: m = (1-b1) g."""
    plan = jt.sparse_evolutionary(0.2, every=5, allocate=None)
    seen = trajectory(jt.sparsify(optax.adam(0.05), plan, key=KEY), 7)
    before, after, then = (seen[step][1] for step in (5, 6, 7))
    born = np.asarray(after.mask["dense"]["kernel"] & ~before.mask["dense"]["kernel"])
    stayed = np.asarray(after.mask["dense"]["kernel"] & before.mask["dense"]["kernel"])
    assert born.any()
    kernels = [np.asarray(params["dense"]["kernel"]) for params, _ in seen]
    assert (kernels[6][born] == 0).all()
    assert (kernels[6][stayed] != kernels[5][stayed]).all()
    grads = np.asarray(make_grads(6)["dense"]["kernel"])
    np.testing.assert_allclose(np.asarray(then.inner[0].mu["dense"]["kernel"])[born], 0.1 * grads[born], rtol=1e-5)
    assert kernels[7][born].all()


def test_set_grows_uniformly_over_everything_not_kept():
    """Chi-square over the positions grown, 2,000 keys: each candidate is as likely as another."""
    mask = {"kernel": jnp.arange(20).reshape(4, 5) < 8}
    params = {"kernel": jnp.where(mask["kernel"], jnp.arange(1.0, 21.0).reshape(4, 5), 0)}
    t = jt.regrow(scores.magnitude, scores.random, 0.5)

    def grown(key):
        return t.update(mask, (), params=params, grads=None, count=0, key=key, aux=None)[0]["kernel"]

    counts = np.asarray(jax.jit(jax.vmap(grown))(jax.random.split(KEY, 2000)).sum(0)).ravel()
    assert (counts[4:8] == 2000).all()  # the four largest survive
    candidates = np.delete(counts, np.s_[4:8])  # the four dropped ones may return
    expected = 2000 * 4 / 16
    assert candidates.sum() == 8000
    assert np.sum((candidates - expected) ** 2 / expected) < 37.7  # 99.9 % of chi-square, 15 degrees of freedom


def test_the_count_is_constant_under_regrowth():
    for plan in (jt.rigl(0.13, stop=50, every=1), jt.sparse_evolutionary(0.13, every=1)):
        counts = [kept(s) for _, s in trajectory(jt.sparsify(optax.adam(0.1), plan, key=KEY), 8)]
        assert all(c == counts[0] for c in counts)
        assert sum(counts[0].values()) == round(0.13 * 300)


def test_prune_and_regrow_chain():
    """Dense to sparse with regrowth: the density of the schedule, and some weights come back."""
    schedule = schedules.cubic(0.2, start=0, stop=8)
    refresh = jt.transforms.chain(
        jt.prune(scores.magnitude, schedule), jt.regrow(scores.magnitude, scores.gradient, 0.5)
    )
    seen = trajectory(jt.sparsify(optax.sgd(0.1), jt.Plan(refresh, schedules.every(2, stop=8))), 10)
    masks = [np.asarray(jt.mask_of(s)["dense"]["kernel"]) for _, s in seen]
    assert masks[-1].sum() == 40
    assert any((new & ~old).any() for old, new in itertools.pairwise(masks))


def test_reset_all_restarts_every_moment_when_weights_come_back():
    """AC/DC: momentum is 0 at the first step of a dense phase, and goes on at that of a sparse one."""
    plan = jt.ac_dc(0.5, steps=10, compress=(0.2, 0.7), decompress=(0.4,), scope=scopes.leaf())
    seen = trajectory(jt.sparsify(optax.sgd(0.1, momentum=0.9), plan), 9)
    for name in ("dense", "out"):
        traces = [np.asarray(state.inner[0].trace[name]["kernel"]) for _, state in seen]
        masks = [np.asarray(jt.mask_of(state)[name]["kernel"]) for _, state in seen]
        grads = [np.asarray(make_grads(i)[name]["kernel"]) for i in range(9)]
        np.testing.assert_array_equal(traces[5], grads[4])
        kept = np.where(masks[3], grads[2] + np.float32(0.9) * traces[2], np.float32(0.9) * traces[2])
        np.testing.assert_allclose(traces[3], kept, rtol=1e-6)
        # The bias restarts as well, though it was never masked.
    np.testing.assert_array_equal(seen[5][1].inner[0].trace["dense"]["bias"], make_grads(4)["dense"]["bias"])


def test_observe_sees_every_step_and_reaches_the_refresh():
    def update(mask, total, *, params, **signals):
        return jt.select(total, 0.5, mask=mask), jax.tree.map(jnp.zeros_like, total)

    summed = jt.transforms.MaskTransform(
        init=lambda params, mask, *, key: (mask, jax.tree.map(jnp.zeros_like, params)),
        update=update,
        observe=lambda total, *, params, grads: jax.tree.map(lambda t, g: t + jnp.abs(g), total, grads),
    )
    first = jt.start(scores.magnitude, 1.0)
    plan = jt.Plan(jt.transforms.chain(first, summed), schedules.at([3]))
    state = trajectory(jt.sparsify(optax.sgd(0.1), plan), 4)[-1][1]
    total = sum(np.abs(np.asarray(make_grads(i)["dense"]["kernel"])) for i in range(4))
    np.testing.assert_array_equal(jt.mask_of(state)["dense"]["kernel"], jt.select(jnp.asarray(total), 0.5))


def test_scores_may_read_the_inner_state():
    plan = jt.Plan(jt.prune(scores.momentum, 0.5), schedules.at([3]), newborn="keep")
    seen = trajectory(jt.sparsify(optax.adam(0.1), plan), 4)
    mu = jnp.abs(seen[3][1].inner[0].mu["dense"]["kernel"])
    np.testing.assert_array_equal(jt.mask_of(seen[4][1])["dense"]["kernel"], jt.select(mu, 0.5))


def test_a_given_mask_stays_and_masks_the_parameters():
    ticket = jt.select(jt.filters.only(make_params(), jt.filters.weights()), 0.1)
    tx = jt.sparsify(optax.adamw(0.1), jt.static(), mask=ticket)
    for params, state in trajectory(tx, 3):
        np.testing.assert_array_equal(jt.mask_of(state)["dense"]["kernel"], ticket["dense"]["kernel"])
        assert not np.asarray(params["dense"]["kernel"])[~np.asarray(ticket["dense"]["kernel"])].any()


@pytest.mark.breadth
def test_replicates_under_nested_vmap_keep_the_cond_and_their_own_masks():
    tx = jt.sparsify(optax.sgd(0.1), jt.sparse_evolutionary(0.2, every=2, allocate=None))

    def init(key):
        own = jt.sparsify(optax.sgd(0.1), jt.sparse_evolutionary(0.2, every=2, allocate=None), key=key)
        return jt.init(own, make_params())

    def step(params, state):
        updates, state = tx.update(make_grads(0), state, params)
        return optax.apply_updates(params, updates), state

    keys = jax.random.split(KEY, (2, 3))
    params, state = jax.vmap(jax.vmap(init))(keys)
    nested = jax.jit(jax.vmap(jax.vmap(step)))
    text = nested.lower(params, state).compile().as_text()
    assert " conditional(" in text
    for _ in range(3):
        params, state = nested(params, state)
    masks = np.asarray(jt.mask_of(state)["dense"]["kernel"])
    assert (masks.sum((-1, -2)) == 40).all()
    assert len({m.tobytes() for m in masks.reshape(6, -1)}) == 6
    alone_params, alone = init(keys[1, 2])
    for _ in range(3):
        alone_params, alone = jax.jit(step)(alone_params, alone)
    np.testing.assert_array_equal(masks[1, 2], jt.mask_of(alone)["dense"]["kernel"])


def test_replicates_that_are_due_at_different_steps_refresh_alone():
    tx = jt.sparsify(optax.sgd(0.0), jt.gradual(schedules.constant(0.5), stop=10, every=2))
    params, state = jt.init(tx, make_params())
    states = jax.tree.map(lambda x: jnp.stack([x, x]), state)._replace(steps=jnp.array([1, 2]))
    _, states = jax.vmap(lambda s: tx.update(make_grads(0), s, params))(states)
    assert jt.mask_of(states)["dense"]["kernel"].sum((1, 2)).tolist() == [200, 100]


def test_donating_the_state_leaves_the_callers_arrays_valid():
    params, mask, key = make_params(), {"dense": {"kernel": jnp.ones((10, 20), bool), "bias": None}}, jax.random.key(3)
    mask["out"] = {"kernel": jnp.ones((20, 5), bool)}
    tx = jt.sparsify(optax.adam(0.1), jt.sparse_evolutionary(1.0), key=key, mask=mask)
    donate = jax.jit(lambda p, s: jax.tree.map(lambda x: x, (p, s)), donate_argnums=(0, 1))
    jax.block_until_ready(donate(*jt.init(tx, params)))
    assert float(params["dense"]["bias"].sum()) == 20
    assert int(mask["dense"]["kernel"].sum()) == 200
    jax.random.normal(key)


def test_partitions_each_with_a_plan_of_its_own():
    tx = optax.partition(
        {
            "a": jt.sparsify(optax.adam(0.1), jt.gradual(0.1, stop=2, every=1)),
            "b": jt.sparsify(optax.sgd(0.1), jt.rigl(0.4, stop=9, every=1), key=KEY),
        },
        {"dense": {"kernel": "a", "bias": "a"}, "out": {"kernel": "b"}},
    )
    params, state = trajectory(tx, 4)[-1]
    assert kept(state) == {"dense": 20, "out": 40}
    assert int((params["out"]["kernel"] != 0).sum()) <= 40


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda tx: tx.update(make_grads(0), tx.init(make_params())), InputError, "params=None"),
        (lambda _: jt.sparsify(optax.sgd(0.1), jt.rigl(0.1, stop=9)).init(make_params()), InputError, "key"),
        (lambda _: jt.mask_of(optax.adam(0.1).init(make_params())), InputError, "SparseState"),
        (lambda _: jt.sparsify(optax.sgd(0.1), jt.static(), mask={}).init(make_params()), StructureError, "mask"),
        (
            lambda _: jt.sparsify(optax.sgd(0.1), jt.static(where=jt.filters.match("nothing"))).init(make_params()),
            NoMatchError,
            "where matches no leaf",
        ),
        (
            lambda _: jt.sparsify(
                optax.sgd(0.1), jt.Plan(jt.regrow(scores.magnitude, scores.gradient, 0.1), schedules.every(1))
            ).init(make_params()),
            InputError,
            "regrow needs a mask",
        ),
        (lambda _: jt.transforms.chain(), InputError, "at least one"),
        (lambda _: jt.prune(scores.magnitude, lambda t: 0.1, allocate=jt.allocate.erk), InputError, "allocate="),
        (lambda _: jt.gradual(0.1, start=9, stop=3), InputError, "stop"),
        (lambda _: jt.gradual(1.5, stop=3), InputError, "1.5"),
        (lambda _: jt.keep_params_sparse(None).update(make_grads(0), ()), InputError, "params=None"),
    ],
)
def test_bad_input_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call(jt.sparsify(optax.sgd(0.1), jt.static(0.5)))


def test_a_refresh_that_would_widen_the_mask_is_refused():
    channel = {"kernel": jnp.ones((1, 4), bool)}
    tx = jt.sparsify(optax.sgd(0.1), jt.gradual(0.5, stop=3, every=1, unit=units.block(2, 2)), mask=channel)
    params = {"kernel": jnp.ones((4, 4))}
    state = tx.init(params)
    with pytest.raises(StructureError, match="start from a mask"):
        tx.update(params, state, params)


def test_adafactor_rows_are_exempt_from_surgery_and_the_rest_restarts():
    plan = jt.sparse_evolutionary(0.5, every=1, allocate=None)
    inner = optax.adafactor(0.1, momentum=0.9, min_dim_size_to_factor=4)
    seen = trajectory(jt.sparsify(inner, plan, key=KEY), 2, params=None)
    for _, state in seen[1:]:
        assert all(bool(jnp.isfinite(x).all()) for x in jax.tree.leaves(state.inner))


def test_jit_of_init_equals_eager_init():
    tx = jt.sparsify(optax.adam(0.1), jt.rigl(0.3, stop=10), key=KEY)
    eager, compiled = jt.init(tx, make_params()), jax.jit(functools.partial(jt.init, tx))(make_params())
    leaves = zip(jax.tree.leaves(eager[1].mask), jax.tree.leaves(compiled[1].mask), strict=True)
    assert all(bool((a == b).all()) for a, b in leaves)
