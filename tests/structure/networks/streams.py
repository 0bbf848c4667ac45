"""Streams that meet: on other axes than the channels', by stacking, by scattering, and in outputs that are left out."""

import operator

import jax
import jax.numpy as jnp

from tests.structure.networks._base import data, group, network
from tests.structure.networks._layers import conv, conv_out, conv_shapes, dense, dense_shapes, out

relu = jax.nn.relu

_TWO = {"left": dense_shapes(3, 5), "right": dense_shapes(4, 5), "head": dense_shapes(5, 2)}
_TWO_INPUTS = (data(2, 3), data(2, 4))
_TWO_GROUPS = (group(5, f"{out('left', 'right')} head/kernel:0"),)
_TWO_FROZEN = f"left/kernel:0 right/kernel:0 {out('head')}"


@network(variables=_TWO, inputs=_TWO_INPUTS, groups=_TWO_GROUPS, frozen=_TWO_FROZEN)
def concatenated_batches(v, x, y):
    return dense(v["head"], relu(jnp.concatenate([dense(v["left"], x), dense(v["right"], y)], axis=0)))


@network(variables=_TWO, inputs=_TWO_INPUTS, groups=_TWO_GROUPS, frozen=_TWO_FROZEN)
def stacked_branches(v, x, y):
    """The sum runs over the two branches, not over channels, so it is exact."""
    branches = jnp.stack([dense(v["left"], x), dense(v["right"], y)], axis=1)
    return dense(v["head"], branches.sum(1) * branches.max(1))


@network(
    variables={**_TWO, "mix": (2,)},
    inputs=_TWO_INPUTS,
    groups=_TWO_GROUPS,
    frozen=f"{_TWO_FROZEN} mix:0",  # the number of branches is the program's
)
def mixed_branches(v, x, y):
    branches = jnp.stack([dense(v["left"], x), dense(v["right"], y)], axis=-1)
    return dense(v["head"], branches @ jax.nn.softmax(v["mix"]))


@network(
    variables={"fc1": dense_shapes(3, 5), "fc2": dense_shapes(5, 4), "head": dense_shapes(4, 2)},
    inputs=(data(2, 6, 3),),
    groups=(group(5, f"{out('fc1')} fc2/kernel:0"), group(4, f"{out('fc2')} head/kernel:0")),
    frozen=f"fc1/kernel:0 {out('head')}",
)
def flattened_batch(v, x):
    b, t, _ = x.shape
    h = relu(dense(v["fc1"], x.reshape(b * t, -1)))
    h = relu(dense(v["fc2"], h.reshape(b, 2, t // 2, -1).transpose(0, 2, 1, 3)))
    return dense(v["head"], h.reshape(b, 1, t, -1)[:, 0])


@network(
    variables={"fc1": dense_shapes(3, 5), "fc2": dense_shapes(5, 4), "head": dense_shapes(4, 2)},
    inputs=(data(2, 3),),
    groups=(group(5, f"{out('fc1')} fc2/kernel:0"), group(4, f"{out('fc2')} head/kernel:0")),
    frozen=f"fc1/kernel:0 {out('head')}",
    polymorphic=False,  # sums of another order round otherwise
)
def half_precision(v, x):
    v = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), v)
    h = relu(dense(v["fc2"], relu(dense(v["fc1"], x.astype(jnp.bfloat16)))))
    return dense(v["head"], h).astype(jnp.float32)


@network(
    variables={
        "embed": dense_shapes(3, 5),
        "message": dense_shapes(5, 4),
        "update": dense_shapes(9, 5),
        "head": (5, 2),
    },
    inputs=(data(6, 3), jnp.asarray([0, 1, 2, 3, 5, 5, 0]), jnp.asarray([1, 2, 0, 4, 4, 3, 5])),
    groups=(
        group(5, f"{out('embed', 'update')} message/kernel:0 update/kernel:0[:5] head:0"),
        group(4, f"{out('message')} update/kernel:0[5:]"),
    ),
    frozen="embed/kernel:0 head:1",
)
def messages_on_a_graph(v, nodes, senders, receivers):
    h = dense(v["embed"], nodes)
    for _ in range(2):
        messages = relu(dense(v["message"], h[senders]))
        received = jax.ops.segment_sum(messages, receivers, h.shape[0])
        h = h + jnp.tanh(dense(v["update"], jnp.concatenate([h, received], axis=-1)))
    return h @ v["head"]


@network(
    variables={"embed": dense_shapes(3, 6), "fc": dense_shapes(6, 4), "head": dense_shapes(4, 2)},
    inputs=(data(2, 5, 3),),
    # a third of the channels sees the token before: where the thirds meet follows from the channels that stay
    groups=(
        group(6, f"{out('embed')} fc/kernel:0", symmetric=False),
        group(4, f"{out('fc')} head/kernel:0"),
    ),
    frozen=f"embed/kernel:0 {out('head')}",
    polymorphic=False,
)
def shifted_channels(v, x):
    x = dense(v["embed"], x)
    before = jnp.pad(x[:, :-1, :2], ((0, 0), (1, 0), (0, 0)))
    x = jnp.concatenate([before, x[:, :, 2:]], axis=-1)
    return dense(v["head"], relu(dense(v["fc"], jnp.roll(x, 1, axis=1))))


@network(
    variables={
        "conv": conv_shapes(3, 5),
        "next": conv_shapes(5, 4),
        "auxiliary": dense_shapes(5, 3),
        "head": dense_shapes(4, 2),
    },
    inputs=(data(2, 4, 6, 3),),
    groups=(
        # the auxiliary head reads the channels, whether or not its logits are selected
        group(5, f"{conv_out('conv')} next/kernel:2 auxiliary/kernel:0"),
        group(4, f"{conv_out('next')} head/kernel:0"),
        group(3, out("auxiliary"), required=False),  # an output that need not keep its shape; keeping it is safe
    ),
    frozen=f"conv/kernel:012 next/kernel:01 {out('head')}",
    outputs=operator.itemgetter("logits"),
)
def auxiliary_head(v, x):
    x = relu(conv(v["conv"], x))
    auxiliary = dense(v["auxiliary"], x.mean((1, 2)))
    return {"auxiliary": auxiliary, "logits": dense(v["head"], relu(conv(v["next"], x)).mean((1, 2)))}


@network(
    variables={"fc1": dense_shapes(3, 5), "left": dense_shapes(5, 2), "right": dense_shapes(5, 4)},
    inputs=(data(2, 3),),
    groups=(group(5, f"{out('fc1')} left/kernel:0 right/kernel:0"),),
    frozen=f"fc1/kernel:0 {out('left', 'right')}",
)
def two_outputs(v, x):
    h = relu(dense(v["fc1"], x))
    return {"left": dense(v["left"], h), "right": (dense(v["right"], h),)}
