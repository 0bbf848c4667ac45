"""Filter criteria: their invariances, and that removing what they choose is exact."""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxticket as jt
from jaxticket import scopes, scores, units
from jaxticket.errors import InputError, NoMatchError, StructureError
from tests.conformance.drivers import COMPILER
from tests.tiers import sample

GOLDEN = json.loads((pathlib.Path(__file__).parents[1] / "golden" / "criteria.json").read_text())["fpgm"]
RNG = np.random.default_rng(0)
KERNEL = jnp.asarray(RNG.normal(size=(3, 3, 2, 7)), jnp.float32)


def distances(filters):
    """In float64: each filter's sum of distances to all others; filters lie on the last axis."""
    rows = np.moveaxis(np.asarray(filters, np.float64), -1, 0).reshape(filters.shape[-1], -1)
    return np.linalg.norm(rows[:, None] - rows[None], axis=2).sum(1)


def fpgm(kernel, **options):
    return jax.jit(scores.fpgm(**options), compiler_options=COMPILER)({"kernel": kernel})["kernel"]


def test_fpgm():
    found = fpgm(KERNEL)
    assert found.shape == (1, 1, 1, 7)
    np.testing.assert_allclose(found.ravel(), distances(KERNEL), rtol=1e-5)
    np.testing.assert_allclose(fpgm(jnp.moveaxis(KERNEL, -1, 0), axis=0).ravel(), distances(KERNEL), rtol=1e-5)
    assert fpgm(jnp.ones(3)) is None
    assert fpgm(jnp.ones((2, 3), jnp.int32)) is None


def test_fpgm_golden_prunes_the_zero_filter_first_wherever_the_filters_lie():
    filters = jnp.array(GOLDEN["filters"], jnp.float32).T
    expected = 2 * np.array(GOLDEN["twos"]) + np.sqrt(2) * np.array(GOLDEN["roots_of_two"]) + np.array(GOLDEN["ones"])
    for shift in (0.0, 8.0):  # shifted by 8 the median has a norm like the others', and l1 would prune another
        found = fpgm(filters + shift)
        np.testing.assert_allclose(found.ravel(), expected, rtol=1e-6)
        mask = jt.select({"w": found}, 0.8, unit=units.axis(-1))["w"]
        np.testing.assert_array_equal(mask.ravel(), [True] * 4 + [False])
    norms = jnp.sum(jnp.abs(filters + 8), 0)
    assert norms[4] > norms.min()


def test_fpgm_ignores_translation_and_follows_scale_and_order():
    base = fpgm(KERNEL)
    # A translation costs the bits of its size, no more: distances are taken pair by pair.
    np.testing.assert_allclose(fpgm(KERNEL + 64), base, rtol=1e-4)
    np.testing.assert_allclose(fpgm(2 * KERNEL), 2 * base, rtol=1e-6)
    order = np.array([3, 0, 6, 1, 5, 2, 4])
    np.testing.assert_allclose(fpgm(KERNEL[..., order]), base[..., order], rtol=1e-6)


def test_fpgm_norm_filter():
    """Of 7 filters round(0.7 · 7) = 5 survive by their norm; the others rank below, by norm, and count in no sum."""
    found = np.asarray(fpgm(KERNEL, norm_density=0.7).ravel())
    norms = np.linalg.norm(np.asarray(KERNEL).reshape(-1, 7), axis=0)
    order = np.argsort(norms)
    low, kept = order[:2], np.sort(order[2:])
    assert (found[low] < 0).all()
    assert found[low[0]] < found[low[1]] < found[kept].min()
    np.testing.assert_allclose(found[kept], distances(KERNEL[..., kept]), rtol=1e-5)


def test_fpgm_counts_the_living():
    mask = {"kernel": (jnp.arange(7) != 2)[None, None, None]}
    found = scores.fpgm()({"kernel": KERNEL}, mask=mask)["kernel"].ravel()
    kept = np.array([0, 1, 3, 4, 5, 6])
    np.testing.assert_allclose(found[kept], distances(KERNEL[..., kept]), rtol=1e-5)
    assert found[2] < 0


def test_norms_are_units_of_magnitude():
    magnitude = scores.magnitude(KERNEL)
    for unit, order in ((units.axis(-1, reduce=units.total), 1), (units.axis(-1, reduce=units.l2), 2)):
        norm = np.linalg.norm(np.asarray(KERNEL).reshape(-1, 7), axis=0, ord=order)
        np.testing.assert_allclose(unit.pool(magnitude).ravel(), norm, rtol=1e-6)
        np.testing.assert_allclose(unit.pool(2 * magnitude), 2 * unit.pool(magnitude), rtol=1e-6)


PARAMS = {
    "block": {"conv": {"kernel": KERNEL}, "norm": {"scale": jnp.array([3.0, -1, 2, 0, 5, -6, 4]), "bias": jnp.ones(7)}},
    "out": {"kernel": jnp.ones((7, 2))},
}


@pytest.mark.parametrize(
    "rule",
    [(r"conv/kernel$", "norm/scale"), lambda path: "block/norm/scale" if path.endswith("conv/kernel") else None],
    ids=["pair", "function"],
)
def test_slimming(rule):
    found = scores.slimming(rule)(PARAMS)
    np.testing.assert_array_equal(found["block"]["conv"]["kernel"], [[[[3, 1, 2, 0, 5, 6, 4]]]])
    assert found["out"]["kernel"] is None
    assert found["block"]["norm"] == {"scale": None, "bias": None}
    kept = jt.select(found, 4 / 7, unit=units.axis(-1), scope=scopes.tree())["block"]["conv"]["kernel"].ravel()
    np.testing.assert_array_equal(kept, [1, 0, 0, 0, 1, 1, 1])


def test_slimming_sees_the_masked_scale_and_other_layouts():
    mask = jax.tree.map(lambda p: None, PARAMS)
    mask["block"]["norm"]["scale"] = jnp.arange(7) != 5
    found = scores.slimming(("conv/kernel", "norm/scale"))(PARAMS, mask=mask)
    np.testing.assert_array_equal(found["block"]["conv"]["kernel"].ravel(), [3, 1, 2, 0, 5, 0, 4])
    first = {"weight": jnp.ones((2, 3)), "scale": jnp.array([1.0, -2.0])}
    np.testing.assert_array_equal(scores.slimming(("weight", "scale"), axis=0)(first)["weight"], [[1], [2]])


def test_errors():
    with pytest.raises(InputError, match=r"norm_density=1\.5"):
        scores.fpgm(norm_density=1.5)
    with pytest.raises(InputError, match="no axis 5"):
        fpgm(KERNEL, axis=5)
    with pytest.raises(InputError, match="regular expression"):
        scores.slimming(("(", ""))
    with pytest.raises(NoMatchError, match="matches no kernel"):
        scores.slimming(("nothing", "scale"))(PARAMS)
    with pytest.raises(NoMatchError, match="'block/gone/scale', the scale of 'block/conv/kernel'"):
        scores.slimming(("conv/kernel", "gone/scale"))(PARAMS)
    with pytest.raises(StructureError, match="7 channels"):
        scores.slimming(("norm/bias", "conv/kernel"))(
            PARAMS | {"block": PARAMS["block"] | {"conv": {"kernel": jnp.ones(3)}}}
        )


# A convolution with batch norm, a convolution with bias, a dense layer: channels of the first two are removed.
DIMENSIONS = ("NHWC", "HWIO", "NHWC")
CRITERIA = {
    "l1": (lambda: scores.magnitude, units.total),
    "l2": (lambda: scores.magnitude, units.l2),
    "fpgm": (scores.fpgm, units.mean),
    "slimming": (lambda: scores.slimming(("(one|two)/kernel", r"\1/scale")), units.mean),
    "activation_norm": (lambda: scores.activation_norm(network, [IMAGES]), units.mean),
    "mean_activation": (lambda: scores.mean_activation(network, [IMAGES]), units.mean),
    "apoz": (lambda: scores.apoz(network, [IMAGES]), units.mean),
    "hrank": (lambda: scores.hrank(network, [IMAGES]), units.mean),
    "taylor": (lambda: scores.activation_taylor(lambda p, x: jnp.mean(network(p, x) ** 2), [IMAGES]), units.mean),
}


def normal(*shape):
    return jnp.asarray(RNG.normal(size=shape), jnp.float32)


IMAGES = normal(4, 6, 6, 2)
NETWORK = {
    "one": {
        "kernel": normal(3, 3, 2, 6),
        "scale": normal(6),
        "offset": normal(6),
        "mean": normal(6),
        "var": normal(6) ** 2,
    },
    "two": {
        "kernel": normal(3, 3, 6, 5),
        "scale": normal(5),
        "offset": normal(5),
        "mean": jnp.zeros(5),
        "var": jnp.ones(5),
    },
    "out": {"kernel": normal(5, 3)},
}


def network(params, x):
    for name in ("one", "two"):
        layer = params[name]
        x = jax.lax.conv_general_dilated(x, layer["kernel"], (1, 1), "SAME", dimension_numbers=DIMENSIONS)
        per_channel = (layer[k][None, None, None] for k in ("mean", "var", "scale", "offset"))
        mean, var, scale, offset = per_channel
        x = jax.nn.relu((x - mean) / jnp.sqrt(var + 1e-3) * scale + offset)
    return x.mean((1, 2)) @ params["out"]["kernel"]


_network = jax.jit(network, compiler_options=COMPILER)


@pytest.mark.parametrize("criterion", sample(CRITERIA, ("l2", "fpgm", "slimming", "apoz", "taylor")))
def test_a_masked_network_is_the_network_without_the_channels(criterion):
    make, reduce = CRITERIA[criterion]
    kernels = {name: {key: key == "kernel" and name != "out" for key in layer} for name, layer in NETWORK.items()}
    scored = jt.filters.only(jax.jit(make(), compiler_options=COMPILER)(NETWORK), kernels)
    mask = jt.select(scored, 0.7, unit=units.axis(-1, reduce=reduce))
    kept = {name: np.asarray(mask[name]["kernel"]).ravel() for name in ("one", "two")}
    assert [k.sum() for k in kept.values()] == [4, 4]  # round(4.2) of 6, and half to even of 3.5 of 5
    masked, small = dict(NETWORK), dict(NETWORK)
    for name, k in kept.items():
        # The norm of a removed channel goes with it: its offset would leak through the nonlinearity.
        masked[name] = {key: p * k.reshape((1,) * (p.ndim - 1) + (-1,)) for key, p in NETWORK[name].items()}
        small[name] = {key: p[..., k] for key, p in NETWORK[name].items()}
    small["two"]["kernel"] = small["two"]["kernel"][:, :, kept["one"]]
    small["out"] = {"kernel": NETWORK["out"]["kernel"][kept["two"]]}
    np.testing.assert_allclose(_network(masked, IMAGES), _network(small, IMAGES), rtol=1e-5, atol=1e-5)
    unzeroed = masked | {"one": masked["one"] | {"offset": NETWORK["one"]["offset"] + 1}}
    assert np.abs(_network(unzeroed, IMAGES) - _network(masked, IMAGES)).max() > 1e-3
