"""Soft thresholds, continuous sparsification, L0 gates, compander: golden values, noise, penalties, hardening."""

import functools
import json
import math
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

import jaxticket as jt
from jaxticket import reparam, sharding, units
from jaxticket.errors import InputError, NoMatchError
from jaxticket.reparam import Latent

GOLDEN = json.loads((pathlib.Path(__file__).parents[1] / "golden" / "soft.json").read_text())
METHODS = {
    "soft_threshold": reparam.soft_threshold(initial=-1.0),
    "continuous": reparam.continuous_sparsification(stop=10),
    "hard_concrete": reparam.hard_concrete(stop=10),
    "compander": reparam.weight_compander(height=3.0),
}
KEY = jax.random.key(0)
EACH = pytest.mark.parametrize("subject", METHODS.values(), ids=METHODS)


@pytest.fixture(scope="module", autouse=True)
def quick_to_compile():
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


def make_params(shape=(6, 10)):
    rng = np.random.default_rng(0)
    return {"kernel": jnp.asarray(rng.normal(size=shape), jnp.float32), "bias": jnp.ones(shape[1]), "static": None}


def beginning(subject, case):
    return subject.init({"w": jnp.asarray([case["weights"]])})


@functools.cache
def realising(subject):
    @jax.jit
    def both(latent, cotangent, count):
        realised, back = jax.vjp(lambda latent: subject.realise(latent, count=count)["w"], latent)
        return realised[0], back(jnp.broadcast_to(cotangent, realised.shape))[0]

    return both


def realised_and_gradient(subject, latent, cotangent=(1.0,), count=0):
    """Of {"w": (1, n)}: as a vector, and of all latent parameters."""
    return realising(subject)(latent, jnp.asarray([cotangent]), count)


def test_soft_threshold_golden():
    case = GOLDEN["soft_threshold"]
    subject = reparam.soft_threshold(initial=case["s"])
    realised, grads = realised_and_gradient(subject, beginning(subject, case), case["cotangent"])
    np.testing.assert_array_equal(realised, case["realised"])
    np.testing.assert_array_equal(grads.weights["w"][0], case["gradient"])
    np.testing.assert_allclose(grads.learned["w"], case["gradient_of_s"], rtol=1e-6)


def test_the_decay_of_thresholds_prunes_and_that_of_weights_does_not_raise_them():
    """SGD on the penalty alone draws s to 0, and nothing else."""
    subject = METHODS["soft_threshold"]
    latent = beginning(subject, GOLDEN["soft_threshold"])
    grads = jax.grad(reparam.threshold_decay)(latent)
    np.testing.assert_array_equal(grads.learned["w"], latent.learned["w"])
    np.testing.assert_array_equal(grads.weights["w"], 0)


def test_continuous_golden():
    case = GOLDEN["continuous"]
    subject = METHODS["continuous"]
    latent = beginning(subject, case)
    np.testing.assert_array_equal(latent.learned["w"], 0)
    latent = latent._replace(learned={"w": jnp.log(jnp.asarray([case["exp_s"]]))})
    realised, grads = realised_and_gradient(subject, latent)
    np.testing.assert_allclose(realised, case["realised"], rtol=1e-6)
    np.testing.assert_allclose(grads.weights["w"][0], case["gradient"], rtol=1e-6)
    np.testing.assert_allclose(grads.learned["w"][0], case["gradient_of_s"], rtol=1e-6)
    penalty = functools.partial(reparam.continuous_penalty, count=0, stop=10)
    np.testing.assert_allclose(penalty(latent), case["penalty"], rtol=1e-6)
    np.testing.assert_allclose(jax.grad(penalty)(latent).learned["w"][0], [1 / 4, 3 / 16], rtol=1e-6)


def test_continuous_gates_steepen_exponentially_and_then_are_steps():
    """The gate at s is that at βs of the start; at the end s = 0 is closed, and gates have no slope."""
    case = GOLDEN["continuous"]
    subject = METHODS["continuous"]
    latent = beginning(subject, case)._replace(learned={"w": jnp.asarray([[-0.1, 0.1]])})
    for count, steepness in ((5, math.sqrt(200.0)), (9, 200**0.9)):
        realised, _ = realised_and_gradient(subject, latent, count=count)
        gates = 1 / (1 + np.exp([0.1 * steepness, -0.1 * steepness]))
        np.testing.assert_allclose(realised, gates * np.asarray(case["weights"]), rtol=1e-5)
    latent = latent._replace(learned={"w": jnp.log(jnp.asarray([case["exp_s"]]))})
    for count in (10, 11):
        realised, grads = realised_and_gradient(subject, latent, count=count)
        np.testing.assert_array_equal(realised, case["hard"])
        np.testing.assert_array_equal(grads.learned["w"], 0)


def test_hard_concrete_golden():
    case = GOLDEN["hard_concrete"]
    subject = METHODS["hard_concrete"]
    latent = beginning(subject, case)._replace(learned={"w": jnp.log(jnp.asarray([case["alpha"]]))})
    realised, _ = realised_and_gradient(subject, latent)
    np.testing.assert_allclose(realised, case["realised"], rtol=1e-6)
    assert float(realised[2]) == 0
    np.testing.assert_array_equal(subject.mask(latent, count=0)["w"][0], [True, True, False])
    np.testing.assert_allclose(reparam.expected_l0(latent), sum(case["open"]), rtol=1e-5)
    slopes = np.asarray(case["open"]) * (1 - np.asarray(case["open"]))
    np.testing.assert_allclose(jax.grad(reparam.expected_l0)(latent).learned["w"][0], slopes, rtol=1e-4)


def test_gates_stay_within_the_authors_bounds():
    """log α between log 0.01 and log 100 after each update: from there a gate can still turn."""
    subject = METHODS["hard_concrete"]
    latent = subject.init({"w": jnp.ones((1, 3)), "b": jnp.ones(1)})
    tx = subject.wrap(optax.sgd(1.0))
    state = tx.init(latent)
    grads = jax.tree.map(jnp.zeros_like, latent)._replace(learned={"w": jnp.array([[-9.0, 9.0, 1.0]]), "b": None})
    grads.weights["b"] += 9
    updates, _ = tx.update(grads, state, latent)
    moved = optax.apply_updates(latent, updates)
    np.testing.assert_allclose(moved.learned["w"][0], [math.log(100), -math.log(100), -1.0], rtol=1e-6)
    np.testing.assert_array_equal(moved.weights["b"], [-8.0])


def test_the_l2_penalty_of_a_weight_is_times_the_probability_that_its_gate_is_open():
    """As the authors weigh it; weights without a gate count in full."""
    case = GOLDEN["hard_concrete"]
    subject = reparam.hard_concrete(stop=10)
    latent = subject.init({"w": jnp.asarray([case["weights"]]), "b": jnp.array([3.0]), "none": None})
    latent = latent._replace(learned={**latent.learned, "w": jnp.log(jnp.asarray([case["alpha"]]))})
    expected = np.dot(case["open"], np.square(case["weights"])) / 2 + 4.5
    np.testing.assert_allclose(reparam.expected_l2(latent), expected, rtol=1e-5)
    columns = Latent({"w": jnp.array([[1.0, 2.0], [3.0, 4.0]])}, {"w": jnp.log(jnp.array([[1.0, 9.0]]))})
    gated = case["open"][0] * 10 + case["open"][1] * 20
    np.testing.assert_allclose(reparam.expected_l2(columns, unit=units.axis(-1)), gated / 2, rtol=1e-5)


def test_rounds_of_continuous_sparsification_keep_what_is_pruned_and_reopen_the_rest():
    """s ← min(β s, s₀): what was suppressed stays so at the first, soft step of the next round."""
    latent = METHODS["continuous"].init({"w": jnp.ones((1, 4)), "b": jnp.ones(1)})
    latent = latent._replace(learned={"w": jnp.array([[-0.1, -0.001, 0.02, 3.0]]), "b": None})
    again = reparam.next_round(latent, initial=0.1, temperature=200.0)
    np.testing.assert_allclose(again.learned["w"], [[-20.0, -0.2, 0.1, 0.1]], rtol=1e-6)
    assert again.learned["b"] is None
    jax.tree.map(np.testing.assert_array_equal, again.weights, latent.weights)
    np.testing.assert_allclose(reparam.next_round(latent, temperature=1.0).learned["w"], [[-0.1, -0.001, 0, 0]])


def test_hard_concrete_noise_opens_gates_as_often_as_the_penalty_says():
    """40,000 gates at each of two α: open within 4 standard deviations, some exactly 1, gradients finite; then none."""
    case, n = GOLDEN["hard_concrete"], 40_000
    subject = METHODS["hard_concrete"]
    alpha = jnp.log(jnp.asarray([case["alpha"][0], case["alpha"][2]]))[:, None]
    latent = Latent({"w": jnp.ones((2, n))}, {"w": jnp.broadcast_to(alpha, (2, n))})
    sampled = jax.jit(
        jax.value_and_grad(
            lambda latent, key, count: (lambda g: (jnp.sum(g), g))(subject.realise(latent, count=count, key=key)["w"]),
            has_aux=True,
        )
    )
    (_, gates), grads = sampled(latent, KEY, 0)
    for row, p in zip(np.asarray(gates), (case["open"][0], case["open"][2]), strict=True):
        assert abs((row > 0).mean() - p) < 4 * math.sqrt(p * (1 - p) / n)
        assert 0 <= row.min() < (row < 1).mean() < row.max() == 1
    assert all(bool(jnp.isfinite(g).all()) for g in jax.tree.leaves(grads))
    assert float(jnp.abs(grads.learned["w"]).sum()) > 0
    (_, other), _ = sampled(latent, jax.random.key(1), 0)
    assert (other != gates).mean() > 0.5
    (_, certain), _ = sampled(latent, KEY, 10)
    np.testing.assert_array_equal(certain, subject.realise(latent, count=0)["w"])
    assert reparam.hard_concrete(stop=1, drop_rate=0.2).init({"w": jnp.ones((1, 1))}).learned["w"] == jnp.log(4.0)


def test_gates_of_channels():
    """One a column; penalties count weights."""
    latents = []
    for subject in (
        reparam.continuous_sparsification(stop=10, unit=units.axis(-1)),
        reparam.hard_concrete(stop=10, unit=units.axis(-1)),
    ):
        latent = subject.init(make_params((3, 2)))
        assert latent.learned["kernel"].shape == (1, 2)
        latents.append(latent._replace(learned={**latent.learned, "kernel": jnp.asarray([[-4.0, 4.0]])}))
        params, mask = reparam.export(subject, latents[-1], count=10)
        np.testing.assert_array_equal(mask["kernel"], [[False, True]])
        np.testing.assert_array_equal(params["kernel"][:, 0], 0)
    penalty = reparam.continuous_penalty(latents[0], count=0, stop=10, unit=units.axis(-1))
    np.testing.assert_allclose(penalty, 3, rtol=1e-6)
    every = {**latents[1].learned, "kernel": jnp.tile(latents[1].learned["kernel"], (3, 1))}
    elements = Latent(latents[1].weights, every)
    of_channels = reparam.expected_l0(latents[1], unit=units.axis(-1))
    np.testing.assert_allclose(of_channels, reparam.expected_l0(elements), rtol=1e-6)


def test_compander_golden():
    case = GOLDEN["compander"]
    a, b, v = case["height"], case["width"], np.asarray(case["latent"])
    subject = reparam.weight_compander(height=a, width=b)
    latent = subject.init({"w": jnp.zeros((1, 3))})._replace(weights={"w": jnp.asarray([case["latent"]])})
    realised, grads = realised_and_gradient(subject, latent, [1.0, 2.0, 3.0])
    np.testing.assert_allclose(realised, np.asarray(case["quarters_of_pi"]) * np.pi / 4, rtol=1e-6)
    np.testing.assert_allclose(grads.weights["w"][0], np.asarray(case["slope"]) * [1, 2, 3], rtol=1e-6)

    of_logs = lambda log_a, log_b: np.exp(log_a) * np.arctan(v / np.exp(log_b)) @ [1, 2, 3]
    h, at = 1e-6, (math.log(a), math.log(b))
    slopes = [
        (of_logs(at[0] + h, at[1]) - of_logs(at[0] - h, at[1])) / (2 * h),
        (of_logs(at[0], at[1] + h) - of_logs(at[0], at[1] - h)) / (2 * h),
    ]
    np.testing.assert_allclose([g["w"].item() for g in grads.learned], slopes, rtol=1e-5)


def test_compander_begins_at_the_weights_and_is_no_change_where_it_is_wide():
    params = {"w": jnp.linspace(-1.4, 1.4, 15).reshape(3, 5)}
    for height, width in ((1.0, 0.5), (40.0, 40.0)):
        subject = reparam.weight_compander(height=height, width=width)
        latent = subject.init(params)
        np.testing.assert_allclose(subject.realise(latent, count=0)["w"], params["w"], rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(latent.weights["w"], params["w"], rtol=1e-3)


def test_compander_under_a_mask():
    """`sparsify` of the latent weights leaves zeros, which stay zeros."""
    subject = METHODS["compander"]
    tx = optax.partition(
        {
            "weights": jt.sparsify(optax.adam(0.1), jt.static(0.5)),
            "learned": optax.adam(0.1),
            "constants": optax.sgd(1),
        },
        reparam.groups,
    )

    @jax.jit
    def stepped(params):
        latent, state = jt.init(tx, subject.init(params))
        grads = jax.grad(lambda latent: jnp.sum(jnp.sin(subject.realise(latent, count=0)["kernel"])))(latent)
        return optax.apply_updates(latent, tx.update(grads, state, latent)[0])

    latent = stepped(make_params())
    assert np.count_nonzero(subject.realise(latent, count=1)["kernel"]) == 30
    assert latent.learned.log_height["kernel"] != math.log(3.0)


@EACH
def test_an_exported_ticket_is_what_was_realised(subject):
    latent = subject.init(make_params())
    learned = jax.tree.map(lambda s: s + jnp.linspace(-1, 1, s.size).reshape(s.shape), latent.learned)
    latent = latent._replace(learned=learned)
    params, mask = reparam.export(subject, latent, count=10)
    np.testing.assert_array_equal(params["kernel"], subject.realise(latent, count=11)["kernel"])
    np.testing.assert_array_equal(params["kernel"], jt.apply_mask(params, mask)["kernel"])
    np.testing.assert_array_equal(params["bias"], latent.weights["bias"])
    assert int(mask["kernel"].sum()) == np.count_nonzero(params["kernel"])
    assert jt.Ticket(params, mask).mask["bias"] is None


def test_replicates_have_gates_of_their_own_in_one_program():
    traces = []
    first = [subject.init(make_params()) for subject in METHODS.values()]

    def realised(shift, count):
        latents = [latent._replace(learned=jax.tree.map(lambda s: s + shift, latent.learned)) for latent in first]
        return [s.realise(latent, count=count)["kernel"] for s, latent in zip(METHODS.values(), latents, strict=True)]

    @jax.jit
    @functools.partial(jax.vmap, in_axes=(0, None))
    @functools.partial(jax.vmap, in_axes=(None, 0))
    def replicates(shift, count):
        traces.append(shift)
        return realised(shift, count)

    alone = jax.jit(realised)
    for shifts in ([-0.2, 0.2], [0.1, 0.3]):
        found = replicates(jnp.asarray(shifts), jnp.asarray([1, 20]))
        for i, shift in enumerate(shifts):
            for j, count in enumerate((1, 20)):
                for of_all, one in zip(found, alone(shift, count), strict=True):
                    np.testing.assert_allclose(of_all[i, j], one, rtol=1e-6)
    assert len(traces) == 1


def test_a_step_on_a_mesh_moves_no_weights():
    """Gates lie beside their weights; the gradients of thresholds are sums."""
    mesh = jax.make_mesh((4, 2), ("x", "y"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    layout, everywhere = NamedSharding(mesh, P("x", "y")), NamedSharding(mesh, P())

    def moved(scale):
        params = {"kernel": jax.ShapeDtypeStruct((16 * scale, 8 * scale), jnp.float32)}
        latents = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=everywhere if x.size == 1 else layout),
            jax.eval_shape(lambda p: [subject.init(p) for subject in METHODS.values()], params),
        )

        def loss(latents):
            realised = [s.realise(x, count=3, key=KEY) for s, x in zip(METHODS.values(), latents, strict=True)]
            return sum(jnp.sum(jnp.sin(p["kernel"])) for p in realised)

        shardings = jax.tree.map(lambda x: x.sharding, latents)
        return sharding.collectives(jax.jit(jax.grad(loss), out_shardings=shardings).lower(latents).compile())

    small, large = moved(1), moved(8)
    assert small == large
    assert sum(size for _, size in large) <= 24


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: reparam.continuous_sparsification(stop=0), InputError, "stop=0"),
        (lambda: reparam.continuous_sparsification(stop=5, temperature=0.5), InputError, "temperature=0.5"),
        (lambda: reparam.hard_concrete(stop=0), InputError, "stop=0"),
        (lambda: reparam.hard_concrete(stop=1, drop_rate=1.0), InputError, "drop_rate=1.0"),
        (lambda: reparam.next_round(METHODS["continuous"].init(make_params()), temperature=0.5), InputError, "0.5"),
        (lambda: reparam.weight_compander(height=0.0), InputError, "height=0.0"),
        (lambda: reparam.weight_compander(width=-1.0), InputError, "width=-1.0"),
        (lambda: reparam.weight_compander().init({"w": jnp.full((1, 2), 1.6)}), InputError, "'w' holds 1.6"),
        (lambda: METHODS["soft_threshold"].init({"bias": jnp.ones(2)}), NoMatchError, "where"),
        (lambda: METHODS["continuous"].init({"bias": jnp.ones(2)}), NoMatchError, "where"),
        (lambda: METHODS["compander"].init({"bias": jnp.ones(2)}), NoMatchError, "where"),
    ],
)
def test_bad_input_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
