"""Straight-through, SR-STE and Top-KAST: golden values, what is held, decay, schedules, replicates, meshes."""

import functools
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
from jaxticket import reparam, schedules, scopes, sharding
from jaxticket.errors import InputError, NoMatchError

GOLDEN = json.loads((pathlib.Path(__file__).parents[1] / "golden" / "reparam.json").read_text())
MAKES = {
    "straight_through": lambda case: reparam.straight_through(case["density"]),
    "sr_ste": lambda case: reparam.sr_ste(case["density"], decay=case["decay"], scope=scopes.groups(2, axis=-1)),
    "top_kast": lambda case: reparam.top_kast(case["density"], backward=case["backward"]),
}


def make_latent(shape=(6, 10)):
    rng = np.random.default_rng(0)
    return {"kernel": jnp.asarray(rng.normal(size=shape), jnp.float32), "bias": jnp.ones(shape[1])}


@pytest.mark.parametrize("case", GOLDEN, ids=lambda case: case["name"])
def test_golden(case):
    """Forward values and gradients by hand: a mask on the gradient, or none, gives others."""
    subject = MAKES[case["name"]](case)
    latent = {"w": jnp.asarray([case["latent"]])}
    realised, back = jax.vjp(lambda latent: subject.realise(latent, count=0), latent)
    (grads,) = back({"w": jnp.asarray([case["cotangent"]])})
    np.testing.assert_array_equal(realised["w"][0], case["realised"])
    np.testing.assert_allclose(grads["w"][0], case["gradient"], rtol=1e-6)


def test_straight_through_has_second_derivatives():
    """GraSP and Hessian–vector products go through it; a custom rule for reverse mode only would not."""
    ste = reparam.straight_through(0.5)
    loss = lambda latent: jnp.sum(ste.realise(latent, count=0)["kernel"] ** 3)
    latent = {"kernel": jnp.array([[1.0, 3.0]])}
    _, hessian = jax.jvp(jax.grad(loss), (latent,), ({"kernel": jnp.ones((1, 2))},))
    np.testing.assert_array_equal(hessian["kernel"], [[0.0, 18.0]])


def test_an_exported_ticket_is_what_was_realised():
    latent = make_latent()
    for subject in (reparam.straight_through(0.3), reparam.sr_ste(0.5), reparam.top_kast(0.3, backward=0.5)):
        params, mask = reparam.export(subject, latent, count=7)
        np.testing.assert_array_equal(params["kernel"], subject.realise(latent, count=7)["kernel"])
        np.testing.assert_array_equal(params["kernel"], jnp.where(mask["kernel"], latent["kernel"], 0))
        ticket = jt.Ticket(params, mask)
        assert ticket.mask["bias"] is None


def test_top_kast_holds_weights_and_moments_outside_the_backward_set():
    kast = reparam.top_kast(0.1, backward=0.4, weight_decay=0.1)
    tx = kast.wrap(optax.adamw(0.1, weight_decay=0.3))
    latent = make_latent()
    state = jax.tree.map(lambda x: x + 1, tx.init(latent))
    trained = np.asarray(jt.select(jnp.abs(latent["kernel"]), 0.4))
    grads = jax.tree.map(lambda p: jnp.full_like(p, 2), latent)
    updates, after = tx.update(grads, state, latent)
    moved = optax.apply_updates(latent, updates)
    for new, old in (
        (moved, latent),
        (after[0].mu, state[0].mu),
        (after[0].nu, state[0].nu),
    ):
        same = np.asarray(new["kernel"] == old["kernel"])
        np.testing.assert_array_equal(same, ~trained)
        assert (new["bias"] != old["bias"]).all()


@pytest.mark.parametrize("replicates", [False, True])
def test_top_kast_keeps_its_sets_for_several_updates(replicates):
    """Chosen at the start and after each third update; between them nothing outside B moves, nor its moments."""
    kast = reparam.top_kast(0.2, backward=0.4, weight_decay=0.01, every=3)
    tx = kast.wrap(optax.adam(0.3))
    latent = kast.init(make_latent())
    state = tx.init(latent)
    loss = lambda latent: jnp.sum(jnp.sin(3 * kast.realise(latent, count=0)["kernel"]))

    def step(latent, state):
        updates, state = tx.update(jax.grad(loss)(latent), state, latent)
        return optax.apply_updates(latent, updates), state

    run = jax.jit(jax.vmap(step)) if replicates else jax.jit(step)
    if replicates:
        latent, state = jax.tree.map(lambda x: jnp.stack([x, x]), (latent, state))
        state = state._replace(count=jnp.array([0, 1]))
    changed = []
    for _ in range(9):
        before, (latent, state) = latent, run(latent, state)
        first, old = (jax.tree.map(lambda x: x[0], t) if replicates else t for t in (latent, before))
        used, trained = (np.asarray(old.constants["kernel"], np.float32) > t for t in (1.5, 0.5))
        assert (used.sum(), trained.sum()) == (12, 24)
        moved = np.asarray(first.weights["kernel"] != old.weights["kernel"])
        np.testing.assert_array_equal(moved, trained)
        changed.append(bool((first.constants["kernel"] != old.constants["kernel"]).any()))
        params = kast.realise(first, count=0)["kernel"]
        mask = kast.mask(first, count=0)["kernel"]
        np.testing.assert_array_equal(params, jnp.where(mask, first.weights["kernel"], 0))
        if changed[-1]:
            np.testing.assert_array_equal(mask, jt.select(jnp.abs(first.weights["kernel"]), 0.2))
    assert not any(c for i, c in enumerate(changed) if i % 3 != 2)
    assert any(changed)


def test_top_kast_decays_the_explored_weights_faster():
    """The gradient of the regulariser: θ on A, θ / D on B without A, nothing elsewhere."""
    kast = reparam.top_kast(0.25, backward=0.5, weight_decay=0.1)
    tx = kast.wrap(optax.sgd(1.0))
    latent = {"w": jnp.array([[4.0, -2.0, 1.0, 0.5]])}
    updates, _ = tx.update({"w": jnp.zeros((1, 4))}, tx.init(latent), latent)
    np.testing.assert_allclose(updates["w"][0], [-0.4, 0.8, 0, 0], rtol=1e-6)


def test_top_kast_without_exploration_is_static_under_sgd():
    kast = reparam.top_kast(0.3, backward=0.3)
    tx = kast.wrap(optax.sgd(0.01))
    latent = make_latent()
    first = kast.mask(latent, count=0)["kernel"]
    state = tx.init(latent)
    for count in range(4):
        grads = jax.grad(lambda p, count=count: jnp.sum(jnp.sin(kast.realise(p, count=count)["kernel"])))(latent)
        updates, state = tx.update(grads, state, latent)
        latent = optax.apply_updates(latent, updates)
        np.testing.assert_array_equal(kast.mask(latent, count=count)["kernel"], first)


def test_the_mask_follows_the_latent_weights_and_the_schedule():
    ste = reparam.straight_through(schedules.cubic(0.1, start=0, stop=4), scope=scopes.tree())
    latent = make_latent()
    kept = [int(ste.mask(latent, count=jnp.int32(t))["kernel"].sum()) for t in range(6)]
    assert kept == [60, 29, 13, 7, 6, 6]
    smallest = jnp.argmin(jnp.abs(latent["kernel"]))
    grown = {**latent, "kernel": latent["kernel"].ravel().at[smallest].set(99.0).reshape(6, 10)}
    assert not bool(ste.mask(latent, count=5)["kernel"].ravel()[smallest])
    assert bool(ste.mask(grown, count=5)["kernel"].ravel()[smallest])


def test_sr_ste_keeps_n_of_every_m_inputs_with_a_remainder():
    kept = np.asarray(reparam.sr_ste(0.5).mask(make_latent(), count=0)["kernel"])
    np.testing.assert_array_equal(kept[:4].sum(0), 2)
    np.testing.assert_array_equal(kept[4:].sum(0), 1)


@pytest.mark.parametrize("make", [reparam.straight_through, lambda d: reparam.top_kast(d, backward=0.6)])
def test_a_new_density_does_not_recompile_and_replicates_have_their_own(make):
    traces = []

    @jax.jit
    @functools.partial(jax.vmap, in_axes=(0, None))
    @functools.partial(jax.vmap, in_axes=(None, 0))
    def kept(density, scale):
        traces.append(density)
        latent = {"kernel": make_latent()["kernel"] + scale}
        return make(density).realise(latent, count=0)["kernel"]

    for densities in ([0.1, 0.5], [0.2, 0.3]):
        found = np.asarray(kept(jnp.asarray(densities), jnp.arange(3.0)))
        assert (found != 0).sum((2, 3)).tolist() == [[round(60 * d)] * 3 for d in densities]
    assert len(traces) == 1


@pytest.mark.parametrize("name", ["straight_through", "top_kast"])
def test_a_step_on_a_mesh_moves_counts_only(name):
    mesh = jax.make_mesh((4, 2), ("x", "y"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    subject = {
        "straight_through": reparam.straight_through(0.3),
        "top_kast": reparam.top_kast(0.2, backward=0.4, weight_decay=0.1),
    }[name]
    tx = subject.wrap(optax.adam(0.1))

    def moved(scale):
        params = {"kernel": jax.ShapeDtypeStruct((16 * scale, 8 * scale), jnp.float32)}
        shardings = {"kernel": NamedSharding(mesh, P("x", "y"))}
        state_shardings = sharding.state_shardings(tx, params, shardings)
        place = lambda shapes, layouts: jax.tree.map(
            lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), shapes, layouts
        )

        def step(latent, state):
            loss = lambda latent: jnp.sum(jnp.sin(subject.realise(latent, count=state[0].count)["kernel"]))
            updates, state = tx.update(jax.grad(loss)(latent), state, latent)
            return optax.apply_updates(latent, updates), state

        arguments = place(params, shardings), place(jax.eval_shape(tx.init, params), state_shardings)
        compiled = jax.jit(step, out_shardings=(shardings, state_shardings)).lower(*arguments).compile()
        return sharding.collectives(compiled)

    small, large = moved(1), moved(8)
    assert small
    assert small == large


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: reparam.top_kast(0.5, backward=0.3), InputError, "backward=0.3"),
        (lambda: reparam.top_kast(0.5, backward=0.6, weight_decay=-1), InputError, "weight_decay=-1"),
        (lambda: reparam.top_kast(0.5, backward=0.6, every=0), InputError, "every=0"),
        (lambda: reparam.sr_ste(0.5, decay=-1), InputError, "decay=-1"),
        (lambda: reparam.straight_through(1.5).mask(make_latent(), count=0), InputError, "density=1.5"),
        (lambda: reparam.straight_through(0.5).init({"bias": jnp.ones(2)}), NoMatchError, "where"),
        (
            lambda: reparam.top_kast(0.1, backward=0.2).wrap(optax.sgd(1.0)).update(make_latent(), ()),
            InputError,
            "params=None",
        ),
    ],
)
def test_bad_input_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
