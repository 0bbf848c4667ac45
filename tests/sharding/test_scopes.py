"""What else runs on a mesh: scores, plans under Explicit sharding, selection inside shard_map, a search for tickets."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import jaxticket as jt
from jaxticket import scopes, scores
from tests.sharding.test_state import PLANS, SPECS, equal, kernels, make_mesh, make_params, make_shardings

POINTWISE = {
    "magnitude": scores.magnitude,
    "random": functools.partial(scores.random, key=jax.random.key(0)),
    "gradient": scores.gradient,
    "saliency": scores.saliency,
    "lamp": scores.lamp(scores.magnitude),
}


@pytest.mark.parametrize(
    "name", [n if n == "magnitude" else pytest.param(n, marks=pytest.mark.slow) for n in POINTWISE]
)
def test_scores_of_a_mesh_are_those_of_one_device(name):
    mesh, params = make_mesh(), kernels(make_params())
    grads = jax.tree.map(jnp.cos, params)
    score = jax.jit(lambda p, g: POINTWISE[name](p, grads=g))
    layout = kernels(make_shardings(mesh))
    spread = jax.block_until_ready(score(*jax.device_put((params, grads), (layout, layout))))
    if name == "lamp":  # sums over a leaf
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), spread, score(params, grads))
    else:
        equal(spread, score(params, grads))


@pytest.mark.slow
@pytest.mark.parametrize("plan", PLANS)
def test_training_on_an_explicit_mesh_has_the_bits_of_one_device(plan):
    mesh, params = make_mesh("explicit"), make_params()
    tx = jt.sparsify(optax.adam(0.1), PLANS[plan](), key=jax.random.key(0))

    @jax.jit
    def step(params, state):
        updates, state = tx.update(jax.tree.map(jnp.cos, params), state, params)
        return optax.apply_updates(params, updates), state

    def train(params):
        carry = jax.jit(functools.partial(jt.init, tx))(params)
        for _ in range(3):
            carry = jax.block_until_ready(step(*carry))
        return carry

    alone, alone_state = train(params)
    with jax.set_mesh(mesh):
        spread, state = train(jax.device_put(params, make_shardings(mesh)))
    equal(jt.mask_of(state), jt.mask_of(alone_state))
    equal(spread, alone)
    for name in SPECS:
        assert spread[name]["kernel"].sharding.is_equivalent_to(make_shardings(mesh)[name]["kernel"], 2)


@pytest.mark.parametrize(
    "scope",
    [
        scopes.leaf(),
        *(pytest.param(s, marks=pytest.mark.slow) for s in (scopes.tree(), scopes.slices(0), scopes.groups(4))),
    ],
    ids=repr,
)
def test_inside_shard_map_each_device_selects_in_what_it_holds(scope):
    mesh = jax.make_mesh((2,), ("x",), axis_types=(AxisType.Auto,), devices=jax.devices()[:2])
    held = make_params()["b"]["kernel"]

    def evolve(x):
        mask = jt.select(x, 0.5, scope=scope)
        return jt.drop_and_grow(mask, drop=x, grow=-x, drop_fraction=0.4, scope=scope)

    spread = jax.jit(jax.shard_map(evolve, mesh=mesh, in_specs=P("x"), out_specs=P("x")))(held)
    alone = jax.jit(evolve)
    equal(spread, jnp.concatenate([alone(part) for part in jnp.split(held, 2)]))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["auto", "explicit"])
def test_a_search_on_a_mesh_finds_the_tickets_of_one_device(kind):
    mesh, params = make_mesh(kind), kernels(make_params())

    def train(params, state, mask, key, *, step, opt_state):
        del key, step, opt_state
        trained = jt.apply_mask(jax.tree.map(lambda p: p + jnp.cos(p) / 4, params), mask)
        return jt.typing.Trained(trained, state, {})

    def search(params):
        ticket = jt.Ticket(params, jax.tree.map(lambda p: jnp.ones_like(p, bool), params))
        prune = jt.loops.prune_by(scope=scopes.tree())
        return list(jt.imp(train, ticket, densities=(1.0, 0.5, 0.2), prune=prune, key=jax.random.key(0)))

    alone = search(params)
    with jax.set_mesh(mesh):
        spread = search(jax.device_put(params, kernels(make_shardings(mesh))))
    for found, expected in zip(spread, alone, strict=True):
        equal(found.ticket.mask, expected.ticket.mask)
        equal(found.trained.params, expected.trained.params)
    assert int(sum(m.sum() for m in spread[2].ticket.mask.values())) == round(
        0.2 * sum(p.size for p in params.values())
    )


@pytest.mark.slow
def test_a_ticket_on_a_mesh_comes_back_on_any_other(tmp_path):
    params = kernels(make_params())
    layout = kernels(make_shardings(make_mesh()))
    placed = jax.device_put(params, layout)
    ticket = jt.Ticket(placed, jt.select(placed, 0.3), step=7)
    jt.save(tmp_path / "ticket", ticket)
    rows = jax.make_mesh((8,), ("x",), axis_types=(AxisType.Auto,))
    other = NamedSharding(rows, P("x"))
    like = jax.eval_shape(lambda: ticket)
    for shardings in (None, jt.Ticket(layout, layout), jt.Ticket(other, other)):
        loaded = jt.load(tmp_path / "ticket", like=like, shardings=shardings)
        equal((loaded.params, loaded.mask), (ticket.params, ticket.mask))
    assert loaded.params["c"].sharding.is_equivalent_to(other, 2)
