"""Barriers: exact at the ends and for equal ends, symmetric, on one mask, compiled once."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxticket.diagnostics import Barrier, Endpoint, barrier, lerp
from jaxticket.errors import InputError, StructureError

ROWS = np.random.default_rng(9).standard_normal((16, 5), np.float32)


def network(seed):
    draw = np.random.default_rng(seed).standard_normal
    return {"hidden": jnp.asarray(draw((5, 8)), jnp.float32), "output": jnp.asarray(draw((8, 3)), jnp.float32)}


def apply(params):
    return jax.nn.relu(ROWS @ params["hidden"]) @ params["output"]


TARGET = apply(network(0))


@jax.jit
def squares(params, state):
    return jnp.mean((apply(params) - TARGET) ** 2)


@jax.jit
def mistakes(params, state):
    return jnp.mean(apply(params).argmax(-1) != TARGET.argmax(-1))


def test_a_network_has_no_barrier_to_itself():
    found = barrier(squares, Endpoint(network(1)), Endpoint(network(1)))
    assert found.height == 0
    assert found.distance == 0
    assert len(set(found.errors)) == 1  # to the bit
    assert found.stable


def test_the_ends_are_the_networks_and_the_height_is_over_their_mean():
    a, b = network(1), network(2)
    found = barrier(mistakes, Endpoint(a), Endpoint(b))
    assert np.array_equal(found.alphas, np.linspace(0, 1, 30, dtype=np.float32))
    assert (found.errors[0], found.errors[-1]) == (mistakes(a, None), mistakes(b, None))
    assert found.errors[12] == mistakes(jax.tree.map(lambda x, y: x + found.alphas[12] * (y - x), a, b), None)
    assert found.height == pytest.approx(max(found.errors) - (found.errors[0] + found.errors[-1]) / 2)
    assert found.distance == pytest.approx(math.sqrt(sum(jnp.sum((a[n] - b[n]) ** 2) for n in a)), rel=1e-6)


def test_swapped_ends_mirror_the_path():
    a, b = Endpoint(network(1)), Endpoint(network(2))
    there, back = barrier(squares, a, b), barrier(squares, b, a)
    np.testing.assert_allclose(there.errors, back.errors[::-1], rtol=1e-5)
    assert there.height == pytest.approx(back.height, rel=1e-5)
    assert there.distance == back.distance


def test_a_convex_loss_is_highest_at_an_end():
    target = jnp.array([1.0, -1.0, 2.0])
    ends = jnp.array([0.5, 3.0, -1.0]), jnp.array([2.0, 0.0, 1.0])
    found = barrier(lambda w, _: jnp.mean((w - target) ** 2), *map(Endpoint, ends))
    assert found.height == pytest.approx(abs(found.errors[0] - found.errors[-1]) / 2)


def test_permuted_hidden_units_are_the_same_function_behind_a_barrier():
    params, order = network(0), jax.random.permutation(jax.random.key(3), 8)
    permuted = {"hidden": params["hidden"][:, order], "output": params["output"][order]}
    found = barrier(squares, Endpoint(params), Endpoint(permuted))
    np.testing.assert_allclose(found.errors[[0, -1]], 0, atol=1e-10)
    assert found.height > 1


def test_masked_parameters_stay_exact_zeros_and_only_they_are_measured():
    mask = {"hidden": jnp.asarray(np.random.default_rng(5).random((5, 8)) < 0.3), "output": None}
    a, b = network(1), network(2)  # not masked: a ticket's parameters are not
    seen = []

    def evaluate(params, state):
        seen.append(jax.device_get(params))
        return 0.0

    found = barrier(evaluate, Endpoint(a, mask), Endpoint(b, mask), alphas=[0, 0.3, 0.8, 1])
    kept, first, last = map(np.asarray, (mask["hidden"], a["hidden"], b["hidden"]))
    for alpha, params in zip(found.alphas, seen, strict=True):
        assert not np.any(params["hidden"][~kept])
        np.testing.assert_allclose(
            params["hidden"][kept], ((1 - alpha) * first + alpha * last)[kept], rtol=1e-4, atol=1e-6
        )
    assert found.distance == pytest.approx(np.linalg.norm((first - last)[kept]), rel=1e-6)


def test_a_mask_may_broadcast_for_one_end():
    channels = {"hidden": jnp.arange(8).reshape(1, 8) < 4, "output": None}
    whole = channels | {"hidden": jnp.broadcast_to(channels["hidden"], (5, 8))}
    a, b = network(1), network(2)
    one, other = (barrier(squares, Endpoint(a, channels), Endpoint(b, m)) for m in (whole, channels))
    assert np.array_equal(one.errors, other.errors)


def test_different_masks_are_refused():
    mask = {"hidden": jnp.ones((5, 8), bool), "output": None}
    almost = mask | {"hidden": mask["hidden"].at[4, 7].set(False)}
    a, b = network(1), network(2)
    with pytest.raises(InputError, match="different masks"):
        barrier(squares, Endpoint(a, mask), Endpoint(b, almost))
    with pytest.raises(InputError, match="mask=None"):
        barrier(squares, Endpoint(a, mask), Endpoint(b))
    with pytest.raises(StructureError, match="None"):
        barrier(squares, Endpoint(a, mask), Endpoint(b, mask | {"output": jnp.ones((8, 3), bool)}))


@pytest.mark.parametrize("chunk", [1, 4, 30, 64])
def test_chunks_give_the_same_path_and_compile_once(chunk):
    traces = []

    @jax.jit
    def evaluate(params, state):
        traces.append(1)
        return jnp.max(params) + jnp.min(params)

    a, b, c = (network(seed)["hidden"] for seed in range(3))
    found = barrier(evaluate, Endpoint(a), Endpoint(b), chunk=chunk)
    expected = [evaluate(lerp(a, b, alpha), None) for alpha in found.alphas]
    assert found.errors.tolist() == np.asarray(expected).tolist()
    count = len(traces)
    barrier(evaluate, Endpoint(c), Endpoint(a), chunk=chunk)
    assert len(traces) == count


def test_model_state_is_interpolated_or_what_the_caller_makes_of_it():
    a, b = (
        Endpoint(jnp.zeros(2), None, {"mean": jnp.float32(0)}),
        Endpoint(jnp.ones(2), None, {"mean": jnp.float32(0.5)}),
    )

    def evaluate(params, state):
        return state["mean"]

    np.testing.assert_allclose(barrier(evaluate, a, b).errors, np.linspace(0, 0.5, 30), rtol=1e-5, atol=1e-7)
    for chunk in (1, 8):
        recomputed = barrier(
            evaluate, a, b, state=lambda params, state: {"mean": jnp.sum(params) * state["mean"]}, chunk=chunk
        )
        np.testing.assert_allclose(recomputed.errors, np.linspace(0, 1, 30) ** 2, rtol=1e-5, atol=1e-7)


def test_stable_is_below_two_percent():
    heights = {0.0199: True, 0.02: False, -0.01: True, math.nan: False}
    for height, stable in heights.items():
        assert Barrier(np.zeros(2), np.zeros(2), height, 0.0).stable is stable


def test_an_error_that_is_nan_is_no_stability():
    found = barrier(lambda w, _: jnp.sqrt(w), Endpoint(jnp.float32(-1)), Endpoint(jnp.float32(1)))
    assert math.isnan(found.height)
    assert not found.stable


@pytest.mark.parametrize(
    "alphas", [[], [0.5], [0, 0.5], [0.5, 1], [1, 0], [0, 0.7, 0.3, 1], [0, 0.5, 0.5, 1], [0, np.nan, 1]]
)
def test_alphas_that_make_no_path(alphas):
    with pytest.raises(InputError, match="alphas="):
        barrier(squares, Endpoint(network(1)), Endpoint(network(2)), alphas=alphas)


def test_other_errors():
    a, b = Endpoint(network(1)), Endpoint(network(2))
    with pytest.raises(InputError, match="chunk=0"):
        barrier(squares, a, b, chunk=0)
    for chunk in (1, 2):
        with pytest.raises(InputError, match=r"shape \(3,\), not a scalar"):
            barrier(lambda params, _: params["output"][0], a, b, chunk=chunk)
    with pytest.raises(StructureError, match=r"b at 'output' has shape \(8, 4\)"):
        barrier(squares, a, Endpoint(network(2) | {"output": jnp.ones((8, 4))}))
    with pytest.raises(StructureError, match="structure"):
        barrier(squares, a, Endpoint({"hidden": jnp.ones((5, 8))}))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
def test_lerp_is_exact_where_it_can_be(dtype):
    draw = np.random.default_rng(0).standard_normal
    a, b = (jnp.asarray(draw(1000) * scale, dtype) for scale in (1, 100))
    assert np.array_equal(lerp(a, b, 0.0), a)
    assert np.array_equal(lerp(a, b, 1.0), b)
    for alpha in (0.1, 0.5, 0.7):
        assert np.array_equal(lerp(a, a, alpha), a)
        between = lerp(a, b, alpha)
        assert between.dtype == dtype
        exact = (1 - np.float32(alpha)) * np.asarray(a, np.float64) + np.float32(alpha) * np.asarray(b, np.float64)
        np.testing.assert_allclose(np.asarray(between, np.float64), exact, rtol=float(jnp.finfo(dtype).eps), atol=1e-4)


def test_lerp_takes_what_is_not_floating_from_a():
    a = {"count": jnp.array(3), "key": jax.random.key(0), "none": None, "w": jnp.zeros(1)}
    b = {"count": jnp.array(8), "key": jax.random.key(1), "none": None, "w": jnp.ones(1)}
    found = lerp(a, b, 0.75)
    assert (int(found["count"]), found["none"], float(found["w"][0])) == (3, None, 0.75)
    assert found["key"] == a["key"]
