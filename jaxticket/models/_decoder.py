"""Language models of the Llama kind: RMS norms, rotary positions, grouped-query attention and gated perceptrons."""

import functools
from collections.abc import Callable, Collection
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxticket._checks import check_count, check_number, check_sizes
from jaxticket._dtypes import wide
from jaxticket.errors import InputError
from jaxticket.models import _layers, _rotary, _transformer
from jaxticket.models._layers import nnx
from jaxticket.models._model import Model, of_stages
from jaxticket.models._rotary import Rotary
from jaxticket.typing import Key, Params, PyTree, Stages

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "silu": jax.nn.silu,
    "gelu": functools.partial(jax.nn.gelu, approximate=False),
    "gelu_tanh": functools.partial(jax.nn.gelu, approximate=True),
    "relu": jax.nn.relu,
}
_BIASED = ("query", "key", "value", "out", "gate", "hidden", "output")


class _Sizes(NamedTuple):
    heads: int
    key_value_heads: int
    depth: int
    width: int
    hidden: int


class _Design(NamedTuple):
    """The settings of a block beyond its arrays."""

    scale: float  # of query · key
    epsilon: float
    norm_offset: float
    activation: Callable[[jax.Array], jax.Array]
    frequencies: np.ndarray
    window: int | None


def decoder(
    *,
    vocabulary: int,
    layers: int,
    heads: int,
    width: int,
    hidden: int,
    key_value_heads: int | None = None,
    depth: int | None = None,
    activation: str = "silu",
    epsilon: float = 1e-6,
    rotary: Rotary = Rotary(),
    window: int | None = None,
    biases: Collection[str] = (),
    query_norm: bool = False,
    norm_offset: float = 0.0,
    embedding_scale: float = 1.0,
    tied: bool = False,
) -> Model:
    """Build a language model of the Llama kind: tokens of shape (batch, time) to logits (batch, time, vocabulary).

    Blocks are pre-norm: grouped-query attention with rotary positions, then a gated perceptron (Touvron et al., 2023;
    Ainslie et al., 2023; Shazeer, 2020). Norms divide by the root mean square, which is computed in float32. The
    arguments make Llama, Mistral (`window`), Qwen2 (`biases`), Qwen3 (`query_norm`) and Gemma (`norm_offset`,
    `embedding_scale`). Kernels and embeddings are normal with deviation 0.02, biases zero. Heads, hidden units and
    blocks are read from the parameters, not so the channels of a head. No token sees later ones, so padding belongs at
    the end. The model raises InputError for tokens that are not integers.

    Args:
      vocabulary: the number of tokens.
      layers: the number of blocks.
      heads: the number of attention heads.
      width: the size of a hidden state.
      hidden: the units of a perceptron.
      key_value_heads: the heads of keys and values, each for as many heads of queries; None: `heads`.
      depth: the channels of a head; None: width / heads.
      activation: "silu", "gelu", "gelu_tanh" or "relu", of the gates.
      epsilon: added to the mean squares of norms.
      rotary: the frequencies of positions.
      window: the tokens that a token sees, itself included; None: all earlier ones.
      biases: the layers that have one: "query", "key", "value", "out", "gate", "hidden", "output".
      query_norm: whether queries and keys are normalised, head by head.
      norm_offset: added to the scales of norms, which start at 1 minus it.
      embedding_scale: the number that embeddings are multiplied by.
      tied: whether logits are by the transposed embedding.

    Returns:
      A Model. Kernels of queries, keys and values are (width, heads, depth), that of `out` is (heads, depth, width).

    Raises:
      InputError: sizes below 1, heads that do not divide, an odd depth, a name that is not listed.

    Examples:
      >>> import functools, jax
      >>> model = decoder(vocabulary=50, layers=1, heads=4, key_value_heads=2, width=16, hidden=24)
      >>> params, state = jax.eval_shape(model.init, jax.random.key(0))
      >>> run = functools.partial(model.apply, train=False, key=None)
      >>> jax.eval_shape(run, params, state, jax.numpy.ones((3, 5), int))[0].shape
      (3, 5, 50)
      >>> params["blocks"]["block1"]["attention"]["key"]["kernel"].shape
      (16, 2, 4)
    """
    sizes = _sizes(heads=heads, key_value_heads=key_value_heads, depth=depth, width=width, hidden=hidden)
    check_sizes(vocabulary=vocabulary, layers=layers)
    check_number(epsilon=epsilon, norm_offset=norm_offset, embedding_scale=embedding_scale)
    _check_names(activation, biases)
    if window is not None:
        check_count(1, window=window)
    design = _Design(
        scale=sizes.depth**-0.5,
        epsilon=epsilon,
        norm_offset=norm_offset,
        activation=ACTIVATIONS[activation],
        frequencies=rotary.frequencies(sizes.depth),
        window=window,
    )

    def init(key: Key) -> tuple[Params, PyTree]:
        rngs, normal = _layers.keys(key), nnx.initializers.normal(0.02)
        norm = functools.partial(_new_norm, offset=norm_offset, rngs=rngs)
        block = functools.partial(_new_block, sizes, frozenset(biases), query_norm=query_norm, norm=norm, rngs=rngs)
        head = {} if tied else {"output": _new_dense((width,), (vocabulary,), biased=False, rngs=rngs)}
        return _layers.pure(
            {
                "token": nnx.Embed(vocabulary, width, embedding_init=normal, rngs=rngs),
                "blocks": {f"block{index}": block() for index in range(1, layers + 1)},
                "norm": norm(width),
                **head,
            }
        )

    def embed(params: Params, x: jax.Array) -> jax.Array:
        embedded = _transformer.embed(params["token"], x)
        return embedded * jnp.asarray(embedding_scale, embedded.dtype)

    def head(params: Params, x: jax.Array) -> jax.Array:
        return _transformer.logits(params, _norm(params["norm"], x, design))

    return of_stages(init, Stages(embed, functools.partial(_block, design=design), head))


def _block(params: Params, x: jax.Array, *, design: _Design) -> jax.Array:
    x = x + _attention(params["attention"], _norm(params["norm1"], x, design), design)
    y, mlp = _norm(params["norm2"], x, design), params["mlp"]
    gate = design.activation(_layers.dense(mlp["gate"], y))
    return x + _layers.dense(mlp["output"], gate * _layers.dense(mlp["hidden"], y))


def _attention(params: Params, x: jax.Array, design: _Design) -> jax.Array:
    query, key, value = (_transformer.project(params[name], x) for name in ("query", "key", "value"))
    if "query_norm" in params:
        query, key = _norm(params["query_norm"], query, design), _norm(params["key_norm"], key, design)
    query, key = (_rotary.rotate(part, design.frequencies) for part in (query, key))
    sharing = query.shape[2] // key.shape[2]  # heads of queries for one of keys
    key, value = (jnp.repeat(part, sharing, axis=2) for part in (key, value))
    visible = _transformer.past(x.shape[1], window=design.window)
    return _transformer.join(params["out"], _transformer.attend(query, key, value, visible, scale=design.scale))


def _norm(params: Params, x: jax.Array, design: _Design) -> jax.Array:
    """Divide x by its root mean square over the last axis, and multiply it by the scales, in float32 at least."""
    large = wide(x)
    mean = jnp.mean(jnp.square(large), axis=-1, keepdims=True)
    scale = jnp.expand_dims(design.norm_offset + wide(params["scale"]), range(x.ndim - 1))
    return (large * jax.lax.rsqrt(mean + design.epsilon) * scale).astype(x.dtype)


def _new_block(
    sizes: _Sizes, biases: frozenset[str], *, query_norm: bool, norm: Callable[[int], nnx.RMSNorm], rngs: nnx.Rngs
) -> _layers.Layers:
    def new(name: str, inputs: tuple[int, ...], outputs: tuple[int, ...]) -> nnx.LinearGeneral:
        return _new_dense(inputs, outputs, biased=name in biases, rngs=rngs)

    width, shared = (sizes.width,), (sizes.key_value_heads, sizes.depth)
    return {
        "norm1": norm(sizes.width),
        "attention": {
            "query": new("query", width, (sizes.heads, sizes.depth)),
            "key": new("key", width, shared),
            "value": new("value", width, shared),
            "out": new("out", (sizes.heads, sizes.depth), width),
            **({name: norm(sizes.depth) for name in ("query_norm", "key_norm")} if query_norm else {}),
        },
        "norm2": norm(sizes.width),
        "mlp": {
            "gate": new("gate", width, (sizes.hidden,)),
            "hidden": new("hidden", width, (sizes.hidden,)),
            "output": new("output", (sizes.hidden,), width),
        },
    }


def _new_dense(inputs: tuple[int, ...], outputs: tuple[int, ...], *, biased: bool, rngs: nnx.Rngs) -> nnx.LinearGeneral:
    normal, axes = nnx.initializers.normal(0.02), tuple(range(-len(inputs), 0))
    return nnx.LinearGeneral(inputs, outputs, axis=axes, kernel_init=normal, use_bias=biased, rngs=rngs)


def _new_norm(width: int, *, offset: float, rngs: nnx.Rngs) -> nnx.RMSNorm:
    return nnx.RMSNorm(width, scale_init=nnx.initializers.constant(1 - offset), rngs=rngs)


def _sizes(*, heads: int, key_value_heads: int | None, depth: int | None, width: int, hidden: int) -> _Sizes:
    """Return the sizes of a block, checked."""
    key_value_heads = heads if key_value_heads is None else key_value_heads
    check_sizes(heads=heads, key_value_heads=key_value_heads, width=width, hidden=hidden)
    if heads % key_value_heads:
        raise InputError(f"heads={heads} must be a multiple of key_value_heads={key_value_heads}")
    if depth is None and width % heads:
        raise InputError(f"width={width} is not a multiple of heads={heads}; pass depth=, the channels of a head")
    depth = width // heads if depth is None else depth
    if depth < 2 or depth % 2:
        raise InputError(f"depth={depth} must be even: rotary positions turn pairs of the channels of a head")
    return _Sizes(heads, key_value_heads, depth, width, hidden)


def _check_names(activation: str, biases: Collection[str]) -> None:
    if activation not in ACTIVATIONS:
        raise InputError(f"activation={activation!r} is none of {[*ACTIVATIONS]}; pass one of these")
    if isinstance(biases, str) or not set(biases) <= set(_BIASED):
        raise InputError(f"biases={biases!r} must be some of {_BIASED}, such as ('query', 'key', 'value')")
