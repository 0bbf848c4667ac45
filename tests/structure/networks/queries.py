"""Attention in which several heads of queries share the keys and values of a head, or all of them do."""

import jax
import jax.numpy as jnp

from tests.structure.networks._base import data, group, network
from tests.structure.networks._layers import attend, dense, dense_shapes, merge_heads, out, rows, split_heads

_SEQUENCE = data(2, 5, 3)
_STREAM = group(6, f"{out('out')} head/kernel:0")


def _finish(v, y):
    return dense(v["head"], dense(v["out"], merge_heads(y)).mean(1))


def _grouped_queries(q_heads: int, kv_heads: int, head_dim: int):
    q, kv = q_heads * head_dim, kv_heads * head_dim
    return {
        "q": dense_shapes(3, q),
        "k": dense_shapes(3, kv),
        "v": dense_shapes(3, kv),
        "out": dense_shapes(q, 6),
        "head": dense_shapes(6, 2),
    }


_KV_FROZEN = f"q/kernel:0 k/kernel:0 v/kernel:0 {out('head')}"
_GQA = {
    "variables": _grouped_queries(6, 2, 4),
    "inputs": (_SEQUENCE,),
    # a kv head and its three query heads
    "groups": (group(2, f"{rows('q', inner=12)} {rows('k', 'v', inner=4)} out/kernel:0/12"), _STREAM),
    "frozen": _KV_FROZEN,
}


@network(**_GQA)
def grouped_queries_repeated(v, x):
    q, k, y = (split_heads(dense(v[name], x), 4) for name in "qkv")
    return _finish(v, attend(q, jnp.repeat(k, 3, axis=2), jnp.repeat(y, 3, axis=2)))


@network(**_GQA)
def grouped_queries_reshaped(v, x):
    b, t, _ = x.shape
    q = dense(v["q"], x).reshape(b, t, -1, 3, 4)
    k, y = (split_heads(dense(v[name], x), 4) for name in "kv")
    weights = jax.nn.softmax(jnp.einsum("btgrd,bsgd->bgrts", q, k) * 0.5, axis=-1)
    return _finish(v, jnp.einsum("bgrts,bsgd->btgrd", weights, y).reshape(b, t, -1, 4))


@network(
    **{
        **_GQA,
        # query heads g, g + 2, g + 4
        "groups": (group(2, f"{rows('q', 'k', 'v', inner=4)} out/kernel:0/4"), _STREAM),
    }
)
def grouped_queries_tiled(v, x):
    q, k, y = (split_heads(dense(v[name], x), 4) for name in "qkv")
    return _finish(v, attend(q, jnp.tile(k, (1, 1, 3, 1)), jnp.tile(y, (1, 1, 3, 1))))


@network(
    variables={
        "q": {"kernel": (3, 2, 3, 4)},
        "k": {"kernel": (3, 2, 4)},
        "v": {"kernel": (3, 2, 5)},
        "out": {"kernel": (2, 3, 5, 6)},
        "head": dense_shapes(6, 2),
    },
    inputs=(_SEQUENCE,),
    groups=(
        group(2, "q/kernel:1 k/kernel:1 v/kernel:1 out/kernel:0"),
        group(3, "q/kernel:2 out/kernel:1"),  # the same query head of each kv head: keys and values stay
        group(4, "q/kernel:3 k/kernel:2"),
        group(5, "v/kernel:2 out/kernel:2"),
        group(6, "out/kernel:3 head/kernel:0"),
    ),
    frozen=f"q/kernel:0 k/kernel:0 v/kernel:0 {out('head')}",
)
def grouped_queries_of_own_axes(v, x):
    q = jnp.einsum("btd,dgrc->btgrc", x, v["q"]["kernel"])
    k, y = (jnp.einsum("btd,dgc->btgc", x, v[name]["kernel"]) for name in "kv")
    weights = jax.nn.softmax(jnp.einsum("btgrc,bsgc->bgrts", q, k), axis=-1)
    y = jnp.einsum("bgrts,bsgc,grcd->btd", weights, y, v["out"]["kernel"])
    return dense(v["head"], y.mean(1))


_MQA = {
    "variables": _grouped_queries(3, 1, 4),
    "inputs": (_SEQUENCE,),
    # A single query head; the flat axes of q and out make the channels of a head frozen, in k and v too.
    "groups": (group(3, f"{rows('q', inner=4)} out/kernel:0/4"), _STREAM),
    "frozen": f"{_KV_FROZEN} {out('k', 'v')}",
}


@network(**_MQA)
def multi_query_broadcast(v, x):
    q, k, y = split_heads(dense(v["q"], x), 4), dense(v["k"], x), dense(v["v"], x)
    weights = jax.nn.softmax(jnp.einsum("bthd,bsd->bhts", q, k), axis=-1)
    return _finish(v, jnp.einsum("bhts,bsd->bthd", weights, y))


@network(**_MQA)
def multi_query_repeated(v, x):
    q, k, y = (split_heads(dense(v[name], x), 4) for name in "qkv")
    heads = q.shape[2]
    return _finish(v, attend(q, jnp.repeat(k, heads, axis=2), jnp.repeat(y, heads, axis=2)))


@network(**_MQA)
def multi_query_reshaped(v, x):
    b, t, _ = x.shape
    q = dense(v["q"], x).reshape(b, t, 1, -1, 4)
    k, y = (split_heads(dense(v[name], x), 4) for name in "kv")
    weights = jax.nn.softmax(jnp.einsum("btgrd,bsgd->bgrts", q, k) * 0.5, axis=-1)
    return _finish(v, jnp.einsum("bgrts,bsgd->btgrd", weights, y).reshape(b, t, -1, 4))
