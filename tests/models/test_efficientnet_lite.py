"""EfficientNet-Lite0 against a forward in numpy that shares no code with it, and its weights against known answers."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxticket import models
from jaxticket.errors import InputError
from tests.conformance.drivers import COMPILER
from tests.models.zoo import shallow

# (expansion, size of the depthwise kernel, strides, outputs) of the 16 blocks.
BLOCKS = [
    (1, 3, 1, 16),
    (6, 3, 2, 24),
    (6, 3, 1, 24),
    (6, 5, 2, 40),
    (6, 5, 1, 40),
    (6, 3, 2, 80),
    (6, 3, 1, 80),
    (6, 3, 1, 80),
    (6, 5, 1, 112),
    (6, 5, 1, 112),
    (6, 5, 1, 112),
    (6, 5, 2, 192),
    (6, 5, 1, 192),
    (6, 5, 1, 192),
    (6, 5, 1, 192),
    (6, 3, 1, 320),
]
PHOTOGRAPHS = {
    "china.jpg": ((698, 442, 663, 483, 975), (0.301, 0.222, 0.103, 0.051, 0.045)),
    "flower.jpg": ((985, 947, 309, 996, 738), (0.228, 0.114, 0.049, 0.042, 0.040)),
}


def convolve(x, weight, strides):
    """TensorFlow's SAME, of a kernel with outputs first; with a single input, of each channel by itself."""
    size = weight.shape[-1]
    out = [-(-length // strides) for length in x.shape[1:3]]
    extra = [max((n - 1) * strides + size - length, 0) for n, length in zip(out, x.shape[1:3], strict=True)]
    x = np.pad(x, [(0, 0), *((n // 2, n - n // 2) for n in extra), (0, 0)])
    rows, columns = ((n - 1) * strides + 1 for n in out)
    total = 0
    for i in range(size):
        for j in range(size):
            pixels, tap = x[:, i : i + rows : strides, j : j + columns : strides], weight[:, :, i, j]
            total = total + (pixels * tap[:, 0] if weight.shape[1] == 1 else pixels @ tap.T)
    return total


def reference(arrays, x):
    """The logits, in float64, of the arrays of a file."""
    arrays = {name: np.asarray(array, np.float64) for name, array in arrays.items()}
    x = np.asarray(x, np.float64)

    def layer(x, conv, norm, strides=1):
        x = convolve(x, arrays[f"{conv}.weight"], strides) - arrays[f"{norm}.running_mean"]
        x = x / np.sqrt(arrays[f"{norm}.running_var"] + 1e-3)
        return x * arrays[f"{norm}.weight"] + arrays[f"{norm}.bias"]

    relu6 = lambda x: np.clip(x, 0, 6)
    x = relu6(layer(x, "_conv_stem", "_bn0", 2))
    for index, (expansion, _, strides, _) in enumerate(BLOCKS):
        name, before = f"_blocks.{index}.", x
        x = relu6(layer(x, f"{name}_expand_conv", f"{name}_bn0")) if expansion > 1 else x
        x = relu6(layer(x, f"{name}_depthwise_conv", f"{name}_bn1", strides))
        x = layer(x, f"{name}_project_conv", f"{name}_bn2")
        x = x + before if strides == 1 and x.shape == before.shape else x
    x = relu6(layer(x, "_conv_head", "_bn1")).mean((1, 2))
    return x @ arrays["_fc.weight"].T + arrays["_fc.bias"]


def checkpoint(rng):
    """Random arrays under the names of the file."""
    arrays = {}

    def layer(conv, norm, outputs, inputs, size):
        arrays[f"{conv}.weight"] = rng.normal(size=(outputs, inputs, size, size)) / np.sqrt(inputs * size**2)
        for own, draw in {"weight": 1.0, "bias": 0.5, "running_mean": 0.0, "running_var": 1.0}.items():
            noise = rng.normal(size=outputs)
            arrays[f"{norm}.{own}"] = np.exp(0.2 * noise) if draw == 1 else draw + 0.2 * noise

    inputs = 32
    layer("_conv_stem", "_bn0", inputs, 3, 3)
    for index, (expansion, size, _, outputs) in enumerate(BLOCKS):
        name, inner = f"_blocks.{index}.", expansion * inputs
        if expansion > 1:
            layer(f"{name}_expand_conv", f"{name}_bn0", inner, inputs, 1)
        layer(f"{name}_depthwise_conv", f"{name}_bn1", inner, 1, size)
        layer(f"{name}_project_conv", f"{name}_bn2", outputs, inner, 1)
        inputs = outputs
    layer("_conv_head", "_bn1", 1280, inputs, 1)
    arrays["_fc.weight"], arrays["_fc.bias"] = rng.normal(size=(1000, 1280)) / 36, rng.normal(size=1000)
    return {name: np.float32(array) for name, array in arrays.items()}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """A file of random weights, and its arrays."""
    arrays = checkpoint(np.random.default_rng(0))
    file = tmp_path_factory.mktemp("weights") / "weights.npz"
    np.savez(file, **arrays)
    return file, arrays


@pytest.fixture(scope="module")
def evaluate():
    """(params, state, x) -> logits."""
    run = functools.partial(models.efficientnet_lite0().apply, train=False, key=None)
    return jax.jit(lambda *args: run(*args)[0], compiler_options=COMPILER)


def test_the_loaded_network_is_that_of_the_authors(drawn, evaluate):
    file, arrays = drawn
    x = np.random.default_rng(1).normal(size=(2, 40, 36, 3)).astype(np.float32)  # stages halve odd sizes too
    want = reference(arrays, x)
    np.testing.assert_allclose(evaluate(*models.load_efficientnet_lite0(file), x), want, rtol=1e-3, atol=1e-4)
    assert want.std() > 0.1


def test_loaded_parameters_are_those_that_init_makes(drawn):
    described = lambda leaf: (leaf.shape, leaf.dtype)
    made = jax.eval_shape(models.efficientnet_lite0().init, jax.random.key(0))
    assert jax.tree.map(described, models.load_efficientnet_lite0(str(drawn[0]))) == jax.tree.map(described, made)


def test_another_file_is_refused(drawn, tmp_path):
    file, arrays = drawn
    with pytest.raises(InputError, match=r"absent\.npz is not a file"):
        models.load_efficientnet_lite0(tmp_path / "absent.npz")
    name = "_blocks.4._depthwise_conv.weight"
    broken = {
        "missing": {there: array for there, array in arrays.items() if there != name},
        "wrong": {**arrays, name: arrays[name][:-1]},
        "words": {**arrays, name: np.full(arrays[name].shape, "x")},
    }
    for kind, content in broken.items():
        np.savez(tmp_path / f"{kind}.npz", **content)
    np.save(tmp_path / "single.npy", arrays["_fc.weight"])
    (tmp_path / "text.npz").write_text("weights")
    (tmp_path / "empty.npz").write_bytes(b"")
    (tmp_path / "short.npz").write_bytes(file.read_bytes()[:100_000])
    for other in sorted(tmp_path.iterdir()):
        with pytest.raises(InputError, match="does not hold the weights of EfficientNet-Lite0") as error:
            models.load_efficientnet_lite0(other)
        if other.stem in ("missing", "wrong"):
            assert name in str(error.value)


def test_half_of_an_expansion_may_be_removed(drawn, evaluate):
    """Parameters without channels compute what those do in which the channels' arrays are zero."""
    params, state = models.load_efficientnet_lite0(drawn[0])
    x = np.random.default_rng(1).normal(size=(2, 32, 32, 3)).astype(np.float32)
    gone = np.arange(0, 144, 2)  # of stage 2, block 2, which adds its input

    def edited(edit):
        """Apply edit(leaf, axis of the channels) to all that the channels have."""
        inside = lambda tree: jax.tree.map(lambda leaf: edit(leaf, leaf.ndim - 1), tree)

        def within(tree, project):
            block = tree["stage2"]["block2"]
            new = {**block, **{name: inside(block[name]) for name in ("expand", "depthwise")}, "project": project}
            return {**tree, "stage2": {**tree["stage2"], "block2": new}}

        last = params["stage2"]["block2"]["project"]
        read = {**last, "conv": {"kernel": edit(last["conv"]["kernel"], 2)}}
        return within(params, read), within(state, state["stage2"]["block2"]["project"])

    def zero(leaf, axis):
        leaf = leaf.copy()
        leaf[(slice(None),) * axis + (gone,)] = 0
        return leaf

    removed = edited(lambda leaf, axis: np.delete(leaf, gone, axis))
    assert removed[0]["stage2"]["block2"]["depthwise"]["conv"]["kernel"].shape == (3, 3, 1, 72)
    zeroed = evaluate(*edited(zero), x)
    np.testing.assert_allclose(evaluate(*removed, x), zeroed, rtol=1e-4, atol=1e-5)
    assert np.abs(zeroed - evaluate(params, state, x)).max() > 0.01


def test_training_normalises_by_the_batch_and_remembers_a_hundredth_of_it():
    rng, model = np.random.default_rng(1), shallow(models.efficientnet_lite0(classes=5, width=4), blocks=1)
    params, state = jax.tree.map(
        lambda leaf: np.exp(0.2 * rng.normal(size=leaf.shape)).astype(np.float32),
        jax.eval_shape(model.init, jax.random.key(0)),
    )
    x = rng.normal(size=(4, 16, 16, 3)).astype(np.float32)
    train = jax.jit(functools.partial(model.apply, train=True, key=None), compiler_options=COMPILER)
    logits, new = train(params, state, x)
    stem = convolve(x, np.asarray(params["stem"]["conv"]["kernel"]).transpose(3, 2, 0, 1), 2)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6)
    for name, old in state["stem"]["norm"].items():
        close(new["stem"]["norm"][name], 0.99 * old + 0.01 * getattr(stem, name)((0, 1, 2)))
    close(train(params, jax.tree.map(lambda leaf: 2 * leaf, state), x)[0], logits)  # running statistics are not read


def test_it_starts_as_in_the_authors_code():
    def draw(key):  # these alone: each random draw takes long to compile
        params, _ = models.efficientnet_lite0(width=16).init(key)
        return params["stage6"]["block2"], params["output"]

    block, output = jax.jit(draw, compiler_options=COMPILER)(jax.random.key(0))
    for layer, fan_out in (("expand", 576), ("depthwise", 25), ("project", 96)):
        assert abs(np.std(block[layer]["conv"]["kernel"]) / np.sqrt(2 / fan_out) - 1) < 0.03, layer
        assert np.all(block[layer]["norm"]["scale"] == 1)
    assert 0.99 < np.abs(output["kernel"]).max() * np.sqrt(1000) <= 1
    assert not np.any(output["bias"])


@pytest.fixture(scope="module")
def pretrained(shared_data):
    file = shared_data / "efficientnet_lite0.npz"
    if not file.is_file():
        pytest.skip(f"{file} is absent")
    return models.load_efficientnet_lite0(file)


def test_the_pretrained_weights_give_known_logits(pretrained, evaluate):
    """Those that the authors' weights had in another framework."""
    x = np.random.default_rng(0).standard_normal((2, 224, 224, 3)).astype(np.float32)
    logits = np.asarray(evaluate(*pretrained, x))
    known = [
        [-2.2802427, 0.6350645, 1.3649293, 0.0194017, 0.9436788, -1.2952346, -0.3030233, 0.6135175],
        [-2.5418167, 0.2955445, 1.1299849, -0.3143377, 0.8325744, -1.3652294, -0.3182840, 0.5591550],
    ]
    np.testing.assert_allclose(logits[:, :8], known, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose([logits.mean(), logits.std()], [-0.05597315, 1.38987637], rtol=1e-4, atol=1e-5)
    assert logits.argmax(-1).tolist() == [21, 21]


def test_photographs_are_classified(pretrained, evaluate):
    image = pytest.importorskip("PIL.Image")
    samples = pytest.importorskip("sklearn.datasets").load_sample_images()
    photographs = []
    for pixels in samples.images:
        side = min(pixels.shape[:2])
        top, left = ((length - side) // 2 for length in pixels.shape[:2])
        square = image.fromarray(pixels[top : top + side, left : left + side]).resize((224, 224), image.BICUBIC)
        photographs.append(np.asarray(square))
    shares = jax.nn.softmax(evaluate(*pretrained, (np.float32(photographs) - 127) / 128))
    assert len(samples.filenames) == len(PHOTOGRAPHS)
    for name, share in zip(samples.filenames, shares, strict=True):
        classes, values = PHOTOGRAPHS[name.rpartition("/")[2]]
        best, where = jax.lax.top_k(jnp.asarray(share), 5)
        assert tuple(where.tolist()) == classes
        np.testing.assert_allclose(best, values, atol=2e-3)
