"""TAS: golden values of its parts, the supernet against the network that a search leaves, and budgets that are met."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxticket import models, structure
from jaxticket.errors import InputError
from jaxticket.methods.channels import tas

KEY = jax.random.key(0)
WIDE = ((1, 2, 3, 4),)
NET = tas.residual_supernet(width=4, blocks=2, shape=(9, 9, 2), classes=3)


def shape_of(widths, depths):
    """The sizes of `models.slim_resnet`."""
    blocks = max(NET.depths[0])
    pairs = list(zip(widths[1::2], widths[2::2], strict=True))
    return widths[0], [pairs[blocks * stage :][:depth] for stage, depth in enumerate(depths)]


def perceptron(inputs=3):
    """A supernet of a hidden layer, whose second half of inputs may be noise."""

    def apply(weights, x, draw):
        pair, table = draw.pairs[0], jnp.asarray(tas.resizes(WIDE[0]))
        hidden = (x @ weights["hidden"])[None] @ table[pair, pair.max()]
        return jax.nn.relu(jnp.tensordot(draw.weights[0], hidden, axes=1)) @ weights["output"]

    cost = lambda widths, _: (inputs + 2) * widths[0]
    kernel = jax.nn.initializers.glorot_normal()
    init = lambda key: {"hidden": kernel(key, (inputs, 4)), "output": kernel(key, (4, 2))}
    return tas.Supernet(WIDE, ((1,),), init, apply, cost, cost)


@pytest.mark.parametrize(
    ("channels", "target", "expected"),
    [
        ([1, 2, 3, 4], 2, [1.5, 3.5]),
        ([1, 2, 4], 2, [1.5, 3]),
        ([1, 2, 3, 4, 5], 3, [1.5, 3, 4.5]),
        ([1, 3], 3, [1, 2, 3]),
        ([5, 1, 7], 3, [5, 1, 7]),
        ([2, 2, 2, 2, 2], 4, [2, 2, 2, 2]),
    ],
)
def test_golden_interpolations(channels, target, expected):
    np.testing.assert_allclose(np.float32(channels) @ tas.interpolate(len(channels), target), expected, rtol=1e-6)


def test_the_table_of_interpolations_is_zero_beyond_the_widths():
    choices = tas.width_choices(10)
    table = tas.resizes(choices)
    for i, width in enumerate(choices):
        for j, target in enumerate(choices):
            np.testing.assert_array_equal(table[i, j, :width, :target], tas.interpolate(width, target))
            assert table[i, j, width:].any() == table[i, j, :, target:].any() == 0


def test_golden_choices():
    assert tas.width_choices(16) == (4, 6, 8, 9, 11, 12, 14, 16)
    assert tas.width_choices(32) == (9, 12, 16, 19, 22, 25, 28, 32)
    assert tas.width_choices(4) == (1, 2, 3, 4)
    assert tas.depth_choices(1) == (1,)
    assert tas.depth_choices(2) == (1, 2)
    assert tas.depth_choices(3) == (1, 2, 3)
    assert tas.depth_choices(9) == (1, 3, 5, 7, 9)
    assert tas.depth_choices(18) == (1, 3, 5, 7, 9, 11, 13, 15, 17, 18)
    assert tas.depth_choices(4, count=3) == (1, 2, 4)


def test_golden_temperatures():
    np.testing.assert_allclose([tas.anneal(4)(t) for t in range(5)], [5, 4.282412, 2.55, 0.817588, 0.1], rtol=1e-6)


def test_golden_expectations():
    (chances,) = tas.alive(jnp.log(jnp.array([[0.2, 0.3, 0.5]])), [(1, 2, 3)])
    np.testing.assert_allclose(chances, [1, 0.8, 0.5], rtol=1e-6)
    (chances,) = tas.alive(jnp.log(jnp.array([[0.2, 0.3, 0.5]])), [(1, 3, 5)])
    np.testing.assert_allclose(chances, [1, 0.8, 0.8, 0.5, 0.5], rtol=1e-6)
    logits = jnp.log(jnp.array([[0.2, 0.8, 1.0], [0.2, 0.3, 0.5]]))
    np.testing.assert_allclose(tas.expect_widths(logits, [(4, 16), (1, 2, 3)]), [13.6, 2.3], rtol=1e-6)


def test_golden_penalties():
    penalty = lambda now: float(tas.penalise(jnp.float32(7), jnp.float32(now), target=50, tolerance=5))
    np.testing.assert_allclose([penalty(f) for f in (50.1, 50, 45, 44.9)], [np.log(7), 0, 0, -np.log(7)], rtol=1e-6)


def test_the_penalty_reaches_every_logit_and_the_weights_those_that_are_drawn():
    logits = jnp.array([[0.3, -0.2, 0.1, 0.0]])
    penalty = lambda logits: tas.penalise(tas.expect_widths(logits, WIDE)[0], 4.0, target=2.0, tolerance=0.0)
    assert (jax.grad(penalty)(logits) != 0).all()
    pairs, weights = tas.draw_pairs(logits, WIDE, key=KEY, temperature=1.0)
    np.testing.assert_allclose(weights.sum(1), 1, rtol=1e-6)
    gradient = jax.grad(lambda a: tas.draw_pairs(a, WIDE, key=KEY, temperature=1.0)[1][0, 0])(logits)
    others = np.setdiff1d(np.arange(4), pairs[0])
    np.testing.assert_allclose(gradient[0, others], 0, atol=1e-7)
    assert (gradient[0, pairs[0]] != 0).all()


def test_pairs_are_different_choices_drawn_by_their_chances():
    rows, logits = ((1, 2, 3, 4), (2, 4)), jnp.log(jnp.array([[0.4, 0.3, 0.2, 0.1], [0.9, 0.1, 5.0, 5.0]]))
    draw = jax.vmap(lambda key: tas.draw_pairs(logits, rows, key=key, temperature=1.0)[0])
    pairs = np.asarray(draw(jax.random.split(KEY, 4000)))
    assert (pairs[..., 0] != pairs[..., 1]).all()
    assert pairs[:, 1].max() == 1
    # A Gumbel-softmax sample at temperature 1 is on average as likely as the softmax.
    shares = np.bincount(pairs[:, 0, 0], minlength=4) / len(pairs)
    sample = jax.vmap(lambda key: tas.relax(logits, rows, key=key, temperature=1.0))(jax.random.split(KEY, 4000))
    np.testing.assert_allclose(shares, sample.mean(0)[0], atol=0.03)
    np.testing.assert_array_equal(sample[:, 1, 2:], 0)


def test_the_supernet_at_one_choice_is_the_network_that_is_left():
    rng = np.random.default_rng(1)
    weights = jax.tree.map(lambda w: jnp.float32(rng.normal(size=w.shape)), jax.eval_shape(NET.init, KEY))
    x = jnp.float32(rng.normal(size=(4, 9, 9, 2)))
    at = [int(rng.integers(1, len(row))) for row in NET.widths]
    widths, depths = [row[i] for row, i in zip(NET.widths, at, strict=True)], [2, 1, 2]
    draw = tas.Draw(
        jnp.array([[i, 0] for i in at]),
        jnp.array([[1.0, 0.0]] * len(at)),
        jnp.array([[float(n == depth) for n in (1, 2)] for depth in depths]),
    )
    mixed = jax.jit(NET.apply)(weights, x, draw)
    model = models.slim_resnet(*shape_of(widths, depths), classes=3, channels=2)
    params, state = jax.eval_shape(model.init, KEY)
    rows = iter(at)
    numbers = {"stem": next(rows)}
    for stage in (1, 2, 3):
        for block in (1, 2):
            numbers |= {f"stage{stage}/block{block}/layer{n}": next(rows) for n in (1, 2)}
            numbers[f"stage{stage}/block{block}/shortcut"] = numbers[f"stage{stage}/block{block}/layer2"]

    def cut(path, like):
        names = [key.key for key in path]
        leaf = weights
        for name in names:
            leaf = leaf[name]
        leaf = leaf[numbers["/".join(names[:-2])]] if "norm" in names else leaf
        return leaf[tuple(map(slice, like.shape))]

    small = jax.tree_util.tree_map_with_path(cut, params)
    state = jax.tree.map(lambda s: jnp.zeros(s.shape), state)
    rebuilt, _ = jax.jit(functools.partial(model.apply, train=True, key=None))(small, state, x)
    np.testing.assert_allclose(mixed, rebuilt, rtol=1e-3, atol=1e-3)
    variables = {"params": params, "state": state}
    forward = lambda v, x: model.apply(v["params"], v["state"], x, train=False, key=None)[0]
    assert structure.trace(forward, variables, x[:1]).macs() == NET.cost(widths, depths)
    assert int(NET.cost(jnp.array(widths), jnp.array(depths))) == NET.cost(widths, depths)


def test_each_width_has_its_own_norm():
    net = tas.residual_supernet(width=4, blocks=1, shape=(5, 5, 1))
    logits = tas.init_logits(net.widths, net.depths, key=KEY)
    draw = tas.draw(logits, net.widths, net.depths, key=KEY, temperature=1.0)
    x = jax.random.normal(KEY, (4, 5, 5, 1))
    gradient = jax.jit(jax.grad(lambda w: jnp.sum(net.apply(w, x, draw) ** 2)))(net.init(KEY))
    shortcut = gradient["stage2"]["block1"]["shortcut"]["norm"]
    for norm, own in ((gradient["stem"]["norm"], draw.pairs[0]), (shortcut, draw.pairs[4])):
        used = np.asarray(jnp.any(norm["bias"] != 0, axis=1))
        assert np.flatnonzero(used).tolist() == sorted(own.tolist())


@pytest.mark.parametrize("fraction", [0.3, 0.5, 0.8])
def test_the_last_step_meets_the_budget_and_changes_nothing_where_it_is_met(fraction):
    full = NET.cost([row[-1] for row in NET.widths], [row[-1] for row in NET.depths])
    logits = tas.init_logits(NET.widths, NET.depths, key=KEY)
    logits = logits._replace(depths=logits.depths.at[:, 1].add(1.0))
    widths, depths = tas.choose(NET, logits, fraction=fraction, within=0.02)
    assert abs(NET.cost(widths, depths) / (fraction * full) - 1) <= 0.02
    likeliest = tas.choose(NET, logits, fraction=fraction)
    assert depths == likeliest[1] == (2, 2, 2)
    reached = NET.cost(*likeliest) / full
    assert tas.choose(NET, logits, fraction=reached, within=0.0) == likeliest


def test_the_last_step_moves_the_width_that_loses_least():
    logits = tas.Logits(jnp.array([[0.0, 0.0, 1.0, 3.0], [0.0, 1.0, 2.0, 9.0]]), jnp.zeros((1, 1)))
    cost = lambda widths, _: sum(widths)
    net = tas.Supernet(WIDE * 2, ((1,),), lambda key: {}, lambda *_: None, cost, cost)
    assert tas.choose(net, logits, fraction=0.75) == ((4, 4), (1,))
    assert tas.choose(net, logits, fraction=0.75, within=0.0) == ((2, 4), (1,))


def test_a_search_shows_its_steps_and_repeats_itself():
    net, seen = perceptron(), []
    x = jax.random.normal(KEY, (64, 3))
    half = x, (x[:, 0] > 0).astype(int)
    how = {"fraction": 0.5, "epochs": 3, "batch_size": 16, "within": 0.0}
    find = tas.search(net, half, half, **how, progress=lambda step, loss: seen.append(step))
    outcome, again = find(KEY), find(KEY)
    assert seen[2] == seen[-1] == 12
    assert (outcome.widths, outcome.depths, outcome.cost) == ((2,), (1,), 10)
    assert outcome.likeliest in {5, 10, 15, 20}
    np.testing.assert_array_equal(outcome.logits.widths, again.logits.widths)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: tas.width_choices(3), "channels=3"),
        (lambda: tas.depth_choices(0), "blocks=0"),
        (lambda: tas.depth_choices(2, count=3), "count=3 is more than the 2 blocks"),
        (lambda: tas.interpolate(0, 2), "width=0"),
        (lambda: tas.resizes((2, 2)), "must rise"),
        (lambda: tas.init_logits([], [(1,)], key=KEY), "one row or more"),
        (lambda: tas.draw_pairs(jnp.zeros((1, 1)), [(1,)], key=KEY, temperature=1.0), "two choices or more"),
        (lambda: tas.draw_pairs(jnp.zeros((1, 3)), WIDE, key=KEY, temperature=1.0), r"shape \(1, 3\)"),
        (lambda: tas.relax(jnp.zeros((1, 4)), WIDE, key=KEY, temperature=0.0), "temperature=0.0"),
        (lambda: tas.relax(jnp.zeros((1, 4)), WIDE, key=1, temperature=1.0), "key is a int"),
        (lambda: tas.expect_widths(jnp.zeros((2, 4)), WIDE), r"shape \(2, 4\)"),
        (lambda: tas.residual_supernet(shape=(4, 4)), "shape="),
        (lambda: tas.residual_supernet(width=3), "channels=3"),
        (lambda: tas.residual_supernet(blocks=0), "blocks=0"),
        (lambda: tas.anneal(0), "epochs=0"),
        (lambda: tas.choose(NET, tas.init_logits(NET.widths, NET.depths, key=KEY), fraction=2.0), "fraction"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(InputError, match=message):
        call()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"fraction": 0.0}, "fraction=0.0 must be above 0"),
        ({"fraction": 1.5}, "fraction"),
        ({"tolerance": -1.0}, "tolerance"),
        ({"within": 2.0}, "within"),
        ({"epochs": 0}, "epochs=0"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"batch_size": 9}, "batch_size=9"),
        ({"weight": "much"}, "weight"),
        ({"second": (jnp.ones((4, 3)), jnp.zeros(4, int))}, "as many examples"),
    ],
)
def test_bad_searches(changed, message):
    half = jnp.ones((8, 3)), jnp.zeros(8, int)
    given = {"second": half, "fraction": 0.5, "epochs": 1, "batch_size": 4, **changed}
    with pytest.raises(InputError, match=message):
        tas.search(perceptron(), half, **given)
