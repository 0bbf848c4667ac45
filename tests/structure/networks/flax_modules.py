"""Modules of flax, linen and nnx, whose widths are fixed in the program."""

import operator

import flax.linen as nn
import jax.numpy as jnp
from flax import nnx

from tests.structure.networks._base import data, group, network, tokens
from tests.structure.networks._layers import affine_places, affine_shapes, conv_out, conv_shapes, dense_shapes, out

_IMAGES = data(2, 6, 7, 3)


def _stats(width: int):
    return {"mean": (width,), "var": (width,)}


_MLP = nn.Sequential([nn.Dense(5), nn.relu, nn.Dense(4), jnp.tanh, nn.Dense(2)])


@network(
    variables={
        "params": {"layers_0": dense_shapes(3, 5), "layers_2": dense_shapes(5, 4), "layers_4": dense_shapes(4, 2)}
    },
    inputs=(data(6, 3),),
    groups=(
        group(5, f"{out('params/layers_0')} params/layers_2/kernel:0"),
        group(4, f"{out('params/layers_2')} params/layers_4/kernel:0"),
    ),
    frozen=f"params/layers_0/kernel:0 {out('params/layers_4')}",
    polymorphic=False,
)
def linen_mlp(v, x):
    return _MLP.apply(v, x)


class _Cnn(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        x = nn.Conv(5, (3, 3))(x)
        x = nn.max_pool(nn.relu(nn.BatchNorm(use_running_average=not train)(x)), (2, 2), (2, 2))  # 3×3
        x = x + nn.Conv(5, (3, 3), feature_group_count=5)(x)
        x = nn.avg_pool(nn.relu(nn.Conv(4, (1, 1), use_bias=False)(x)), (3, 1))  # 1×3
        return nn.Dense(2)(x.reshape(x.shape[0], -1))


_CNN = {
    "variables": {
        "params": {
            "Conv_0": conv_shapes(3, 5),
            "BatchNorm_0": affine_shapes(5),
            "Conv_1": conv_shapes(1, 5),
            "Conv_2": {"kernel": (1, 1, 5, 4)},
            "Dense_0": dense_shapes(12, 2),
        },
        "batch_stats": {"BatchNorm_0": _stats(5)},
    },
    "inputs": (_IMAGES,),
    "groups": (
        group(
            5,
            f"{conv_out('params/Conv_0', 'params/Conv_1')} {affine_places('params/BatchNorm_0')} "
            "batch_stats/BatchNorm_0/mean:0 batch_stats/BatchNorm_0/var:0 params/Conv_2/kernel:2",
        ),
        group(4, "params/Conv_2/kernel:3 params/Dense_0/kernel:0"),
    ),
    "frozen": f"params/Conv_0/kernel:012 params/Conv_1/kernel:01 {out('params/Dense_0')}",
    "polymorphic": False,
}


@network(**_CNN)
def linen_cnn_evaluated(v, x):
    return _Cnn().apply(v, x, train=False)


@network(**_CNN, outputs=operator.itemgetter(0))
def linen_cnn_trained(v, x):
    return _Cnn().apply(v, x, train=True, mutable=["batch_stats"])


class _Attention(nn.Module):
    @nn.compact
    def __call__(self, x, mask):
        x = nn.Dense(6)(x)
        y = nn.MultiHeadDotProductAttention(num_heads=2, qkv_features=8)(x, mask=mask)
        return nn.Dense(3)((x + y).mean(1))


def _general(name: str) -> str:
    return f"params/MultiHeadDotProductAttention_0/{name}"


def _projection():
    return {"kernel": (6, 2, 4), "bias": (2, 4)}


@network(
    variables={
        "params": {
            "Dense_0": dense_shapes(3, 6),
            "MultiHeadDotProductAttention_0": {
                "query": _projection(),
                "key": _projection(),
                "value": _projection(),
                "out": {"kernel": (2, 4, 6), "bias": (6,)},
            },
            "Dense_1": dense_shapes(6, 3),
        }
    },
    inputs=(data(2, 5, 3), jnp.ones((2, 1, 5, 5), bool).at[:, :, :, 3:].set(False)),
    groups=(
        group(
            6,
            f"{out('params/Dense_0')} {' '.join(_general(name) + '/kernel:0' for name in ('query', 'key', 'value'))} "
            f"{_general('out')}/kernel:2 {_general('out')}/bias:0 params/Dense_1/kernel:0",
        ),
        group(
            2,
            " ".join(f"{_general(n)}/kernel:1 {_general(n)}/bias:0" for n in ("query", "key", "value"))
            + f" {_general('out')}/kernel:0",
        ),
        group(4, " ".join(f"{_general(n)}/kernel:2 {_general(n)}/bias:1" for n in ("query", "key"))),
        group(4, f"{_general('value')}/kernel:2 {_general('value')}/bias:1 {_general('out')}/kernel:1"),
    ),
    frozen=f"params/Dense_0/kernel:0 {out('params/Dense_1')}",
    polymorphic=False,
)
def linen_attention(v, x, mask):
    return _Attention().apply(v, x, mask)


class _Recurrent(nn.Module):
    cell: type[nn.RNNCellBase]

    @nn.compact
    def __call__(self, x):
        return nn.Dense(2)(nn.RNN(self.cell(4, name="cell"), name="rnn")(x)[:, -1])


def _gates(of_input: str, of_state: str, biased: str):
    """Return the shapes of the gates of a cell, and their places; `biased` names those with a bias."""
    shapes, places = {}, []
    for gates, n_in, axes in ((of_input.split(), 3, "1"), (of_state.split(), 4, "01")):
        for gate in gates:
            shapes[gate] = {"kernel": (n_in, 4), **({"bias": (4,)} if gate in biased.split() else {})}
            places.append(f"params/cell/{gate}/kernel:{axes}")
    places += [f"params/cell/{gate}/bias:0" for gate in biased.split()]
    frozen = " ".join(f"params/cell/{gate}/kernel:0" for gate in of_input.split())
    return {
        "variables": {"params": {"cell": shapes, "Dense_0": dense_shapes(4, 2)}},
        "inputs": (data(2, 5, 3),),
        "groups": (group(4, f"{' '.join(places)} params/Dense_0/kernel:0"),),
        "frozen": f"{frozen} {out('params/Dense_0')}",
        "polymorphic": False,
    }


@network(**_gates("ii if ig io", "hi hf hg ho", "hi hf hg ho"))
def linen_optimized_lstm(v, x):
    return _Recurrent(nn.OptimizedLSTMCell).apply(v, x)


@network(**_gates("ir iz in", "hr hz hn", "ir iz in hn"))
def linen_gru(v, x):
    return _Recurrent(nn.GRUCell).apply(v, x)


class _Block(nn.Module):
    @nn.compact
    def __call__(self, x, _):
        y = nn.Dense(5)(nn.LayerNorm()(x))
        return x + nn.Dense(6)(nn.gelu(y)), None


class _Stack(nn.Module):
    @nn.compact
    def __call__(self, ids):
        embed = nn.Embed(7, 6, name="embed")
        layers = nn.scan(nn.remat(_Block), variable_axes={"params": 0}, split_rngs={"params": True}, length=3)
        return embed.attend(layers(name="layers")(embed(ids), None)[0])


@network(
    variables={
        "params": {
            "embed": {"embedding": (7, 6)},
            "layers": {
                "LayerNorm_0": {"scale": (3, 6), "bias": (3, 6)},
                "Dense_0": {"kernel": (3, 6, 5), "bias": (3, 5)},
                "Dense_1": {"kernel": (3, 5, 6), "bias": (3, 6)},
            },
        }
    },
    inputs=(tokens(2, 4, vocabulary=7),),
    groups=(
        group(
            6,
            "params/embed/embedding:1 params/layers/LayerNorm_0/scale:1 params/layers/LayerNorm_0/bias:1 "
            "params/layers/Dense_0/kernel:1 params/layers/Dense_1/kernel:2 params/layers/Dense_1/bias:1",
            exact=False,
        ),
        group(5, "params/layers/Dense_0/kernel:2 params/layers/Dense_0/bias:1 params/layers/Dense_1/kernel:1"),
    ),
    frozen="params/embed/embedding:0 params/layers/LayerNorm_0/scale:0 params/layers/LayerNorm_0/bias:0 "
    "params/layers/Dense_0/kernel:0 params/layers/Dense_0/bias:0 params/layers/Dense_1/kernel:0 "
    "params/layers/Dense_1/bias:0",
    polymorphic=False,
)
def linen_scanned_blocks(v, ids):
    return _Stack().apply(v, ids)


class _Normalised(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.GroupNorm(num_groups=3)(nn.Conv(6, (3, 3))(x)))
        return nn.Dense(2)(x.mean((1, 2)))


@network(
    variables={"params": {"Conv_0": conv_shapes(3, 6), "GroupNorm_0": affine_shapes(6), "Dense_0": dense_shapes(6, 2)}},
    inputs=(_IMAGES,),
    groups=(
        group(
            3,
            "params/Conv_0/kernel:3/2 params/Conv_0/bias:0/2 params/GroupNorm_0/scale:0/2 "
            "params/GroupNorm_0/bias:0/2 params/Dense_0/kernel:0/2",
        ),
    ),
    frozen=f"params/Conv_0/kernel:012 {out('params/Dense_0')}",
    polymorphic=False,
)
def linen_group_norm(v, x):
    return _Normalised().apply(v, x)


class _Nnx(nnx.Module):
    def __init__(self):
        rngs = nnx.Rngs(0)
        self.conv1 = nnx.Conv(3, 5, (3, 3), rngs=rngs)
        self.bn = nnx.BatchNorm(5, rngs=rngs)
        self.conv2 = nnx.Conv(5, 4, (3, 3), strides=2, rngs=rngs)
        self.head = nnx.Linear(4, 2, rngs=rngs)

    def __call__(self, x):
        x = nnx.relu(self.bn(self.conv1(x)))
        return self.head(nnx.relu(self.conv2(x)).mean((1, 2)))


_GRAPH, _STATE = nnx.split(nnx.eval_shape(_Nnx))
_NNX = {
    "variables": _STATE,
    "inputs": (_IMAGES,),
    "groups": (
        group(5, f"{conv_out('conv1')} bn/scale:0 bn/bias:0 bn/mean:0 bn/var:0 conv2/kernel:2"),
        group(4, f"{conv_out('conv2')} head/kernel:0"),
    ),
    "frozen": f"conv1/kernel:012 conv2/kernel:01 {out('head')}",
    "polymorphic": False,
}


@network(**_NNX)
def nnx_cnn_evaluated(state, x):
    model = nnx.merge(_GRAPH, state)
    model.eval()
    return model(x)


@network(**_NNX, outputs=operator.itemgetter(0))
def nnx_cnn_trained(state, x):
    model = nnx.merge(_GRAPH, state)
    model.train()
    return model(x), nnx.state(model, nnx.BatchStat)


_NNX_ATTENTION, _NNX_ATTENTION_STATE = nnx.split(
    nnx.eval_shape(lambda: nnx.MultiHeadAttention(2, 3, qkv_features=8, out_features=6, decode=False, rngs=nnx.Rngs(0)))
)


@network(
    variables=_NNX_ATTENTION_STATE,
    inputs=(data(2, 5, 3),),
    groups=(
        group(
            2,
            " ".join(f"{name}/kernel:1 {name}/bias:0" for name in ("query", "key", "value")) + " out/kernel:0",
        ),
        group(4, "query/kernel:2 query/bias:1 key/kernel:2 key/bias:1"),
        group(4, "value/kernel:2 value/bias:1 out/kernel:1"),
    ),
    frozen="query/kernel:0 key/kernel:0 value/kernel:0 out/kernel:2 out/bias:0",
    polymorphic=False,
)
def nnx_attention(state, x):
    return nnx.merge(_NNX_ATTENTION, state)(x, deterministic=True)
