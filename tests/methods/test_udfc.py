"""UDFC: channels rebuilt from those that stay, against goldens, planted copies and an independent fold."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxticket import structure
from jaxticket.errors import InputError
from jaxticket.methods.channels.udfc import _combine as combine
from jaxticket.methods.channels.udfc import _quantise as quantise
from jaxticket.methods.channels.udfc import _rescale as rescale
from jaxticket.methods.channels.udfc import udfc

FILTERS, SHIFTS = np.array([[1.0, 0, 0], [0, 1.0, 0], [2.0, 1.0, 0]]), np.array([0.5, -0.5, 0.5])
KEPT = np.array([True, True, False])
EXACT = {"shift_weight": 0.0, "ridge": 0.0}


def two_layers(params, x):
    return jax.nn.relu(x @ params["a"]["kernel"] + params["a"]["bias"][None]) @ params["b"]["kernel"]


def drawn(seed=0):
    draw = np.random.default_rng(seed).normal
    params = {"a": {"kernel": draw(size=(12, 8)), "bias": draw(size=8)}, "b": {"kernel": draw(size=(8, 3))}}
    return jax.tree.map(jnp.float32, params), jnp.float32(draw(size=(40, 12)))


def keep(groups, name, gone):
    return {name: ~np.isin(np.arange(groups[name].width), gone)}


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [(EXACT, [2, 1]), ({"shift_weight": 0.01, "ridge": 0.008}, [1.984147, 0.992044])],
)
def test_golden_factors(numbers, expected):
    np.testing.assert_allclose(combine(FILTERS, SHIFTS, KEPT, nonnegative=False, **numbers)[0], expected, atol=1e-6)


def test_an_orthogonal_filter_has_no_factors():
    filters = np.eye(3)
    np.testing.assert_allclose(combine(filters, np.zeros(3), KEPT, nonnegative=False, **EXACT), [[0, 0]], atol=1e-12)


def test_factors_solve_the_normal_equations():
    draw = np.random.default_rng(1).normal
    filters, shifts, kept = draw(size=(6, 4)), draw(size=6), np.arange(6) < 4
    a, b = filters[kept].T, shifts[kept]
    left = a.T @ a + 0.1 * np.outer(b, b) + 0.2 * np.eye(4)
    expected = [np.linalg.solve(left, a.T @ filters[j] + 0.1 * b * shifts[j]) for j in (4, 5)]
    np.testing.assert_allclose(
        combine(filters, shifts, kept, shift_weight=0.1, ridge=0.2, nonnegative=False), expected, rtol=1e-8
    )
    factors = combine(filters, shifts, kept, shift_weight=0.1, ridge=0.2, nonnegative=True)
    assert (factors >= 0).all()
    assert (np.array(expected) < 0).any()


def test_golden_scales():
    filters, shifts = np.array([[1.0, 2.0, 2.0]]), np.array([0.5])
    rounded = quantise(filters, 0.8)
    np.testing.assert_allclose(rounded, [[0.8, 1.6, 1.6]])
    np.testing.assert_array_equal(quantise(rounded, 0.8), rounded)
    assert rescale(filters, rounded, shifts, shift_weight=0.0)[0] == pytest.approx(1.25)
    assert rescale(filters, rounded, shifts, shift_weight=0.01)[0] == pytest.approx(1.249892, abs=1e-6)


def test_a_planted_copy_is_made_up_for():
    params, x = drawn()
    kernel, bias = params["a"]["kernel"], params["a"]["bias"]
    params["a"] = {"kernel": kernel.at[:, 3].set(2 * kernel[:, 6]), "bias": bias.at[3].set(2 * bias[6])}
    groups = structure.trace(two_layers, params, x)
    kept = keep(groups, "a/kernel:1", [3])
    for nonnegative in (False, True):
        rebuilt = udfc(params, groups, kept, nonnegative=nonnegative, **EXACT)
        smaller = structure.shrink(rebuilt, kept, groups)
        np.testing.assert_allclose(two_layers(smaller, x), two_layers(params, x), rtol=1e-4, atol=1e-5)
    dropped = structure.shrink(params, kept, groups)
    assert np.abs(two_layers(dropped, x) - two_layers(params, x)).max() > 0.1


def test_norms_are_folded_and_channels_are_read_through_a_flattening():
    def apply(v, x):
        z = jax.lax.conv_general_dilated(
            x, v["conv"]["kernel"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        shape = (1, 1, 1, -1)
        scale = v["norm"]["scale"] / jnp.sqrt(v["norm"]["var"] + 1e-5)
        z = (z - v["norm"]["mean"].reshape(shape)) * scale.reshape(shape) + v["norm"]["bias"].reshape(shape)
        return jax.nn.relu(z).reshape(len(x), -1) @ v["head"]["kernel"]

    draw = np.random.default_rng(2).normal
    positive = lambda size: np.abs(draw(size=size)) + 0.5
    variables = {
        "conv": {"kernel": draw(size=(3, 3, 2, 4))},
        "norm": {"scale": draw(size=4), "bias": draw(size=4), "mean": draw(size=4), "var": positive(4)},
        "head": {"kernel": draw(size=(4 * 4 * 4, 3))},
    }
    # Channel 2 is three times channel 0 after the norm, by other weights and statistics.
    norm, gain = (
        variables["norm"],
        lambda i: variables["norm"]["scale"][i] / np.sqrt(variables["norm"]["var"][i] + 1e-5),
    )
    variables["conv"]["kernel"][..., 2] = 3 * gain(0) / gain(2) * variables["conv"]["kernel"][..., 0]
    norm["bias"][2] = 3 * (norm["bias"][0] - gain(0) * norm["mean"][0]) + gain(2) * norm["mean"][2]
    variables = jax.tree.map(jnp.float32, variables)
    x = jnp.float32(draw(size=(2, 4, 4, 2)))
    groups = structure.trace(apply, variables, x)
    kept = keep(groups, "conv/kernel:3", [2])
    rebuilt = udfc(variables, groups, kept, **EXACT)
    smaller = structure.shrink(rebuilt, kept, groups)
    np.testing.assert_allclose(apply(smaller, x), apply(variables, x), rtol=1e-3, atol=1e-4)


def test_layers_follow_each_other():
    """The second layer is combined as it is after the first one's removal, whatever the names say."""
    draw = np.random.default_rng(3).normal
    shapes = {"z": (6, 9), "m": (9, 8), "a": (8, 3)}  # in the order of the network
    params = {name: {"kernel": jnp.float32(draw(size=shape))} for name, shape in shapes.items()}

    def apply(params, x):
        for name in shapes:
            x = jax.nn.relu(x @ params[name]["kernel"])
        return x

    groups = structure.trace(apply, params, jnp.ones((1, 6)))
    first, second = ({f"{name}/kernel:1": np.arange(width) > 1} for name, width in (("z", 9), ("m", 8)))
    both = udfc(params, groups, first | second)
    in_turn = udfc(udfc(params, groups, first), groups, second)
    backwards = udfc(udfc(params, groups, second), groups, first)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6), both, in_turn)
    assert np.abs(both["a"]["kernel"] - backwards["a"]["kernel"]).max() > 1e-2


def test_nothing_changes_where_all_stays():
    params, x = drawn()
    groups = structure.trace(two_layers, params, x)
    same = udfc(params, groups, {"a/kernel:1": np.ones(8, bool)})
    jax.tree.map(np.testing.assert_array_equal, same, params)
    fine = udfc(params, groups, {"a/kernel:1": np.ones(8, bool)}, bits=24)
    np.testing.assert_allclose(two_layers(fine, x), two_layers(params, x), rtol=1e-4, atol=1e-4)


def test_rounded_kernels_have_few_values_and_are_scaled_back():
    params, x = drawn()
    groups = structure.trace(two_layers, params, x)
    all_stay = {"a/kernel:1": np.ones(8, bool)}
    rounded = udfc(params, groups, all_stay, bits=3)
    kernel = np.asarray(params["a"]["kernel"], np.float64)
    step = np.abs(kernel).max() / 3
    np.testing.assert_allclose(rounded["a"]["kernel"], step * np.round(kernel / step), rtol=1e-5)
    assert len(np.unique(rounded["a"]["kernel"])) <= 7
    factors = np.asarray(rounded["b"]["kernel"] / params["b"]["kernel"])
    expected = rescale(
        kernel.T, np.asarray(rounded["a"]["kernel"], np.float64).T, np.asarray(params["a"]["bias"]), shift_weight=0.01
    )
    np.testing.assert_allclose(factors, np.broadcast_to(expected[:, None], factors.shape), rtol=1e-4)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"ridge": -1.0}, "ridge is -1.0"),
        ({"shift_weight": float("inf")}, "shift_weight is inf"),
        ({"epsilon": -1e-3}, "epsilon"),
        ({"bits": 1}, "bits"),
        ({"kept": {"a/kernel:1": np.ones(7, bool)}}, "takes bool"),
    ],
)
def test_bad_input(options, match):
    params, x = drawn()
    groups = structure.trace(two_layers, params, x)
    with pytest.raises(InputError, match=match):
        udfc(params, groups, **{"kept": {"a/kernel:1": np.arange(8) > 0}, **options})
