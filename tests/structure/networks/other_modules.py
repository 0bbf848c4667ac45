"""Modules of haiku and of equinox."""

import equinox as eqx
import haiku as hk
import jax
import jax.numpy as jnp

from tests.structure.networks._base import data, group, network


def _linear(n_in: int, n_out: int):
    return {"w": (n_in, n_out), "b": (n_out,)}


def _outputs(*names: str, inner: int = 1) -> str:
    return " ".join(f"{name}/w:1/{inner} {name}/b:0/{inner}" for name in names)


_HAIKU_MLP = hk.without_apply_rng(hk.transform(lambda x: hk.nets.MLP([5, 4, 2])(x)))


@network(
    variables={"mlp/~/linear_0": _linear(3, 5), "mlp/~/linear_1": _linear(5, 4), "mlp/~/linear_2": _linear(4, 2)},
    inputs=(data(6, 3),),
    groups=(
        group(5, f"{_outputs('mlp/~/linear_0')} mlp/~/linear_1/w:0"),
        group(4, f"{_outputs('mlp/~/linear_1')} mlp/~/linear_2/w:0"),
    ),
    frozen=f"mlp/~/linear_0/w:0 {_outputs('mlp/~/linear_2')}",
    polymorphic=False,
)
def haiku_mlp(v, x):
    return _HAIKU_MLP.apply(v, x)


def _haiku_cnn_of(x, train):
    x = hk.Conv2D(5, 3, name="conv1")(x)
    x = jax.nn.relu(hk.BatchNorm(True, True, 0.9, name="bn")(x, is_training=train))
    x = jax.nn.relu(hk.Conv2D(4, 3, name="conv2")(x)).mean((1, 2))
    return hk.Linear(2, name="head")(x)


_HAIKU_CNN = hk.without_apply_rng(hk.transform_with_state(_haiku_cnn_of))


def _average(name: str):
    return {
        f"bn/~/{name}": {
            "counter": jax.ShapeDtypeStruct((), jnp.int32),
            "hidden": (1, 1, 1, 5),
            "average": (1, 1, 1, 5),
        }
    }


_HAIKU = {
    "variables": {
        "params": {
            "conv1": {"w": (3, 3, 3, 5), "b": (5,)},
            "bn": {"scale": (1, 1, 1, 5), "offset": (1, 1, 1, 5)},
            "conv2": {"w": (3, 3, 5, 4), "b": (4,)},
            "head": _linear(4, 2),
        },
        "state": {**_average("mean_ema"), **_average("var_ema")},
    },
    "inputs": (data(2, 6, 7, 3),),
    "groups": (
        group(
            5,
            "params/conv1/w:3 params/conv1/b:0 params/bn/scale:3 params/bn/offset:3 params/conv2/w:2 "
            "state/bn/~/mean_ema/hidden:3 state/bn/~/mean_ema/average:3 state/bn/~/var_ema/hidden:3 "
            "state/bn/~/var_ema/average:3",
        ),
        group(4, "params/conv2/w:3 params/conv2/b:0 params/head/w:0"),
    ),
    "frozen": f"params/conv1/w:012 params/conv2/w:01 {_outputs('params/head')}",
    "polymorphic": False,
}


@network(**_HAIKU, outputs=lambda both: both[0])
def haiku_cnn_trained(v, x):
    return _HAIKU_CNN.apply(v["params"], v["state"], x, True)


@network(
    **{
        **_HAIKU,
        # Evaluation reads the averages alone: the state before bias correction is unused, kept and reported. Shrinking
        # it beside the averages would be as good, but the program does not tell.
        "groups": (
            group(
                5,
                "params/conv1/w:3 params/conv1/b:0 params/bn/scale:3 params/bn/offset:3 params/conv2/w:2 "
                "state/bn/~/mean_ema/average:3 state/bn/~/var_ema/average:3",
            ),
            _HAIKU["groups"][1],
        ),
        "frozen": f"{_HAIKU['frozen']} state/bn/~/mean_ema/hidden:3 state/bn/~/var_ema/hidden:3",
    }
)
def haiku_cnn_evaluated(v, x):
    return _HAIKU_CNN.apply(v["params"], v["state"], x, False)[0]


def _haiku_attention_of(x):
    x = hk.Linear(6, name="embed")(x)
    attention = hk.MultiHeadAttention(2, 4, w_init=hk.initializers.RandomNormal(), model_size=6, name="attention")
    return hk.Linear(2, name="head")(x + attention(x, x, x))


_HAIKU_ATTENTION = hk.without_apply_rng(hk.transform(_haiku_attention_of))
_PROJECTIONS = ("attention/query", "attention/key", "attention/value")


@network(
    variables={
        "embed": _linear(3, 6),
        **{name: _linear(6, 8) for name in _PROJECTIONS},
        "attention/linear": _linear(8, 6),
        "head": _linear(6, 2),
    },
    inputs=(data(2, 5, 3),),
    groups=(
        group(2, f"{_outputs(*_PROJECTIONS, inner=4)} attention/linear/w:0/4"),
        group(
            6,
            f"{_outputs('embed', 'attention/linear')} {' '.join(name + '/w:0' for name in _PROJECTIONS)} head/w:0",
        ),
    ),
    frozen=f"embed/w:0 {_outputs('head')}",
    polymorphic=False,
)
def haiku_attention(v, x):
    return _HAIKU_ATTENTION.apply(v, x)


def _haiku_lstm_of(x):
    core = hk.LSTM(4)
    states, _ = hk.dynamic_unroll(core, x, core.initial_state(x.shape[1]))
    return hk.Linear(2, name="head")(states)


_HAIKU_LSTM = hk.without_apply_rng(hk.transform(_haiku_lstm_of))


@network(
    variables={"lstm/linear": _linear(7, 16), "head": _linear(4, 2)},
    inputs=(data(5, 2, 3),),
    # a kernel for the input and the state together, of which the input's three rows stay
    groups=(group(4, f"{_outputs('lstm/linear')} lstm/linear/w:0[3:] head/w:0"),),
    frozen=_outputs("head"),
    polymorphic=False,
)
def haiku_lstm(v, x):
    return _HAIKU_LSTM.apply(v, x)


def _parts(make):
    """Return the shapes of a module's arrays, and a function that makes the module of arrays."""
    shapes, static = eqx.partition(eqx.filter_eval_shape(make), lambda x: isinstance(x, jax.ShapeDtypeStruct))
    return shapes, lambda arrays: eqx.combine(arrays, static)


_EQX_MLP, _eqx_mlp = _parts(lambda: eqx.nn.MLP(3, 2, 5, depth=2, key=jax.random.key(0)))


@network(
    variables=_EQX_MLP,
    inputs=(data(6, 3),),
    groups=(
        group(5, "layers/0/weight:0 layers/0/bias:0 layers/1/weight:1"),
        group(5, "layers/1/weight:0 layers/1/bias:0 layers/2/weight:1"),
    ),
    frozen="layers/0/weight:1 layers/2/weight:0 layers/2/bias:0",
)
def equinox_mlp(v, x):
    return jax.vmap(_eqx_mlp(v))(x)


class _EqxCnn(eqx.Module):
    conv: eqx.nn.Conv2d
    norm: eqx.nn.GroupNorm
    depth: eqx.nn.Conv2d
    head: eqx.nn.Linear

    def __init__(self):
        key = jax.random.key(0)
        self.conv = eqx.nn.Conv2d(3, 6, 3, key=key)
        self.norm = eqx.nn.GroupNorm(3, 6)
        self.depth = eqx.nn.Conv2d(6, 6, 2, groups=6, key=key)
        self.head = eqx.nn.Linear(48, 2, key=key)

    def __call__(self, x):
        x = jax.nn.relu(self.norm(self.conv(x)))
        return self.head(jax.nn.relu(self.depth(x)).reshape(-1))  # 6×2×4


_EQX_CNN, _eqx_cnn = _parts(_EqxCnn)


@network(
    variables=_EQX_CNN,
    inputs=(data(2, 3, 5, 7),),
    groups=(
        # whole groups of two channels, each of which has eight positions in the head
        group(
            3,
            "conv/weight:0/2 conv/bias:0/2 norm/weight:0/2 norm/bias:0/2 depth/weight:0/2 depth/bias:0/2 "
            "head/weight:1/16",
        ),
    ),
    frozen="conv/weight:123 depth/weight:23 head/weight:0 head/bias:0",
    polymorphic=False,
)
def equinox_cnn(v, x):
    return jax.vmap(_eqx_cnn(v))(x)


_EQX_ATTENTION, _eqx_attention = _parts(
    lambda: eqx.nn.MultiheadAttention(
        2, 3, qk_size=4, vo_size=5, output_size=6, use_query_bias=True, key=jax.random.key(0)
    )
)


@network(
    variables=_EQX_ATTENTION,
    inputs=(data(2, 5, 3),),
    groups=(
        group(
            2,
            "query_proj/weight:0/4 query_proj/bias:0/4 key_proj/weight:0/4 value_proj/weight:0/5 "
            "output_proj/weight:1/5",
        ),
    ),
    frozen="query_proj/weight:1 key_proj/weight:1 value_proj/weight:1 output_proj/weight:0",
    polymorphic=False,
)
def equinox_attention(v, x):
    return jax.vmap(lambda x: _eqx_attention(v)(x, x, x))(x)


_EQX_GRU, _eqx_gru = _parts(lambda: {"cell": eqx.nn.GRUCell(3, 4, key=jax.random.key(0)), "head": jnp.ones((2, 4))})


@network(
    variables=_EQX_GRU,
    inputs=(data(2, 5, 3),),
    groups=(group(4, "cell/weight_ih:0 cell/weight_hh:01 cell/bias:0 cell/bias_n:0 head:1"),),
    frozen="cell/weight_ih:1 head:0",
    polymorphic=False,
)
def equinox_gru(v, x):
    def single(x):
        model = _eqx_gru(v)
        h, _ = jax.lax.scan(lambda h, x: (model["cell"](x, h), None), jnp.zeros(4), x)
        return model["head"] @ h

    return jax.vmap(single)(x)
