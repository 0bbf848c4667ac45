"""DSEE: what is realised, what is trained and what it costs, where sparse corrections go, meshes."""

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
from jaxticket import filters, masks, reparam, scores, sharding
from jaxticket.errors import InputError, NoMatchError, StructureError
from jaxticket.reparam import Correction, Latent

GOLDEN = json.loads((pathlib.Path(__file__).parents[1] / "golden" / "soft.json").read_text())["additive"]
KEY = jax.random.key(0)


@pytest.fixture(scope="module", autouse=True)
def quick_to_compile():
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


def make_params():
    rng = np.random.default_rng(0)
    kernel = lambda shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
    return {
        "conv": {"kernel": kernel((2, 2, 3, 4))},
        "dense": {"kernel": kernel((6, 10))},
        "head": {"kernel": kernel((10, 2)), "bias": jnp.ones(2)},
    }


def test_golden():
    arrays = {name: jnp.asarray(GOLDEN[name]) for name in ("left", "right", "values", "places", "weights")}
    mask = {"w": jnp.asarray(GOLDEN["mask"])}
    subject = reparam.additive(mask, rank=1, residual_density=0.25, scale=GOLDEN["scale"])
    learned = {"w": Correction(arrays["left"], arrays["right"], arrays["values"])}
    latent = Latent(masks.apply_mask({"w": arrays["weights"]}, mask), learned, {"w": arrays["places"]})
    np.testing.assert_array_equal(jax.jit(lambda l: subject.realise(l, count=0)["w"])(latent), GOLDEN["realised"])
    assert bool(subject.mask(latent, count=0)["w"].all()), "a low-rank correction is dense"

    none = Correction(jnp.zeros((2, 0)), jnp.zeros((0, 2)), arrays["values"])
    latent = latent._replace(learned={"w": none})
    sparse = reparam.additive(mask, rank=0, residual_density=0.25)
    np.testing.assert_array_equal(sparse.mask(latent, count=0)["w"], GOLDEN["kept_without_low_rank"])
    params, kept = reparam.export(sparse, latent, count=0)
    np.testing.assert_array_equal(params["w"], masks.apply_mask(params, kept)["w"])
    assert bool(reparam.additive(rank=0, residual_density=0.25).mask(latent, count=0)["w"].all())


def test_only_the_correction_is_trained_and_only_in_its_places():
    """Under weight decay, which would move all else; leaves of more axes are matrices of all inputs by outputs."""
    params = make_params()
    mask = jax.tree.map(lambda p: p > 0, filters.only(params, filters.weights()))
    where = filters.match("(conv|dense)/kernel")
    subject = reparam.additive(mask, rank=2, residual_density=0.1, scale=1.0, places=scores.magnitude, where=where)
    tx = subject.wrap(optax.chain(optax.add_decayed_weights(0.1), optax.sgd(0.1, momentum=0.9)))

    @jax.jit
    def step(latent, state):
        loss = lambda latent: sum(jnp.sum(jnp.sin(p)) for p in jax.tree.leaves(subject.realise(latent, count=0)))
        updates, state = tx.update(jax.grad(loss)(latent), state, latent)
        return optax.apply_updates(latent, updates), state

    first = jax.jit(subject.init)(params, key=KEY)
    realise = jax.jit(lambda latent: subject.realise(latent, count=0))
    jax.tree.map(np.testing.assert_array_equal, realise(first), masks.apply_mask(params, mask))
    latent, state = first, jax.jit(tx.init)(first)
    for _ in range(3):
        latent, state = step(latent, state)
    jax.tree.map(np.testing.assert_array_equal, latent._replace(learned=()), first._replace(learned=()))
    realised, kept = realise(latent), subject.mask(latent, count=0)
    for name, inputs, outputs, places in (("conv", 12, 4, 5), ("dense", 6, 10, 6)):
        found, begun = latent.learned[name]["kernel"], first.learned[name]["kernel"]
        assert [x.shape for x in found] == [(inputs, 2), (2, outputs), (places,)]
        assert all(np.all(new != old) for new, old in zip(found, begun, strict=True))
        left, right, values = (np.asarray(x, np.float64) for x in found)
        w, at = np.asarray(first.weights[name]["kernel"]), np.asarray(latent.constants[name]["kernel"], int)
        expected = w + (left @ right).reshape(w.shape)
        expected[tuple(at.T)] += values
        np.testing.assert_allclose(realised[name]["kernel"], expected, rtol=1e-5, atol=1e-6)
        assert len(np.unique(at, axis=0)) == places
        assert bool(kept[name]["kernel"].all())
    assert latent.learned["head"]["kernel"] is None
    np.testing.assert_array_equal(kept["head"]["kernel"], mask["head"]["kernel"])
    assert kept["head"]["bias"] is None


@jax.jit
def found_places(w):
    residual = reparam.low_rank_residual()({"w": w})["w"]
    return jt.select(residual, 16 / w.size), jt.select(jnp.abs(w), 16 / w.size)


def test_places_are_those_that_a_low_rank_matrix_leaves():
    """16 entries of ±8 on a matrix of rank 1 with noise: all are found, where magnitude alone misses some."""
    missed = 0
    for seed in range(5):
        rng = np.random.default_rng(seed)
        w = 2 * np.outer(rng.normal(size=64), rng.normal(size=64)) + 0.02 * rng.normal(size=(64, 64))
        planted = np.zeros(64 * 64, bool)
        planted[rng.choice(64 * 64, 16, replace=False)] = True
        w += 8 * planted.reshape(64, 64) * rng.choice((-1, 1), (64, 64))
        kept, largest = found_places(jnp.asarray(w, jnp.float32))
        np.testing.assert_array_equal(np.asarray(kept).ravel(), planted)
        missed += int((planted & ~np.asarray(largest).ravel()).sum())
    assert missed > 10


def grebsmo(w, v, rounds, turns=2, step=5, threshold=0.01):
    """DSEE's support by its published code, in float64: w is (outputs, inputs), v the first (1, inputs)."""
    for _ in range(rounds):
        s = np.zeros_like(w)
        for _ in range(turns):
            u = np.linalg.qr((w - s) @ v.T)[0]
            v = u.T @ (w - s)
            s = w - u @ v
            s[np.abs(s) < threshold] = 0
        residual = np.abs(w - u @ v)
        v = np.concatenate([v, np.linalg.qr(w - u @ v - s)[1][:step]])
    return residual


@pytest.mark.parametrize("rounds", [1, 3])
def test_rounds_add_five_rows_each_as_in_the_authors_code(rounds):
    """From the same random start, in float64. The published code has 100 rounds: axes of more than 496."""
    rng = np.random.default_rng(0)
    w = rng.normal(size=(40, 30)) * np.linspace(0.1, 3, 30)
    with jax.enable_x64(True):
        first = np.asarray(jax.random.normal(KEY, (1, 40), jnp.float64))
        found = np.asarray(jax.jit(reparam.low_rank_residual(rounds=rounds, key=KEY))({"w": jnp.asarray(w)})["w"])
    np.testing.assert_allclose(found, grebsmo(w.T, first, rounds).T, atol=1e-8)
    assert found.max() > 0.1


def test_a_rank_that_leaves_nothing_is_refused():
    with pytest.raises(InputError, match="rank of 496"):
        reparam.low_rank_residual(rounds=100)({"w": jnp.ones((500, 496))})
    with pytest.raises(InputError, match="rank of 11"):
        reparam.low_rank_residual(rounds=3)({"w": jnp.ones((11, 20))})


def test_more_rounds_lose_planted_places():
    """Measured on the authors' procedure: recall 1.0 after one round, at most .7 after three (64 × 64, rank 11)."""
    rng = np.random.default_rng(0)
    w = np.outer(rng.normal(size=64), rng.normal(size=64)) + 0.02 * rng.normal(size=(64, 64))
    planted = np.zeros(64 * 64, bool)
    planted[rng.choice(64 * 64, 16, replace=False)] = True
    w += 8 * planted.reshape(64, 64)
    recall = []
    for rounds in (1, 3):
        residual = reparam.low_rank_residual(rounds=rounds)({"w": jnp.asarray(w, jnp.float32)})["w"]
        kept = np.asarray(jt.select(residual, 16 / w.size)).ravel()
        recall.append((kept & planted).sum() / 16)
    assert recall[0] == 1
    assert recall[1] < 0.8


def test_the_scale_is_32_over_the_rank():
    latent = Latent({"w": jnp.zeros((2, 2))}, {"w": Correction(jnp.ones((2, 4)), jnp.ones((4, 2)), jnp.ones(1))},
                    {"w": jnp.zeros((1, 2))})  # fmt: skip
    realised = reparam.additive(rank=4, residual_density=0.25).realise(latent, count=0)["w"]
    np.testing.assert_array_equal(realised, [[40.0, 32.0], [32.0, 32.0]])


def test_the_first_factors_come_from_the_key_leaf_by_leaf():
    subject = reparam.additive(rank=1, residual_density=0.0)
    same = {"a": {"kernel": jnp.ones((30, 4))}, "b": {"kernel": jnp.ones((30, 4))}}
    begin = jax.jit(subject.init)
    left = lambda key: [layer["kernel"].left for layer in begin(same, key=key).learned.values()]
    (a, b), (other, _) = left(KEY), left(jax.random.key(1))
    assert not np.array_equal(a, b)
    assert not np.array_equal(a, other)
    assert 0.01 < float(a.std()) < 0.03
    assert begin(same, key=KEY).constants["a"]["kernel"].shape == (0, 2)


def test_replicates_have_places_and_factors_of_their_own_in_one_program():
    traces = []

    @jax.jit
    @jax.vmap
    @jax.vmap
    def begun(seed):
        traces.append(seed)
        key = jax.random.key(seed)
        subject = reparam.additive(rank=1, residual_density=0.1, scale=1.0, places=scores.magnitude)
        latent = subject.init({"w": jax.random.normal(key, (6, 10))}, key=key)
        ones = jax.tree.map(jnp.ones_like, latent.learned)
        return latent.constants["w"], subject.realise(latent._replace(learned=ones), count=0)["w"] - latent.weights["w"]

    for seeds in ([[0, 1], [2, 3]], [[4, 5], [6, 7]]):
        places, change = begun(jnp.asarray(seeds))
        for i in range(2):
            for j in range(2):
                expected = np.ones((6, 10))
                expected[tuple(np.asarray(places[i, j], int).T)] += 1
                np.testing.assert_allclose(change[i, j], expected, rtol=1e-5)
                assert expected.sum() == 66
    assert len(traces) == 1
    assert not np.array_equal(places[0, 0], places[0, 1])


def test_a_step_on_a_mesh_moves_the_correction_only():
    """What it sends depends on ranks, sides and places, not on the size of the leaf."""
    mesh = jax.make_mesh((4, 2), ("x", "y"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    subject = reparam.additive(rank=1, residual_density=0.1)
    side, places = 256, 8
    layout = lambda *spec: NamedSharding(mesh, P(*spec))
    struct = lambda shape, *spec: jax.ShapeDtypeStruct(shape, jnp.float32, sharding=layout(*spec))
    learned = Correction(struct((side, 1), "x"), struct((1, side), None, "y"), struct((places,)))
    latent = Latent({"w": struct((side, side), "x", "y")}, {"w": learned}, {"w": struct((places, 2))})
    step = jax.grad(lambda latent: jnp.sum(jnp.sin(subject.realise(latent, count=0)["w"])))
    shardings = jax.tree.map(lambda x: x.sharding, latent)
    compiled = jax.jit(step, out_shardings=shardings).lower(latent).compile()
    sharding.assert_no_gather(compiled, max_bytes=8 * side)
    assert sharding.collectives(compiled)


def begun_of_shape(shape):
    subject = reparam.additive(rank=0, residual_density=1e-6, places=scores.magnitude)
    return jax.eval_shape(lambda p: subject.init(p), {"w": jax.ShapeDtypeStruct(shape, jnp.float32)})


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: reparam.additive(rank=-1, residual_density=0.1), InputError, "rank=-1"),
        (lambda: reparam.additive(rank=1, residual_density=2.0), InputError, "residual_density=2.0"),
        (lambda: reparam.additive(rank=1, residual_density=0.1).init(make_params()), InputError, "key"),
        (lambda: reparam.additive(rank=0, residual_density=0.1).init({"b": jnp.ones(2)}), NoMatchError, "where"),
        (lambda: reparam.low_rank_residual(rank=0), InputError, "rank=0"),
        (lambda: begun_of_shape((2, 2**24 + 1)), InputError, "axis above"),
        (
            lambda: reparam.additive({}, rank=0, residual_density=0.0).init(make_params()),
            StructureError,
            "mask does not have",
        ),
    ],
)
def test_bad_input_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
