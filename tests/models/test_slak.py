"""SLaK: branches of very large kernels, and the kernel into which they merge."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxticket import models
from jaxticket.errors import InputError
from jaxticket.models import _slak

SMALL = functools.partial(models.slak, classes=3, depths=(1, 2), dims=(4, 6), patch=2, channels=1, layer_scale=1.0)
STAGES = ("stage1", "stage2", "stage3", "stage4")


def trained(model):
    """Parameters and statistics that differ from channel to channel, as after training."""
    params, state = model.init(jax.random.key(0))
    draw = np.random.default_rng(3)
    spread = functools.partial(
        jax.tree.map, lambda x: jnp.asarray(draw.uniform(0.5, 1.5, x.shape) * (x + 0.1), x.dtype)
    )
    return spread(params), spread(state)


def images(size=10):
    return jnp.asarray(np.random.default_rng(5).normal(size=(2, size, size, 1)), jnp.float32)


def published(branches, statistics, size):
    """The rule of the authors' get_equivalent_kernel_bias (VITA-Group/SLaK@44b4aab), extended to rectangles, odd sizes.

    It pads by half the difference of the sizes.
    """
    kernel, bias = 0.0, 0.0
    for name, branch in branches.items():
        norm, running = branch["norm"], statistics[name]["norm"]
        t = np.asarray(norm["scale"], np.float64) / np.sqrt(np.asarray(running["var"], np.float64) + 1e-5)
        own = np.asarray(branch["conv"]["kernel"], np.float64) * t
        kernel = kernel + np.pad(own, [((size - n) // 2,) * 2 for n in own.shape[:2]] + [(0, 0), (0, 0)])
        bias = bias + np.asarray(norm["bias"]) - np.asarray(running["mean"]) * t
    return kernel, bias


@pytest.mark.parametrize(
    ("kernels", "small", "decomposed"),
    [
        ((7, 5), 3, True),
        ((7, 5), 3, False),
        ((6, 5), 2, True),
        ((13, 9), 5, True),
        ((3, 3), 9, True),
    ],
    ids=["three", "full", "even", "beyond the image", "plain"],
)
def test_merge_is_exact(kernels, small, decomposed):
    model = SMALL(kernels=kernels, small=small, decomposed=decomposed)
    variables = trained(model)
    run = jax.jit(functools.partial(model.apply, train=False, key=None))
    merged = models.merge_kernels(*variables)
    (expected, _), (logits, state) = run(*variables, images()), run(*merged, images())
    assert float(jnp.ptp(expected)) > 0.1
    np.testing.assert_allclose(logits, expected, atol=1e-5)
    assert jax.tree.leaves(state) == []
    assert merged[0]["stage1"]["block1"]["mixer"]["merged"]["conv"]["kernel"].shape == (*kernels[:1] * 2, 1, 5)
    again = models.merge_kernels(*merged)
    assert jax.tree.structure(again) == jax.tree.structure(merged)


def test_merge_follows_published_code():
    params, state = trained(SMALL(kernels=(7, 5), small=3))
    merged = models.merge_kernels(params, state)[0]["stage2"]["block2"]["mixer"]["merged"]["conv"]
    kernel, bias = published(params["stage2"]["block2"]["mixer"], state["stage2"]["block2"]["mixer"], 5)
    np.testing.assert_allclose(merged["kernel"], kernel, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(merged["bias"], bias, rtol=1e-5, atol=1e-6)


def test_parameters():
    """An operator of 51 × 5, 5 × 51 and 5 × 5 has 535 weights a channel, a full one 2,601; widths are rounded down."""
    params, _ = jax.eval_shape(models.slak().init, jax.random.key(0))
    mixer = params["stage1"]["block1"]["mixer"]
    assert sum(branch["conv"]["kernel"].size for branch in mixer.values()) == 535 * 124
    assert [params[stage]["entry"]["conv"]["kernel"].shape[-1] for stage in STAGES] == [124, 249, 499, 998]
    full, _ = jax.eval_shape(models.slak(decomposed=False).init, jax.random.key(0))
    assert full["stage1"]["block1"]["mixer"]["large"]["conv"]["kernel"].size == 2601 * 124
    plain, _ = jax.eval_shape(models.slak(kernels=(7, 7, 7, 7), small=100, width=1).init, jax.random.key(0))
    assert plain["stage1"]["block1"]["mixer"]["large"]["conv"]["kernel"].shape == (7, 7, 1, 96)
    # ConvNeXt-T has 28,589,128; each of 18 blocks has a scale besides, its norm's shift stands for the bias.
    widths = 3 * 96 + 3 * 192 + 9 * 384 + 3 * 768
    assert sum(x.size for x in jax.tree.leaves(plain)) == 28_589_128 + widths


def test_a_wider_sparse_network_is_as_large():
    """Of the pointwise layers of a width of 1.3, a density of 0.6 leaves 0.6 · 1.69 = 1.014 times those of width 1."""
    sizes = []
    for width in (1.0, 1.3):
        params, _ = jax.eval_shape(models.slak(width=width).init, jax.random.key(0))
        layers = [b[name] for s in STAGES for b in params[s].values() for name in ("hidden", "output") if name in b]
        sizes.append(sum(layer["kernel"].size for layer in layers))
    assert 0.6 * sizes[1] / sizes[0] == pytest.approx(1.014, abs=0.005)  # widths are rounded down


def test_branches_sum_to_one_convolution():
    """A convolution by the sum of the padded kernels, written out, gives what the branches give."""
    draw, size = np.random.default_rng(4), 9
    x = draw.normal(size=(size, size))
    kernels = {"tall": draw.normal(size=(7, 3)), "wide": draw.normal(size=(3, 7)), "small": draw.normal(size=(3, 3))}
    whole = sum(np.pad(k, [((7 - n) // 2,) * 2 for n in k.shape]) for k in kernels.values())
    padded = np.pad(x, 3)
    expected = [[(padded[i : i + 7, j : j + 7] * whole).sum() for j in range(size)] for i in range(size)]
    one, zero = jnp.ones(1), jnp.zeros(1)
    branches = {
        name: {"conv": {"kernel": jnp.asarray(k[..., None, None], jnp.float32)}, "norm": {"scale": one, "bias": zero}}
        for name, k in kernels.items()
    }
    statistics = {name: {"norm": {"mean": zero, "var": one - 1e-5}} for name in kernels}  # norms change nothing
    total, _ = _slak._mix(branches, statistics, jnp.asarray(x[None, ..., None], jnp.float32), train=False)
    np.testing.assert_allclose(total[0, ..., 0], expected, atol=1e-5)


def test_drop_path():
    model = SMALL(kernels=(5, 5), small=3, drop_path=0.5)
    variables, x = model.init(jax.random.key(0)), images()
    with pytest.raises(InputError, match="key=None"):
        model.apply(*variables, x, train=True, key=None)
    run = jax.jit(functools.partial(model.apply, *variables, x, train=True))
    outputs = [run(key=jax.random.key(seed))[0] for seed in range(4)]
    assert any(not np.array_equal(outputs[0], other) for other in outputs[1:])
    np.testing.assert_array_equal(outputs[0], run(key=jax.random.key(0))[0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"small": 0}, "small=0"),
        ({"kernels": (5,)}, "one entry a stage"),
        ({"kernels": (5, 0)}, r"kernels\[1\]=0"),
        ({"width": 0.1}, r"int\(width \* dims\[0\]\)=0"),
        ({"drop_path": 1.0}, "drop_path=1"),
        ({"drop_path": -0.1}, "drop_path=-0.1"),
        ({"width": "1"}, "width='1'"),
    ],
)
def test_errors(options, message):
    with pytest.raises(InputError, match=message):
        SMALL(**{"kernels": (5, 5), **options})


def test_merge_rejects_other_models():
    with pytest.raises(InputError, match=r"models\.slak"):
        models.merge_kernels(*models.lenet_300_100().init(jax.random.key(0)))
    with pytest.raises(InputError, match=r"models\.slak"):
        models.merge_kernels({}, {"stage1": {"block1": {}}})
