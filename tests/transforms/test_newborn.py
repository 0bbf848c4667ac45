"""Newborn weights: their value, their moments and the counts of those moments, by the numbers of the authors' code."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxticket as jt
from jaxticket import schedules, scores, transforms


def one_leaf(values):
    return {"kernel": jnp.asarray([values], jnp.float32)}


def refresh_once(transform, weights, mask, grads, *, inner, steps=1, newborn="zero_moments"):
    """Parameters, mask and inner state after some steps, of which the first has a refresh."""
    plan = jt.Plan(transform, schedules.at([0]), newborn)
    tx = jt.sparsify(inner, plan, mask={"kernel": jnp.asarray([mask], bool)})
    params, state = jt.init(tx, one_leaf(weights))
    for _ in range(steps):
        updates, state = tx.update(one_leaf(grads), state, params)
        params = optax.apply_updates(params, updates)
    return params["kernel"][0], jt.mask_of(state)["kernel"][0], state.inner


def test_a_newborn_weight_is_zero_through_the_step_that_grows_it():
    """Of the weights 4 and 1 the second is dropped; the gradient 9 grows the last, which takes no step yet."""
    evolve = jt.regrow(scores.magnitude, scores.gradient, 0.5)
    start = ([4, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 9])
    weights, mask, _ = refresh_once(evolve, *start, inner=optax.sgd(0.1))
    np.testing.assert_array_equal(mask, [True, False, False, True])
    np.testing.assert_array_equal(weights, [4, 0, 0, 0])
    weights, _, _ = refresh_once(evolve, *start, inner=optax.sgd(0.1), steps=2)
    np.testing.assert_allclose(weights, [4, 0, 0, -0.9], rtol=1e-6)


def test_a_thousand_calls_are_a_thousand_updates():
    """So that a schedule of the learning rate ends; a RigL that rests at its 76 refreshes would end at 924."""
    tx = jt.sparsify(
        optax.sgd(optax.linear_schedule(1.0, 0.0, 1000)),
        jt.rigl(0.5, steps=1000),
        mask={"kernel": jnp.asarray([[1, 1, 0, 0]], bool)},
    )
    params, state = jt.init(tx, one_leaf([4, 1, 0, 0]))

    def body(_, carry):
        updates, state = tx.update(one_leaf([0, 0, 0, 0]), carry[1], carry[0])
        return optax.apply_updates(carry[0], updates), state

    _, state = jax.lax.fori_loop(0, 1000, body, (params, state))
    assert int(state.inner[1].count) == int(state.steps) == 1000


GRANET = transforms.chain(jt.prune(scores.magnitude, 0.75), jt.regrow(scores.magnitude, scores.gradient, 1 / 3))


@pytest.mark.parametrize(
    ("grads", "mask", "weights", "momentum"),
    [
        ([0, 0, 0, 9], [1, 1, 0, 1], [4, 3, 0, 0], [0.4, 0.3, 0, 0]),
        ([0, 0, 9, 0], [1, 1, 1, 0], [4, 3, 2, 0], [0.4, 0.3, 0.2, 0]),
    ],
    ids=["pruned and grown", "dropped and grown by one link"],
)
@pytest.mark.parametrize("wrap", [lambda t: t, transforms.track_explored, transforms.average_gradients])
def test_golden_granet_newborns(grads, mask, weights, momentum, wrap):
    """What the schedule prunes is dead: grown at once, it is new; what the regeneration drops and grows is not."""
    inner = optax.chain(optax.trace(1.0), optax.scale(0.0))
    plan = jt.Plan(wrap(GRANET), schedules.at([0]))
    tx = jt.sparsify(inner, plan, mask={"kernel": jnp.ones((1, 4), bool)})
    params, state = jt.init(tx, one_leaf([4, 3, 2, 1]))
    trace = one_leaf([0.4, 0.3, 0.2, 0.1])
    state = state._replace(inner=(state.inner[0]._replace(trace=trace), *state.inner[1:]))
    updates, state = tx.update(one_leaf(grads), state, params)
    kept = np.asarray(jt.mask_of(state)["kernel"][0])
    np.testing.assert_array_equal(kept, np.asarray(mask, bool))
    np.testing.assert_array_equal(optax.apply_updates(params, updates)["kernel"][0], weights)
    moved = np.where(np.asarray(weights) != 0, grads, 0)  # the gradients of the refresh are masked by what stays
    np.testing.assert_allclose(np.where(kept, state.inner[0].trace["kernel"][0], 0), momentum + moved, rtol=1e-6)


def test_a_chain_of_one_exchange_keeps_what_it_drops_and_grows():
    """RigL, behind a start: dropped and grown within one exchange keeps its value (reinit_when_same=False)."""
    evolve = transforms.chain(jt.start(scores.magnitude, 0.5), jt.regrow(scores.magnitude, scores.gradient, 0.5))
    weights, mask, _ = refresh_once(evolve, [4, 1, 0, 0], [1, 1, 0, 0], [0, 9, 0, 0], inner=optax.sgd(0.0))
    np.testing.assert_array_equal(mask, [True, True, False, False])
    np.testing.assert_array_equal(weights, [4, 1, 0, 0])


def test_two_exchanges_keep_only_what_both_keep():
    """The first drops the weight 1 and grows the last; the second takes that back, and the 1 is a newborn."""
    evolve = transforms.chain(
        jt.regrow(scores.magnitude, scores.gradient, 0.5), jt.regrow(scores.magnitude, scores.magnitude, 0.5)
    )
    weights, mask, _ = refresh_once(evolve, [4, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 9], inner=optax.sgd(0.0))
    np.testing.assert_array_equal(mask, [True, True, False, False])
    np.testing.assert_array_equal(weights, [4, 0, 0, 0])


def test_granet_has_no_refresh_at_step_0():
    plan = jt.granet(0.05, steps=6000, start=300, every=100)
    assert [t for t in range(601) if plan.when(t)] == [300, 400, 500, 600]
    plan = jt.granet(0.05, steps=6000)
    assert [t for t in range(301) if plan.when(t)] == [100, 200, 300]


def test_granet_follows_the_published_densities():
    """d_i = .5, d_f = .05, four prunings: sparsities .76016, .89375, .94297, .95 (the authors' code skips the last)."""
    schedule = schedules.cubic(0.05, start=0, stop=400, initial=0.5)
    np.testing.assert_allclose(
        [1 - schedule(t) for t in (100, 200, 300, 400)], [0.76016, 0.89375, 0.94297, 0.95], atol=6e-6
    )


def test_granet_uniform_holds_the_last_layer_at_a_fifth():
    """Sparsity .76 is that of each leaf; beyond .8 the last one keeps .2 and the others make up for it."""
    params = {"body": {"kernel": jnp.arange(1.0, 1001).reshape(20, 50)}, "head": {"kernel": jnp.ones((10, 20))}}
    plan = jt.granet_uniform(0.05, steps=1000, stop=400, every=100, last="^head/")
    tx = jt.sparsify(optax.sgd(0.0), plan, key=jax.random.key(0))
    params, state = jt.init(tx, params)
    step = jax.jit(tx.update)
    kept = {0: jt.mask_of(state)}
    for t in range(501):
        _, state = step(params, state, params)
        kept[t + 1] = jt.mask_of(state)
    count = lambda t: [int(kept[t][name]["kernel"].sum()) for name in ("body", "head")]
    assert count(100) == [500, 100]
    assert count(101) == [round(1000 * (1 - 0.76016)), round(200 * (1 - 0.76016))]
    for t, total in ((201, 0.10625 * 1200), (301, (1 - 0.94296875) * 1200), (401, 60), (501, 60)):
        assert count(t) == [round(total - 40), 40], t


def test_the_first_step_of_a_newborn_of_snfs_is_that_of_one_gradient():
    """Stated as a deviation: with the momentum that selected it, as in the authors' code, it would be 6.86 rates."""
    plan = jt.snfs(0.5, stop=100, every=10, drop_fraction=0.5)
    mask = {"kernel": jnp.asarray([[1, 1, 0, 0]], bool)}
    tx = jt.sparsify(optax.sgd(0.1, momentum=0.9), plan, mask=mask)
    params, state = jt.init(tx, one_leaf([40, 10, 0, 0]))
    for _ in range(12):
        before = params
        updates, state = tx.update(one_leaf([0, 0, 1, 0]), state, params)
        params = optax.apply_updates(params, updates)
    assert bool(jt.mask_of(state)["kernel"][0, 2])
    assert before["kernel"][0, 2] == 0
    np.testing.assert_allclose(params["kernel"][0, 2], -0.1, rtol=1e-6)


def fractions_dropped(plan, steps):
    """The part of ten living weights that each refresh replaces; all gradients of dead ones are larger."""
    mask = {"kernel": (jnp.arange(100) < 10)[None]}
    tx = jt.sparsify(optax.sgd(0.0), plan, mask=mask, key=jax.random.key(0))
    params, state = jt.init(tx, one_leaf(np.arange(100.0, 0, -1)))
    update, seen = jax.jit(tx.update), {}
    for t in range(steps):
        old = jt.mask_of(state)["kernel"]
        grads = {"kernel": jnp.where(old, 0, 1 + jnp.cos(t + jnp.arange(100.0)) ** 2)}
        updates, state = update(grads, state, params)
        params = optax.apply_updates(params, updates)
        seen[t] = int((old & ~jt.mask_of(state)["kernel"]).sum())
    return {t: n for t, n in seen.items() if n}


def test_rigl_begins_at_its_start_and_anneals_as_told():
    cosine = schedules.cosine(0.5, stop=40)
    plan = jt.rigl(0.1, start=20, stop=60, every=10, drop_fraction=0.5)
    assert fractions_dropped(plan, 70) == {20 + t: round(10 * float(cosine(t))) for t in (0, 10, 20, 30)}
    plan = jt.rigl(0.1, stop=30, every=10, drop_fraction=schedules.fixed(0.2))
    assert fractions_dropped(plan, 50) == {0: 2, 10: 2, 20: 2, 30: 2}
    plan = jt.rigl(0.1, stop=30, every=10, drop_fraction=schedules.power(0.9, stop=30, exponent=3))
    assert fractions_dropped(plan, 50) == {0: 9, 10: round(9 * (2 / 3) ** 3)}


@pytest.mark.parametrize("vmapped", [False, True])
def test_newborn_weights_start_where_grow_init_says(vmapped):
    """The signs of their gradients over ten, through the step that grows them; what stays and what is dead does not."""
    signs = lambda params, *, grads, key: jax.tree.map(lambda g: jnp.sign(g) / 10, grads)
    plan = jt.rigl(0.5, stop=4, every=4, drop_fraction=0.5, grow_init=signs)
    tx = jt.sparsify(optax.sgd(0.5), plan, mask={"kernel": jnp.asarray([[1, 1, 0, 0]], bool)})
    params, state = jt.init(tx, one_leaf([4, 1, 0, 0]))
    step = lambda state, params: tx.update(one_leaf([2, 0, 0, -9]), state, params)
    if vmapped:
        state, params = jax.tree.map(lambda x: jnp.stack([x, x]), (state, params))
        state = state._replace(steps=jnp.array([0, 1]))
        updates, _ = jax.jit(jax.vmap(step))(state, params)
        moved = optax.apply_updates(params, updates)["kernel"][:, 0]
        np.testing.assert_allclose(moved, [[3, 0, 0, -0.1], [3, 1, 0, 0]], rtol=1e-6)
    else:
        updates, _ = step(state, params)
        np.testing.assert_allclose(optax.apply_updates(params, updates)["kernel"][0], [3, 0, 0, -0.1], rtol=1e-6)
