"""Laws 2, 3 and 9 on eight devices: equal bits, no gather, masks laid out like their parameters."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import jaxticket as jt
from jaxticket import scopes, sharding
from jaxticket.errors import JaxticketError, StructureError
from tests.conformance.drivers import COMPILER
from tests.tiers import sample

SPECS = {"a": {"kernel": P("x", "y"), "bias": P()}, "b": {"kernel": P("y", None)}, "c": {"kernel": P(None, ("x", "y"))}}
SIZES = {"a": {"kernel": (16, 8), "bias": (8,)}, "b": {"kernel": (8, 24)}, "c": {"kernel": (24, 16)}}
PLANS = {
    "static": lambda: jt.static(0.3),
    "gradual": lambda: jt.gradual(0.2, stop=4, every=1),
    "rigl": lambda: jt.rigl(0.3, stop=8, every=1),
    "sparse_evolutionary": lambda: jt.sparse_evolutionary(0.3, every=1),
    "global_mp": lambda: jt.gradual(0.2, stop=4, every=1, scope=scopes.tree(), minimum=8),
    "snfs": lambda: jt.snfs(0.3, stop=8, every=1),
    "itop": lambda: jt.itop(0.3, steps=8, every=1, grow=jt.scores.gradient),
    "granet": lambda: jt.granet(0.2, stop=4, steps=8, every=1),
    "mest": lambda: jt.mest(0.3, stop=8, every=1),
    "ac_dc": lambda: jt.ac_dc(0.3, steps=10, compress=(0.0, 0.2), decompress=(0.1,)),
    "iss_p": lambda: jt.iss_p(0.3, stop=2),
    "n_m_set": lambda: jt.sparse_evolutionary(0.5, every=1, scope=scopes.groups(4), allocate=None),
    "block_rigl": lambda: jt.rigl(0.5, stop=8, every=1, unit=jt.units.block(2, 2), allocate=None),
    "channel_rigl": lambda: jt.rigl(0.5, stop=8, every=1, unit=jt.units.axis(-1), allocate=None),
}
TRAINED = sample(PLANS, ("rigl", "channel_rigl"), breadth=("static", "gradual", "sparse_evolutionary", "snfs"))
MESHES = {"auto": AxisType.Auto, "explicit": AxisType.Explicit}
SCOPES = [scopes.tree(), scopes.leaf(), scopes.slices(-1), scopes.slices(0)]
PLACED = [("auto", scopes.tree()), ("explicit", scopes.leaf()), ("auto", scopes.slices(0))]


def make_mesh(kind: str = "auto") -> jax.sharding.Mesh:
    return jax.make_mesh((4, 2), ("x", "y"), axis_types=(MESHES[kind],) * 2)


def make_shardings(mesh):
    return jax.tree.map(lambda s: NamedSharding(mesh, s), SPECS, is_leaf=lambda s: isinstance(s, P))


def make_params(scale: int = 1):
    rng = np.random.default_rng(0)

    def leaf(shape):
        size = tuple(scale * n for n in shape)
        # Few distinct values: ties across shards decide, too.
        return jnp.asarray(rng.integers(-8, 8, size), jnp.float32) / 4

    return jax.tree.map(leaf, SIZES, is_leaf=lambda s: isinstance(s, tuple))


def kernels(tree):
    return {name: leaves["kernel"] for name, leaves in tree.items()}


def equal(a, b):
    jax.tree.map(lambda x, y: np.testing.assert_array_equal(np.asarray(x), np.asarray(y)), a, b)


@pytest.mark.parametrize(("kind", "scope"), sample(itertools.product(MESHES, SCOPES), PLACED), ids=repr)
def test_a_mesh_gives_the_bits_of_one_device(kind, scope):
    mesh, params = make_mesh(kind), make_params()
    f = jax.jit(functools.partial(jt.select, scope=scope))
    expected = f(jt.scores.magnitude(kernels(params)), jnp.float32(0.3))
    with jax.set_mesh(mesh):
        placed = jax.device_put(params, make_shardings(mesh))
        mask = jax.block_until_ready(f(jt.scores.magnitude(kernels(placed)), jnp.float32(0.3)))
    equal(mask, expected)


@pytest.mark.breadth
def test_drop_and_grow_and_units_on_a_mesh():
    mesh, params = make_mesh(), kernels(make_params())
    placed = jax.device_put(params, kernels(make_shardings(mesh)))

    def evolve(p, unit):
        mask = jt.select(p, 0.5, unit=unit)
        return jt.drop_and_grow(mask, drop=p, grow=jax.tree.map(jnp.square, p), drop_fraction=0.4, unit=unit)

    # Sums over dyadic fractions are exact in any order, so pooled scores have equal bits here.
    for unit in (jt.units.element(), jt.units.axis(-1, reduce=jt.units.total), jt.units.block(4, 4)):
        f = jax.jit(functools.partial(evolve, unit=unit))
        equal(jax.block_until_ready(f(placed)), f(params))


@pytest.mark.parametrize("kind", MESHES)
def test_an_eager_mask_is_laid_out_like_its_scores(kind):
    mesh = make_mesh(kind)
    with jax.set_mesh(mesh):
        placed = jax.device_put(make_params(), make_shardings(mesh))
        mask = jt.select(kernels(placed), 0.3)
    for name, m in mask.items():
        assert m.sharding.is_equivalent_to(placed[name]["kernel"].sharding, m.ndim), (name, m.sharding)


@pytest.mark.parametrize("scope", [scopes.tree(), pytest.param(scopes.leaf(), marks=pytest.mark.breadth)], ids=repr)
@pytest.mark.parametrize("kind", sample(MESHES, ("explicit",)))
def test_collectives_of_selection_do_not_grow_with_the_leaves(kind, scope):
    mesh = make_mesh(kind)

    def moved(scale):
        shardings = kernels(make_shardings(mesh))
        shapes = jax.tree.map(
            lambda p, s: jax.ShapeDtypeStruct(p.shape, p.dtype, sharding=s), kernels(make_params(scale)), shardings
        )
        with jax.set_mesh(mesh):
            compiled = jax.jit(functools.partial(jt.select, density=0.3, scope=scope), out_shardings=shardings).lower(
                shapes
            )
            return sharding.collectives(compiled.compile())

    small, large = moved(1), moved(8)
    assert small  # a mesh exchanges something
    # GSPMD spells a count now as a reduction, now as a tiny gather: the bytes are what must not grow.
    assert sorted(size for _, size in small) == sorted(size for _, size in large)
    assert sum(size for _, size in large) < 4096


@pytest.mark.parametrize("plan", TRAINED)
def test_a_step_moves_no_more_than_plain_optax_beyond_counts(plan):
    """Beyond plain adam's own, the collectives of a sparse step have the same bytes at 64 times the leaf size.

    A channel that is sharded along its inputs has partial scores to add up: one number a channel and signal, which is
    the least that a ranking of channels can exchange.
    """
    mesh = make_mesh()

    def moved(make_tx, scale):
        params = make_params(scale)
        shardings = make_shardings(mesh)
        tx = make_tx()
        state_shardings = sharding.state_shardings(tx, params, shardings)

        def place(shapes, layouts):
            return jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), shapes, layouts)

        def step(grads, state, params):
            updates, state = tx.update(grads, state, params)
            return optax.apply_updates(params, updates), state

        arrays = place(params, shardings)
        state = place(jax.eval_shape(tx.init, params), state_shardings)
        lowered = jax.jit(step, out_shardings=(shardings, state_shardings)).lower(arrays, state, arrays)
        return sorted(sharding.collectives(lowered.compile(COMPILER)))

    def sparse():
        return jt.sparsify(optax.adam(0.1), PLANS[plan](), key=jax.random.key(0))

    assert not moved(lambda: optax.adam(0.1), 1)
    small, large = moved(sparse, 1), moved(sparse, 8)
    if plan == "channel_rigl":
        channels = sum(leaf["kernel"][1] for leaf in SIZES.values())
        beyond = sum(size for _, size in large) - sum(size for _, size in small)
        assert 0 < beyond <= (8 - 1) * channels * 4 * 2
    else:
        assert small == large
    assert (plan == "static") == (not large)


@pytest.mark.parametrize("plan", TRAINED)
def test_training_on_a_mesh_keeps_layout_zeros_and_density(plan):
    mesh = make_mesh()
    params, shardings = make_params(), make_shardings(mesh)
    tx = jt.sparsify(optax.adam(0.1), PLANS[plan](), key=jax.random.key(0))
    layouts = sharding.state_shardings(tx, params, shardings)
    placed = jax.device_put(params, shardings)
    masked, state = jax.jit(functools.partial(jt.init, tx), out_shardings=(shardings, layouts))(placed)

    @functools.partial(jax.jit, out_shardings=(shardings, layouts))
    def step(params, state):
        updates, state = tx.update(jax.tree.map(jnp.cos, params), state, params)
        return optax.apply_updates(params, updates), state

    alone, alone_state = jt.init(tx, params)
    alone_step = jax.jit(step.__wrapped__)
    for _ in range(3):
        masked, state = jax.block_until_ready(step(masked, state))
        alone, alone_state = alone_step(alone, alone_state)
    mask = jt.mask_of(state)
    # The gradients are elementwise here, so no sum is reassociated and every bit is that of one device.
    equal(mask, jt.mask_of(alone_state))
    equal(masked, alone)
    for name in SPECS:
        kernel, kept = masked[name]["kernel"], mask[name]["kernel"]
        assert not np.asarray(kernel)[~np.broadcast_to(kept, kernel.shape)].any()
        if plan != "channel_rigl":
            assert kept.sharding.is_equivalent_to(kernel.sharding, 2)
        mu = optax.tree_utils.tree_get(state.inner, "mu")
        assert mu[name]["kernel"].sharding.is_equivalent_to(kernel.sharding, 2)


def test_pmap_trains_with_one_mask():
    tx = jt.sparsify(optax.sgd(0.1), jt.rigl(0.3, stop=8, every=1), key=jax.random.key(0))
    params, state = jt.init(tx, {"kernel": jnp.arange(24.0).reshape(4, 6)})
    copies = jax.tree.map(lambda x: jnp.stack([x] * 8), (params, state))

    @functools.partial(jax.pmap, axis_name="replicas")
    def step(params, state, batch):
        grads = jax.grad(lambda p: jnp.sum(jnp.sin(p["kernel"] * batch)))(params)
        updates, state = tx.update(jax.lax.pmean(grads, "replicas"), state, params)
        return optax.apply_updates(params, updates), state

    for _ in range(2):
        copies = jax.block_until_ready(step(*copies, jnp.arange(8.0)))
    masks = np.asarray(jt.mask_of(copies[1])["kernel"])
    assert (masks == masks[0]).all()
    assert masks[0].sum() == round(0.3 * 24)


def test_state_shardings_cover_channel_masks_and_factored_moments():
    mesh = make_mesh()
    params = {"kernel": jnp.ones((256, 128))}
    tx = jt.sparsify(optax.adafactor(0.1), jt.static(0.5, unit=jt.units.axis(-1)))
    layouts = sharding.state_shardings(tx, params, {"kernel": NamedSharding(mesh, P("x", "y"))})
    assert layouts.mask["kernel"].spec == P(None, "y")
    assert layouts.steps.spec == P()
    jax.block_until_ready(jax.jit(tx.init, out_shardings=layouts)(params))


def test_a_gather_is_found_and_named():
    mesh = make_mesh()
    x = jax.ShapeDtypeStruct((1024, 256), jnp.float32, sharding=NamedSharding(mesh, P("x", "y")))
    compiled = jax.jit(lambda x: jnp.sort(x.ravel())).lower(x).compile()
    with pytest.raises(JaxticketError, match="max_bytes=65536"):
        sharding.assert_no_gather(compiled)


def test_mismatched_shardings_are_named():
    with pytest.raises(StructureError, match="shardings"):
        sharding.state_shardings(optax.sgd(0.1), {"a": jnp.ones(2)}, {})
