"""Products of activations with each other, with constants, and under `vmap`."""

import jax
import jax.numpy as jnp

from tests.structure.networks._base import data, group, network
from tests.structure.networks._layers import conv, conv_out, conv_shapes, dense, dense_shapes, out, pool_mean

relu = jax.nn.relu

_TOWERS = {"left": dense_shapes(3, 5), "right": dense_shapes(4, 5)}
_TOWER_INPUTS = (data(2, 3), data(6, 4))
_TOWERS_FROZEN = "left/kernel:0 right/kernel:0"


@network(
    variables=_TOWERS,
    inputs=_TOWER_INPUTS,
    groups=(group(5, out("left", "right")),),  # one factor is zero, which is enough
    frozen=_TOWERS_FROZEN,
)
def two_towers(v, x, y):
    return jax.nn.sigmoid(dense(v["left"], x)) @ jnp.tanh(dense(v["right"], y)).T


@network(
    variables=_TOWERS,
    inputs=_TOWER_INPUTS,
    groups=(group(5, out("left", "right"), exact=False),),  # a masked channel adds 1/2 · 1/2 to every product
    frozen=_TOWERS_FROZEN,
)
def two_towers_of_sigmoids(v, x, y):
    return jax.nn.sigmoid(dense(v["left"], x)) @ jax.nn.sigmoid(dense(v["right"], y)).T


@network(
    variables={
        "q": {"kernel": (3, 2, 4)},
        "k": {"kernel": (3, 2, 4)},
        "v": {"kernel": (3, 2, 5)},
        "out": {"kernel": (2, 5, 6)},
        "head": dense_shapes(6, 2),
    },
    inputs=(data(2, 7, 3),),
    groups=(
        group(2, "q/kernel:1 k/kernel:1 v/kernel:1 out/kernel:0"),
        group(4, "q/kernel:2 k/kernel:2", exact=False),  # features of a masked channel are 1, and their products too
        group(5, "v/kernel:2 out/kernel:1"),
        group(6, "out/kernel:2 head/kernel:0"),
    ),
    frozen=f"q/kernel:0 k/kernel:0 v/kernel:0 {out('head')}",
)
def linear_attention(v, x):
    q, k, y = (jnp.einsum("btd,dhc->bthc", x, v[name]["kernel"]) for name in "qkv")
    q, k = jax.nn.elu(q) + 1.0, jax.nn.elu(k) + 1.0
    sums = jnp.einsum("bshc,bshd->bhcd", k, y)
    weights = jnp.einsum("bthc,bhc->bth", q, k.sum(1))
    y = jnp.einsum("bthc,bhcd->bthd", q, sums) / weights[..., None]
    return dense(v["head"], jnp.einsum("bthd,hdo->bto", y, v["out"]["kernel"]).mean(1))


@network(
    variables={
        "q": dense_shapes(3, 24),
        "k": dense_shapes(3, 8),
        "v": dense_shapes(3, 8),
        "out": dense_shapes(24, 6),
        "head": dense_shapes(6, 2),
    },
    inputs=(data(2, 5, 3),),
    groups=(
        group(
            2,
            "q/kernel:1/12 q/bias:0/12 k/kernel:1/4 k/bias:0/4 v/kernel:1/4 v/bias:0/4 out/kernel:0/12",
        ),
        group(6, f"{out('out')} head/kernel:0"),
    ),
    frozen=f"q/kernel:0 k/kernel:0 v/kernel:0 {out('head')}",
)
def attention_of_jax(v, x):
    """Six query heads share two heads of keys and values inside JAX's own function."""
    b, t, _ = x.shape
    q, k, y = (dense(v[name], x).reshape(b, t, -1, 4) for name in "qkv")
    y = jax.nn.dot_product_attention(q, k, y, is_causal=True, scale=0.5)
    return dense(v["head"], dense(v["out"], y.reshape(b, t, -1)).mean(1))


_EXPERTS = {
    "stem": dense_shapes(3, 4),
    "up": (3, 4, 6),
    "down": (3, 6, 5),
    "head": dense_shapes(5, 2),
}


@network(
    variables=_EXPERTS,
    inputs=(data(8, 3),),
    groups=(
        group(4, f"{out('stem')} up:1"),  # every expert reads the stream
        group(6, "up:2 down:1"),  # the same hidden channel of all experts, whose weights share an array
        group(5, "down:2 head/kernel:0"),
    ),
    frozen=f"stem/kernel:0 up:0 down:0 {out('head')}",
)
def experts_of_sorted_rows(v, x):
    sizes = jnp.array([2, 0, 6])
    h = jax.lax.ragged_dot(relu(dense(v["stem"], x)), v["up"], sizes)
    return dense(v["head"], jax.lax.ragged_dot(jnp.tanh(h), v["down"], sizes))


@network(
    variables={"left": dense_shapes(3, 4), "right": dense_shapes(3, 5), "head": dense_shapes(5, 2)},
    inputs=(data(8, 3),),
    groups=(group(4, out("left"), exact=None), group(5, f"{out('right')} head/kernel:0")),
    frozen=f"left/kernel:0 right/kernel:0 {out('head')}",
)
def products_of_groups_of_rows(v, x):
    """The rows of each group are summed over, as in the gradient of experts: (groups, left, right)."""
    numbers = jax.lax.RaggedDotDimensionNumbers((((0,), (0,)), ((), ())), [0], [])
    y = jax.lax.ragged_dot_general(
        jnp.tanh(dense(v["left"], x)), jnp.tanh(dense(v["right"], x)), jnp.array([3, 5]), numbers
    )
    return dense(v["head"], jnp.max(jnp.square(y), 0).sum(0))


_BLUR = jnp.asarray([[1.0, 2.0], [3.0, 4.0]])[:, :, None, None] / 10


@network(
    variables={"conv": conv_shapes(3, 5), "next": conv_shapes(5, 4), "head": dense_shapes(4, 2)},
    inputs=(data(2, 4, 6, 3),),
    groups=(
        group(5, f"{conv_out('conv')} next/kernel:2"),  # the constant kernel has no member
        group(4, f"{conv_out('next')} head/kernel:0"),
    ),
    frozen=f"conv/kernel:012 next/kernel:01 {out('head')}",
)
def blurred_pooling(v, x):
    x = relu(conv(v["conv"], x))
    width = x.shape[-1]
    x = jax.lax.conv_general_dilated(
        x,
        jnp.tile(_BLUR, (1, 1, 1, width)),
        (2, 2),
        "VALID",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=width,
    )
    return dense(v["head"], pool_mean(relu(conv(v["next"], x))))


@network(
    variables={"fc1": dense_shapes(3, 6), "fc2": dense_shapes(6, 4), "head": dense_shapes(4, 2)},
    inputs=(data(2, 3),),
    groups=(group(4, f"{out('fc2')} head/kernel:0"),),
    frozen=f"fc1/kernel:0 {out('fc1')} fc2/kernel:0 {out('head')}",  # the loop runs over the six channels
)
def scan_over_channels(v, x):
    def step(running, channel):
        running = jnp.tanh(running + channel + 1.0)
        return running, running

    _, h = jax.lax.scan(step, jnp.zeros(x.shape[0]), dense(v["fc1"], x).T)
    return dense(v["head"], relu(dense(v["fc2"], h.T)))


@network(
    variables={
        "conv1": {"kernel": (3, 3, 3, 3, 5), "bias": (3, 5)},
        "conv2": {"kernel": (3, 3, 3, 5, 4), "bias": (3, 4)},
        "head": dense_shapes(4, 2),
    },
    inputs=(data(2, 4, 6, 3),),
    # Under vmap the second layer is a convolution in three groups, one a network: a channel goes from each of them.
    groups=(
        group(5, "conv1/kernel:4 conv1/bias:1 conv2/kernel:3"),
        group(4, "conv2/kernel:4 conv2/bias:1 head/kernel:0"),
    ),
    frozen=f"conv1/kernel:0123 conv1/bias:0 conv2/kernel:012 conv2/bias:0 {out('head')}",
)
def vmapped_convolutions(v, x):
    def single(first, second):
        return pool_mean(relu(conv(second, relu(conv(first, x)))))

    return dense(v["head"], jax.vmap(single)(v["conv1"], v["conv2"]).max(0))


@network(
    variables={"up": (3, 4, 5), "down": (3, 5, 6), "bias": (3, 5), "head": dense_shapes(6, 2)},
    inputs=(data(3, 2, 4),),
    groups=(group(5, "up:2 bias:1 down:1"), group(6, "down:2 head/kernel:0")),
    frozen=f"up:01 bias:0 down:0 {out('head')}",  # each network has its own data
)
def vmapped_networks(v, x):
    single = lambda up, bias, down, x: jnp.tanh(x @ up + bias[None]) @ down
    return dense(v["head"], jax.vmap(single)(v["up"], v["bias"], v["down"], x))


@network(
    variables={"conv": conv_shapes(3, 6), "next": conv_shapes(6, 4), "head": dense_shapes(4, 2)},
    inputs=(data(2, 4, 6, 3),),
    groups=(group(4, f"{conv_out('next')} head/kernel:0"),),
    frozen=f"conv/kernel:0123 conv/bias:0 next/kernel:012 {out('head')}",  # neighbouring channels divide each other
)
def local_response_norm(v, x):
    x = relu(conv(v["conv"], x))
    near = jax.lax.reduce_window(x * x, 0.0, jax.lax.add, (1, 1, 1, 3), (1, 1, 1, 1), "SAME")
    return dense(v["head"], pool_mean(relu(conv(v["next"], x / jnp.sqrt(1.0 + near)))))
