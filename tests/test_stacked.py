"""Leaves that stack layers or experts, beside the same model with each of these in a leaf of its own.

The reference slices the trees apart, runs the same function without a declaration, and stacks what it returns.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxticket as jt
from jaxticket import allocate, diagnostics, filters, loops, masks, scopes, scores, units
from jaxticket.errors import CollapseWarning, InputError, NoMatchError, StructureError
from jaxticket.selection import drop_and_grow
from jaxticket.tickets import Ticket
from jaxticket.typing import Trained
from tests.tiers import sample

STACKED = {"^attention/": 1, "^experts/": (0, -3)}  # layers on axis 1, as MaxText has them; experts in layers
WEIGHTS = filters.weights()


def model(seed=0):
    draw = np.random.default_rng(seed).standard_normal
    return {
        "attention": {"kernel": jnp.asarray(draw((6, 3, 8)), jnp.float32)},
        "experts": {"kernel": jnp.asarray(draw((3, 2, 5, 4)), jnp.float32)},
        "head": {"kernel": jnp.asarray(draw((8, 6)), jnp.float32)},
        "norm": {"scale": jnp.ones((3, 8))},
    }


PARAMS = model()


def slices_of(name, x):
    """The layers of a leaf, in order; the leaf itself where it is one."""
    if x is None or name not in ("attention", "experts"):
        return x
    if np.ndim(x) == 0:
        return [{"kernel": x}] * (3 if name == "attention" else 6)
    if name == "attention":
        return [{"kernel": x[:, i]} for i in range(x.shape[1])]
    return [{"kernel": x[i, j]} for i in range(3) for j in range(2)]


def apart(tree):
    whole = {name: leaf for name, leaf in tree.items() if name not in ("attention", "experts")}
    return whole | {name: slices_of(name, tree[name]["kernel"]) for name in ("attention", "experts")}


def full(mask, params=PARAMS):
    """Each leaf in the shape of its parameter."""
    return jax.tree.map(
        lambda m, p: None if m is None else np.broadcast_to(m, p.shape), mask, params, is_leaf=lambda x: x is None
    )


def assert_same(stacked, reference, params=PARAMS):
    """A mask, scores or densities of the stacked model are those of the layers apart."""
    mine, theirs = apart(full(stacked, params)), full(reference, apart(params))
    assert jax.tree.structure(mine) == jax.tree.structure(theirs)
    for a, b in zip(jax.tree.leaves(mine), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_array_equal(a, b)


SELECTIONS = [
    (units.element(), scopes.leaf()),
    (units.element(), scopes.tree()),
    (units.element(), scopes.slices(0)),
    (units.element(), scopes.slices(-1)),
    (units.element(), scopes.groups(2)),
    (units.element(), scopes.groups(3, axis=-1)),
    (units.axis(-1), scopes.leaf()),
    (units.axis(0, reduce=units.l2), scopes.tree()),
    (units.block(2, 3), scopes.leaf()),
    (units.heads(2), scopes.leaf()),
    (units.leaf(), scopes.tree()),
]


@pytest.mark.parametrize(("unit", "scope"), sample(SELECTIONS, [SELECTIONS[i] for i in (0, 4, 6)]))
def test_selection(unit, scope):
    options = {"unit": unit, "scope": scope, "where": WEIGHTS}
    assert_same(jt.select(PARAMS, 0.3, **options, stacked=STACKED), jt.select(apart(PARAMS), 0.3, **options))


def test_the_parts_take_the_declaration_too():
    parts = {"unit": units.by_slice(units.axis(-1), STACKED), "scope": scopes.by_slice(scopes.leaf(), STACKED)}
    assert_same(
        jt.select(PARAMS, 0.3, **parts, where=WEIGHTS),
        jt.select(apart(PARAMS), 0.3, unit=units.axis(-1), where=WEIGHTS),
    )
    assert units.by_slice(units.element(), None) == units.element()
    assert scopes.by_slice(scopes.leaf(), {}) == scopes.leaf()
    costs = parts["unit"].cost(filters.only(PARAMS, WEIGHTS))
    assert jax.tree.map(jnp.shape, costs)["experts"] == {"kernel": (3, 2, 1, 4)}
    assert float(costs["experts"]["kernel"][0, 0, 0, 0]) == 5


def test_channels_differ_between_layers():
    mask = jt.select(PARAMS, 0.5, unit=units.axis(-1), where=WEIGHTS, stacked=STACKED)
    assert mask["attention"]["kernel"].shape == (1, 3, 8)
    assert len({tuple(np.asarray(m)) for m in mask["attention"]["kernel"][0]}) == 3


@pytest.mark.parametrize("kind", [np.asarray, jnp.asarray], ids=["known", "on the device"])
def test_a_density_a_layer(kind):
    densities = {
        "attention": {"kernel": kind(np.array([0.0, 0.5, 1.0]).reshape(1, 3, 1))},
        "experts": {"kernel": kind(np.linspace(0.1, 0.9, 6).reshape(3, 2, 1, 1))},
        "head": {"kernel": 0.25},
        "norm": {"scale": None},
    }
    of_layers = {
        "attention": [{"kernel": d} for d in (0.0, 0.5, 1.0)],
        "experts": [{"kernel": float(d)} for d in np.linspace(0.1, 0.9, 6)],
        "head": {"kernel": 0.25},
        "norm": {"scale": None},
    }
    assert_same(jt.select(PARAMS, densities, stacked=STACKED), jt.select(apart(PARAMS), of_layers))
    grouped = {"scope": scopes.groups(2)}
    assert_same(
        jt.select(PARAMS, densities, **grouped, stacked=STACKED), jt.select(apart(PARAMS), of_layers, **grouped)
    )


@pytest.mark.parametrize("rounding", ["nearest", "up"])
@pytest.mark.parametrize("density", [None, 0.4])
def test_drop_and_grow(rounding, density):
    start = jt.select(model(1), 0.4, where=WEIGHTS, stacked=STACKED)
    grow = filters.only(model(2), WEIGHTS)
    step = functools.partial(drop_and_grow, density=density, drop_fraction=0.3, rounding=rounding)
    weights = filters.only(PARAMS, WEIGHTS)
    mine = step(start, drop=weights, grow=grow, stacked=STACKED)
    assert_same(mine, step(apart(full(start)), drop=apart(weights), grow=apart(grow)))


# Allocations and floors.

ALLOCATIONS = {
    "uniform": allocate.uniform,
    "uniform, floors": functools.partial(allocate.uniform, minimum=5),
    "uniform, dense": functools.partial(allocate.uniform, dense=["^attention/"]),
    "uniform+": functools.partial(allocate.uniform_plus, first="^head/", last="^experts/"),
    "ER": allocate.erdos_renyi,
    "ERK": allocate.erk,
    "ERK, floors": functools.partial(allocate.erk, minimum=7, power=2.0),
    "FLOPs": functools.partial(allocate.for_flops, allocate=allocate.erk, positions={"^attention/": 5}),
    "rules": lambda params, density, **options: allocate.rules(
        params, {"^attention/": density, "^head/": None}, default=0.5, **options
    ),
    "LAMP": lambda params, density, **options: allocate.from_scores(
        params, scores.lamp(scores.magnitude, **options)(params), density, minimum=2, **options
    ),
}


@pytest.mark.parametrize("name", sample(ALLOCATIONS, ["erk", "uniform+", "rules"]))
def test_allocations(name):
    mine = ALLOCATIONS[name](PARAMS, 0.7 if "dense" in name or "+" in name else 0.4, stacked=STACKED)
    assert_same(mine, ALLOCATIONS[name](apart(PARAMS), 0.7 if "dense" in name or "+" in name else 0.4))
    assert mine["attention"]["kernel"].shape == (1, 3, 1)
    mask = jt.select(PARAMS, mine, stacked=STACKED)
    again = allocate.from_mask(PARAMS, mask, stacked=STACKED)
    np.testing.assert_array_equal(again["experts"]["kernel"], mine["experts"]["kernel"])
    assert_same(again, allocate.from_mask(apart(PARAMS), apart(full(mask))))


def test_rate_distortion():
    params = {"layers": {"kernel": jnp.asarray([[[4.0, 3.0]], [[2.0, 1.0]]])}}
    join = lambda kernel: jnp.concatenate([kernel[0], kernel[1]], 1)
    apply = lambda params, x: x * join(params["layers"]["kernel"])
    found = allocate.rate_distortion(params, apply, jnp.ones((1, 4)), 0.75, levels=3, stacked={"layers": 0})
    np.testing.assert_array_equal(found["layers"]["kernel"], [[[1.0]], [[0.5]]])


def test_erk_of_scanned_layers():
    shape = lambda *sizes: {"kernel": jax.ShapeDtypeStruct(sizes, jnp.float32)}
    params = {"hidden": shape(24, 64, 64), "input": shape(32, 64), "head": shape(64, 100)}
    densities = allocate.erk(params, 0.1, stacked={"^hidden/": 0})
    np.testing.assert_allclose(densities["hidden"]["kernel"].ravel(), [0.1] * 24, atol=5e-4)
    assert round(densities["input"]["kernel"], 2) == 0.15
    assert round(densities["head"]["kernel"], 2) == 0.08
    sizes = {"hidden": 64 * 64, "input": 32 * 64, "head": 64 * 100}
    kept = sum(np.sum(densities[name]["kernel"]) * size for name, size in sizes.items())
    assert kept == round(0.1 * (24 * 64 * 64 + 32 * 64 + 64 * 100))


FOUR = {"layers": {"kernel": jnp.asarray(np.linspace(1, 2, 64).reshape(1, 8, 8) * [[[1000]], [[100]], [[10]], [[1]]])}}
FIRST = {"^layers/": 0}


def counts(mask):
    return np.sum(full(mask, FOUR)["layers"]["kernel"], (1, 2)).tolist()


@pytest.mark.parametrize("normalise", [scores.lamp, scores.layer_mean, scores.unit_norm])
def test_normalisers_give_each_layer_its_part(normalise):
    keep = lambda score: counts(jt.select(score(FOUR), 20 / 256, scope=scopes.tree()))
    assert keep(normalise(scores.magnitude)) == [20, 0, 0, 0]
    assert keep(normalise(scores.magnitude, stacked=FIRST)) == [5, 5, 5, 5]


@pytest.mark.parametrize(
    "normalise",
    [scores.lamp, scores.layer_mean, scores.unit_norm, lambda score, **o: scores.module(score, {"experts": 0}, **o)],
    ids=["lamp", "layer_mean", "unit_norm", "module"],
)
def test_normalisers(normalise):
    mask = jt.select(model(3), 0.6, stacked=STACKED)
    mine = normalise(scores.magnitude, stacked=STACKED)(PARAMS, mask=mask)
    if normalise not in (scores.lamp, scores.layer_mean, scores.unit_norm):
        normalise = lambda score: scores.module(score, lambda name: name)
    theirs = normalise(scores.magnitude)(apart(PARAMS), mask=apart(full(mask)))
    for a, b in zip(jax.tree.leaves(apart(mine)), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


def test_modules_of_stacked_leaves():
    params = {"up": jnp.asarray([[[3.0]], [[1.0]]]), "down": jnp.asarray([[[2.0, 1.0]], [[4.0, 0.0]]])}
    score = scores.module(scores.magnitude, lambda name: "mlp", stacked={".": 0})
    lamp_of = lambda *s: scores.lamp(scores.magnitude)({"w": jnp.asarray(s)})["w"]
    for i, values in enumerate([(2.0, 1.0, 3.0), (4.0, 0.0, 1.0)]):
        scored = score(params)
        np.testing.assert_allclose(jnp.concatenate([scored["down"][i, 0], scored["up"][i, 0]]), lamp_of(*values))
    with pytest.raises(InputError, match="one module stack"):
        scores.module(scores.magnitude, lambda name: "mlp", stacked={"up": 0})(params)


def test_floors_hold_in_each_layer():
    everything, key = {"layers": {"kernel": jnp.ones((4, 8, 8), bool)}}, jax.random.key(0)
    assert counts(loops.prune_by(minimum=5)(FOUR, everything, 20 / 256, key=key)) == [20, 0, 0, 0]
    assert counts(loops.prune_by(minimum=5, stacked=FIRST)(FOUR, everything, 20 / 256, key=key)) == [5, 5, 5, 5]
    with pytest.raises(InputError, match="needs 24 units, more than the 20"):
        loops.prune_by(minimum=6, stacked=FIRST)(FOUR, everything, 20 / 256, key=key)
    assert counts(jt.select(FOUR, allocate.from_scores(FOUR, FOUR, 0.1, minimum=5, stacked=FIRST), stacked=FIRST)) == [
        11, 5, 5, 5,
    ]  # fmt: skip


def test_scores_of_filters():
    """FPGM and slimming score the filters of each layer by themselves, on any axis of layers, some pruned."""
    draw = np.random.default_rng(3).normal
    kernels, scales = draw(size=(4, 3, 6)).astype(np.float32), draw(size=(6, 3)).astype(np.float32)  # layers on axis 1
    params = {"conv": {"kernel": jnp.asarray(kernels)}, "norm": {"scale": jnp.asarray(scales)}}
    stacked = {"conv/kernel": 1, "norm/scale": 1}
    mask = {"conv": {"kernel": jnp.ones((1, 3, 6), bool).at[0, 1, 2].set(False)}, "norm": {"scale": None}}
    for score in (scores.fpgm, functools.partial(scores.slimming, ("conv/kernel", "norm/scale"))):
        for kept in (None, mask):
            whole = score(stacked=stacked)(params, mask=kept)["conv"]["kernel"]
            assert whole.shape == (1, 3, 6)
            for layer in range(3):
                one = {"conv": {"kernel": kernels[:, layer]}, "norm": {"scale": scales[:, layer]}}
                one_kept = kept and {"conv": {"kernel": kept["conv"]["kernel"][:, layer]}, "norm": {"scale": None}}
                alone = score()(jax.tree.map(jnp.asarray, one), mask=one_kept)["conv"]["kernel"]
                np.testing.assert_allclose(whole[:, layer], alone, rtol=1e-6)


def test_slimming_refuses_scales_of_other_layers():
    params = {"conv": {"kernel": jnp.ones((4, 3, 6))}, "norm": {"scale": jnp.ones((6, 2))}}
    score = scores.slimming(("conv/kernel", "norm/scale"), stacked={"conv/kernel": 1, "norm/scale": 1})
    with pytest.raises(StructureError, match="stacked="):
        score(params)


@pytest.mark.parametrize("unit", [units.element(), units.axis(-1)])
def test_floors(unit):
    prune = functools.partial(loops.prune_by, unit=unit, minimum=2)
    mask = filters.full_mask(PARAMS, WEIGHTS)
    mine = prune(stacked=STACKED)(PARAMS, mask, 0.5, key=jax.random.key(0))
    assert_same(mine, prune()(apart(PARAMS), apart(mask), 0.5, key=jax.random.key(0)))


# Plans.

PLANS = {
    "static": functools.partial(jt.static, 0.3, allocate=allocate.erk),
    "gradual": functools.partial(jt.gradual, 0.3, stop=4, every=2, allocate=allocate.erk),
    "gradual, tree": functools.partial(jt.gradual, 0.3, stop=4, every=2, scope=scopes.tree(), minimum=3),
    "gradual, channels": functools.partial(jt.gradual, 0.5, stop=4, every=2, unit=units.axis(-1)),
    "ac_dc": functools.partial(jt.ac_dc, 0.3, steps=5, compress=(0.2, 0.8), decompress=(0.6,), scope=scopes.leaf()),
    "iss_p": functools.partial(jt.iss_p, 0.3, stop=3),
    "rigl": functools.partial(jt.rigl, 0.3, stop=9, every=2),
    "itop": functools.partial(jt.itop, 0.3, steps=9, every=2, grow=scores.gradient),
    "granet": functools.partial(jt.granet, 0.3, steps=9, stop=4, every=2, initial=1),
    "granet_uniform": functools.partial(jt.granet_uniform, 0.15, steps=9, stop=4, every=2, initial=1, last="^head/"),
    "snfs": functools.partial(jt.snfs, 0.3, stop=9, every=2),
    "mest": functools.partial(jt.mest, 0.3, stop=9, every=2, drop_fraction=0.0, allocate=allocate.erk),
}
# Whose first mask is random, so that it is given.
STARTED = ("rigl", "itop", "snfs")


def run(plan, params, grads, mask):
    tx = jt.sparsify(optax.sgd(0.1), plan, key=jax.random.key(0), mask=mask)
    params, state = jt.init(tx, params)

    @jax.jit
    def step(params, state, grads):
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    for g in grads:
        params, state = step(params, state, g)
    return params, jt.mask_of(state)


@pytest.mark.parametrize("name", sample(PLANS, ["gradual", "rigl", "snfs"]))
def test_plans(name):
    grads = [model(i) for i in range(10, 15)]
    mask = jt.select(PARAMS, 0.3, where=WEIGHTS, stacked=STACKED) if name in STARTED else None
    params, mine = run(PLANS[name](stacked=STACKED), PARAMS, grads, mask)
    reference = None if mask is None else apart(full(mask))
    reference_params, theirs = run(PLANS[name](), apart(PARAMS), [apart(g) for g in grads], reference)
    assert_same(mine, theirs)
    assert_same(params, reference_params)


@pytest.mark.parametrize(
    "plan",
    [
        jt.rigl(0.3, stop=9, every=2, stacked=STACKED),
        jt.sparse_evolutionary(0.3, stop=9, every=2, stacked=STACKED),
        jt.sparse_evolutionary(0.3, stop=9, every=2, removal="sign", stacked=STACKED),
    ],
    ids=["rigl", "set", "set by sign"],
)
def test_plans_that_start_at_random_keep_as_many_in_each_layer(plan):
    _, mask = run(plan, PARAMS, [model(i) for i in range(10, 13)], None)
    wanted = allocate.erk(PARAMS, 0.3, stacked=STACKED)
    assert_same(allocate.from_mask(PARAMS, mask, stacked=STACKED), apart(full(wanted)))


# Diagnostics.


def test_diagnostics_name_layers():
    mask = {"attention": {"kernel": np.ones((6, 3, 8), bool)}, "experts": {"kernel": np.ones((3, 2, 5, 4), bool)}}
    mask["attention"]["kernel"][:, 1] = False
    mask["experts"]["kernel"][2, 0] = False
    declared = {"attention": 1, "experts": (0, 1)}
    assert diagnostics.layer_collapse([mask]) == {}
    assert diagnostics.layer_collapse([mask], stacked=declared) == {
        "attention/kernel[:, 1]": 0,
        "experts/kernel[2, 0]": 0,
    }
    params = jax.tree.map(lambda m: jnp.ones(m.shape), mask)
    rows = {row.path: row for row in masks.summary(params, mask, stacked=declared).rows}
    assert rows["attention/kernel[:, 1]"][1:] == ((6, 8), 0, 48, 0.0)
    assert rows["experts/kernel[2, 1]"][1:] == ((5, 4), 20, 20, 1.0)
    whole, by_layer = (masks.summary(params, mask, **options) for options in ({}, {"stacked": declared}))
    assert (whole.maskable, whole.all) == (by_layer.maskable, by_layer.all)
    channels = {"attention": {"kernel": mask["attention"]["kernel"][:1]}, "experts": {"kernel": None}}
    rows = masks.summary(params, channels, stacked=declared).rows
    assert [row.kept for row in rows] == [48, 0, 48, *[20] * 6]
    plan = jt.static(0.3, allocate=allocate.erk, stacked=STACKED)
    table = {row.path: row.kept for row in jt.describe(plan, PARAMS, stacked=STACKED).rows}
    wanted = allocate.erk(PARAMS, 0.3, stacked=STACKED)
    assert table["attention/kernel[:, 2]"] == round(48 * wanted["attention"]["kernel"][0, 2, 0])
    assert table["norm/scale"] == 24


def test_searches_warn_of_layers():
    mask = {"layers": {"kernel": jnp.ones((4, 8, 8), bool).at[2].set(False)}}
    train = lambda params, state, mask, key, *, step, opt_state: Trained(params, state, {})
    search = functools.partial(loops.imp, train, Ticket(FOUR, mask), densities=[1.0], prune=loops.prune_by())
    list(search(key=jax.random.key(0)))
    with pytest.warns(CollapseWarning, match=r"layers/kernel\[2\]"):
        list(search(key=jax.random.key(0), stacked=FIRST))
    with pytest.warns(CollapseWarning, match=r"layers/kernel\[2\]"):
        loops.imp_scan(
            train,
            Ticket(FOUR, mask),
            densities=[1.0, 0.9],
            prune=loops.prune_by(),
            key=jax.random.key(0),
            stacked=FIRST,
        )


def test_a_search_with_densities_a_layer():
    densities = [1.0, allocate.erk(FOUR, 0.25, stacked=FIRST)]
    train = lambda params, state, mask, key, *, step, opt_state: Trained(params, state, {})
    ticket = Ticket(FOUR, filters.full_mask(FOUR, WEIGHTS))
    prune = loops.prune_by(scope=scopes.leaf(), stacked=FIRST)
    *_, last = loops.imp(train, ticket, densities=densities, prune=prune, key=jax.random.key(0))
    assert counts(last.ticket.mask) == [16, 16, 16, 16]


# The declaration, and what it costs.


def test_declarations_that_do_not_fit():
    select = lambda stacked, **options: jt.select(FOUR, 0.5, stacked=stacked, **options)
    for stacked, error, text in [
        ({"nowhere": 0}, NoMatchError, "nowhere"),
        ({"layers": 3}, InputError, r"layers/kernel.*no axis 3"),
        ({"layers": (0, -3)}, InputError, "repeat"),
        ({"layers": ()}, InputError, "no axis"),
        ({"layers": "0"}, InputError, "not an axis"),
        ({"layers": 1.5}, InputError, "not an axis"),
        ([0], InputError, "mapping"),
        ({"(": 0}, InputError, "regular expression"),
    ]:
        with pytest.raises(error, match=text):
            select(stacked)
    density = {"layers": {"kernel": np.full(4, 0.5)}}
    with pytest.raises(StructureError, match=r"\(4, 1, 1\)"):
        jt.select(FOUR, density, stacked=FIRST)
    with pytest.raises(InputError, match="density"):
        jt.select(FOUR, density)
    with pytest.raises(InputError, match=r"\[0, 1\]"):
        jt.select(FOUR, {"layers": {"kernel": np.full((4, 1, 1), 1.5)}}, stacked=FIRST)


def test_the_first_regex_decides_and_others_are_one_layer():
    mask = jt.select(PARAMS, 0.3, where=WEIGHTS, stacked={"^attention": 1, "kernel": 0})
    assert np.sum(mask["attention"]["kernel"], (0, 2)).tolist() == [14, 14, 14]  # of 48
    assert np.sum(mask["head"]["kernel"], 1).tolist() == [2] * 8  # of 6
    assert np.sum(mask["experts"]["kernel"], (1, 2, 3)).tolist() == [12, 12, 12]  # of 40


def equations(layers, function):
    params = {"layers": {"kernel": jnp.ones((layers, 8, 8))}}
    return str(jax.make_jaxpr(function)(params)).count(" = ")


def test_programs_do_not_grow_with_layers():
    def function(params):
        scored = scores.lamp(scores.magnitude, stacked=FIRST)(params)
        mask = jt.select(scored, 0.3, unit=units.axis(-1), stacked=FIRST)
        return drop_and_grow(full_shape(mask), drop=scored, grow=scored, drop_fraction=0.3, stacked=FIRST)

    full_shape = lambda mask: jax.tree.map(lambda m: jnp.broadcast_to(m, (m.shape[0], 8, 8)), mask)
    assert equations(3, function) == equations(40, function)


def test_new_densities_do_not_recompile():
    traces = []

    @jax.jit
    def select(params, density):
        traces.append(density)
        return jt.select(params, {"layers": {"kernel": density}}, stacked=FIRST)

    for low in (0.1, 0.3):
        density = jnp.full((4, 1, 1), 0.5).at[0].set(low)
        assert counts(select(FOUR, density)) == [round(64 * low), 32, 32, 32]
    assert len(traces) == 1


@pytest.mark.parametrize("kind", [jax.sharding.AxisType.Auto, jax.sharding.AxisType.Explicit])
def test_experts_on_a_mesh_are_not_gathered(kind):
    mesh = jax.make_mesh((4,), ("expert",), axis_types=(kind,))
    on = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("expert"))
    sharded = jax.device_put(FOUR, on)
    for unit, kept in ((units.element(), 19), (units.axis(-1), 16)):
        select = jax.jit(lambda params, unit=unit: jt.select(params, 0.3, unit=unit, stacked=FIRST))
        with jax.set_mesh(mesh):
            text = select.lower(sharded).compile().as_text()
            mask = select(sharded)
        assert "all-gather" not in text
        assert "all-to-all" not in text
        assert mask["layers"]["kernel"].sharding.is_equivalent_to(on, 3)
        assert counts(mask) == [kept] * 4


def test_slices_of_several_axes():
    leaf = {"experts": PARAMS["experts"]["kernel"][0]}
    mask = jt.select(leaf, 0.4, scope=scopes.slices((0, -1)))["experts"]
    np.testing.assert_array_equal(mask.sum(1), np.full((2, 4), 2))
    by_expert = jt.select(leaf, 0.4, scope=scopes.slices(-1), stacked={"experts": 0})["experts"]
    np.testing.assert_array_equal(mask, by_expert)
    for axis in ((0, -3), (), (0, 1.5), (0, 7)):
        with pytest.raises(InputError):
            jt.select(leaf, 0.4, scope=scopes.slices(axis))
