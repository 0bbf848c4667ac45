"""PDP: golden gates and gradients, thresholds of groups, the ramp, hardening, replicates, meshes."""

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

from jaxticket import allocate, reparam, scopes, scores, sharding, units
from jaxticket.errors import InputError, NoMatchError

GOLDEN = json.loads((pathlib.Path(__file__).parents[1] / "golden" / "soft.json").read_text())


def pdp(density, *, start=0, ramp=1, stop=10, **options):
    return reparam.pdp(density, start=start, ramp=ramp, stop=stop, **options)


def make_params(shape=(6, 10)):
    rng = np.random.default_rng(0)
    return {"kernel": jnp.asarray(rng.normal(size=shape), jnp.float32), "bias": jnp.ones(shape[1]), "static": None}


@pytest.fixture(scope="module", autouse=True)
def quick_to_compile():
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


def realising(subject):
    """(weights, count) -> what they are realised as, and the gradient of its sum; compiled."""

    @jax.jit
    def both(w, count):
        realised, back = jax.vjp(lambda w: subject.realise({"w": w}, count=count)["w"], w)
        return realised, back(jnp.ones_like(realised))[0]

    return lambda weights, count=0: both(jnp.asarray(weights), count)


def sigmoid(x):
    return 1 / (1 + np.exp(-np.asarray(x, np.float64)))


def test_golden():
    """A gate of |w|, a threshold at one of both weights, or one that is differentiated, give other values."""
    case = GOLDEN["pdp"]
    realise = realising(pdp(case["density"], temperature=case["temperature"]))
    w, gate = np.asarray(case["weights"]), sigmoid(case["exponents"])
    found, grad = realise([case["weights"]])
    np.testing.assert_allclose(found[0], gate * w, rtol=1e-6)
    np.testing.assert_allclose(grad[0], gate + 2 * w * w / case["temperature"] * gate * (1 - gate), rtol=1e-5)
    found, grad = realise([case["weights"]], 10)
    np.testing.assert_array_equal(found[0], case["hard"])
    np.testing.assert_array_equal(grad[0], np.asarray(case["hard"]) != 0)


def test_at_the_threshold_a_weight_has_the_gradient_of_a_dense_one():
    case = GOLDEN["pdp_edge"]
    found, grad = realising(pdp(case["density"], temperature=case["temperature"]))([case["weights"]])
    np.testing.assert_allclose(found[0], np.asarray(case["weights"]) / 2, rtol=1e-6)
    np.testing.assert_allclose(grad[0], case["gradient"], rtol=1e-5)


def test_a_temperature_in_parts_of_the_squared_threshold_follows_the_scale_of_the_weights():
    """2^10 w has the gates of w; with τ fixed they would be hard."""
    realise = realising(pdp(0.5, temperature=lambda square: 0.5 * square))
    w = np.asarray(make_params()["kernel"][:1])
    gates = [realise(scale * w)[0] / (scale * w) for scale in (1.0, 1024.0)]
    np.testing.assert_array_equal(*gates)
    assert 0.1 < np.min(gates) < 0.4


def expected_gates(w, kept, tau):
    """In float64, all entries of `w` competing."""
    size = np.abs(np.asarray(w, np.float64))
    t = (size[kept].min() + size[~kept].max()) / 2
    return sigmoid((size * size - t * t) / tau)


def test_thresholds_belong_to_the_groups_of_the_scope():
    """One over all leaves, one a leaf, or one for every four inputs, the last of a group of two."""
    params = [{"w": make_params()["kernel"]}, {"w": 0.3 * make_params((6, 4))["kernel"]}]
    by_four = [slice(0, 4), slice(4, 6)]
    for scope in (scopes.tree(), scopes.leaf(), scopes.groups(4)):
        subject = pdp(0.5, temperature=1.0, scope=scope)
        found, mask = jax.jit(lambda p, s=subject: reparam.export(s, p, count=0))(params)
        leaves = [np.asarray(leaf["w"]) for leaf in params]
        pools = {
            scopes.tree(): lambda xs: [np.concatenate([x.ravel() for x in xs])],
            scopes.leaf(): lambda xs: [x.ravel() for x in xs],
            scopes.groups(4): lambda xs: [x[rows, i] for x in xs for rows in by_four for i in range(x.shape[1])],
        }[scope]
        kept = [np.asarray(m["w"]) for m in mask]
        for w, m, p in zip(pools(leaves), pools(kept), pools([np.asarray(p["w"]) for p in found]), strict=True):
            assert m.sum() == round(m.size / 2)
            np.testing.assert_allclose(p, expected_gates(w, m, 1.0) * w, rtol=2e-5)


def test_channels_are_gated_by_their_norm():
    """Whole columns share a gate; one of zeros has a gradient (its norm has no derivative)."""
    subject = pdp(0.5, temperature=5.0, unit=units.axis(-1, reduce=units.l2), scope=scopes.leaf())
    w = make_params((6, 4))["kernel"].at[:, 1].set(0)
    norms = np.linalg.norm(np.asarray(w, np.float64), axis=0)
    gates = expected_gates(norms, norms >= np.sort(norms)[2], 5.0)
    found, grads = realising(subject)(w)
    np.testing.assert_allclose(found, gates * np.asarray(w), rtol=1e-5)
    np.testing.assert_allclose(grads[:, 1], gates[1], rtol=1e-5)
    assert jax.eval_shape(lambda w: subject.mask({"w": w}, count=0)["w"], w).shape == (1, 4)


def test_dense_then_a_ramp_then_hard():
    """r(t) = r · min(1, (t − start + 1) / ramp); before it the gates are 1, not sigmoids of w² / τ."""
    subject = pdp(0.2, start=2, ramp=4, stop=8, temperature=1.0)
    params = make_params()
    realise = jax.jit(lambda count: (subject.realise(params, count=count), subject.mask(params, count=count)))
    for count in range(10):
        realised, mask = realise(count)
        kept = round(60 * (1 - 0.8 * min(max(count - 1, 0) / 4, 1)))
        assert int(mask["kernel"].sum()) == kept
        assert mask["bias"] is None
        np.testing.assert_array_equal(realised["bias"], params["bias"])
        if count < 2:
            np.testing.assert_array_equal(realised["kernel"], params["kernel"])
        elif count < 8:
            assert np.count_nonzero(realised["kernel"]) == 60
        else:
            np.testing.assert_array_equal(realised["kernel"], jnp.where(mask["kernel"], params["kernel"], 0))


def test_where_all_are_kept_gates_are_open():
    """t is 0, also in a group that is smaller than the others."""
    found, _ = realising(pdp(1.0, temperature=1.0, scope=scopes.groups(4)))([[1.0], [2.0]])
    np.testing.assert_allclose(found[:, 0], sigmoid([1.0, 4.0]) * [1, 2], rtol=1e-6)


def test_densities_of_the_warm_weights_by_leaf():
    """The paper's: one ranking at the end of the warm-up, whose densities the leaves then keep."""
    warm = [{"w": make_params()["kernel"]}, {"w": 0.3 * make_params((6, 4))["kernel"]}]
    densities = allocate.from_scores(warm, scores.magnitude(warm), 0.25)
    subject = pdp(densities, scope=scopes.leaf())
    counts = [int(m["w"].sum()) for m in jax.jit(lambda p: subject.mask(p, count=0))(warm)]
    assert counts == [round(d["w"] * n) for d, n in zip(densities, (60, 24))]
    assert sum(counts) == 21


def test_in_16_bits_the_gates_are_those_of_float32():
    """There, the squares of small weights have no digits left."""
    w = jnp.asarray([[2e-3, 2.5e-3, 3e-3, 3.5e-3]], jnp.float16)
    found, _ = realising(pdp(0.5, temperature=5e-6))(w)
    assert found.dtype == jnp.float16
    wide = np.asarray(w[0], np.float64)
    np.testing.assert_allclose(found[0], expected_gates(wide, wide > 2.7e-3, 5e-6) * wide, rtol=1e-3)


def test_a_new_density_does_not_recompile_and_replicates_have_their_own():
    traces = []

    @jax.jit
    @functools.partial(jax.vmap, in_axes=(0, None))
    @functools.partial(jax.vmap, in_axes=(None, 0))
    def kept(density, scale):
        traces.append(density)
        latent = {"kernel": make_params()["kernel"] + scale}
        return pdp(density, stop=1).realise(latent, count=1)["kernel"]

    for densities in ([0.1, 0.5], [0.2, 0.3]):
        found = np.asarray(kept(jnp.asarray(densities), jnp.arange(3.0)))
        assert (found != 0).sum((2, 3)).tolist() == [[round(60 * d)] * 3 for d in densities]
    assert len(traces) == 1


def test_a_step_on_a_mesh_moves_counts_only():
    mesh = jax.make_mesh((4, 2), ("x", "y"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    subject = pdp(0.3)

    def moved(scale):
        layout = NamedSharding(mesh, P("x", "y"))
        latent = {"kernel": jax.ShapeDtypeStruct((16 * scale, 8 * scale), jnp.float32, sharding=layout)}
        loss = lambda latent: jnp.sum(jnp.sin(subject.realise(latent, count=3)["kernel"]))
        step = lambda latent: optax.apply_updates(latent, jax.grad(loss)(latent))
        return sharding.collectives(jax.jit(step, out_shardings={"kernel": layout}).lower(latent).compile())

    small, large = moved(1), moved(8)
    assert small
    assert small == large


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: pdp(0.5, start=-1), InputError, "start=-1"),
        (lambda: pdp(0.5, ramp=0), InputError, "ramp=0"),
        (lambda: pdp(0.5, start=5, ramp=6), InputError, "stop=10"),
        (lambda: pdp(0.5, temperature=0.0), InputError, "temperature=0.0"),
        (lambda: pdp(1.5), InputError, "1.5"),
        (lambda: pdp(0.5).init({"bias": jnp.ones(2)}), NoMatchError, "where"),
    ],
)
def test_bad_input_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
