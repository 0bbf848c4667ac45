"""Products of weights with data, found in the jaxprs of every framework's models."""

import functools

import equinox as eqx
import flax.linen as nn
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxticket._jaxpr import captured, gram, input_squares, order_of_use, outputs, sum_positions
from jaxticket.errors import InputError
from tests.conformance.drivers import COMPILER

X = jnp.asarray(np.random.default_rng(0).normal(size=(5, 4)), jnp.float32)
IMAGES = jnp.asarray(np.random.default_rng(1).normal(size=(2, 6, 6, 3)), jnp.float32)
IMAGES_FIRST = jnp.moveaxis(IMAGES, -1, 1)


def found(apply, params, x, measure):
    """What is measured, under jit; and the outputs must be those of the model."""

    @functools.partial(jax.jit, compiler_options=COMPILER)
    def both(params, x):
        return captured(apply, params, x, measure), apply(params, x)

    (out, totals), expected = both(params, x)
    jax.tree.map(close, out, expected)
    return totals


def filled(shapes):
    """Parameters of these shapes: faster than what frameworks draw, op by op."""
    rng = np.random.default_rng(2)
    return jax.tree.map(lambda s: jnp.asarray(rng.normal(size=s.shape) / 2, s.dtype), shapes)


def squares(rows):
    return np.sum(np.square(np.asarray(rows, np.float64)), 0)


def close(a, b):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def _dict_mlp():
    params = [{"w": jnp.eye(4)[:, :3] + 0.1, "b": jnp.ones(3)}, {"w": jnp.ones((3, 2))}]
    return lambda p, x: jnp.tanh(x @ p[0]["w"] + p[0]["b"][None]) @ p[1]["w"], params, lambda p: (p[0]["w"], p[1]["w"])


def _linen_mlp():
    model = nn.Sequential([nn.Dense(3), jnp.tanh, nn.Dense(2, use_bias=False)])
    params = filled(jax.eval_shape(model.init, jax.random.key(0), X))
    return model.apply, params, lambda p: tuple(p["params"][f"layers_{i}"]["kernel"] for i in (0, 2))


def _nnx_mlp():
    def make():
        rngs = nnx.Rngs(0)
        return nnx.Sequential(nnx.Linear(4, 3, rngs=rngs), jnp.tanh, nnx.Linear(3, 2, use_bias=False, rngs=rngs))

    graph, state = nnx.split(nnx.eval_shape(make))
    return lambda s, x: nnx.merge(graph, s)(x), filled(state), lambda s: tuple(s["layers"][i]["kernel"] for i in (0, 2))


def _haiku_mlp():
    net = hk.without_apply_rng(hk.transform(lambda x: hk.Sequential([hk.Linear(3), jnp.tanh, hk.Linear(2, False)])(x)))
    return (
        net.apply,
        filled(jax.eval_shape(net.init, jax.random.key(0), X)),
        lambda p: (p["linear"]["w"], p["linear_1"]["w"]),
    )


def _equinox_mlp():
    def make(key):
        return [eqx.nn.Linear(4, 3, key=key), eqx.nn.Linear(3, 2, use_bias=False, key=key)]

    shapes, static = eqx.partition(
        eqx.filter_eval_shape(make, jax.random.key(0)), lambda s: isinstance(s, jax.ShapeDtypeStruct)
    )
    params = filled(shapes)

    def apply(params, x):
        one, two = eqx.combine(params, static)
        return jax.vmap(lambda row: two(jnp.tanh(one(row))))(x)

    return apply, params, lambda p: (p[0].weight, p[1].weight)


MLPS = {"dict": _dict_mlp, "linen": _linen_mlp, "nnx": _nnx_mlp, "haiku": _haiku_mlp, "equinox": _equinox_mlp}


@pytest.mark.parametrize("framework", MLPS)
def test_inputs_and_outputs_of_dense_layers(framework):
    apply, params, kernels = MLPS[framework]()

    def measure(product):
        return {"x": input_squares(product), "y": jnp.sum(outputs(product), range(len(product.positions)))}

    totals = found(apply, params, X, measure)
    one, two = (np.asarray(jax.tree.leaves(k)[0]) for k in kernels(params))
    # jnp.tanh ends what the first layer puts out; with the bias that is what tanh sees.
    (bias,) = [np.asarray(leaf) for leaf in jax.tree.leaves(params) if jnp.ndim(leaf) == 1]
    transposed = framework == "equinox"
    one, two = (one.T, two.T) if transposed else (one, two)
    hidden = np.asarray(X) @ one + bias
    for total, x, y in zip(kernels(totals), (X, np.tanh(hidden)), (hidden, np.tanh(hidden) @ two)):
        (total,) = jax.tree.leaves(total, is_leaf=lambda t: isinstance(t, dict) and "x" in t) or [total]
        inputs, summed = (total["x"].T, total["y"].T) if transposed else (total["x"], total["y"])
        close(inputs, squares(x)[:, None])
        close(summed, np.sum(y, 0)[None])


def _linen_conv(groups):
    model = nn.Conv(6, (3, 2), strides=(2, 1), padding="SAME", feature_group_count=groups)
    params = filled(jax.eval_shape(model.init, jax.random.key(0), IMAGES)["params"])
    return lambda p, x: model.apply({"params": p}, x), params, IMAGES, lambda p: p["kernel"]


def _equinox_conv(groups):
    def make(key):
        return eqx.nn.Conv2d(3, 6, (3, 2), (2, 1), padding="SAME", groups=groups, key=key)

    params, static = eqx.partition(
        eqx.filter_eval_shape(make, jax.random.key(0)), lambda s: isinstance(s, jax.ShapeDtypeStruct)
    )
    return lambda p, x: jax.vmap(eqx.combine(p, static))(x), filled(params), IMAGES_FIRST, lambda p: p.weight


@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("make", [_linen_conv, _equinox_conv])
def test_convolutions(make, groups):
    """∂(Σ output)/∂kernel at squared inputs is what the squares must sum to; outputs include biases."""
    apply, params, x, kernel = make(groups)

    def measure(product):
        y = outputs(product)
        return {"x": input_squares(product), "y": jnp.sum(y, range(len(product.positions))), "n": _ones(y)}

    total = kernel(found(apply, params, x, measure))
    derivative = jax.jit(jax.grad(lambda p: jnp.sum(apply(p, x**2))), compiler_options=COMPILER)
    expected = kernel(derivative(params))
    close(np.broadcast_to(total["x"], expected.shape), expected)
    y = np.asarray(apply(params, x))
    features = 1 if make is _equinox_conv else -1
    close(total["y"].ravel(), np.sum(y, tuple({0, 1, 2, 3} - {features % 4})))
    assert total["y"].size == 6
    assert total["n"].ravel()[0] == y.size / 6


def _ones(y):
    return jnp.full((1,) * 4, y.size / 6)


def test_gram_of_a_convolution_is_that_of_its_patches():
    params = filled({"kernel": jax.ShapeDtypeStruct((2, 3, 3, 4), jnp.float32)})

    def apply(p, x):
        return jax.lax.conv_general_dilated(x, p["kernel"], (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))

    total = found(apply, params, IMAGES, gram)["kernel"]
    assert total.shape == (2, 3, 3, 1, 2, 3, 3, 1)
    padded = np.asarray(IMAGES, np.float64)
    rows = np.stack([padded[n, h : h + 2, w : w + 3].ravel() for n in range(2) for h in range(5) for w in range(4)])
    close(total.reshape(18, 18), rows.T @ rows)
    # ‖X W‖² = Σ W (XᵀX) W: the order of the entries is that of the kernel's.
    w = params["kernel"].reshape(18, 4)
    close(jnp.sum(w * (total.reshape(18, 18) @ w)), jnp.sum(jnp.square(apply(params, IMAGES))))


@pytest.mark.parametrize("padding", [((0, 0), (0, 0)), ((1, 0), (0, 2)), ((1, -1), (0, 0))])
@pytest.mark.parametrize("strides", [(1, 1), (2, 1)])
@pytest.mark.parametrize("layout", [("NHWC", "HWIO", "NHWC"), ("NCHW", "OIHW", "NCHW"), ("NHWC", "HWIO", "NCHW")])
def test_gram_of_a_pointwise_convolution_is_that_of_its_pixels(layout, strides, padding):
    """‖X W‖² = Σ W (XᵀX) W, however the arrays lie."""
    inputs, outputs = 3, 4
    shape = (1, 1, inputs, outputs) if layout[1] == "HWIO" else (outputs, inputs, 1, 1)
    params = filled({"kernel": jax.ShapeDtypeStruct(shape, jnp.float32)})
    x = IMAGES if layout[0] == "NHWC" else jnp.moveaxis(IMAGES, -1, 1)
    apply = lambda p, x: jax.lax.conv_general_dilated(x, p["kernel"], strides, padding, dimension_numbers=layout)
    total = found(apply, params, x, gram)["kernel"].reshape(inputs, inputs)
    w = (
        params["kernel"].reshape(inputs, outputs)
        if layout[1] == "HWIO"
        else params["kernel"].reshape(outputs, inputs).T
    )
    close(jnp.sum(w * (total @ w)), jnp.sum(jnp.square(apply(params, x))))
    if strides == (1, 1):
        pixels = np.asarray(IMAGES, np.float64)[:, : -1 if padding[0][1] < 0 else None].reshape(-1, inputs)
        close(total, pixels.T @ pixels)


def test_attention_projections():
    """Kernels of three axes: (embed, heads, size) for query, key and value, (heads, size, embed) for the output."""
    x = filled(jax.ShapeDtypeStruct((2, 5, 6), jnp.float32))
    model = nn.MultiHeadDotProductAttention(num_heads=3, qkv_features=12)
    params = filled(jax.eval_shape(model.init, jax.random.key(1), x)["params"])
    totals = found(lambda p, x: model.apply({"params": p}, x), params, x, input_squares)
    for name in ("query", "key", "value"):
        close(totals[name]["kernel"], squares(x.reshape(-1, 6))[:, None, None])
    assert totals["out"]["kernel"].shape == (3, 4, 1)
    assert totals["query"]["bias"] is None

    def einsums(p, x):
        q = jnp.einsum("btd,dhk->bhtk", x, p["q"])
        return jnp.einsum("bhtk,hkd->btd", jnp.tanh(q), p["o"])

    params = {"q": jnp.ones((6, 3, 4)) / 8, "o": jnp.ones((3, 4, 6))}
    totals = found(einsums, params, x, lambda p: {"s": input_squares(p), "g": gram(p)})
    hidden = jnp.tanh(jnp.einsum("btd,dhk->bthk", x, params["q"])).reshape(-1, 12)
    close(totals["q"]["s"], squares(x.reshape(-1, 6))[:, None, None])
    close(totals["o"]["s"].ravel(), squares(hidden))
    assert totals["o"]["g"].shape == (3, 4, 1, 3, 4, 1)
    close(totals["o"]["g"].reshape(12, 12), hidden.T @ hidden)


def test_weights_reach_their_product_through_masks_casts_reshapes_and_remat():
    mask = jnp.arange(12.0).reshape(4, 3) % 2 == 0

    def apply(p, x):
        w = jnp.where(mask, p["w"], 0) * p["scale"][None]
        w = w.astype(jnp.bfloat16).reshape(2, 2, 3).T.astype(jnp.float32)
        return jax.checkpoint(lambda w, x: jnp.einsum("oji,bij->bo", w, x.reshape(-1, 2, 2)))(w, x)

    params = {"w": jnp.ones((4, 3)), "scale": jnp.ones(3)}
    totals = found(apply, params, X, input_squares)
    assert totals["scale"] is None
    close(totals["w"], squares(X)[:, None])


def test_a_shared_weight_adds_its_uses():
    totals = found(lambda p, x: jnp.tanh(x @ p["w"]) @ p["w"], {"w": jnp.eye(4) / 2}, X, input_squares)
    close(totals["w"][:, 0], squares(X) + squares(jnp.tanh(X / 2)))


LAYERS = {"w": jnp.stack([jnp.eye(4) / (i + 1) for i in range(3)]), "shared": jnp.eye(4) + 0.1}


def _layer(x, w, shared):
    return jnp.tanh(x @ w) @ shared


def _scanned(p, x):
    return jax.lax.scan(lambda x, w: (_layer(x, w, p["shared"]), None), x, p["w"])[0]


def _unrolled(p, x):
    for w in p["w"]:
        x = _layer(x, w, p["shared"])
    return x


def test_stacked_layers_in_a_scan_are_measured_layer_by_layer():
    """As the same layers in a Python loop, indexed out of a stacked leaf; what is shared is summed over the layers."""
    x, rows, inner = X, [], []
    for w in LAYERS["w"]:
        rows.append(squares(x))
        inner.append(squares(jnp.tanh(x @ w)))
        x = _layer(x, w, LAYERS["shared"])
    totals = found(_scanned, LAYERS, X, input_squares)
    close(totals["w"], np.stack(rows)[..., None])
    close(totals["shared"][:, 0], sum(inner))
    grams = found(_scanned, LAYERS, X, gram)
    assert grams["w"].shape == (3, 4, 1, 1, 4, 1)
    close(jnp.diagonal(grams["w"][:, :, 0, 0, :, 0], axis1=1, axis2=2), np.stack(rows))
    sums = found(_scanned, LAYERS, X, lambda p: jnp.sum(outputs(p), range(len(p.positions))))
    assert sums["w"].shape == (3, 1, 4)
    reverse = found(
        lambda p, x: jax.lax.scan(lambda x, w: (x @ w, None), x, p["w"], reverse=True)[0], LAYERS, X, input_squares
    )
    close(reverse["w"][2, :, 0], squares(X))


def test_layers_of_a_python_loop_over_a_stacked_leaf_are_those_of_a_scan():
    for measure in (input_squares, gram, lambda p: sum_positions(p, outputs(p))):
        unrolled, scanned = (found(model, LAYERS, X, measure) for model in (_unrolled, _scanned))
        for name in ("w", "shared"):
            assert unrolled[name].shape == scanned[name].shape
            close(unrolled[name], scanned[name])


def test_gathers_that_choose_whole_matrices():
    """Whatever else of the operand has size 1, and wherever the axes of the slices come."""
    w = jnp.asarray(np.random.default_rng(5).normal(size=(3, 1, 4, 2)), jnp.float32)
    chosen = jnp.array([2, 0, 2, 2, 0, 0, 2])
    x = X[jnp.arange(7) % len(X)]
    squares_of = np.stack([np.sum(np.square(x)[np.asarray(chosen) == e], 0) for e in range(3)])
    for offsets, collapsed, equation, alone in [
        ((1, 2), (0, 1), "ti,tio->to", ()),
        ((1, 2, 3), (0,), "ti,tio->to", (1,)),
        ((0, 1), (0, 1), "ti,iot->to", ()),
        ((0, 2), (0, 1), "ti,ito->to", ()),
        ((1, 2, 3, 4), (), "ti,tio->to", (1, 2)),
    ]:
        numbers = jax.lax.GatherDimensionNumbers(offsets, collapsed, (0,))
        gather = lambda w, numbers=numbers: jax.lax.gather(w, chosen[:, None], numbers, (1, 1, 4, 2), mode="clip")
        take = lambda w, gather=gather, alone=alone: jnp.squeeze(gather(w), alone)
        model = lambda p, x, equation=equation, take=take: jnp.einsum(equation, x, take(p["w"]))
        close(found(model, {"w": w}, x, input_squares)["w"][:, 0, :, 0], squares_of)


def test_loops_branches_and_vmapped_ensembles():
    w = {"w": jnp.eye(4) / 2}
    twice = found(lambda p, x: jax.lax.while_loop(lambda c: c[0] < 2, lambda c: (c[0] + 1, c[1] @ p["w"]), (0, x))[1],
                  w, X, input_squares)  # fmt: skip
    close(twice["w"][:, 0], squares(X) + squares(X / 2))
    for sign in (1, -1):
        taken = found(
            lambda p, x: jax.lax.cond(jnp.sum(x) > 0, lambda: x @ p["w"], lambda: (2 * x) @ p["v"]),
            w | {"v": jnp.eye(4)}, jnp.abs(X) * sign, input_squares,
        )  # fmt: skip
        close(taken["w"][:, 0], squares(X) * (sign > 0))
        close(taken["v"][:, 0], 4 * squares(X) * (sign < 0))
    several = found(jax.vmap(lambda p, x: x @ p, (0, None)), jnp.stack([jnp.eye(4)] * 2), X, input_squares)
    close(jnp.broadcast_to(several, (2, 4, 4)), np.broadcast_to(squares(X)[:, None], (2, 4, 4)))
    with pytest.raises(InputError, match="batch of matrices"):
        captured(jax.vmap(lambda p, x: x @ p), jnp.stack([jnp.eye(4)] * 5), X[:, None], gram)


def test_outputs_end_with_bias_and_batch_norm_and_before_the_nonlinearity():
    model = nn.Sequential([nn.Dense(3), nn.BatchNorm(use_running_average=True), nn.leaky_relu, nn.Dense(2)])
    variables = filled(jax.eval_shape(model.init, jax.random.key(0), X))
    params, stats = variables["params"], jax.tree.map(jnp.square, variables["batch_stats"])

    def apply(p, x):
        return model.apply({"params": p, "batch_stats": stats}, x)

    totals = found(apply, params, X, lambda p: jnp.sum(jnp.square(outputs(p)), range(len(p.positions))))
    norm, mean, var = params["layers_1"], *(stats["layers_1"][k] for k in ("mean", "var"))
    before = X @ params["layers_0"]["kernel"] + params["layers_0"]["bias"][None]
    after = (before - mean[None]) / jnp.sqrt(var + 1e-5)[None] * norm["scale"][None] + norm["bias"][None]
    close(totals["layers_0"]["kernel"], squares(after)[None])
    close(totals["layers_3"]["kernel"], squares(apply(params, X))[None])


@pytest.mark.parametrize("features", [1, 2])
@pytest.mark.parametrize("activation", [nn.leaky_relu, nn.PReLU(), nn.gelu, nn.elu, lambda x: 0.5 * x])
def test_scalars_of_an_activation_are_not_of_the_layer(activation, features):
    """With one output a bias has the size of a scalar: a constant or a slope that follows is still not one."""
    model = nn.Sequential([nn.Conv(features, (2, 2)), nn.BatchNorm(use_running_average=True), activation])
    variables = filled(jax.eval_shape(model.init, jax.random.key(0), IMAGES))
    params, stats = variables["params"], jax.tree.map(jnp.square, variables["batch_stats"])
    linear = nn.Sequential(model.layers[:2])
    totals = found(
        lambda p, x: model.apply({"params": p, "batch_stats": stats}, x), params, IMAGES,
        lambda p: jnp.sum(outputs(p), range(len(p.positions))),
    )  # fmt: skip
    expected = linear.apply({"params": params, "batch_stats": stats}, IMAGES)
    close(totals["layers_0"]["kernel"].ravel(), np.sum(expected, (0, 1, 2)))


def test_a_slope_for_each_channel_is_not_a_norm():
    params = {"w": jnp.eye(4), "slope": jnp.full((1, 4), -2.0)}
    for activation in (
        lambda x, slope: jnp.where(x > 0, x, slope * x),
        lambda x, slope: jnp.maximum(x, 0) + slope * jnp.minimum(x, 0),
    ):
        totals = found(
            lambda p, x, f=activation: f(x @ p["w"], p["slope"]), params, X, lambda p: jnp.sum(outputs(p), 0)
        )
        close(totals["w"], np.sum(X, 0)[None])


def test_a_residual_is_not_the_output_of_the_layer():
    totals = found(lambda p, x: x @ p + x, jnp.eye(4), X, lambda p: jnp.sum(outputs(p), 0))
    close(totals, np.sum(X, 0)[None])


def test_order_of_use_is_that_of_execution():
    params = {"a": jnp.eye(4), "b": jnp.eye(4), "c": jnp.ones(4), "d": jnp.stack([jnp.eye(4)] * 2)}

    def apply(p, x):
        x = jax.jit(lambda x: x @ p["b"] + p["c"][None])(x)
        return jax.lax.scan(lambda x, w: (x @ w, None), x, p["d"])[0] @ p["a"]

    assert order_of_use(apply, params, X) == [1, 3, 0]


def test_what_is_not_multiplied_has_no_total():
    params = {"embedding": jnp.ones((7, 4)), "w": jnp.ones((4, 2)), "none": None}
    totals = found(lambda p, i: p["embedding"][i] @ p["w"], params, jnp.array([0, 3]), input_squares)
    assert totals["embedding"] is None
    assert totals["none"] is None
    close(totals["w"], jnp.full((4, 1), 2.0))
