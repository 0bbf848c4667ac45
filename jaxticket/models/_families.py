"""The networks of transformers that can be read: their settings, and the names of their tensors."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from jaxticket.models._bert import PADDING, bert
from jaxticket.models._decoder import decoder
from jaxticket.models._gpt import gpt
from jaxticket.models._model import Model
from jaxticket.models._rotary import Rotary
from jaxticket.models._settings import Settings
from jaxticket.models._tensors import Tensor, embedding, layer, norm

_ACTIVATIONS = {  # here the tanh approximation of GELU has one name
    "silu": "silu",
    "swish": "silu",
    "relu": "relu",
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
}


class Names(NamedTuple):
    """The tensors of a network."""

    prefix: str  # of names that files of a network without a head do not have
    outer: tuple[Tensor, ...]  # outside the blocks
    blocks: str  # the prefix of a block, with a place for its number
    block: tuple[Tensor, ...]  # with names inside the block
    tied: Mapping[str, str]  # tensors that some files have although they are others: name -> the other
    others: str  # the regex of tensors that the network does not use


class Family(NamedTuple):
    """A network as its settings describe it."""

    make: Callable[..., Model]  # make(layers=n)
    layers: int
    names: Names


def family(settings: Settings) -> Family:
    """Return the family of a config.json. Raises CheckpointError, which names the setting, for what is unknown."""
    kind = settings.choose("model_type", {name: name for name in FAMILIES}, "")
    settings.require(quantization_config=None)
    return FAMILIES[kind](settings)


def _bert(settings: Settings) -> Family:
    settings.require(hidden_act="gelu", layer_norm_eps=1e-12, position_embedding_type="absolute", pad_token_id=PADDING)
    settings.require(is_decoder=False, add_cross_attention=False)
    make = functools.partial(
        bert,
        vocabulary=settings.count("vocab_size"),
        context=settings.count("max_position_embeddings"),
        heads=settings.count("num_attention_heads"),
        width=settings.count("hidden_size"),
        hidden=settings.count("intermediate_size"),
        segments=settings.count("type_vocab_size", 2),
    )
    return Family(make, settings.count("num_hidden_layers"), BERT)


def _gpt2(settings: Settings) -> Family:
    settings.require(activation_function="gelu_new", layer_norm_epsilon=1e-5, tie_word_embeddings=True)
    settings.require(scale_attn_weights=True, scale_attn_by_inverse_layer_idx=False, add_cross_attention=False)
    width = settings.count("n_embd")
    make = functools.partial(
        gpt,
        vocabulary=settings.count("vocab_size"),
        context=settings.count("n_positions"),
        heads=settings.count("n_head"),
        width=width,
        hidden=settings.count("n_inner", 4 * width),
    )
    return Family(make, settings.count("n_layer"), _GPT2)


def _decoder(settings: Settings, *, biases: tuple[str, ...] = (), tied: bool = False, **own: Any) -> Family:
    heads, width = settings.count("num_attention_heads"), settings.count("hidden_size")
    make = functools.partial(
        decoder,
        vocabulary=settings.count("vocab_size"),
        heads=heads,
        width=width,
        hidden=settings.count("intermediate_size"),
        key_value_heads=settings.count("num_key_value_heads", heads),
        depth=settings.count("head_dim", max(1, width // heads)),
        epsilon=settings.number("rms_norm_eps", 1e-6),
        rotary=_rotary(settings),
        biases=biases,
        tied=settings.flag("tie_word_embeddings", tied),
        **{"activation": settings.choose("hidden_act", _ACTIVATIONS, "silu"), **own},
    )
    return Family(make, settings.count("num_hidden_layers"), _DECODER)


def _llama(settings: Settings) -> Family:
    attention = ("query", "key", "value", "out") if settings.flag("attention_bias") else ()
    perceptron = ("gate", "hidden", "output") if settings.flag("mlp_bias") else ()
    return _decoder(settings, biases=attention + perceptron)


def _mistral(settings: Settings) -> Family:
    settings.require(layer_types=None)
    return _decoder(settings, window=settings.count("sliding_window") if settings.has("sliding_window") else None)


def _qwen2(settings: Settings) -> Family:
    settings.require(use_sliding_window=False)
    return _decoder(settings, biases=("query", "key", "value"))


def _qwen3(settings: Settings) -> Family:
    settings.require(use_sliding_window=False)
    biases = ("query", "key", "value", "out") if settings.flag("attention_bias") else ()
    return _decoder(settings, biases=biases, query_norm=True)


def _gemma(settings: Settings) -> Family:
    """Return Gemma 1. Its first files say "gelu" and mean the tanh approximation, as transformers also takes it."""
    settings.require(use_bidirectional_attention=False)
    name = "hidden_activation" if settings.has("hidden_activation") else "hidden_act"
    return _decoder(
        settings,
        biases=("query", "key", "value", "out") if settings.flag("attention_bias") else (),
        tied=True,
        activation=settings.choose(name, _ACTIVATIONS | {"gelu": "gelu_tanh"}, "gelu_pytorch_tanh"),
        norm_offset=1.0,
        embedding_scale=settings.count("hidden_size") ** 0.5,
    )


def _rotary(settings: Settings) -> Rotary:
    """Return the frequencies, whose settings transformers keeps together since version 5."""
    name = "rope_parameters" if settings.has("rope_parameters") else "rope_scaling"
    scaling = settings.part(name)
    base = scaling.number("rope_theta", settings.number("rope_theta", 10_000.0))
    kinds = {kind: kind for kind in ("default", "linear", "llama3")}
    kind = scaling.choose("rope_type" if scaling.has("rope_type") else "type", kinds, "default")
    scaling.require(partial_rotary_factor=1.0)
    if kind == "default":
        return Rotary(base)
    if kind == "linear":
        return Rotary(base, scaling.number("factor", 1.0))
    return Rotary(
        base,
        scaling.number("factor", 1.0),
        scaling.count("original_max_position_embeddings"),
        scaling.number("low_freq_factor", 1.0),
        scaling.number("high_freq_factor", 4.0),
    )


FAMILIES: dict[str, Callable[[Settings], Family]] = {
    "bert": _bert,
    "gemma": _gemma,
    "gpt2": _gpt2,
    "llama": _llama,
    "mistral": _mistral,
    "qwen2": _qwen2,
    "qwen3": _qwen3,
}

BERT = Names(
    prefix="bert.",
    outer=(
        *embedding("bert.embeddings.word_embeddings", "token"),
        *embedding("bert.embeddings.position_embeddings", "position"),
        *embedding("bert.embeddings.token_type_embeddings", "segment"),
        *norm("bert.embeddings.LayerNorm", "norm"),
    ),
    blocks="bert.encoder.layer.{}.",
    block=(
        *layer("attention.self.query", "attention/query"),
        *layer("attention.self.key", "attention/key"),
        *layer("attention.self.value", "attention/value"),
        *layer("attention.output.dense", "attention/out", inputs=2),
        *norm("attention.output.LayerNorm", "norm1"),
        *layer("intermediate.dense", "mlp/hidden"),
        *layer("output.dense", "mlp/output"),
        *norm("output.LayerNorm", "norm2"),
    ),
    tied={"cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight"},
    others=r"(bert\.)?(pooler\..*|embeddings\.position_ids)|(cls|classifier|qa_outputs)\..*",
)

_GPT2 = Names(
    prefix="transformer.",
    outer=(
        *embedding("transformer.wte", "token"),
        *embedding("transformer.wpe", "position"),
        *norm("transformer.ln_f", "norm"),
    ),
    blocks="transformer.h.{}.",
    block=(
        *norm("ln_1", "norm1"),
        *layer("attn.c_attn", "attention/query", "attention/key", "attention/value", transposed=False),
        *layer("attn.c_proj", "attention/out", inputs=2, transposed=False),
        *norm("ln_2", "norm2"),
        *layer("mlp.c_fc", "mlp/hidden", transposed=False),
        *layer("mlp.c_proj", "mlp/output", transposed=False),
    ),
    tied={"lm_head.weight": "transformer.wte.weight"},
    others=r"(transformer\.)?h\.\d+\.attn\.(masked_)?bias",
)

_DECODER = Names(
    prefix="model.",
    outer=(
        *embedding("model.embed_tokens", "token"),
        *norm("model.norm", "norm"),
        *layer("lm_head", "output"),
    ),
    blocks="model.layers.{}.",
    block=(
        *norm("input_layernorm", "norm1"),
        *layer("self_attn.q_proj", "attention/query"),
        *layer("self_attn.k_proj", "attention/key"),
        *layer("self_attn.v_proj", "attention/value"),
        *layer("self_attn.o_proj", "attention/out", inputs=2),
        *norm("self_attn.q_norm", "attention/query_norm"),
        *norm("self_attn.k_norm", "attention/key_norm"),
        *norm("post_attention_layernorm", "norm2"),
        *layer("mlp.gate_proj", "mlp/gate"),
        *layer("mlp.up_proj", "mlp/hidden"),
        *layer("mlp.down_proj", "mlp/output"),
    ),
    tied={"lm_head.weight": "model.embed_tokens.weight"},
    others=r".*rotary_emb\.inv_freq",
)
