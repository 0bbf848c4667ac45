"""SLaK: branches of very large kernels, and the kernel into which they merge."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxticket import models
from jaxticket.errors import InputError

SMALL = functools.partial(models.slak, classes=3, depths=(1, 2), dims=(4, 6), patch=2, channels=1, layer_scale=1.0)


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
    assert [params[f"stage{n}"]["entry"]["conv"]["kernel"].shape[-1] for n in range(1, 5)] == [124, 249, 499, 998]
    plain, _ = jax.eval_shape(models.slak(kernels=(7, 7, 7, 7), small=100, width=1).init, jax.random.key(0))
    assert plain["stage1"]["block1"]["mixer"]["large"]["conv"]["kernel"].shape == (7, 7, 1, 96)
    # ConvNeXt-T has 28,589,128; each of 18 blocks has a scale besides, its norm's shift stands for the bias.
    widths = 3 * 96 + 3 * 192 + 9 * 384 + 3 * 768
    assert sum(x.size for x in jax.tree.leaves(plain)) == 28_589_128 + widths


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
