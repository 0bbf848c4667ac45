"""SparseGPT against the optimal brain surgeon, a float64 oracle, and what magnitude and Wanda leave of the outputs."""

import itertools
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxticket as jt
from jaxticket.errors import InputError
from jaxticket.methods.finetune import sparsegpt as module
from jaxticket.methods.finetune.sparsegpt import sparsegpt

GOLDEN = json.loads((pathlib.Path(__file__).parents[1] / "golden" / "criteria.json").read_text())["sparsegpt"]
BLOCKS = [0, 8, 16, 22]  # blocks of 8 inputs, the last is smaller
GROUPS = [0, 4, 8, 12, 16, 20, 22]  # as are groups of 4
CASES = {"blocks": {"block": 8}, "groups": {"group": 4}}


def dense(params, x):
    return x @ params["w"]


def correlated(seed):
    """96 examples of 22 inputs, of which neighbours stand in for each other (correlation 0.9); 8 outputs."""
    rng = np.random.default_rng(seed)
    covariance = 0.9 ** np.abs(np.subtract.outer(np.arange(22), np.arange(22)))
    x = rng.normal(size=(96, 22)) @ np.linalg.cholesky(covariance).T
    return jnp.asarray(x, jnp.float32), {"w": jnp.asarray(rng.normal(size=(22, 8)), jnp.float32)}


def best(values, density, case):
    """Which rows of scores are kept, in pools of blocks or of groups: the largest, the lower index first."""
    if case == "groups":
        return np.stack([best(column, density, "blocks") for column in values.T], 1)
    kept = np.zeros(values.size, bool)
    kept[np.argsort(-values.ravel(), kind="stable")[: max(1, round(density * values.size))]] = True
    return kept.reshape(values.shape)


def edges_of(case, inputs):
    return (BLOCKS if case == "blocks" else GROUPS) if inputs == 22 else [0, inputs]


def oracle(x, w, density, case, edges=None):
    """The paper's algorithm, weight by weight, in float64."""
    x, w = np.asarray(x, np.float64), np.array(w, np.float64)
    hessian = x.T @ x
    hessian += 0.01 * np.mean(np.diag(hessian)) * np.eye(len(w))
    upper = np.linalg.cholesky(np.linalg.inv(hessian)).T
    mask = np.zeros(w.shape, bool)
    for start, stop in itertools.pairwise(edges or edges_of(case, len(w))):
        mask[start:stop] = best(np.square(w / np.diag(upper)[:, None])[start:stop], density, case)
        for i in range(start, stop):
            for j in range(w.shape[1]):
                if not mask[i, j]:
                    w[i + 1 :, j] -= upper[i, i + 1 :] * w[i, j] / upper[i, i]
                    w[i, j] = 0
    return w, mask


@pytest.mark.parametrize("case", CASES)
def test_the_oracle_and_outputs_closer_than_those_of_magnitude_and_wanda(case):
    for seed in range(3):
        x, params = correlated(seed)
        pruned, mask = sparsegpt(params, dense, [x[:48], x[48:]], 0.5, **CASES[case])
        w, kept = oracle(x, params["w"], 0.5, case)
        np.testing.assert_array_equal(mask["w"], kept)
        np.testing.assert_allclose(pruned["w"], w, rtol=1e-3, atol=1e-4)
        x, dense_w = np.asarray(x), np.asarray(params["w"])
        norms = np.linalg.norm(x, axis=0)[:, None]
        for saliency in (np.abs(dense_w), np.abs(dense_w) * norms):  # magnitude's and Wanda's, in the same pools
            parts = [best(saliency[a:b], 0.5, case) for a, b in itertools.pairwise(edges_of(case, 22))]
            other = dense_w * np.concatenate(parts)
            assert np.sum((x @ (pruned["w"] - dense_w)) ** 2) < np.sum((x @ (other - dense_w)) ** 2)


def test_one_weight_less_is_the_optimal_brain_surgeons():
    """In float64: δw = −w₀ / [H⁻¹]₀₀ · H⁻¹[:, 0], where the first weight of the output goes."""
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(40, 6)) @ rng.normal(size=(6, 6)), rng.normal(size=(6, 1)) + 3
    w[0] = 1e-2
    with jax.enable_x64(True):
        pruned, mask = sparsegpt({"w": jnp.asarray(w)}, dense, [jnp.asarray(x)], 5 / 6, damping=1e-3)
        hessian = x.T @ x
        inverse = np.linalg.inv(hessian + 1e-3 * np.mean(np.diag(hessian)) * np.eye(6))
        expected = w - w[0] / inverse[0, 0] * inverse[:, :1]
        assert pruned["w"].dtype == jnp.float64
        np.testing.assert_array_equal(mask["w"][:, 0], [False] + [True] * 5)
        np.testing.assert_allclose(pruned["w"][1:], expected[1:], rtol=1e-10)


def test_golden():
    pruned, mask = sparsegpt({"w": jnp.array(GOLDEN["w"])}, dense, [jnp.array(GOLDEN["x"])], 0.5, damping=1e-6)
    np.testing.assert_allclose(pruned["w"], GOLDEN["pruned"], rtol=1e-4)
    np.testing.assert_array_equal(mask["w"], GOLDEN["mask"])


def test_orthogonal_inputs_give_magnitude_and_leave_survivors_alone():
    params = correlated(1)[1]
    for case in CASES:
        pruned, mask = sparsegpt(params, dense, [2 * jnp.eye(22)], 0.5, **CASES[case])
        sizes = np.abs(params["w"])
        parts = [best(sizes[a:b], 0.5, case) for a, b in itertools.pairwise(edges_of(case, 22))]
        expected = np.concatenate(parts)
        np.testing.assert_array_equal(mask["w"], expected)
        np.testing.assert_array_equal(pruned["w"], np.where(expected, params["w"], 0))


@pytest.mark.parametrize("group", [2, 4])
def test_groups_lie_within_a_tap_of_a_kernel(group):
    """Three input channels: groups start again at each tap, as those of `scopes.groups`."""
    rng = np.random.default_rng(0)
    params = {"w": jnp.asarray(rng.normal(size=(2, 2, 3, 5)), jnp.float32)}
    x = jnp.asarray(rng.normal(size=(16, 6, 6, 3)), jnp.float32)

    def conv(params, x):
        return jax.lax.conv_general_dilated(x, params["w"], (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))

    pruned, mask = sparsegpt(params, conv, [x], 0.5, group=group)
    expected = jt.select({"w": jnp.abs(params["w"])}, 0.5, scope=jt.scopes.groups(group))
    per_group = [[1, 1]] if group == 2 else [[2]]
    for kept in (mask, expected):
        sums = np.add.reduceat(np.asarray(kept["w"], int), range(0, 3, group), axis=2)
        np.testing.assert_array_equal(sums, np.broadcast_to(np.array(per_group)[0][:, None], sums.shape))
    patches = np.stack([x[:, h : h + 5, w : w + 5] for h in range(2) for w in range(2)], 3).reshape(-1, 12)
    matrix = np.asarray(params["w"]).reshape(12, 5)
    w, kept = oracle(patches, matrix, 0.5, "groups", [a + b for a in (0, 3, 6, 9) for b in range(0, 3, group)] + [12])
    np.testing.assert_array_equal(mask["w"].reshape(12, 5), kept)
    np.testing.assert_allclose(pruned["w"].reshape(12, 5), w, rtol=1e-3, atol=1e-4)


def test_counts_are_exact_in_each_block_and_group_and_densities_do_not_recompile():
    x, params = correlated(0)
    params = params | {"tied": jnp.ones((22, 8))}  # all saliencies equal, where inputs are orthogonal
    for density, of_blocks, of_groups in (
        (0.5, [32, 32, 24], [2, 2, 2, 2, 2, 1]),
        (0.3, [19, 19, 14], [1] * 6),
        (1.0, [64, 64, 48], [4, 4, 4, 4, 4, 2]),
    ):
        for case, edges, counts in (("blocks", BLOCKS, of_blocks), ("groups", GROUPS, of_groups)):
            compiled = module._prune._cache_size()
            pruned, mask = sparsegpt({"w": params["w"]}, dense, [x], density, **CASES[case])
            parts = np.split(np.asarray(mask["w"]), edges[1:-1])
            found = [part.sum() for part in parts] if case == "blocks" else [part.sum(0) for part in parts]
            for n, count in zip(found, counts, strict=True):
                np.testing.assert_array_equal(n, count)
            np.testing.assert_array_equal(pruned["w"] != 0, mask["w"])
            assert density == 0.5 or module._prune._cache_size() == compiled
    np.testing.assert_array_equal(pruned["w"], params["w"])
    _, mask = sparsegpt({"w": params["tied"]}, dense, [jnp.eye(22)], 0.5, **CASES["groups"])
    np.testing.assert_array_equal(mask["w"][:, 0], [1, 1, 0, 0] * 5 + [1, 0])


def test_a_convolution_and_kernels_of_three_axes_are_pruned_as_the_matrices_they_are():
    x, params = correlated(3)

    def convolved(p, x):
        return jax.lax.conv_general_dilated(x, p["w"], (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))

    expected = sparsegpt(params, dense, [x], 0.5, **CASES["blocks"])
    for apply, kernel, inputs in (
        (convolved, params["w"].reshape(1, 2, 11, 8), x.reshape(4, 24, 2, 11)),
        (lambda p, x: jnp.einsum("bhi,hiok->bok", x, p["w"]), params["w"].reshape(2, 11, 4, 2), x.reshape(96, 2, 11)),
        (lambda p, x: jnp.einsum("bi,oi->bo", x, p["w"]), params["w"].T, x),
    ):
        for found, matrix in zip(sparsegpt({"w": kernel}, apply, [inputs], 0.5, **CASES["blocks"]), expected):
            matrix = matrix["w"].T if kernel.ndim == 2 else matrix["w"].reshape(kernel.shape)
            np.testing.assert_allclose(found["w"], matrix, rtol=1e-3, atol=1e-4)


def test_layers_see_the_inputs_that_pruned_layers_before_them_give():
    """Those that lie in a scan's stacked leaf see each other's dense outputs, but pruned ones of earlier layers."""
    x, first = correlated(4)
    params = {"z": first, "a": {"w": jnp.asarray(np.random.default_rng(0).normal(size=(2, 8, 8)), jnp.float32)}}

    def apply(p, x):
        return jax.lax.scan(lambda x, w: (jnp.tanh(x @ w), None), jnp.tanh(dense(p["z"], x)), p["a"]["w"])[0]

    pruned, mask = sparsegpt(params, apply, [x], 0.5, block=8)
    hidden = [np.tanh(np.asarray(x) @ np.asarray(pruned["z"]["w"]))]
    hidden.append(np.tanh(hidden[0] @ np.asarray(params["a"]["w"][0])))
    np.testing.assert_allclose(pruned["z"]["w"], oracle(x, first["w"], 0.5, "blocks")[0], rtol=1e-3, atol=1e-4)
    for i in range(2):
        alone, kept = oracle(hidden[i], params["a"]["w"][i], 0.5, "blocks")
        np.testing.assert_allclose(pruned["a"]["w"][i], alone, rtol=1e-3, atol=1e-4)
        np.testing.assert_array_equal(mask["a"]["w"][i], kept)


def test_inputs_that_are_always_zero_go_first_and_other_leaves_stay():
    x, params = correlated(2)
    x, params = x.at[:, ::2].set(0), params | {"bias": jnp.ones(8), "none": None}
    pruned, mask = sparsegpt(params, dense, [x], 0.5, block=8)
    np.testing.assert_array_equal(mask["w"], np.broadcast_to((np.arange(22) % 2 == 1)[:, None], (22, 8)))
    np.testing.assert_allclose(dense(pruned, x), dense(params, x), rtol=1e-5)
    assert mask["bias"] is None
    assert mask["none"] is pruned["none"] is None
    np.testing.assert_array_equal(pruned["bias"], params["bias"])
    blank, _ = sparsegpt(params, dense, [0 * x], 0.5, block=8)
    assert bool(jnp.all(jnp.isfinite(blank["w"])))


def test_errors():
    x, params = correlated(0)
    calls = {
        "density=1.5": {"density": 1.5},
        "block=0": {"block": 0},
        "group=0": {"group": 0},
        "damping=0": {"damping": 0},
        "generator": {"batches": (b for b in [x])},
        "batches is empty": {"batches": []},
        "never multiplied": {"params": params | {"v": jnp.ones((2, 2))}, "where": {"w": True, "v": True}},
    }
    for message, changed in calls.items():
        arguments = {"apply": dense, "params": params, "batches": [x], "density": 0.5} | changed
        with pytest.raises(InputError, match=message):
            sparsegpt(**arguments)
    with pytest.raises(InputError, match="w is multiplied along different axes"):
        sparsegpt(params, lambda p, x: jnp.tanh(x @ p["w"]) @ p["w"].T, [x], 0.5)
    apart = lambda p, x: jnp.einsum("eti,eio->eto", x, p["w"])
    with pytest.raises(InputError, match="batch of matrices"):
        sparsegpt({"w": jnp.ones((2, 3, 4))}, apart, [jnp.ones((2, 5, 3))], 0.5)
