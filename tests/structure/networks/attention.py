"""Attention: fused and separate projections, projections of several axes, rotary embeddings, a cache."""

import jax
import jax.numpy as jnp

from tests.structure.networks._base import data, group, network
from tests.structure.networks._layers import attend, dense, dense_shapes, merge_heads, out, rows, split_heads

_SEQUENCE = data(2, 5, 3)


def _fused(heads: int, head_dim: int):
    width = heads * head_dim
    return {"qkv": dense_shapes(3, 3 * width), "out": dense_shapes(width, 6), "head": dense_shapes(6, 2)}


_FUSED_OUT = group(6, f"{out('out')} head/kernel:0")
_FUSED_FROZEN = f"qkv/kernel:0 {out('head')}"


def _finish(v, y):
    return dense(v["head"], dense(v["out"], merge_heads(y)).mean(1))


@network(
    variables=_fused(2, 4),
    inputs=(_SEQUENCE,),
    groups=(group(2, f"{rows('qkv', inner=4)} out/kernel:0/4"), _FUSED_OUT),  # rows 4h ... 4h + 3 of each third
    frozen=_FUSED_FROZEN,
)
def fused_qkv_thirds_first(v, x):
    b, t, _ = x.shape
    qkv = dense(v["qkv"], x).reshape(b, t, 3, -1, 4)
    return _finish(v, attend(qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2]))


@network(
    variables=_fused(3, 3),
    inputs=(data(3, 3, 3),),  # 3 examples, tokens, features, thirds, heads, channels of a head
    groups=(group(3, f"{rows('qkv', inner=3)} out/kernel:0/3"), _FUSED_OUT),
    frozen=_FUSED_FROZEN,
)
def fused_qkv_of_equal_sizes(v, x):
    b, t, _ = x.shape
    q, k, y = jnp.moveaxis(dense(v["qkv"], x).reshape(b, t, 3, -1, 3), 2, 0)
    return _finish(v, attend(q, k, y))


@network(
    variables=_fused(2, 4),
    inputs=(_SEQUENCE,),
    groups=(group(2, f"{rows('qkv', inner=12)} out/kernel:0/4"), _FUSED_OUT),  # rows 12h ... 12h + 11
    frozen=_FUSED_FROZEN,
)
def fused_qkv_heads_first(v, x):
    b, t, _ = x.shape
    qkv = dense(v["qkv"], x).reshape(b, t, -1, 3, 4)
    return _finish(v, attend(*(qkv[:, :, :, i] for i in range(3))))


@network(
    variables=_fused(2, 4),
    inputs=(_SEQUENCE,),
    groups=(group(2, f"{rows('qkv', inner=4)} out/kernel:0/4"), _FUSED_OUT),
    frozen=_FUSED_FROZEN,
)
def fused_qkv_split(v, x):
    return _finish(v, attend(*(split_heads(part, 4) for part in jnp.split(dense(v["qkv"], x), 3, axis=-1))))


_SEPARATE = {"q": dense_shapes(6, 8), "k": dense_shapes(6, 8), "v": dense_shapes(6, 8), "out": dense_shapes(8, 6)}


@network(
    variables={"embed": dense_shapes(3, 6), **_SEPARATE, "head": dense_shapes(6, 2)},
    inputs=(_SEQUENCE,),
    groups=(
        group(4, f"{rows('q', 'k', 'v', inner=2)} out/kernel:0/2"),
        group(6, f"{out('embed', 'out')} q/kernel:0 k/kernel:0 v/kernel:0 head/kernel:0"),
    ),
    frozen=f"embed/kernel:0 {out('head')}",
)
def separate_projections(v, x):
    x = dense(v["embed"], x)
    q, k, y = (split_heads(dense(v[name], x), 2).transpose(0, 2, 1, 3) for name in "qkv")  # [B, h, T, dh]
    causal = jnp.tril(jnp.ones((x.shape[1], x.shape[1]), bool))
    scores = jnp.where(causal[None, None], q @ k.swapaxes(2, 3) / jnp.sqrt(2.0), -1e9)
    y = (jax.nn.softmax(scores, axis=-1) @ y).transpose(0, 2, 1, 3)
    return dense(v["head"], x + dense(v["out"], merge_heads(y)))


_GENERAL = {"q": {"kernel": (3, 2, 4)}, "k": {"kernel": (3, 2, 4)}, "v": {"kernel": (3, 2, 5)}}
_GENERAL_HEADS = group(2, "q/kernel:1 k/kernel:1 v/kernel:1 out/kernel:0")
_GENERAL_REST = (group(5, "v/kernel:2 out/kernel:1"), group(6, "out/kernel:2 head/kernel:0"))
_GENERAL_FROZEN = f"q/kernel:0 k/kernel:0 v/kernel:0 {out('head')}"


def _general(v, x):
    return (jnp.einsum("btd,dhc->bthc", x, v[name]["kernel"]) for name in "qkv")


def _finish_general(v, y):
    return dense(v["head"], jnp.einsum("bthc,hcd->btd", y, v["out"]["kernel"]).mean(1))


@network(
    variables={**_GENERAL, "out": {"kernel": (2, 5, 6)}, "head": dense_shapes(6, 2)},
    inputs=(_SEQUENCE,),
    # The scale is a number in the program, so the products of queries and keys lose a channel exactly.
    groups=(_GENERAL_HEADS, group(4, "q/kernel:2 k/kernel:2"), *_GENERAL_REST),
    frozen=_GENERAL_FROZEN,
)
def general_projections(v, x):
    return _finish_general(v, attend(*_general(v, x)))


def _angles(tokens_: int, half: int):
    """Return angles [1, T, 1, half], counted in the program."""
    frequencies = 10.0 ** -(jnp.arange(half) / half)
    return jnp.arange(tokens_)[None, :, None, None] * frequencies[None, None, None, :]


def _rotate_halves(x):
    half = x.shape[-1] // 2
    angles = _angles(x.shape[1], half)
    angles = jnp.concatenate([angles, angles], -1)
    turned = jnp.concatenate([-x[..., half:], x[..., :half]], -1)
    return x * jnp.cos(angles) + turned * jnp.sin(angles)


def _rotate_pairs(x):
    pairs = x.reshape(*x.shape[:-1], -1, 2)
    angles = _angles(x.shape[1], pairs.shape[-2])
    a, b = pairs[..., 0], pairs[..., 1]
    turned = [a * jnp.cos(angles) - b * jnp.sin(angles), a * jnp.sin(angles) + b * jnp.cos(angles)]
    return jnp.stack(turned, axis=-1).reshape(x.shape)


def _rotary(name, rotate, pair):
    """Return a network of rotary embeddings whose axes of heads and channels are apart: pairs of channels may go."""

    def apply(v, x):
        q, k, y = _general(v, x)
        return _finish_general(v, attend(rotate(q), rotate(k), y))

    apply.__name__ = name
    return network(
        variables={**_GENERAL, "out": {"kernel": (2, 5, 6)}, "head": dense_shapes(6, 2)},
        inputs=(_SEQUENCE,),
        # the angles differ by channel: those of the channels that stay are needed
        groups=(_GENERAL_HEADS, pair, *_GENERAL_REST),
        frozen=_GENERAL_FROZEN,
        polymorphic=False,
    )(apply)


def _rotary_flat(name, rotate):
    """Return a network of rotary embeddings whose heads are split from a flat axis: only whole heads may go."""

    def apply(v, x):
        q, k, y = (split_heads(part, 4) for part in jnp.split(dense(v["qkv"], x), 3, axis=-1))
        return _finish(v, attend(rotate(q), rotate(k), y))

    apply.__name__ = name
    return network(
        variables=_fused(3, 4),
        inputs=(_SEQUENCE,),
        groups=(group(3, f"{rows('qkv', inner=4)} out/kernel:0/4"), _FUSED_OUT),
        frozen=_FUSED_FROZEN,
    )(apply)


ROTARY = (
    _rotary("rotary_halves", _rotate_halves, group(2, "q/kernel:2 k/kernel:2", symmetric=False)),
    _rotary("rotary_pairs", _rotate_pairs, group(2, "q/kernel:2/2 k/kernel:2/2", symmetric=False)),
    _rotary_flat("rotary_halves_of_flat_heads", _rotate_halves),
    _rotary_flat("rotary_pairs_of_flat_heads", _rotate_pairs),
)


@network(
    variables={**_GENERAL, "out": {"kernel": (2, 5, 6)}, "head": dense_shapes(6, 2)},
    inputs=(_SEQUENCE,),
    # the slopes are counted along the heads
    groups=(_GENERAL_HEADS._replace(symmetric=False), group(4, "q/kernel:2 k/kernel:2"), *_GENERAL_REST),
    frozen=_GENERAL_FROZEN,
    polymorphic=False,
)
def linear_biases(v, x):
    q, k, y = _general(v, x)
    t = jnp.arange(x.shape[1])
    slopes = 2.0 ** -jnp.arange(1, 3, dtype=jnp.float32)
    biases = -slopes[:, None, None] * jnp.abs(t[:, None] - t[None, :])[None]
    weights = jax.nn.softmax(jnp.einsum("bthd,bshd->bhts", q, k) + biases[None], axis=-1)
    return _finish_general(v, jnp.einsum("bhts,bshd->bthd", weights, y))


@network(
    variables={**_GENERAL, "mix": (2, 2), "out": {"kernel": (2, 5, 6)}, "head": dense_shapes(6, 2)},
    inputs=(_SEQUENCE,),
    groups=(
        group(2, "q/kernel:1 k/kernel:1 mix:0"),  # as many heads before as after the mix, yet not the same ones
        group(2, "v/kernel:1 mix:1 out/kernel:0"),
        group(4, "q/kernel:2 k/kernel:2"),
        *_GENERAL_REST,
    ),
    frozen=_GENERAL_FROZEN,
)
def talking_heads(v, x):
    q, k, y = _general(v, x)
    weights = jax.nn.softmax(jnp.einsum("bthd,bshd,hg->bgts", q, k, v["mix"]), axis=-1)
    return _finish_general(v, jnp.einsum("bgts,bsgd->btgd", weights, y))


@network(
    variables={**_GENERAL, "out": {"kernel": (2, 5, 6)}, "head": dense_shapes(6, 2)},
    inputs=(data(2, 1, 3), jnp.asarray(2)),
    groups=(_GENERAL_HEADS, group(4, "q/kernel:2 k/kernel:2"), *_GENERAL_REST),
    frozen=_GENERAL_FROZEN,
)
def cache_of_keys(v, x, step):
    q, k, y = _general(v, x)
    keys, values = (
        jax.lax.dynamic_update_slice_in_dim(jnp.zeros((z.shape[0], 6, *z.shape[2:])), z, step, axis=1) for z in (k, y)
    )
    return _finish_general(v, attend(q, keys, values))
