"""Edge-popup, Biprop and signed supermasks: golden gradients, frozen weights, invariances, replicates, meshes.

Accuracy hardly tells a right implementation from a wrong one (without |·|, with gradients of kept edges only), so
gradients are checked by hand.
"""

import functools
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

import jaxticket as jt
from jaxticket import reparam, schedules, scopes, sharding, units
from jaxticket.errors import InputError, NoMatchError
from jaxticket.reparam import Latent

GOLDEN = json.loads((pathlib.Path(__file__).parents[1] / "golden" / "supermask.json").read_text())
SUPERMASKS = {
    "edge_popup": lambda case: reparam.edge_popup(case["density"]),
    "biprop": lambda case: reparam.biprop(case["density"]),
    "signed_supermask": lambda case: reparam.signed_supermask(),
}
KEY = jax.random.key(0)


def make_params(shapes=((8, 8), (8, 4))):
    rng = np.random.default_rng(0)
    return [
        {"kernel": jnp.asarray(rng.normal(size=shape), jnp.float32), "bias": jnp.ones(shape[1])} for shape in shapes
    ]


def kernels(tree):
    return [layer["kernel"] for layer in tree]


@pytest.mark.parametrize("case", [c for c in GOLDEN if c["name"] in SUPERMASKS], ids=lambda case: case["name"])
def test_golden(case):
    """By hand. The gradient reaches pruned edges too, has the sign of the score, and knows no derivative of α or τ."""
    subject = SUPERMASKS[case["name"]](case)
    constants = {"w": jnp.float32(case["threshold"])} if "threshold" in case else ()
    latent = Latent({"w": jnp.asarray([case["weights"]])}, {"w": jnp.asarray([case["learned"]])}, constants)
    realised, back = jax.vjp(lambda latent: subject.realise(latent, count=0), latent)
    (grads,) = back({"w": jnp.asarray([case["cotangent"]])})
    np.testing.assert_array_equal(realised["w"][0], case["realised"])
    np.testing.assert_array_equal(subject.mask(latent, count=0)["w"][0], np.asarray(case["realised"]) != 0)
    np.testing.assert_allclose(grads.learned["w"][0], case["gradient"], rtol=1e-6)
    np.testing.assert_array_equal(grads.weights["w"], 0)
    assert not any(map(float, jax.tree.leaves(grads.constants)))


@jax.jit
def chosen(density, s):
    return reparam.edge_popup(density).mask(Latent({"w": s}, {"w": s}), count=0)["w"]


@given(
    st.permutations(range(1, 13)),
    st.lists(st.sampled_from([-1.0, 1.0]), min_size=12, max_size=12),
    st.sampled_from([0.25, 0.375, 0.5, 1.0]),
    st.sampled_from([2.0**-7, 0.5, 8.0]),
)
def test_the_mask_depends_on_the_order_of_absolute_scores_alone(ranks, signs, density, scale):
    """Exactly k; the same under s → −s and s → cs; permuted with the scores."""
    mask = np.asarray(chosen(density, jnp.float32([ranks])))[0]
    assert mask.sum() == round(12 * density)
    np.testing.assert_array_equal(mask, np.asarray(ranks) > 12 - round(12 * density))
    np.testing.assert_array_equal(chosen(density, scale * jnp.float32([ranks]) * jnp.float32([signs]))[0], mask)


def test_weights_do_not_move_in_a_hundred_steps():
    """Neither by gradients nor by weight decay; biases stay as well, and scores do not."""
    subject, params = reparam.edge_popup(0.5), make_params()
    tx = subject.wrap(optax.adamw(0.1, weight_decay=0.1))
    x = jnp.asarray(np.random.default_rng(1).normal(size=(8, 8)), jnp.float32)

    def loss(latent):
        first, last = subject.realise(latent, count=0)
        return jnp.sum(jnp.square(jax.nn.relu(x @ first["kernel"]) @ last["kernel"] - 1))

    def step(carry, _):
        latent, state = carry
        value, grads = jax.value_and_grad(loss)(latent)
        updates, state = tx.update(grads, state, latent)
        return (optax.apply_updates(latent, updates), state), value

    begin = subject.init(params, key=KEY)
    (end, _), values = jax.jit(lambda carry: jax.lax.scan(step, carry, None, 100))((begin, tx.init(begin)))
    jax.tree.map(np.testing.assert_array_equal, end.weights, params)
    assert all((a != b).all() for a, b in zip(kernels(end.learned), kernels(begin.learned)))
    assert values[-1] < 0.5 * values[0]


def test_an_exported_ticket_is_what_was_realised():
    for subject in (reparam.edge_popup(0.3), reparam.biprop(0.3), reparam.signed_supermask(0.6)):
        latent = subject.init(make_params(), key=KEY)
        params, mask = reparam.export(subject, latent, count=7)
        jax.tree.map(np.testing.assert_array_equal, params, subject.realise(latent, count=7))
        jax.tree.map(np.testing.assert_array_equal, params, jt.apply_mask(params, mask))
        assert [int(m.sum()) for m in kernels(mask)] == [int((p != 0).sum()) for p in kernels(params)]
        assert jt.Ticket(params, mask).mask[0]["bias"] is None
        assert latent.learned[0]["bias"] is None


def test_biprop_has_one_magnitude_a_leaf_the_mean_of_what_is_kept():
    subject = reparam.biprop(0.3)
    latent = subject.init(make_params(), key=KEY)
    scaled = latent._replace(weights=jax.tree.map(lambda w: 4 * w, latent.weights))
    mask = subject.mask(latent, count=0)
    jax.tree.map(np.testing.assert_array_equal, subject.mask(scaled, count=0), mask)
    for p, four, m, w in zip(
        *map(kernels, (subject.realise(latent, count=0), subject.realise(scaled, count=0), mask, latent.weights))
    ):
        np.testing.assert_allclose(np.abs(p[m]), np.abs(np.asarray(w)[m], dtype=np.float64).mean(), rtol=1e-6)
        assert len(np.unique(np.abs(p[m]))) == 1
        np.testing.assert_array_equal(np.sign(p), np.where(m, np.sign(w), 0))
        np.testing.assert_array_equal(four, 4 * p)


def test_biprop_of_signed_constants_is_edge_popup():
    """Of a power of two, whose mean over any number is exact."""
    params = reparam.signed_constant(make_params(), key=KEY)
    assert [set(np.unique(k).tolist()) for k in kernels(params)] == [{-0.5, 0.5}] * 2
    popup, binary = reparam.edge_popup(0.3), reparam.biprop(0.3)
    latent = popup.init(params, key=KEY)
    jax.tree.map(np.testing.assert_array_equal, popup.realise(latent, count=0), binary.realise(latent, count=0))


def test_global_biprop_follows_its_schedule_and_may_leave_a_leaf_without_weights():
    subject = reparam.biprop(schedules.cubic(0.2, start=0, stop=10, initial=0.5), scope=scopes.tree())
    latent = subject.init(make_params(), key=KEY)
    kept = lambda latent, t: [int(m.sum()) for m in kernels(subject.mask(latent, count=jnp.int32(t)))]
    assert [sum(kept(latent, t)) for t in (0, 5, 10, 11)] == [48, 23, 19, 19]  # 0.5, 0.2375, 0.2 of 96
    latent.learned[0]["kernel"] *= 100
    assert kept(latent, 10) == [19, 0]
    for p in kernels(subject.realise(latent, count=10)):
        assert np.isfinite(p).all()
        assert len(np.unique(np.abs(p))) == (2 if p.any() else 1)


def test_channels_are_kept_by_the_mean_of_their_scores():
    subject = reparam.edge_popup(0.5, unit=units.axis(-1))
    latent = Latent({"w": jnp.ones((2, 4))}, {"w": jnp.array([[0.1, 0.5, 0.3, -0.4], [-0.9, 0.2, 0.3, 0.4]])})
    np.testing.assert_array_equal(subject.mask(latent, count=0)["w"], [[True, False, False, True]])
    grads = jax.grad(lambda latent: subject.realise(latent, count=0)["w"].sum())(latent)
    np.testing.assert_array_equal(grads.learned["w"], np.sign(latent.learned["w"]))


def test_thresholds_are_those_of_the_start():
    subject = reparam.signed_supermask(0.75)
    latent = subject.init({"w": jnp.ones((100, 100))}, key=KEY)
    largest = float(jnp.abs(latent.learned["w"]).max())
    assert float(latent.constants["w"]) == pytest.approx(0.75 * largest)
    assert largest == pytest.approx((6 / 200) ** 0.5, rel=1e-3)
    kept = lambda factor: float(
        jt.density(
            latent.weights,
            subject.mask(latent._replace(learned=jax.tree.map(lambda s: factor * s, latent.learned)), count=0),
        )
    )
    assert kept(1) == pytest.approx(0.25, abs=0.02)
    assert kept(2) == pytest.approx(1 - 0.75 / 2, abs=0.02)  # a threshold of the current maximum would stay at 0.25
    assert kept(0.5) == 0


def test_turning_a_signed_mask_around_turns_the_weights_around():
    subject = reparam.signed_supermask(0.3)
    latent = subject.init(make_params(), key=KEY)
    turned = latent._replace(learned=jax.tree.map(jnp.negative, latent.learned))
    for p, q, there, w in zip(
        *map(
            kernels,
            (
                subject.realise(latent, count=0),
                reparam.sign_mask(latent),
                subject.realise(turned, count=0),
                latent.weights,
            ),
        )
    ):
        assert q.dtype == jnp.int8
        assert set(np.unique(q).tolist()) == {-1, 0, 1}
        np.testing.assert_array_equal(p, w * q)
        np.testing.assert_array_equal(there, -p)


def test_what_is_drawn():
    params = {"w": jnp.zeros((3, 3, 32, 64)), "b": jnp.full(64, 7.0)}
    fan_in = 3 * 3 * 32
    for density in (1.0, 0.25):
        variance = 2 / (fan_in * density)
        normal = reparam.kaiming_normal(params, key=KEY, density=density)
        assert float(normal["w"].std()) == pytest.approx(variance**0.5, rel=0.02)
        assert float(jnp.abs(normal["w"]).max()) > 3 * variance**0.5  # not truncated
        constant = reparam.signed_constant(params, key=KEY, scale=3.0, density=density)
        np.testing.assert_allclose(jnp.abs(constant["w"]), (1.5 * variance) ** 0.5, rtol=1e-6)
        assert float(jnp.mean(constant["w"] > 0)) == pytest.approx(0.5, abs=0.02)
        np.testing.assert_array_equal(constant["b"], params["b"])
    scores = reparam.edge_popup(0.5).init(params, key=KEY).learned["w"]
    assert float(jnp.abs(scores).max()) == pytest.approx(fan_in**-0.5, rel=1e-2)
    assert float(scores.std()) == pytest.approx((3 * fan_in) ** -0.5, rel=0.02)


def decayed(optimizer, score, gradients):
    """The scores after each of these gradients."""
    state, found = optimizer.init(score), []
    for gradient in gradients:
        updates, state = optimizer.update(jnp.float32(gradient), state, score)
        score = optax.apply_updates(score, updates)
        found.append(float(score))
    return found


def test_the_authors_optimizer_of_signed_supermasks():
    """Goldens of tfa.SGDW on Keras' SGD: the decay is not times the learning rate, and that is in the velocity."""
    one = jnp.float32(1)
    chain = reparam.sgdw(0.005, weight_decay=3e-4)
    np.testing.assert_allclose(decayed(chain, one, [0.0]), [0.9997], rtol=1e-7)
    np.testing.assert_allclose(decayed(chain, one, [1.0, 1.0]), [0.9902, 0.97635294], rtol=1e-6)
    both = [optax.exponential_decay(value, 2, 0.9) for value in (0.005, 3e-4)]
    falling = reparam.sgdw(both[0], weight_decay=both[1])
    np.testing.assert_allclose(decayed(falling, one, [1.0, -2.0, 3.0, 0.5])[-1], 0.97040469, rtol=1e-6)


@pytest.mark.parametrize("make", [reparam.biprop, reparam.signed_supermask], ids=["density", "threshold"])
def test_a_new_density_does_not_recompile_and_replicates_have_their_own(make):
    traces = []

    @jax.jit
    @functools.partial(jax.vmap, in_axes=(0, None))
    @functools.partial(jax.vmap, in_axes=(None, 0))
    def realised(value, seed):
        traces.append(value)
        subject = make(value)
        latent = subject.init(make_params()[:1], key=jax.random.fold_in(KEY, seed))
        return subject.realise(latent, count=0)[0]["kernel"]

    for values in ([0.1, 0.5], [0.2, 0.3]):
        counts = (np.asarray(realised(jnp.asarray(values), jnp.arange(3))) != 0).sum((2, 3))
        if make is reparam.biprop:
            assert counts.tolist() == [[round(64 * v)] * 3 for v in values]
        else:
            assert (counts[0] > counts[1]).all()
    assert len(traces) == 1


@pytest.mark.parametrize("make", [lambda: reparam.biprop(0.3), lambda: reparam.signed_supermask(0.3)])
def test_a_step_on_a_mesh_moves_counts_only(make):
    mesh = jax.make_mesh((4, 2), ("x", "y"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    subject = make()
    tx = subject.wrap(optax.adam(0.1))

    def moved(scale):
        params = {"kernel": jax.ShapeDtypeStruct((16 * scale, 8 * scale), jnp.float32)}
        latent = jax.eval_shape(subject.init, params, key=KEY)
        shardings = jax.tree.map(lambda x: NamedSharding(mesh, P("x", "y") if x.ndim else P()), latent)
        state_shardings = sharding.state_shardings(tx, latent, shardings)
        place = lambda shapes, layouts: jax.tree.map(
            lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), shapes, layouts
        )

        def step(latent, state):
            loss = lambda latent: jnp.sum(jnp.sin(subject.realise(latent, count=0)["kernel"]))
            updates, state = tx.update(jax.grad(loss)(latent), state, latent)
            return optax.apply_updates(latent, updates), state

        arguments = place(latent, shardings), place(jax.eval_shape(tx.init, latent), state_shardings)
        compiled = jax.jit(step, out_shardings=(shardings, state_shardings)).lower(*arguments).compile()
        return sharding.collectives(compiled)

    assert moved(1) == moved(8)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: reparam.edge_popup(0.5).init(make_params()), InputError, "needs a key, got key=None"),
        (lambda: reparam.edge_popup(0.5).init({"bias": jnp.ones(2)}, key=KEY), NoMatchError, "where"),
        (lambda: popup_at(1.5), InputError, "density=1.5"),
        (lambda: reparam.signed_supermask(1.0), InputError, "threshold=1.0"),
        (lambda: reparam.signed_supermask(-0.1), InputError, "threshold=-0.1"),
        (lambda: reparam.signed_supermask().init(make_params()), InputError, "needs a key, got key=None"),
        (lambda: reparam.signed_constant(make_params(), key=KEY, scale=0.0), InputError, "scale=0.0"),
        (lambda: reparam.signed_constant(make_params(), key=KEY, density=0.0), InputError, "density=0.0"),
        (lambda: reparam.kaiming_normal(make_params(), key=KEY, density=1.1), InputError, "density=1.1"),
    ],
)
def test_bad_input_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


def popup_at(density):
    popup = reparam.edge_popup(density)
    return popup.mask(popup.init(make_params(), key=KEY), count=0)
