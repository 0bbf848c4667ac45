"""Axes that look alike and are not: of size 1, of equal size, made of constants, indexed, or mixed by a primitive."""

import jax
import jax.numpy as jnp

from tests.structure.networks._base import data, group, network
from tests.structure.networks._layers import conv, conv_out, conv_shapes, dense, dense_shapes, last, out

relu = jax.nn.relu

_TWO = {"fc1": dense_shapes(3, 6), "fc2": dense_shapes(6, 4), "head": dense_shapes(4, 2)}
_HIDDEN = group(4, f"{out('fc2')} head/kernel:0")
_TWO_FROZEN = f"fc1/kernel:0 {out('head')}"
# What mixes the six channels of fc1 freezes them, and the four of fc2 stay removable.
_MIXED_FROZEN = f"fc1/kernel:0 {out('fc1')} fc2/kernel:0 {out('head')}"


@network(
    variables={
        "conv": {"kernel": (5, 3, 3, 3), "bias": (5,)},
        "next": {"kernel": (4, 5, 3, 3), "bias": (4,)},
        "head": dense_shapes(4, 2),
    },
    inputs=(data(2, 3, 6, 7), jnp.ones((2, 1, 6, 7)).at[:, :, 2:4].set(0.0)),
    groups=(
        group(5, "conv/kernel:0 conv/bias:0 next/kernel:1"),  # a zip with the mask would freeze channel 0
        group(4, "next/kernel:0 next/bias:0 head/kernel:0"),
    ),
    frozen=f"conv/kernel:123 next/kernel:23 {out('head')}",
)
def mask_of_one_channel(v, x, mask):
    x = relu(conv(v["conv"], x, layout="NCHW")) * mask
    x = jnp.where(mask > 0, conv(v["next"], x, layout="NCHW"), 0.0)
    return dense(v["head"], x.sum((2, 3)))


@network(
    variables={
        "fc1": dense_shapes(3, 5),
        "temperature": (1,),
        "slope": (1, 1),
        "offset": (),
        "head": dense_shapes(5, 2),
    },
    inputs=(data(2, 3), data(2, 1)),
    # a zip with the data of one column would freeze channel 0, or couple it with the slope
    groups=(group(5, f"{out('fc1')} head/kernel:0"),),
    frozen=f"fc1/kernel:0 {out('head')}",
)
def scalars_and_columns(v, x, weight):
    h = dense(v["fc1"], x) * weight * v["temperature"][None] + v["offset"]
    return dense(v["head"], jnp.where(h > 0, h, v["slope"] * h))


@network(
    variables={
        "fc1": dense_shapes(3, 5),
        "gate": {"kernel": (5, 1), "bias": (1,)},
        "fc2": dense_shapes(5, 4),
        "head": dense_shapes(4, 2),
    },
    inputs=(data(2, 3),),
    groups=(
        group(5, f"{out('fc1')} gate/kernel:0 fc2/kernel:0"),
        group(4, f"{out('fc2')} head/kernel:0"),  # a zip with the gate would couple channel 0 with the gate's output
    ),
    frozen=f"fc1/kernel:0 {out('head')}",
)
def gate_of_one_unit(v, x):
    h = relu(dense(v["fc1"], x))
    gate = jax.nn.sigmoid(dense(v["gate"], h))
    return dense(v["head"], dense(v["fc2"], h) * gate)


@network(
    variables={"conv": conv_shapes(1, 5), "next": conv_shapes(5, 1), "head": dense_shapes(30, 2)},
    inputs=(data(2, 5, 6, 1),),
    groups=(group(5, f"{conv_out('conv')} next/kernel:2"),),  # one channel in or out: not depthwise
    frozen=f"conv/kernel:01 next/kernel:01 head/kernel:0 {out('head')}",
)
def convolutions_from_and_to_one_channel(v, x):
    x = conv(v["next"], relu(conv(v["conv"], x)))
    return dense(v["head"], x.reshape(x.shape[0], -1))


@network(
    variables={"rows": (3, 4), "columns": (3, 5), "head": {"kernel": (4, 5, 2), "bias": (2,)}},
    inputs=(data(2, 3),),
    groups=(group(4, "rows:1 head/kernel:0"), group(5, "columns:1 head/kernel:1")),
    frozen="rows:0 columns:0 head/kernel:2 head/bias:0",
)
def outer_sum(v, x):
    grid = jnp.tanh((x @ v["rows"])[:, :, None] + (x @ v["columns"])[:, None, :])  # [B, 4, 1] and [B, 1, 5]
    return jnp.einsum("brc,rco->bo", grid, v["head"]["kernel"]) + v["head"]["bias"][None]


@network(
    variables={"rows": (3, 4), "columns": (3, 5), "head": dense_shapes(20, 2)},
    inputs=(data(2, 3),),
    # A flat axis merged from two live ones: the first owns all its positions, as in a split. Freezing both is safe.
    groups=(group(4, "rows:1 head/kernel:0/5", required=False),),
    frozen=f"rows:0 columns:01 {out('head')}",
)
def outer_product_flattened(v, x):
    grid = (x @ v["rows"])[:, :, None] * (x @ v["columns"])[:, None, :]
    return dense(v["head"], grid.reshape(x.shape[0], -1))


@network(
    variables={"fc1": dense_shapes(3, 5), "head": dense_shapes(25, 2)},
    inputs=(data(2, 4, 3),),
    # Channel i owns row i and column i of the 5×5: the flat axis has no atom of its own for either.
    frozen=f"fc1/kernel:0 {out('fc1')} head/kernel:0 {out('head')}",
)
def gram_matrix_flattened(v, x):
    h = dense(v["fc1"], x)
    return dense(v["head"], jnp.einsum("bti,btj->bij", h, h).reshape(x.shape[0], -1))


@network(
    variables={"fc1": dense_shapes(3, 8), "head": dense_shapes(8, 2)},
    inputs=(data(2, 3),),
    groups=(group(8, "fc1/kernel:1 fc1/bias:0 head/kernel:0+5"),),
    frozen=f"fc1/kernel:0 {out('head')}",
    polymorphic=False,
)
def split_and_swapped(v, x):
    a, b = jnp.split(relu(dense(v["fc1"], x)), [3], axis=-1)
    return dense(v["head"], jnp.concatenate([b, a], -1))


@network(
    variables={"fc1": dense_shapes(3, 6), "head": dense_shapes(4, 2)},
    inputs=(data(2, 3),),
    # 0 meets 2 meets 4, and 1 meets 3 meets 5
    groups=(group(2, "fc1/kernel:1 fc1/bias:0 head/kernel:0"),),
    frozen=f"fc1/kernel:0 {out('head')}",
)
def overlapping_slices(v, x):
    h = relu(dense(v["fc1"], x))
    step = h.shape[-1] // 3
    return dense(v["head"], h[:, : 2 * step] + h[:, step:])


@network(
    variables={"fc1": dense_shapes(3, 6), "head": dense_shapes(6, 2)},
    inputs=(data(2, 3),),
    groups=(
        group(
            3,
            "fc1/kernel:1[:3] fc1/kernel:1[:2:-1] fc1/bias:0[:3] fc1/bias:0[:2:-1] "
            "head/kernel:0[:3] head/kernel:0[:2:-1]",
        ),
    ),
    frozen=f"fc1/kernel:0 {out('head')}",
)
def mirrored_channels(v, x):
    h = dense(v["fc1"], x)
    return dense(v["head"], h * jnp.tanh(h[:, ::-1]))


_CONSTANT = jnp.linspace(1.0, 2.0, 6)


@network(
    variables=_TWO,
    inputs=(data(2, 3),),
    groups=(group(6, f"{out('fc1')} fc2/kernel:0", symmetric=False), _HIDDEN),
    frozen=_TWO_FROZEN,
    polymorphic=False,
)
def constant_by_channel(v, x):
    """A shrunk program needs the constant's entries of the channels that stay."""
    return dense(v["head"], relu(dense(v["fc2"], dense(v["fc1"], x) * _CONSTANT[None])))


@network(
    variables=_TWO,
    inputs=(data(2, 3),),
    groups=(group(6, f"{out('fc1')} fc2/kernel:0", symmetric=False), _HIDDEN),
    frozen=_TWO_FROZEN,
    polymorphic=False,
)
def frequencies_by_iota(v, x):
    """A shrunk program that counts to the new width would give other frequencies."""
    h = dense(v["fc1"], x)
    return dense(v["head"], relu(dense(v["fc2"], jnp.sin(h * 10.0 ** -last(jnp.arange(6) / 6, h)))))


@network(
    variables=_TWO,
    inputs=(data(2, 3), jax.random.key(3)),
    # Random bits at a new width are other bits. A replay may draw at the old width, which is exact, or flag the group.
    groups=(group(6, f"{out('fc1')} fc2/kernel:0", exact=None, required=False, symmetric=False), _HIDDEN),
    frozen=_TWO_FROZEN,
    polymorphic=False,
)
def dropout(v, x, key):
    h = relu(dense(v["fc1"], x))
    kept = jax.random.bernoulli(key, 0.5, h.shape)
    return dense(v["head"], relu(dense(v["fc2"], jnp.where(kept, h / 0.5, 0.0))))


def _mixed(name, mix):
    """Return a network in which a primitive mixes the channels of the first layer."""

    def apply(v, x):
        return dense(v["head"], relu(dense(v["fc2"], mix(dense(v["fc1"], x)))))

    apply.__name__ = name
    return network(variables=_TWO, inputs=(data(2, 3),), groups=(_HIDDEN,), frozen=_MIXED_FROZEN)(apply)


MIXED = (
    _mixed("sorted_channels", lambda h: jnp.sort(h, axis=-1)),
    _mixed("softmax_of_channels", lambda h: jax.nn.softmax(h, axis=-1)),
    _mixed("smallest_channel", lambda h: h - jnp.abs(h).min(-1, keepdims=True)),
    _mixed("top_channels", lambda h: jnp.where(h >= jax.lax.top_k(h, 2)[0][:, -1:], h, 0.0)),
    _mixed("eigenvectors", lambda h: h @ jnp.linalg.eigh(h.T @ h + jnp.diag(jnp.arange(6.0)))[1]),
    _mixed("fourier", lambda h: jnp.fft.fft(h).real),
)


@network(
    variables=_TWO,
    inputs=(data(2, 3),),
    # The channels that are taken by number stay, all of them. A row that reads one may go with its number.
    groups=(group(6, "fc2/kernel:0", required=False, symmetric=False), _HIDDEN),
    frozen=f"fc1/kernel:0 {out('fc1')} {out('head')}",
    polymorphic=False,
)
def gathered_channels(v, x):
    return dense(v["head"], relu(dense(v["fc2"], jnp.take(dense(v["fc1"], x), jnp.array([4, 0, 3, 1, 5, 2]), axis=-1))))


@network(
    variables=_TWO,
    inputs=(data(2, 3),),
    # Zeros add nothing to what comes after them, so a channel could go; freezing what is cumulated is safe too.
    groups=(group(6, f"{out('fc1')} fc2/kernel:0", exact=None, required=False, symmetric=False), _HIDDEN),
    frozen=_TWO_FROZEN,
)
def cumulated_channels(v, x):
    return dense(v["head"], relu(dense(v["fc2"], jnp.cumsum(dense(v["fc1"], x), axis=-1))))


@network(
    variables={**_TWO, "unused": {"kernel": (4, 5)}},
    inputs=(data(2, 3),),
    groups=(group(6, f"{out('fc1')} fc2/kernel:0"), _HIDDEN),
    frozen=f"{_TWO_FROZEN} unused/kernel:01",  # kept as it is, and reported
)
def unused_leaf(v, x):
    return dense(v["head"], relu(dense(v["fc2"], relu(dense(v["fc1"], x)))))


@network(
    variables={"experts": {"up": (4, 3, 5), "down": (4, 5, 6)}, "router": (3, 4), "head": dense_shapes(6, 2)},
    inputs=(data(2, 3),),
    groups=(group(5, "experts/up:2 experts/down:1"), group(6, "experts/down:2 head/kernel:0")),
    frozen=f"experts/up:01 experts/down:0 router:01 {out('head')}",  # the softmax holds the experts
)
def experts_by_softmax(v, x):
    h = relu(jnp.einsum("bd,edf->ebf", x, v["experts"]["up"]))
    y = jnp.einsum("ebf,efo->ebo", h, v["experts"]["down"])
    return dense(v["head"], jnp.einsum("be,ebo->bo", jax.nn.softmax(x @ v["router"]), y))


@network(
    variables={"up": (4, 3, 5), "down": (4, 5, 6), "weight": (4,), "head": dense_shapes(6, 2)},
    inputs=(data(2, 3),),
    groups=(
        group(4, "up:0 down:0 weight:0"),  # a whole network is a channel of the sum
        group(5, "up:2 down:1"),
        group(6, "down:2 head/kernel:0"),
    ),
    frozen=f"up:1 {out('head')}",
)
def ensemble_by_weights(v, x):
    y = jnp.einsum("ebf,efo->ebo", relu(jnp.einsum("bd,edf->ebf", x, v["up"])), v["down"])
    return dense(v["head"], jnp.einsum("e,ebo->bo", v["weight"], y))


@network(
    variables={"fc1": dense_shapes(3, 5), "fc2": dense_shapes(5, 4), "head": dense_shapes(4, 2)},
    inputs=(data(2, 3),),
    # |x| sums squares, to which zeros add nothing; a norm is not told from a mean of squares, though
    groups=(group(5, f"{out('fc1')} fc2/kernel:0", exact=None), group(4, f"{out('fc2')} head/kernel:0")),
    frozen=f"fc1/kernel:0 {out('head')}",
)
def features_of_unit_length(v, x):
    h = dense(v["fc1"], x)
    h = h / jnp.sqrt(jnp.square(h).sum(-1, keepdims=True) + 1e-6)
    return dense(v["head"], jnp.tanh(dense(v["fc2"], h)))
