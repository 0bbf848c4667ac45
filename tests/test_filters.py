"""The default filter takes the weights of every known layer and nothing else, and filters compose."""

import equinox as eqx
import flax.linen as nn
import haiku as hk
import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from jaxticket import _tree, filters
from jaxticket.errors import InputError, NoMatchError

KEY = jax.random.key(0)
X = jnp.ones((2, 4, 3))


class Linen(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = x + nn.Embed(5, 3, name="tokens")(jnp.zeros((2, 4), int))
        x = nn.LayerNorm(reduction_axes=(-2, -1), feature_axes=(-2, -1), name="norm")(x)
        x = nn.Conv(3, (2,), name="conv")(nn.Dense(3, name="dense")(x))
        x = nn.MultiHeadDotProductAttention(num_heads=3, name="attention")(x)
        return nn.RNN(nn.GRUCell(3, name="gru"))(x)


def linen():
    return Linen().init(KEY, X)["params"]


class Nnx(nnx.Module):
    def __init__(self):
        rngs = nnx.Rngs(0)
        self.tokens = nnx.Embed(5, 4, rngs=rngs)
        self.norm = nnx.LayerNorm(4, rngs=rngs)
        self.dense = nnx.Linear(4, 2, rngs=rngs)
        self.conv = nnx.Conv(2, 3, (2,), rngs=rngs)
        self.attention = nnx.MultiHeadAttention(2, 4, decode=False, rngs=rngs)
        self.gru = nnx.GRUCell(4, 4, rngs=rngs)


def haiku():
    def network(x):
        x = x + hk.Embed(5, 3, name="tokens")(jnp.zeros((2, 4), int))
        x = hk.LayerNorm(-1, True, True, name="norm")(x)
        x = hk.Conv1D(3, 2, name="conv")(hk.Linear(3, name="dense")(x))
        cells = hk.GRU(3, name="gru"), hk.LSTM(3, name="lstm"), hk.VanillaRNN(3, name="rnn")
        return [cell(x[:, 0], cell.initial_state(2)) for cell in cells]

    return hk.transform(network).init(KEY, X)


class Equinox(eqx.Module):
    tokens: eqx.nn.Embedding
    norm: eqx.nn.LayerNorm
    scale: eqx.nn.RMSNorm
    embedding: eqx.nn.Linear  # a layer that is only called like one
    stack: eqx.nn.Sequential
    conv: eqx.nn.Conv2d
    attention: eqx.nn.MultiheadAttention
    gru: eqx.nn.GRUCell
    lstm: eqx.nn.LSTMCell

    def __init__(self):
        self.tokens = eqx.nn.Embedding(5, 4, key=KEY)
        self.norm = eqx.nn.LayerNorm((2, 3))
        self.scale = eqx.nn.RMSNorm((2, 3))
        self.embedding = eqx.nn.Linear(3, 2, key=KEY)
        self.stack = eqx.nn.Sequential([eqx.nn.Embedding(5, 4, key=KEY), eqx.nn.Linear(4, 3, key=KEY)])
        self.conv = eqx.nn.Conv2d(2, 3, 2, key=KEY)
        self.attention = eqx.nn.MultiheadAttention(2, 4, key=KEY)
        self.gru = eqx.nn.GRUCell(3, 2, key=KEY)
        self.lstm = eqx.nn.LSTMCell(3, 2, key=KEY)


def torch():
    vector, matrix, kernel = jnp.ones(3), jnp.ones((3, 4)), jnp.ones((3, 4, 2, 2))
    return {
        "embeddings.word_embeddings.weight": matrix,
        "wte.weight": matrix,
        "embed_tokens.weight": matrix,
        "embeddings.LayerNorm.weight": matrix,
        "ln_1.weight": matrix,
        "bn1.weight": vector,
        "patch_embed.weight": kernel,
        "layers.0.conv.weight": kernel,
        "layers.0.fc.weight": matrix,
        "layers.0.fc.bias": vector,
        "attention.in_proj_weight": matrix,
        "attention.in_proj_bias": vector,
        "rnn.weight_ih_l0": matrix,
        "rnn.weight_hh_l0_reverse": matrix,
        "rnn.bias_ih_l0": vector,
    }


_ATTENTION = {f"attention/{name}/kernel" for name in ("query", "key", "value", "out")}
_GRU = ("ir", "iz", "in", "hr", "hz", "hn")
WEIGHTS = {
    "linen": (linen, {"dense/kernel", "conv/kernel", *_ATTENTION, *(f"gru/{name}/kernel" for name in _GRU)}),
    "nnx": (
        lambda: nnx.state(Nnx(), nnx.Param),
        {"dense/kernel", "conv/kernel", *_ATTENTION, "gru/dense_i/kernel", "gru/dense_h/kernel"},
    ),
    "haiku": (
        haiku,
        {"dense/w", "conv/w", "gru/w_i", "gru/w_h", "lstm/linear/w", "rnn/linear/w", "rnn/linear_1/w"},
    ),
    "equinox": (
        lambda: eqx.filter(Equinox(), eqx.is_inexact_array),
        {
            "embedding/weight",
            "stack/layers/1/weight",
            "conv/weight",
            *(f"attention/{name}_proj/weight" for name in ("query", "key", "value", "output")),
            *(f"{cell}/{name}" for cell in ("gru", "lstm") for name in ("weight_ih", "weight_hh")),
        },
    ),
    "torch": (
        torch,
        {
            "patch_embed.weight",
            "layers.0.conv.weight",
            "layers.0.fc.weight",
            "attention.in_proj_weight",
            "rnn.weight_ih_l0",
            "rnn.weight_hh_l0_reverse",
        },
    ),
    "dict": (
        lambda: {"embed": {"w": jnp.ones((3, 2))}, "norm": {"w": jnp.ones((3, 2))}, "out": {"w": jnp.ones((3, 2))}},
        {"out/w"},
    ),
}


def taken(where, params):
    chosen = zip(_tree.leaves(_tree.names(params)), _tree.leaves(where(params)), strict=True)
    return {name for name, keep in chosen if keep}


@pytest.mark.parametrize("framework", WEIGHTS)
def test_the_default_takes_the_weights_of_known_layers(framework):
    make, expected = WEIGHTS[framework]
    assert taken(filters.weights(), make()) == expected


@pytest.mark.parametrize("framework", WEIGHTS)
def test_masks_and_gradients_have_the_same_weights(framework):
    params = WEIGHTS[framework][0]()
    mask = filters.full_mask(params, filters.weights())
    gradients = jax.tree.map(jnp.zeros_like, params)
    assert jax.tree.structure(filters.only(gradients, filters.weights())) == jax.tree.structure(mask)


PARAMS = {
    "embed": {"embedding": jnp.ones((5, 2))},
    "query": {"kernel": jnp.ones((2, 2, 2)), "bias": jnp.ones((2, 2))},
    "norm": {"scale": jnp.ones(2)},
    "out": {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)},
    "step": jnp.zeros((), int),
    "absent": None,
}


def only_out(params):
    """A filter that is a plain function."""
    return {name: jax.tree.map(lambda _: name == "out", leaf) for name, leaf in params.items()}


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (filters.weights(include="embed"), {"query/kernel", "out/kernel", "embed/embedding"}),
        (filters.weights(exclude="^out"), {"query/kernel"}),
        (filters.weights(include="embed", exclude="query|out"), {"embed/embedding"}),
        (filters.weights() & filters.match("query"), {"query/kernel"}),
        (filters.match("query") | filters.match("scale$"), {"query/kernel", "norm/scale"}),
        (
            ~filters.weights(),
            {"embed/embedding", "query/bias", "norm/scale", "out/bias"},
        ),
        (filters.weights() & ~filters.match("query"), {"out/kernel"}),
        (filters.weights() & only_out, {"out/kernel"}),
        (only_out & filters.weights(), {"out/kernel"}),
        (only_out | filters.match("scale"), {"norm/scale", "out/kernel", "out/bias"}),
    ],
)
def test_filters_compose(where, expected):
    assert taken(where, PARAMS) == expected
    assert where(PARAMS)["absent"] is None


@pytest.mark.parametrize(
    ("regex", "expected"),
    [
        ("query|out", {"query/kernel", "out/kernel"}),
        ("^out/", {"out/kernel"}),
        ("^out/.", {"out/kernel", "out/bias"}),
        ("norm|bias$", {"query/bias", "out/bias"}),
        ("scale", {"norm/scale"}),
    ],
)
def test_a_match_of_a_layer_leaves_its_bias(regex, expected):
    assert taken(filters.match(regex), PARAMS) == expected


@pytest.mark.parametrize("argument", ["include", "exclude"])
def test_a_regex_without_a_leaf_raises(argument):
    with pytest.raises(NoMatchError, match=f"{argument}='nowhere'.*out/kernel"):
        filters.weights(**{argument: "nowhere"})(PARAMS)


def test_a_filter_composes_with_functions_only():
    with pytest.raises(InputError, match="not dict"):
        filters.weights() & {"out": True}
