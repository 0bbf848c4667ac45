"""BiP: golden gradients of both rules, the levels' turns, what rests, the implicit gradient where it is exact."""

import functools
import itertools
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

import jaxticket as jt
from jaxticket import reparam, scopes, sharding, units
from jaxticket.errors import InputError, NoMatchError
from jaxticket.reparam._bilevel import implicit_gradient

GOLDEN = json.loads((pathlib.Path(__file__).parents[1] / "golden" / "soft.json").read_text())["bip"]


@pytest.fixture(scope="module", autouse=True)
def quick_to_compile():
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


def make_params(shape=(6, 10)):
    rng = np.random.default_rng(0)
    return {"kernel": jnp.asarray(rng.normal(size=shape), jnp.float32), "bias": jnp.ones(shape[1]), "static": None}


def gradients(subject, latent, cotangents, count=0):
    realised, back = jax.vjp(lambda latent: subject.realise(latent, count=count), latent)
    return realised, back(cotangents)[0]


@pytest.mark.parametrize("case", GOLDEN, ids=lambda case: case["name"])
def test_golden(case):
    subject = reparam.bip(0.5, implicit_rate=case["rate"], rule=case["name"])
    latent = subject.init({"w": jnp.asarray([case["weights"]])})
    realised, grads = gradients(subject, latent, {"w": jnp.asarray([case["cotangent"]])})
    np.testing.assert_array_equal(realised["w"][0], case["realised"])
    np.testing.assert_array_equal(grads.weights["w"][0], case["gradient"])
    np.testing.assert_allclose(grads.learned["w"][0], case["gradient_of_scores"], rtol=1e-6)


def test_without_the_implicit_term_scores_have_the_gradient_of_edge_popup():
    params = make_params()
    cotangents = jax.tree.map(jnp.cos, params)
    methods = reparam.bip(0.5, implicit_rate=0.0, scope=scopes.leaf()), reparam.edge_popup(0.5)
    latent = methods[0].init(params)
    both = jax.jit(lambda latent: [gradients(m, latent, cotangents)[1].learned["kernel"] for m in methods])
    np.testing.assert_allclose(*both(latent), rtol=1e-6)


def test_the_implicit_gradient_is_that_of_an_exact_lower_level():
    """min over θ of L(mθ) + γ θ² / 2. Exact for linear L; for a quadratic the neglected Hessian is 1/γ of γ.

    Without the implicit term it would be half of it.
    """
    rng = np.random.default_rng(0)
    m, c, h = rng.uniform(0.5, 1, 20), rng.normal(size=20), 1e-5
    losses = {
        "linear": (lambda z: c @ z, lambda z: c, lambda m, gamma: -m * c / gamma),
        "quadratic": (
            lambda z: ((z - c) ** 2).sum() / 2,
            lambda z: z - c,
            lambda m, gamma: m * c / (m * m + gamma),
        ),
    }
    for name, (loss, slope, lower) in losses.items():
        for gamma in (10.0, 100.0):
            theta = lower(m, gamma)
            found = implicit_gradient(theta, None, m, slope(m * theta), rate=1 / gamma)
            value = lambda m: loss(m * lower(m, gamma))
            true = np.asarray([(value(m + h * e) - value(m - h * e)) / (2 * h) for e in np.eye(20)])
            error = np.abs(found / true - 1).max()
            assert error < (1e-6 if name == "linear" else 3 / gamma)


def trained(subject, tx, steps):
    """The latent parameters and states after each step, along the gradients of sin, compiled once."""
    latent = subject.init(make_params())
    states = [(latent, tx.init(latent))]

    @jax.jit
    def step(latent, state, count):
        cotangents = jax.tree.map(jnp.cos, subject.realise(latent, count=count))
        _, grads = gradients(subject, latent, cotangents, count)
        updates, state = tx.update(grads, state, latent)
        return optax.apply_updates(latent, updates), state

    for count in range(steps):
        states.append(step(*states[-1], count))
    return states


def test_levels_take_turns_and_rest_with_their_states():
    """Each is its own optimizer, fed every second gradient; biases move with the weights."""
    subject = reparam.bip(0.5, upper=optax.adam(0.05))
    states = trained(subject, subject.wrap(optax.sgd(0.1, momentum=0.9)), 4)
    for count, ((old, before), (new, after)) in enumerate(itertools.pairwise(states)):
        resting, moving = ("learned", "weights") if count % 2 == 0 else ("weights", "learned")
        jax.tree.map(np.testing.assert_array_equal, getattr(new, resting), getattr(old, resting))
        assert not np.array_equal(getattr(new, moving)["kernel"], getattr(old, moving)["kernel"])
        idle = "upper" if count % 2 == 0 else "lower"
        jax.tree.map(np.testing.assert_array_equal, getattr(after, idle), getattr(before, idle))
        assert int(subject.mask(new, count=count)["kernel"].sum()) == 30
        held = old.weights["kernel"] == new.weights["kernel"]
        if count == 0:
            np.testing.assert_array_equal(held, ~subject.mask(old, count=count)["kernel"])

    old, new = states[2][0], states[3][0]
    grads = [
        gradients(subject, latent, jax.tree.map(jnp.cos, subject.realise(latent, count=0)))[1].weights
        for latent in (states[0][0], old)
    ]
    plain = optax.sgd(0.1, momentum=0.9)
    _, state = plain.update(grads[0], plain.init(grads[0]))
    updates, _ = plain.update(grads[1], state)
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-7),
        new.weights,
        optax.apply_updates(old.weights, updates),
    )


@pytest.mark.parametrize("rule", ["paper", "code"])
def test_scores_of_the_paper_end_at_zero_those_of_the_code_are_the_weights(rule):
    subject = reparam.bip(0.5, upper=optax.sgd(5.0), rule=rule)
    states = trained(subject, subject.wrap(optax.sgd(0.0)), 4)
    scores = states[-1][0].learned["kernel"]
    first = states[0][0]
    if rule == "paper":
        assert float(scores.min()) == 0
        np.testing.assert_array_equal(first.learned["kernel"], jnp.abs(first.weights["kernel"]))
    else:
        assert bool((jnp.sign(scores) != jnp.sign(first.weights["kernel"])).any())
        np.testing.assert_array_equal(scores, states[-1][0].weights["kernel"])
        np.testing.assert_array_equal(first.learned["kernel"], first.weights["kernel"])
    assert first.learned["bias"] is None


def test_the_rule_of_the_code_moves_one_tensor_by_both_optimizers():
    """Golden: theta after a lower and an upper step. The mask is that of the current theta, and a bias trains in both.

    With momentum of the lower level alone, the upper step still moves what the mask drops.
    """
    theta, slope = jnp.array([[2.0, -1.0, 0.5, 0.1]]), jnp.array([[0.1, 0.2, -0.3, 0.4]])
    subject = reparam.bip(0.5, upper=optax.sgd(0.1), rule="code")
    latent = subject.init({"w": theta, "bias": jnp.zeros(1)})
    tx = subject.wrap(optax.sgd(0.1))
    state, found = tx.init(latent), []
    for count in range(2):
        grads = gradients(subject, latent, {"w": slope, "bias": jnp.ones(1)}, count)[1]
        updates, state = tx.update(grads, state, latent)
        latent = optax.apply_updates(latent, updates)
        np.testing.assert_array_equal(latent.learned["w"], latent.weights["w"])
        found.append(np.asarray(latent.weights["w"][0]))
    np.testing.assert_allclose(found[0], [1.99, -1.02, 0.5, 0.1], rtol=1e-6)
    np.testing.assert_allclose(found[1], [1.9701004, -1.04039958, 0.51500022, 0.09600002], rtol=1e-6)
    np.testing.assert_allclose(latent.weights["bias"], [-0.2], rtol=1e-6)


def test_the_rule_of_the_paper_moves_scores_alone_in_the_upper_step():
    theta, slope = jnp.array([[2.0, -1.0, 0.5, 0.1]]), jnp.array([[0.1, 0.2, -0.3, 0.4]])
    subject = reparam.bip(0.5, upper=optax.sgd(0.1))
    latent = subject.init({"w": theta})
    tx = subject.wrap(optax.sgd(0.1))
    state = tx.init(latent)
    updates, state = tx.update(gradients(subject, latent, {"w": slope})[1], state, latent)
    latent = optax.apply_updates(latent, updates)._replace(learned={"w": jnp.array([[1.0, 1.0, 0.0, 0.0]])})
    grads = gradients(subject, latent, {"w": slope}, 1)[1]
    np.testing.assert_allclose(grads.learned["w"][0], [0.198999, -0.204004, -0.15, 0.04], rtol=1e-5)
    updates, _ = tx.update(grads, state, latent)
    moved = optax.apply_updates(latent, updates)
    # The paper's fourth score is -0.004 there; here scores end at 0.
    np.testing.assert_allclose(moved.learned["w"][0], [0.9801001, 1.0204004, 0.015, 0.0], rtol=1e-5)
    np.testing.assert_array_equal(moved.weights["w"], latent.weights["w"])


def test_the_upper_optimizer_is_the_authors():
    """SGD 0.1 with momentum 0.9, a tenth of it from half of the training on, a hundredth in the last quarter."""
    subject = reparam.bip(0.5, steps=80)
    latent = subject.init({"w": jnp.ones((1, 2))})
    tx, zero = subject.wrap(optax.sgd(0.0)), jax.tree.map(jnp.zeros_like, latent)
    state, sizes = tx.init(latent), []
    for count in range(80):
        grads = zero._replace(learned={"w": jnp.full((1, 2), -1.0 if count % 2 else 0.0)})
        updates, state = tx.update(grads, state, latent)
        if count % 2:
            sizes.append(float(updates.learned["w"][0, 0]))
    velocity = (1 - 0.9 ** np.arange(1, 41)) / 0.1
    rate = np.repeat([0.1, 0.01, 0.001], [20, 10, 10])
    np.testing.assert_allclose(sizes, rate * velocity, rtol=1e-5)


def test_channels_by_the_norm_of_their_scores():
    subject = reparam.bip(0.3, unit=units.axis(-1, reduce=units.l2), scope=scopes.leaf())
    latent = subject.init(make_params())
    mask = subject.mask(latent, count=0)["kernel"]
    norms = np.linalg.norm(np.asarray(latent.weights["kernel"]), axis=0)
    np.testing.assert_array_equal(mask[0], norms >= np.sort(norms)[-3])


def test_an_exported_ticket_is_what_was_realised():
    latent, _ = trained(reparam.bip(0.2), reparam.bip(0.2).wrap(optax.sgd(0.1)), 3)[-1]
    params, mask = reparam.export(reparam.bip(0.2), latent, count=3)
    np.testing.assert_array_equal(params["kernel"], jnp.where(mask["kernel"], latent.weights["kernel"], 0))
    assert jt.Ticket(params, mask).mask["bias"] is None


def test_a_new_density_does_not_recompile_and_replicates_have_their_own():
    traces = []

    @jax.jit
    @functools.partial(jax.vmap, in_axes=(0, None))
    @functools.partial(jax.vmap, in_axes=(None, 0))
    def stepped(density, count):
        traces.append(density)
        subject = reparam.bip(density)
        latent, tx = subject.init(make_params()), subject.wrap(optax.sgd(0.1))
        state = tx.init(latent)._replace(count=count)
        _, grads = gradients(subject, latent, jax.tree.map(jnp.cos, latent.weights))
        updates, _ = tx.update(grads, state, latent)
        latent = optax.apply_updates(latent, updates)
        return subject.mask(latent, count=1)["kernel"], updates.weights["bias"]

    for densities in ([0.1, 0.5], [0.2, 0.3]):
        mask, bias = stepped(jnp.asarray(densities), jnp.arange(3))
        assert mask.sum((2, 3)).tolist() == [[round(60 * d)] * 3 for d in densities]
        assert (bias != 0).any((0, 2)).tolist() == [True, False, True]
    assert len(traces) == 1


def test_a_step_on_a_mesh_moves_counts_only():
    mesh = jax.make_mesh((4, 2), ("x", "y"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    subject = reparam.bip(0.3, upper=optax.sgd(0.1, momentum=0.9))
    tx = subject.wrap(optax.adam(0.1))

    def moved(scale):
        params = {"kernel": jax.ShapeDtypeStruct((16 * scale, 8 * scale), jnp.float32)}
        latent = jax.eval_shape(lambda p: subject.init(p), params)
        layouts = jax.tree.map(lambda _: NamedSharding(mesh, P("x", "y")), latent)
        state_layouts = sharding.state_shardings(tx, latent, layouts)
        assert state_layouts.lower[0].mu.weights["kernel"].spec == P("x", "y")
        place = lambda shapes, layouts: jax.tree.map(
            lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), shapes, layouts
        )

        def step(latent, state):
            loss = lambda latent: jnp.sum(jnp.sin(subject.realise(latent, count=state.count)["kernel"]))
            updates, state = tx.update(jax.grad(loss)(latent), state, latent)
            return optax.apply_updates(latent, updates), state

        arguments = place(latent, layouts), place(jax.eval_shape(tx.init, latent), state_layouts)
        return sharding.collectives(jax.jit(step, out_shardings=(layouts, state_layouts)).lower(*arguments).compile())

    small, large = moved(1), moved(8)
    assert small
    assert small == large


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: reparam.bip(0.5, rule="other"), InputError, "rule='other'"),
        (lambda: reparam.bip(0.5, implicit_rate=-1.0), InputError, "implicit_rate=-1.0"),
        (lambda: reparam.bip(0.5).init({"bias": jnp.ones(2)}), NoMatchError, "where"),
        (lambda: reparam.bip(0.5).wrap(optax.sgd(1.0)).update(make_params(), ()), InputError, "params=None"),
    ],
)
def test_bad_input_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
