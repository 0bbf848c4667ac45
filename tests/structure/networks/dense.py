"""Dense networks: streams, gated units, embeddings, shared layers, and orders of axes."""

import jax
import jax.numpy as jnp

from tests.structure.networks._base import data, group, network, tokens
from tests.structure.networks._layers import (
    affine_places,
    affine_shapes,
    batch_norm,
    dense,
    dense_shapes,
    last,
    layer_norm,
    norm_places,
    norm_shapes,
    out,
)

relu = jax.nn.relu


@network(
    variables={"fc1": dense_shapes(3, 5), "fc2": dense_shapes(5, 4), "head": dense_shapes(4, 2)},
    inputs=(data(6, 3),),
    groups=(group(5, f"{out('fc1')} fc2/kernel:0"), group(4, f"{out('fc2')} head/kernel:0")),
    frozen=f"fc1/kernel:0 {out('head')}",
)
def mlp(v, x):
    return dense(v["head"], jnp.tanh(dense(v["fc2"], relu(dense(v["fc1"], x)))))


@network(
    variables={"fc1": dense_shapes(4, 4), "fc2": dense_shapes(4, 4), "head": dense_shapes(4, 4)},
    inputs=(data(4, 4),),
    groups=(group(4, f"{out('fc1')} fc2/kernel:0"), group(4, f"{out('fc2')} head/kernel:0")),
    frozen=f"fc1/kernel:0 {out('head')}",
)
def mlp_of_equal_sizes(v, x):
    # sigmoid(0) is not 0: masked equals removed only since the consumer's rows are members too
    return dense(v["head"], jax.nn.sigmoid(dense(v["fc2"], jax.nn.sigmoid(dense(v["fc1"], x)))))


@network(
    variables={"fc1": dense_shapes(3, 5), "bn": norm_shapes(5), "head": dense_shapes(5, 2)},
    inputs=(data(6, 3),),
    groups=(group(5, f"{out('fc1')} {norm_places('bn')} head/kernel:0"),),
    frozen=f"fc1/kernel:0 {out('head')}",
)
def mlp_batch_norm(v, x):
    return dense(v["head"], relu(batch_norm(v["bn"], dense(v["fc1"], x))))


_GATED = {"fc": dense_shapes(3, 10), "head": dense_shapes(5, 2)}
_GATED_FROZEN = f"fc/kernel:0 {out('head')}"


@network(
    variables=_GATED,
    inputs=(data(6, 3),),
    groups=(group(5, "fc/kernel:1 fc/bias:0 head/kernel:0"),),  # channels i and i + 5
    frozen=_GATED_FROZEN,
)
def glu_split(v, x):
    a, b = jnp.split(dense(v["fc"], x), 2, axis=-1)
    return dense(v["head"], a * jax.nn.sigmoid(b))


@network(
    variables=_GATED,
    inputs=(data(6, 3),),
    groups=(group(5, "fc/kernel:1 fc/bias:0 head/kernel:0"),),
    frozen=_GATED_FROZEN,
)
def glu_slices(v, x):
    h = dense(v["fc"], x)
    half = h.shape[-1] // 2
    return dense(v["head"], jax.nn.silu(h[:, :half]) * h[:, half:])


@network(
    variables=_GATED,
    inputs=(data(6, 3),),
    # the 2 is indexed away, so 5 is the first axis that stays live
    groups=(group(5, "fc/kernel:1 fc/bias:0 head/kernel:0"),),
    frozen=_GATED_FROZEN,
)
def glu_reshape_outer_pair(v, x):
    h = dense(v["fc"], x).reshape(x.shape[0], 2, -1)
    return dense(v["head"], jax.nn.silu(h[:, 0]) * h[:, 1])


@network(
    variables=_GATED,
    inputs=(data(6, 3),),
    groups=(group(5, "fc/kernel:1/2 fc/bias:0/2 head/kernel:0"),),  # channels 2i and 2i + 1
    frozen=_GATED_FROZEN,
)
def glu_reshape_inner_pair(v, x):
    h = dense(v["fc"], x).reshape(x.shape[0], -1, 2)
    return dense(v["head"], jax.nn.silu(h[:, :, 0]) * h[:, :, 1])


@network(
    variables=_GATED,
    inputs=(data(6, 3),),
    groups=(group(5, "fc/kernel:1/2 fc/bias:0/2 head/kernel:0"),),
    frozen=_GATED_FROZEN,
)
def glu_strided(v, x):
    h = dense(v["fc"], x)
    a, b = (jax.lax.slice_in_dim(h, start, h.shape[1], stride=2, axis=1) for start in (0, 1))
    return dense(v["head"], jax.nn.silu(a) * b)


@network(
    variables={"fc": dense_shapes(4, 12), "head": dense_shapes(4, 2)},
    inputs=(data(2, 4),),
    groups=(group(4, "fc/kernel:1/3 fc/bias:0/3 head/kernel:0"),),  # the pieces of unit i are 3i, 3i + 1, 3i + 2
    frozen=f"fc/kernel:0 {out('head')}",
)
def maxout_units_first(v, x):
    return dense(v["head"], dense(v["fc"], x).reshape(x.shape[0], -1, 3).max(-1))


@network(
    variables={"fc": dense_shapes(4, 12), "head": dense_shapes(4, 2)},
    inputs=(data(2, 4),),
    groups=(group(4, "fc/kernel:1 fc/bias:0 head/kernel:0"),),  # i, i + 4, i + 8: the maximum freezes the first axis
    frozen=f"fc/kernel:0 {out('head')}",
)
def maxout_pieces_first(v, x):
    return dense(v["head"], dense(v["fc"], x).reshape(x.shape[0], 3, -1).max(1))


_BLOCK = {"up": dense_shapes(5, 7), "down": dense_shapes(7, 5)}


@network(
    variables={
        "embed": dense_shapes(3, 5),
        "block1": {**_BLOCK, "gamma": (5,)},
        "block2": {**_BLOCK, "gamma": (5,)},
        "head": dense_shapes(5, 2),
    },
    inputs=(data(2, 4, 3),),
    groups=(
        group(
            5,
            f"{out('embed', 'block1/down', 'block2/down')} block1/up/kernel:0 block2/up/kernel:0 "
            "block1/gamma:0 block2/gamma:0 head/kernel:0",
        ),
        group(7, f"{out('block1/up')} block1/down/kernel:0"),
        group(7, f"{out('block2/up')} block2/down/kernel:0"),
    ),
    frozen=f"embed/kernel:0 {out('head')}",
)
def residual_layer_scale(v, x):
    x = dense(v["embed"], x)
    for block in (v["block1"], v["block2"]):
        y = dense(block["down"], relu(dense(block["up"], x)))
        x = x + last(block["gamma"], x) * y
    return dense(v["head"], x.sum(1))


@network(
    variables={
        "embed": dense_shapes(3, 5),
        "norm": affine_shapes(5),
        **_BLOCK,
        "head": dense_shapes(5, 2),
    },
    inputs=(data(2, 4, 3),),
    groups=(
        group(5, f"{out('embed', 'down')} {affine_places('norm')} up/kernel:0 head/kernel:0", exact=False),
        group(7, f"{out('up')} down/kernel:0"),
    ),
    frozen=f"embed/kernel:0 {out('head')}",
)
def residual_layer_norm(v, x):
    x = dense(v["embed"], x)
    x = x + dense(v["down"], jax.nn.gelu(dense(v["up"], layer_norm(v["norm"], x))))
    return dense(v["head"], x[:, 0])


@network(
    variables={"embed": dense_shapes(3, 5), "norm": {"scale": (5,)}, **_BLOCK, "head": dense_shapes(5, 2)},
    inputs=(data(2, 5, 3),),  # as many tokens as channels
    groups=(
        group(5, f"{out('embed', 'down')} norm/scale:0 up/kernel:0 head/kernel:0", exact=False),
        group(7, f"{out('up')} down/kernel:0"),
    ),
    frozen=f"embed/kernel:0 {out('head')}",
)
def residual_rms_norm(v, x):
    x = dense(v["embed"], x)
    normal = x * jax.lax.rsqrt(jnp.square(x).mean(-1, keepdims=True) + 1e-5) * last(v["norm"]["scale"], x)
    x = x + dense(v["down"], jax.nn.silu(dense(v["up"], normal)))
    return dense(v["head"], x[:, 0])


@network(
    variables={"embed": (6, 5), "fc": dense_shapes(5, 5), "position": (4, 5)},
    inputs=(tokens(2, 4, vocabulary=6),),
    # the vocabulary is indexed by tokens, and its logits are the output
    groups=(group(5, f"embed:1 {out('fc')} fc/kernel:0 position:1"),),
    frozen="embed:0 position:0",
)
def tied_embeddings(v, ids):
    x = v["embed"][ids] + v["position"][None]
    x = x + jnp.tanh(dense(v["fc"], x))
    return x @ v["embed"].T


@network(
    variables={"embed": (6, 5), "head": dense_shapes(5, 2)},
    inputs=(tokens(2, 4, vocabulary=6),),
    groups=(
        group(5, "embed:1 head/kernel:0"),
        # A token whose row is removed matches nothing and gives zeros, as a zero row does: removable as far as this
        # program goes. An implementation that freezes what is compared with data is right too.
        group(6, "embed:0", required=False, symmetric=False),
    ),
    frozen=out("head"),
    polymorphic=False,
)
def one_hot_embedding(v, ids):
    return dense(v["head"], jax.nn.one_hot(ids, 6) @ v["embed"])


@network(
    variables={"embed": dense_shapes(3, 5), "shared": dense_shapes(5, 5), "head": dense_shapes(5, 2)},
    inputs=(data(5, 3),),
    groups=(group(5, f"{out('embed', 'shared')} shared/kernel:0 head/kernel:0"),),
    frozen=f"embed/kernel:0 {out('head')}",
)
def shared_layer_twice(v, x):
    x = dense(v["embed"], x)
    for _ in range(2):
        x = relu(dense(v["shared"], x))
    return dense(v["head"], x)


@network(
    variables={"tower": dense_shapes(3, 5), "head": dense_shapes(10, 2)},
    inputs=(data(2, 3), data(2, 3)),
    groups=(group(5, f"{out('tower')} head/kernel:0"),),  # head rows i and i + 5
    frozen=f"tower/kernel:0 {out('head')}",
)
def siamese_concatenation(v, x, y):
    return dense(v["head"], jnp.concatenate([relu(dense(v["tower"], z)) for z in (x, y)], -1))


@network(
    variables={"w1": (5, 3), "w2": (4, 6, 5), "w3": (2, 4), "bias": (4, 6)},
    inputs=(data(2, 3, 7),),
    groups=(
        group(5, "w1:0 w2:2"),
        group(4, "w2:0 bias:0 w3:1"),
        group(6, "w2:1 bias:1", exact=None),  # summed away, as in a mean
    ),
    frozen="w1:1 w3:0",
)
def einsum_orders(v, x):
    h = jnp.tanh(jnp.einsum("bdt,fd->tfb", x, v["w1"]))
    h = jnp.einsum("gkf,tfb->bgtk", v["w2"], h) + v["bias"][None, :, None, :]
    return jnp.einsum("bgt,og->otb", relu(h).sum(-1), v["w3"])


@network(
    variables={"fc1": dense_shapes(3, 5), "fc2": dense_shapes(5, 5), "head": dense_shapes(5, 2)},
    inputs=(data(2, 3),),
    groups=(group(5, f"{out('fc1')} fc2/kernel:0"), group(5, f"{out('fc2')} head/kernel:0")),
    frozen=f"fc1/kernel:0 {out('head')}",
)
def vmapped_examples(v, x):
    """The batch axis comes and goes, so axes sit elsewhere in the program than in the source."""

    def single(row):
        return jnp.tanh(v["fc2"]["kernel"].T @ relu(row @ v["fc1"]["kernel"] + v["fc1"]["bias"]) + v["fc2"]["bias"])

    return dense(v["head"], jax.vmap(single, out_axes=1)(x).T)
