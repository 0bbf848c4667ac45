"""Masks of channels: from masks of weights and back, in selection and in plans, within a budget."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxticket as jt
from jaxticket import structure, units
from jaxticket.errors import InputError, NoMatchError
from tests.structure import _removal
from tests.structure.test_removal import X, mlp, mlp_params

PARAMS = mlp_params()
GROUPS = structure.trace(mlp, PARAMS, X)
MAGNITUDE = jax.tree.map(jnp.abs, PARAMS)
UNIT = structure.unit(GROUPS)


def counts(kept):
    return {name: int(np.sum(mask)) for name, mask in kept.items()}


@pytest.mark.parametrize("scope", [jt.scopes.leaf(), jt.scopes.tree()])
def test_selection_keeps_whole_channels(scope):
    mask = jax.jit(lambda s: jt.select(s, 0.5, unit=UNIT, scope=scope))(MAGNITUDE)
    kept = structure.channels(mask, GROUPS)
    assert sum(counts(kept).values()) == 7
    pooled = structure.pool(MAGNITUDE, GROUPS)
    by_channel = jt.select(pooled, 0.5, scope=scope)
    for name in kept:
        np.testing.assert_array_equal(kept[name], by_channel[name])
    # No mask is larger than its channels ask for: the first kernel loses outputs only.
    assert mask["a"]["kernel"].shape == (1, 8)


def test_drop_and_grow_moves_whole_channels():
    mask = jt.select(MAGNITUDE, 0.5, unit=UNIT)
    grown = jt.drop_and_grow(
        mask, drop=MAGNITUDE, grow=jax.tree.map(lambda x: -x, MAGNITUDE), drop_fraction=0.5, unit=UNIT
    )
    before, after = structure.channels(mask, GROUPS), structure.channels(grown, GROUPS)
    assert counts(before) == counts(after)
    assert any((before[name] != after[name]).any() for name in before)


@pytest.mark.parametrize("alias", [jt.gradual, jt.sparse_evolutionary])
def test_plans_move_whole_channels_without_recompiling(alias):
    options = {} if alias is jt.gradual else {"allocate": None}
    plan = alias(0.5, stop=20, every=4, unit=UNIT, where=jt.filters.everything(), **options)
    tx = jt.sparsify(optax.adam(1e-2), plan, key=jax.random.key(0))
    params, state = jt.init(tx, PARAMS)
    traced = []

    @jax.jit
    def step(params, state):
        traced.append(None)
        grads = jax.grad(lambda p: jnp.mean(mlp(p, X) ** 2))(params)
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    masks = []
    for _ in range(12):
        params, state = step(params, state)
        masks.append(structure.channels(jt.mask_of(state), GROUPS))
    assert len(traced) == 1
    assert counts(masks[-1]) == {"a/kernel:1": 4, "b/kernel:1": 3} or alias is jt.gradual
    assert any((a[name] != b[name]).any() for a, b in itertools.pairwise(masks) for name in a)
    mask = jt.mask_of(state)
    run = structure.replay(mlp, mask, GROUPS)
    np.testing.assert_allclose(run(structure.shrink(params, mask, GROUPS), X), mlp(params, X), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("reduce", "expected"),
    [(units.total, [2.0, 9.0]), (units.mean, [0.5, 2.25]), (units.largest, [1.0, 4.0]), (units.l2, [2**0.5, 33**0.5])],
)
def test_scores_are_pooled_over_all_members(reduce, expected):
    params = {"a": jnp.array([[1.0, 4.0], [0.0, 0.0]]), "b": jnp.array([[1.0, 0.0], [1.0, 4.0]])}
    groups = structure.trace(lambda p, x: x @ p["a"] @ p["b"], params, jnp.ones((3, 2)))
    np.testing.assert_allclose(structure.pool(params, groups, reduce=reduce)["a:1"], expected, rtol=1e-6)


def group_of_three():
    producer, consumer = jnp.array([[1.0, -1], [2, 0], [0, 0.5]]), jnp.array([[1.0, 0, 2], [0, -3, 1]])
    params = {"a": {"kernel": producer.T}, "b": {"kernel": consumer.T}}
    apply = lambda p, x: x @ p["a"]["kernel"] @ p["b"]["kernel"]
    return params, structure.trace(apply, params, jnp.ones((4, 2)))


def test_the_group_magnitude_is_that_of_torch_pruning():
    params, groups = group_of_three()
    score = lambda **options: structure.group_magnitude(params, groups, **options)["a/kernel:1"]
    np.testing.assert_allclose(score(power=1, normalise="none"), [1.5, 2.5, 1.75])
    np.testing.assert_allclose(score(normalise="none"), [1.5, 6.5, 2.625])
    np.testing.assert_allclose(score(), [0.4235, 1.8353, 0.7412], atol=1e-4)
    np.testing.assert_allclose(jnp.sum(score(normalise="sum")), 1.0, rtol=1e-6)


def test_biases_are_left_out_and_scales_are_not():
    params = {"bias": jnp.ones(2), "kernel": jnp.ones((3, 2)), "scale": jnp.array([5.0, 0.0]), "w": jnp.ones((2, 1))}
    apply = lambda p, x: ((x @ p["kernel"]) * p["scale"][None] + p["bias"][None]) @ p["w"]
    groups = structure.trace(apply, params, jnp.ones((4, 3)))
    score = structure.group_magnitude(params, groups, normalise="none")["kernel:1"]
    np.testing.assert_allclose(score, [(3 + 25 + 1) / 3, (3 + 0 + 1) / 3])


def test_budgets_are_met_from_below():
    scores = structure.group_magnitude(PARAMS, GROUPS)
    for cost, total in ((GROUPS.macs, GROUPS.macs()), (GROUPS.params, GROUPS.params())):
        for fraction in (0.8, 0.5, 0.3):
            kept = structure.choose(scores, GROUPS, structure.Budget(fraction, cost), ranking="global")
            assert cost(kept) <= fraction * total
            assert min(counts(kept).values()) >= 1
            # One channel less was dropped, and it was too much.
            assert cost(kept) > fraction * total * 0.7


def test_macs_and_params_are_those_of_the_smaller_network():
    kept = _removal.draw(GROUPS, 1)
    smaller = structure.shrink(PARAMS, kept, GROUPS)
    again = structure.trace(mlp, smaller, X)
    assert GROUPS.params(kept) == again.params() == sum(x.size for x in jax.tree.leaves(smaller))
    assert GROUPS.macs(kept) == again.macs()
    assert GROUPS.macs() == 7 * (5 * 8 + 8 * 6 + 6 * 3)


def test_local_ranking_keeps_a_fraction_of_each_group_and_global_ranking_the_best():
    scores = {"a/kernel:1": jnp.arange(8.0), "b/kernel:1": 100 + jnp.arange(6.0)}
    assert counts(structure.choose(scores, GROUPS, 0.5)) == {"a/kernel:1": 4, "b/kernel:1": 3}
    assert counts(structure.choose(scores, GROUPS, 0.5, ranking="global")) == {"a/kernel:1": 1, "b/kernel:1": 6}
    assert counts(structure.choose(scores, GROUPS, 0.5, ranking="global", cap=0.5)) == {
        "a/kernel:1": 4,
        "b/kernel:1": 3,
    }
    kept = structure.choose(scores, GROUPS, 0.5)
    np.testing.assert_array_equal(kept["a/kernel:1"], np.arange(8) >= 4)


def test_isomorphic_groups_rank_together_whatever_their_widths():
    """As by Torch-Pruning, whose scopes are named by the kinds of layers that are coupled, and how."""
    shapes = {"a": (4, 4), "b": (4, 6), "c": (6, 4), "d": (4, 9), "shift": (1, 9), "e": (9, 2)}
    params = {name: jnp.ones(shape) for name, shape in shapes.items()}
    tail = lambda p, x: (x @ p["d"] + p["shift"]) @ p["e"]
    apply = lambda p, x: tail(p, jnp.tanh(jnp.tanh(x @ p["a"]) @ p["b"]) @ p["c"])
    groups = structure.trace(apply, params, jnp.ones((1, 4)))
    scores = {g.name: jnp.arange(float(g.width)) + 100 * i for i, g in enumerate(groups)}
    kept = counts(structure.choose(scores, groups, 0.5, ranking="isomorphic"))
    assert kept["d:1"] in (4, 5)  # alone in its league: it has a bias
    assert kept["a:1"] == 1
    assert kept["c:1"] == 4


def test_widths_are_rounded_up_to_a_multiple():
    scores = {"a/kernel:1": jnp.arange(8.0), "b/kernel:1": jnp.arange(6.0)}
    kept = structure.choose(scores, GROUPS, 0.7, multiple=4)
    assert counts(kept) == {"a/kernel:1": 4, "b/kernel:1": 4}
    np.testing.assert_array_equal(kept["b/kernel:1"], np.arange(6) >= 2)


def test_groups_narrower_than_a_multiple_are_not_rounded():
    scores = {"a/kernel:1": jnp.arange(8.0), "b/kernel:1": jnp.arange(6.0)}
    assert counts(structure.choose(scores, GROUPS, 0.8, multiple=8)) == {"a/kernel:1": 8, "b/kernel:1": 3}


def norms(params, x):
    x = jnp.tanh(x @ params["a"])
    return (x - jnp.mean(x, -1, keepdims=True)) @ params["b"]


@pytest.mark.parametrize(
    ("run", "error", "match"),
    [
        (lambda: structure.channels({"a/kernel:1": jnp.ones(7, bool)}, GROUPS), InputError, r"a/kernel:1 takes bool"),
        (lambda: structure.channels({"a/kernel:1": jnp.zeros(8, bool)}, GROUPS), InputError, "keep at least one"),
        (
            lambda: structure.channels({"a": {"kernel": jnp.arange(40).reshape(5, 8) > 5}}, GROUPS),
            InputError,
            "not whole channels",
        ),
        (
            lambda: structure.channels(
                {"a": {"kernel": jnp.arange(8)[None] > 2}, "b": {"kernel": jnp.ones((1, 1), bool)}}, GROUPS
            ),
            InputError,
            r"channel 0 of the group a/kernel:1 is dropped on axis 1 of a/kernel and kept on axis 0 of b/kernel",
        ),
        (lambda: structure.channels({"z": jnp.ones((1, 1), bool)}, GROUPS), InputError, "z is not a leaf"),
        (lambda: structure.pool({"c": {"kernel": None}}, GROUPS), NoMatchError, "member of a group"),
        (lambda: structure.group_magnitude(PARAMS, GROUPS, normalise="max"), InputError, "normalise is 'max'"),
        (lambda: structure.group_magnitude(PARAMS, GROUPS, power=0), InputError, "power is 0"),
        (lambda: structure.choose({}, GROUPS, 0.5), InputError, "cannot be met"),
        (lambda: structure.choose({"x": jnp.ones(3)}, GROUPS, 0.5), InputError, "x is not a group"),
        (
            lambda: structure.choose({"a/kernel:1": jnp.full(8, jnp.nan)}, GROUPS, 0.5),
            InputError,
            "takes 8 finite scores",
        ),
        (
            lambda: structure.choose(structure.pool(MAGNITUDE, GROUPS), GROUPS, 0.1, cap=0.5),
            InputError,
            r"a fraction of 0.1 cannot be met.*the least is 0.500",
        ),
        (lambda: structure.choose(structure.pool(MAGNITUDE, GROUPS), GROUPS, 0.0), InputError, "budget is 0"),
        (lambda: structure.choose({}, GROUPS, 0.5, ranking="best"), InputError, "ranking is 'best'"),
        (lambda: structure.trace(mlp, PARAMS, X, prefer="both"), InputError, "prefer is 'both'"),
        (lambda: structure.trace(lambda v, x: x, {"name": "text"}, X), InputError, "name is a str"),
        (lambda: structure.spread({"z:1": jnp.ones(8, bool)}, GROUPS, PARAMS), InputError, "'z:1' is not a group"),
        (
            lambda: jt.gradual(0.5, steps=8, unit=UNIT, scope=jt.scopes.tree(), minimum=2),
            InputError,
            "minimum=2 must be 0 for units that span leaves",
        ),
        (
            lambda: jt.loops.prune_by(jt.scores.magnitude, unit=UNIT, scope=jt.scopes.tree(), minimum=2),
            InputError,
            "minimum=2 must be 0 for units that span leaves",
        ),
        (
            lambda: jt.rigl(0.5, stop=8, unit=UNIT, stacked={"a/kernel": 0}),
            InputError,
            "stacked=.* must be None for units that span leaves",
        ),
        (lambda: GROUPS["nothing"], InputError, "'nothing' is not a group"),
        (lambda: structure.Groups.from_json("{}"), InputError, "does not hold groups"),
    ],
)
def test_bad_input_is_named(run, error, match):
    with pytest.raises(error, match=match):
        run()


def test_inexact_groups_need_leave():
    params = {"a": jnp.ones((5, 4)), "b": jnp.ones((4, 2))}
    groups = structure.trace(norms, params, X)
    kept = {"a:1": jnp.arange(4) > 0}
    for run in (structure.shrink, lambda *args, **options: structure.replay(norms, *args[1:], **options)):
        with pytest.raises(InputError, match=r"the group a:1 is inexact: a sum or mean over it"):
            run(params, kept, groups)
        run(params, kept, groups, allow_inexact=True)
    with pytest.raises(InputError, match="0 of 1 groups that may shrink"):
        structure.choose(structure.pool(params, groups), groups, 0.5)


def test_replay_refuses_other_variables_and_programs():
    kept = {"a/kernel:1": jnp.arange(8) > 2}
    run = structure.replay(mlp, kept, GROUPS)
    with pytest.raises(InputError, match=r"a/bias has shape \(8,\), not \(5,\)"):
        run(PARAMS, X)
    other = structure.replay(lambda p, x: jnp.cumsum(mlp_hidden(p, x), -1), kept, GROUPS)
    with pytest.raises(InputError, match="groups are not those of this program"):
        other(structure.shrink(PARAMS, kept, GROUPS), X)


def mlp_hidden(params, x):
    return x @ params["a"]["kernel"] + params["a"]["bias"][None]


def test_groups_are_data():
    again = structure.Groups.from_json(GROUPS.to_json())
    assert again == GROUPS
    assert hash(again) == hash(GROUPS)
    table = str(GROUPS)
    assert "a/kernel:1  8      80.0%" in table
    assert "frozen, an axis of the outputs: c/kernel:1" in table
    picture = GROUPS.svg({"a/kernel:1": np.arange(8) > 2})
    assert picture.startswith("<svg")
    assert "5 of 8" in picture


def test_some_groups_only():
    """Channels of the others stay, and count as fixed."""
    first, second = (group.name for group in GROUPS)
    own = GROUPS.only([second])
    assert [group.name for group in own] == [second]
    kept = {second: np.arange(GROUPS[second].width) > 1}
    assert own.macs() == GROUPS.macs()
    assert own.macs(kept) == GROUPS.macs(kept) < GROUPS.macs()
    chosen = structure.choose(structure.pool(MAGNITUDE, own), own, 0.5)
    assert list(chosen) == [second]
    assert structure.channels(chosen, GROUPS)[first].all()
    with pytest.raises(InputError, match="'absent' is not a group"):
        GROUPS.only(["absent"])


def test_densities_by_group_are_refused_whatever_their_number():
    tree = {"a": None, "b": {"kernel": 1.0}, "c": {"kernel": 0.25}}
    scored = {"a": None, "b": {"kernel": MAGNITUDE["b"]["kernel"]}, "c": {"kernel": MAGNITUDE["c"]["kernel"]}}
    with pytest.raises(InputError, match="the unit spans leaves; pass a number, and allocate=None to a plan"):
        jt.select(scored, tree, unit=UNIT)


@pytest.mark.parametrize("kept", [0.29, 0.57, 0.58])
def test_fractions_that_floats_cannot_hold_keep_their_count(kept):
    params = {"a": jnp.ones((4, 100)), "b": jnp.ones((100, 2))}
    groups = structure.trace(lambda p, x: x @ p["a"] @ p["b"], params, jnp.ones((1, 4)))
    chosen = structure.choose({"a:1": jnp.arange(100.0)}, groups, kept)
    assert counts(chosen)["a:1"] == round(100 * kept)
