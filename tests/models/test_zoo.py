"""What holds for every model: sizes, purity, gradients, and parameters from which units were sliced away."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxticket import filters, models
from jaxticket._tree import path_name
from jaxticket.errors import InputError
from tests.conformance.drivers import COMPILER
from tests.models.zoo import CASES
from tests.tiers import sample

# Kernels, then biases and norms. 3 × 3 convolutions unless said; a norm has a scale and a shift a channel.
PUBLISHED = {
    # 1,728 + 36,864 + 64 + 64, then 16 · 16 · 64 · 256 + 256, 65,792 and 2,570: "4.3M"
    "conv_2": (models.conv_2(), 4_301_642),
    # Conv-2's convolutions, 73,856 + 147,584, then 8 · 8 · 128 · 256 + 256, 65,792 and 2,570: "2.4M"
    "conv_4": (models.conv_4(), 2_425_930),
    # Conv-4's convolutions, 295,168 + 590,080, then 4 · 4 · 256 · 256 + 256, 65,792 and 2,570; the paper says 1.7M
    "conv_6": (models.conv_6(), 2_262_602),
    # 9 · (3 · 64 + 64² + 64 · 128 + 128² + 128 · 256 + 2 · 256² + 256 · 512 + 5 · 512²) + 2 · 4,224 + 5,130: "14.7M"
    "vgg_16_bn": (models.vgg_16_bn(), 14_724_042),
    # 432 + 6 · 2,304 + (4,608 + 5 · 9,216) + (18,432 + 5 · 36,864) + 2 · 688 + 650 = 269,722 (He: "0.27M"); shortcuts
    # 16 · 32 + 32 · 64 + 2 · (32 + 64) = 2,752
    "resnet_20": (models.resnet_20(), 272_474),
    # 784 · 64 + 64; 16 · 2 · (64 · 64 + 64); 64 · 10 + 10
    "residual_mlp": (models.residual_mlp(), 184_010),
    # 16 · 16 + 32; 3 · (3 · 2 · 16 · 16 + (1 + 9 + 25) · 16 + 3 · 4 · 16 + 32); 16 · 10 + 10
    "supernet": (models.supernet(), 7_418),
    # Each of two more blocks a stage: 2 · (2,304 + 9,216 + 36,864) + 4 · (16 + 32 + 64) = 97,216. He: "0.46M"
    "resnet_32": (models.resnet_32(), 272_474 + 2 * 97_216),
    "resnet_56": (models.resnet_56(), 272_474 + 6 * 97_216),  # He: "0.85M"
    # 27 · 4 + 9 · (4 · 3 + 3 · 6) + 9 · (6 · 5 + 5 · 8 + 8 · 5 + 5 · 7) + 6 · 8; norms 2 · (4 + 9 + 13 + 12 + 8); 90
    "slim_resnet": (models.slim_resnet(4, [[(3, 6)], [(5, 8), (5, 7)]]), 108 + 270 + 1_305 + 48 + 92 + 90),
    # 432; stages 1,638,400 + 6,963,200 + 27,852,800; norms 2 · (1,136 + 2,400 + 4,800 + 640); 6,410: "36.5M"
    "wide_resnet": (models.wide_resnet(), 36_479_194),
    # 9,408; stages 147,456 + 524,288 + 2,097,152 + 8,388,608 (shortcuts included); norms 2 · 4,800; 513,000: "11.7M"
    "resnet_18": (models.resnet_18(), 11_689_512),
    # 9,408; stages 212,992 + 1,212,416 + 7,077,888 + 14,942,208; norms 2 · 26,560; 2,049,000: "25.6M"
    "resnet_50": (models.resnet_50(), 25_557_032),
    # 864; stages 800 + 12,912 + 38,016 + 193,200 + 438,816 + 1,634,592 + 600,192; 409,600; norms 42,016; …: "4.7M"
    "efficientnet_lite0": (models.efficientnet_lite0(), 4_652_008),
    # Patches 147,648; token 192; positions 37,824; 12 · 444,864 a block; norm 384; 193,000: "5.7M"
    "vit_tiny": (models.vit_tiny(), 5_717_416),
    # Patches 295,296; token 384; positions 75,648; 12 · 1,774,464 a block; norm 768; 385,000: "22M"
    "vit_small": (models.vit_small(), 22_050_664),
    # GPT-2: 50,257 · 768 + 1,024 · 768 + 12 · 7,087,872 a block + 1,536: "124M"
    "gpt": (models.gpt(vocabulary=50_257, context=1_024, layers=12, heads=12, width=768), 124_439_808),
    # 2 · 32,000 · 4,096; 32 · (4 · 4,096² + 3 · 4,096 · 11,008 + 2 · 4,096) + 4,096; Touvron et al.: "6.7B"
    "llama": (models.decoder(vocabulary=32_000, layers=32, heads=32, width=4_096, hidden=11_008), 6_738_415_616),
    # 151,936 · 896; 24 · (2 · 896² + 896 + 2 · (896 · 128 + 128) + 3 · 896 · 4,864 + 2 · 896) + 896: "0.49B"
    "qwen2": (
        models.decoder(
            **{"vocabulary": 151_936, "layers": 24, "heads": 14, "key_value_heads": 2, "width": 896, "hidden": 4_864},
            biases=("query", "key", "value"),
            tied=True,
        ),
        494_032_768,
    ),
    # 256,000 · 2,048; 18 · (2 · 2,048² + 2 · 2,048 · 256 + 3 · 2,048 · 16,384 + 2 · 2,048) + 2,048: "2.51B"
    "gemma": (
        models.decoder(
            **{"vocabulary": 256_000, "layers": 18, "heads": 8, "key_value_heads": 1, "width": 2_048, "hidden": 16_384},
            depth=256,
            tied=True,
        ),
        2_506_172_416,
    ),
    # 31,035 · 384 embedded; 6 · 1,774,464 a block + 768; Wang et al.: "22.7M" with a pooler and a second segment
    "bert": (models.bert(vocabulary=30_522), 22_564_992),
    # 6,500,000 embedded; 2 · (1,300 · 2,600 + 2,600); 6,510,000: "19.8M"
    "lstm": (models.lstm(vocabulary=10_000), 19_775_200),
}

DECODER = functools.partial(models.decoder, vocabulary=40, layers=1, heads=4, width=16, hidden=24)
BAD_SIZES = {
    "classes=0": lambda: models.conv_2(classes=0),
    r"shape=\(32, 32\)": lambda: models.conv_4(shape=(32, 32)),
    "height=0": lambda: models.conv_4(shape=(0, 32, 3)),
    "at least 8 × 8": lambda: models.conv_6(shape=(4, 32, 3)),
    "width=0": lambda: models.vgg_16_bn(width=0),
    "channels=0": lambda: models.resnet_20(channels=0),
    "width=6": lambda: models.efficientnet_lite0(width=6),
    "blocks=0": lambda: models.residual_mlp(blocks=0),
    "stages=0": lambda: models.slim_resnet(4, []),
    "widths=0": lambda: models.slim_resnet(4, [[(0, 4)]]),
    r"sizes=\(2, 3\)": lambda: models.supernet(sizes=(2, 3)),
    r"sizes=\(3, 3\)": lambda: models.supernet(sizes=(3, 3)),
    "patch=5": lambda: models.supernet(patch=5),
    r"hidden=\[\[1, 2\]\]": lambda: models.supernet(hidden=[[1, 2]]),
    "hidden=0": lambda: models.supernet(hidden=0),
    "hold the values": lambda: models.supernet().apply({}, {}, jnp.ones((2, 7)), train=False, key=None),
    "depth=20": lambda: models.wide_resnet(depth=20),
    "depth=4": lambda: models.wide_resnet(depth=4),
    "image_size=225": lambda: models.vit_tiny(image_size=225),
    "patch=0": lambda: models.vit_tiny(patch=0),
    "width=100": lambda: models.gpt(vocabulary=10, width=100),
    "vocabulary=0": lambda: models.gpt(vocabulary=0),
    "hidden=-1": lambda: models.gpt(vocabulary=10, hidden=-1),
    "segments=0": lambda: models.bert(vocabulary=10, segments=0),
    "multiple of key_value_heads=3": lambda: DECODER(key_value_heads=3),
    "width=16 is not a multiple of heads=3": lambda: DECODER(heads=3),
    "depth=3 must be even": lambda: DECODER(depth=3),
    "activation='tanh'": lambda: DECODER(activation="tanh"),
    "biases='query'": lambda: DECODER(biases="query"),
    "biases=.*norm": lambda: DECODER(biases=("norm1",)),
    "window=0": lambda: DECODER(window=0),
    "epsilon='1'": lambda: DECODER(epsilon="1"),
    "fast above slow": lambda: DECODER(rotary=models.Rotary(slow=4.0)),
    "layers=0": lambda: models.lstm(vocabulary=10, layers=0),
    "dropout=1": lambda: models.lstm(vocabulary=10, dropout=1),
}

BAD_INPUTS = {
    "conv_4": ((2, 8, 8, 3), jnp.float32, "hidden1 reads 128 values"),
    "vgg_16_bn": ((2, 8, 8, 3), jnp.float32, "16 × 16"),
    "resnet_20": ((2, 8, 8, 1), jnp.float32, r"\(batch, height, width, 3\)"),
    "resnet_50": ((32, 32, 3), jnp.float32, r"\(batch, height, width, 3\)"),
    "wide_resnet": ((2, 8, 8, 4), jnp.float32, r"\(batch, height, width, 3\)"),
    "efficientnet_lite0": ((2, 8, 8, 1), jnp.float32, r"\(batch, height, width, 3\)"),
    "vit_tiny": ((2, 12, 12, 3), jnp.float32, "image_size"),
    "gpt": ((2, 9), jnp.int32, "8 tokens"),
    "decoder": ((2, 9), jnp.float32, "integers"),
    "lstm": ((2, 9), jnp.float32, "integers"),
}


@functools.cache
def drawn(name):
    """Parameters and state, as numpy arrays. Fresh biases, shifts and statistics would hide that one is left behind."""
    rng = np.random.default_rng(0)
    params, state = jax.eval_shape(CASES[name].model.init, jax.random.key(0))

    def draw(path, leaf):
        last, noise = path.split("/")[-1], rng.normal(size=leaf.shape)
        if last in ("scale", "var"):
            return np.float32(np.exp(0.2 * noise))
        fan_in = np.prod(leaf.shape[:-1]) if last == "kernel" else 9
        return np.float32(noise / np.sqrt(fan_in))

    return on_paths(params, draw), on_paths(state, draw)


@functools.cache
def trained(name):
    """(params, state) -> logits and new state, for a training step on the case's inputs."""
    case = CASES[name]
    x = case.inputs()
    return lambda params, state: case.model.apply(params, state, x, train=True, key=None)


@functools.cache
def compiled(name):
    return jax.jit(trained(name), compiler_options=COMPILER)


def paths(tree):
    return [path_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)]


def on_paths(tree, edit):
    return jax.tree_util.tree_map_with_path(lambda path, leaf: edit(path_name(path), leaf), tree)


@pytest.mark.parametrize("name", PUBLISHED)
def test_sizes_are_those_of_the_papers(name):
    model, size = PUBLISHED[name]
    params, _ = jax.eval_shape(model.init, jax.random.key(0))
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == size


@pytest.mark.parametrize("name", CASES)
def test_parameters_are_plain_dicts_whose_kernels_are_prunable(name):
    params, state = drawn(name)

    def check(path, prunable):
        last = path.split("/")[-1]
        assert last in ("kernel", "bias", "scale", "embedding")
        assert prunable == (last == "kernel")

    on_paths(filters.weights()(params), check)
    assert type(params) is dict
    assert {path.split("/")[-1] for path in paths(state)} <= {"mean", "var"}


# The others are made of the same layers, and gradients take long to compile.
@pytest.mark.parametrize("name", ["wide_resnet", "lstm"])
def test_every_parameter_learns(name):
    def loss(params, state):
        return jnp.mean(jax.nn.log_softmax(trained(name)(params, state)[0])[..., 0])

    grads = jax.jit(jax.grad(loss), compiler_options=COMPILER)(*drawn(name))

    def check(path, grad):
        assert np.all(np.isfinite(grad)), path
        assert np.any(grad), path

    on_paths(grads, check)


@pytest.mark.parametrize("name", CASES)
def test_replicates_are_vmapped(name):
    params, state = drawn(name)
    two = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((2, *leaf.shape), leaf.dtype), (params, state))
    logits, new = jax.eval_shape(jax.vmap(trained(name)), *two)
    assert logits.shape[:2] == (2, CASES[name].shape[0])
    assert logits.dtype == jnp.float32
    assert jax.tree.map(lambda leaf: leaf.shape, new) == jax.tree.map(lambda leaf: (2, *leaf.shape), state)


@pytest.mark.parametrize("name", sample(CASES, [*CASES][::2]))
def test_removed_units_change_what_zeroed_ones_do(name):
    params, state = drawn(name)
    coupled = [entry for group in CASES[name].groups.values() for entry in group]
    touched = set()

    def zero(path, leaf):
        for axis in (axis for where, axis in coupled if where == path):
            leaf = leaf.copy()
            leaf[(slice(None),) * axis + (1,)] = 0
        return leaf

    def remove(path, leaf):
        for axis in (axis for where, axis in coupled if where == path):
            touched.add((path, axis))
            leaf = np.delete(leaf, 1, axis)
        return leaf

    whole, _ = compiled(name)(params, state)
    zeroed, zeroed_state = compiled(name)(on_paths(params, zero), state)
    removed, removed_state = compiled(name)(on_paths(params, remove), on_paths(state, remove))
    assert touched == set(coupled)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)
    close(removed, zeroed)
    jax.tree.map(close, removed_state, on_paths(zeroed_state, remove))
    assert np.max(np.abs(whole - zeroed)) > 0.01


@pytest.mark.parametrize("message", BAD_SIZES)
def test_bad_sizes(message):
    with pytest.raises(InputError, match=message):
        BAD_SIZES[message]()


@pytest.mark.parametrize("name", BAD_INPUTS)
def test_bad_inputs(name):
    shape, dtype, message = BAD_INPUTS[name]
    params, state = drawn(name)
    with pytest.raises(InputError, match=message):
        CASES[name].model.apply(params, state, jnp.ones(shape, dtype), train=False, key=None)
