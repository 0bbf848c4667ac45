"""Diagnostics of networks: similarity, curvature, paths, neurons, filters, exploration."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxticket as jt
from jaxticket import diagnostics, transforms
from jaxticket.errors import InputError

RNG = np.random.default_rng(0)


def gaussian(*shape):
    return jnp.asarray(RNG.normal(size=shape), jnp.float32)


@pytest.mark.parametrize("debiased", [False, True])
def test_cka_is_invariant_to_rotations_and_scales_only(debiased):
    x, y = gaussian(40, 6), gaussian(40, 9)
    cka = lambda x, y: float(diagnostics.linear_cka(x, y, debiased=debiased))
    rotation = jnp.linalg.qr(gaussian(6, 6))[0]
    assert cka(x, x) == pytest.approx(1, abs=1e-5)
    assert cka(x, y) == pytest.approx(cka(y, x), abs=1e-6)
    assert cka(3 * x @ rotation + 5, y) == pytest.approx(cka(x, y), abs=1e-5)
    assert abs(cka(x * jnp.arange(1.0, 7)[None], y) - cka(x, y)) > 1e-3


def test_cka_in_features_is_cka_in_examples():
    x, y = np.float64(gaussian(20, 30)), np.float64(gaussian(20, 8))
    x, y = x - x.mean(0), y - y.mean(0)
    k, m = x @ x.T, y @ y.T
    for a, b in ((x, y), (x[:, :8], y)):  # by kernels; by features
        k = a @ a.T
        want = (k * m).sum() / np.sqrt((k * k).sum() * (m * m).sum())
        assert float(diagnostics.linear_cka(jnp.float32(a), jnp.float32(b))) == pytest.approx(want, abs=1e-6)


def test_unrelated_features_look_alike_unless_debiased():
    x, y = gaussian(10, 500), gaussian(10, 500)
    assert float(diagnostics.linear_cka(x, y)) > 0.9
    assert abs(float(diagnostics.linear_cka(x, y, debiased=True))) < 0.2
    with pytest.raises(InputError, match=r"x has shape \(3, 2\) and y \(3, 2\); both .* of the same 4 or more"):
        diagnostics.linear_cka(x[:3, :2], y[:3, :2], debiased=True)


def quadratic():
    """pᵀ H p / 2 over two leaves, and H in float64."""
    root = RNG.normal(size=(12, 12))
    hessian = (root + root.T) / 2
    flat = lambda p: jnp.concatenate([p["a"].ravel(), p["b"]])
    return {"a": gaussian(2, 4), "b": gaussian(4)}, lambda p: flat(p) @ jnp.float32(hessian) @ flat(p) / 2, hessian


def test_the_top_eigenvalue_is_the_largest_in_size():
    params, loss, hessian = quadratic()
    values = np.linalg.eigvalsh(hessian)
    top = diagnostics.hessian_top(params, loss, key=jax.random.key(0), iterations=2000, tolerance=1e-4)
    assert float(top.residual) <= 1e-4
    assert float(top.value) == pytest.approx(values[np.argmax(np.abs(values))], rel=1e-4)
    product = diagnostics.hessian_product(params, loss, top.vector)
    jax.tree.map(lambda h, v: np.testing.assert_allclose(h, top.value * v, atol=3e-3), product, top.vector)


def test_a_mask_leaves_the_hessian_of_the_kept_weights():
    params, loss, hessian = quadratic()
    mask = {"a": jnp.arange(8).reshape(2, 4) % 2 == 0, "b": None}
    kept = np.flatnonzero([*(np.arange(8) % 2 == 0), *[True] * 4])
    values = np.linalg.eigvalsh(hessian[np.ix_(kept, kept)])
    options = {"key": jax.random.key(1), "mask": mask}
    top = diagnostics.hessian_top(params, loss, iterations=2000, tolerance=1e-4, **options)
    assert float(top.value) == pytest.approx(values[np.argmax(np.abs(values))], rel=1e-4)
    assert not np.asarray(top.vector["a"])[~np.asarray(mask["a"])].any()
    mean, half = diagnostics.interval(diagnostics.hessian_trace(params, loss, samples=400, **options).tolist())
    assert half < 1.5
    assert abs(mean - values.sum()) < 1.6 * half  # three standard errors


def test_of_a_flat_loss_nothing_is_found():
    top = diagnostics.hessian_top({"w": jnp.ones(3)}, lambda p: p["w"].sum(), key=jax.random.key(0))
    assert (float(top.value), float(top.residual)) == (0, 0)
    with pytest.raises(InputError, match="samples=0"):
        diagnostics.hessian_trace({"w": jnp.ones(3)}, lambda p: p["w"].sum(), key=jax.random.key(0), samples=0)
    with pytest.raises(InputError, match=r"tolerance=0"):
        diagnostics.hessian_top({"w": jnp.ones(3)}, lambda p: p["w"].sum(), key=jax.random.key(0), tolerance=0)


def test_only_weights_on_a_path_are_effective():
    """Against the product of adjacency matrices, in a network with biases, norms and a skip."""
    shapes = {"a": (5, 6), "b": (6, 6), "c": (6, 3)}
    params = {
        name: {"kernel": gaussian(*shape), "bias": jnp.full((1, shape[1]), 2.0)} for name, shape in shapes.items()
    }
    params["norm"] = {"scale": gaussian(1, 6), "bias": jnp.ones((1, 6))}
    mask = jax.tree.map(lambda _: None, params)
    for name in shapes:
        mask[name]["kernel"] = jnp.asarray(RNG.random(shapes[name]) < 0.25)

    def apply(p, x):
        x = jax.nn.relu(x @ p["a"]["kernel"] + p["a"]["bias"]) * p["norm"]["scale"] + p["norm"]["bias"]
        x = x + jax.nn.gelu(x @ p["b"]["kernel"] + p["b"]["bias"])
        return x @ p["c"]["kernel"] + p["c"]["bias"]

    a, b, c = (np.asarray(mask[name]["kernel"], int) for name in shapes)
    into_b, from_b = a.sum(0) > 0, c.sum(1) > 0
    into_c = into_b | (into_b @ b > 0)
    from_a = from_b | (b @ from_b > 0)
    want = {"a": a * from_a[None], "b": b * into_b[:, None] * from_b[None], "c": c * into_c[:, None]}
    found = diagnostics.effective_mask(params, mask, apply, jnp.zeros((7, 5)))
    for name in shapes:
        np.testing.assert_array_equal(found[name]["kernel"], want[name] > 0)
    assert found["norm"]["scale"] is None
    kept = {name: int(mask[name]["kernel"].sum()) for name in shapes}
    assert any(int(found[name]["kernel"].sum()) < kept[name] for name in shapes)


def test_paths_are_found_in_deep_and_wide_networks():
    """60 layers of 300: as many paths as no float can count."""
    params = {"w": jnp.ones((60, 300, 300)), "out": jnp.ones((300, 1))}
    apply = lambda p, x: jax.lax.scan(lambda x, w: (jax.nn.relu(x @ w), None), x, p["w"])[0] @ p["out"]
    mask = {"w": jnp.ones((60, 300, 300), bool).at[30, :, 0].set(False), "out": None}
    found = diagnostics.effective_mask(params, mask, apply, jnp.ones((1, 300)))["w"]
    assert bool((found == mask["w"].at[31, 0].set(False)).all())


def test_dead_neurons_are_static_or_dynamic():
    mask = jnp.array([[True, False, True], [True, False, False]])
    cut = diagnostics.cut_off(mask)
    np.testing.assert_array_equal(cut, [False, True, False])
    activations = jnp.array([[1.0, 0.0, 0.0], [2.0, 0.0, 0.0], [0.0, 0.0, 0.0], [3.0, 0.0, 0.0]])
    rates = diagnostics.dead_neurons(activations, cut=cut)
    np.testing.assert_allclose(rates, (1 / 3, 5 / 8, 1 / 2))
    # Equal batches may be averaged; positions count as examples.
    halves = [diagnostics.dead_neurons(activations[rows], cut=cut).dynamic for rows in (slice(2), slice(2, 4))]
    assert float(sum(halves)) / 2 == float(rates.dynamic)
    assert float(diagnostics.dead_neurons(activations.reshape(2, 2, 3), cut=cut).dynamic) == float(rates.dynamic)
    assert float(diagnostics.dead_neurons(jnp.ones((2, 3))).dynamic) == 0
    np.testing.assert_array_equal(diagnostics.dead_neurons(jnp.zeros((2, 2)), cut=jnp.ones(2, bool)), (1, 0, 0))
    with pytest.raises(InputError, match=r"cut has shape \(2,\), but the activations have 3 neurons"):
        diagnostics.dead_neurons(activations, cut=cut[:2])
    with pytest.raises(InputError, match=r"shape \(3,\)"):
        diagnostics.dead_neurons(activations[0])


def test_filter_quality_by_its_extremes():
    random = diagnostics.filter_quality(gaussian(3, 3, 32, 64))
    assert float(random.entropy) == pytest.approx(np.log10(9), abs=2e-3)
    assert float(random.relative_entropy) == pytest.approx(1.003, abs=4e-3)
    one = gaussian(3, 3, 1, 1)
    repeated = diagnostics.filter_quality(one * gaussian(1, 1, 4, 8))
    assert float(repeated.entropy) < 1e-3
    same = diagnostics.filter_quality(jnp.broadcast_to(one, (3, 3, 1, 8)))
    assert float(same.orthogonality) == pytest.approx(0, abs=1e-5)
    orthogonal = diagnostics.filter_quality(jnp.linalg.qr(gaussian(9, 9))[0].reshape(3, 3, 1, 9))
    assert float(orthogonal.orthogonality) == pytest.approx(1, abs=1e-5)
    kernel = gaussian(3, 3, 4, 8).at[:, :, 0].set(0)
    assert float(diagnostics.filter_quality(kernel).sparsity) == 0.25
    assert float(diagnostics.filter_quality(0 * kernel).sparsity) == 1
    with pytest.raises(InputError, match=r"kernel has shape \(1, 1, 4, 8\)"):
        diagnostics.filter_quality(kernel[:1, :1])


def test_exploration_is_the_union_of_all_masks():
    plan = transforms.sparse_evolutionary(0.2, every=2)
    params = {"w": gaussian(8, 10)}
    plain = jt.sparsify(optax.sgd(0.1), plan, key=jax.random.key(0))
    watched = jt.sparsify(
        optax.sgd(0.1), plan._replace(refresh=transforms.track_explored(plan.refresh)), key=jax.random.key(0)
    )
    carries = [jt.init(tx, params) for tx in (plain, watched)]
    steps = [jax.jit(tx.update) for tx in (plain, watched)]
    union = jt.mask_of(carries[0][1])["w"]
    for i in range(7):
        grads = {"w": jnp.asarray(np.random.default_rng(i).normal(size=(8, 10)), jnp.float32)}
        for j, (params, state) in enumerate(carries):
            updates, state = steps[j](grads, state, params)
            carries[j] = optax.apply_updates(params, updates), state
        np.testing.assert_array_equal(jt.mask_of(carries[1][1])["w"], jt.mask_of(carries[0][1])["w"])
        union |= jt.mask_of(carries[0][1])["w"]
        np.testing.assert_array_equal(transforms.explored_of(carries[1][1])["w"], union)
    assert 0.3 < float(jt.density(params, transforms.explored_of(carries[1][1]))) < 1
    with pytest.raises(InputError, match="holds 0 states of track_explored"):
        transforms.explored_of(carries[0][1])
    maskless = transforms.MaskTransform(lambda params, mask, key: (mask, ()), lambda mask, state, **_: (mask, state))
    with pytest.raises(InputError, match="track_explored needs a mask"):
        transforms.track_explored(maskless).init({"w": jnp.ones(2)}, None, key=None)
