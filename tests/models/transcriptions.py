"""Networks of transformers 5.24 in numpy and float64, on the tensors of their files, and random files of theirs.

They are written from the modelling files of transformers, and share no code with jaxticket.
"""

import json
import math

import numpy as np
from safetensors.numpy import save_file

erf = np.vectorize(math.erf)

_SIZES = {"vocab_size": 20, "hidden_size": 12, "intermediate_size": 10, "num_hidden_layers": 2, "hidden_act": "silu"}
_HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2, "rms_norm_eps": 1e-5, "rope_theta": 50.0}
_LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
CONFIGS = {
    "bert": {
        **{"model_type": "bert", "vocab_size": 20, "hidden_size": 12, "intermediate_size": 10, "num_hidden_layers": 2},
        **{"num_attention_heads": 3, "max_position_embeddings": 8, "type_vocab_size": 2, "hidden_act": "gelu"},
    },
    "gpt2": {"model_type": "gpt2", "vocab_size": 20, "n_positions": 8, "n_embd": 12, "n_layer": 2, "n_head": 3},
    "llama": {
        **{"model_type": "llama", **_SIZES, **_HEADS, "head_dim": 8, "mlp_bias": True, "attention_bias": True},
        **{"rope_scaling": {**_LLAMA3, "original_max_position_embeddings": 16}, "tie_word_embeddings": False},
    },
    "mistral": {"model_type": "mistral", **_SIZES, **_HEADS, "head_dim": 4, "sliding_window": 3},
    "qwen2": {"model_type": "qwen2", **_SIZES, **_HEADS, "head_dim": 4, "tie_word_embeddings": True},
    "qwen3": {
        **{"model_type": "qwen3", **_SIZES, **_HEADS, "head_dim": 8, "tie_word_embeddings": False},
        "rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 100.0},
    },
    "gemma": {"model_type": "gemma", **_SIZES, **_HEADS, "head_dim": 8, "hidden_act": "gelu"},
}
del CONFIGS["qwen3"]["rope_theta"]


def shapes(config):
    """Return the shapes of a network's tensors by their names, in the order of transformers."""
    return {"bert": _bert_shapes, "gpt2": _gpt2_shapes}.get(config["model_type"], _decoder_shapes)(config)


def draw(config, *, seed=0, dtype=np.float32):
    """Return random tensors: each norm and bias matters."""
    rng = np.random.default_rng(seed)
    fan_in = lambda shape: shape[1] if len(shape) == 2 else 4
    return {n: (rng.normal(size=s) / np.sqrt(fan_in(s))).astype(dtype) for n, s in shapes(config).items()}


def save(folder, config, arrays, *, shards=1):
    """Write a folder as transformers does: config.json, and one file or several with an index."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    files = [f"model-{i + 1:05}-of-{shards:05}.safetensors" for i in range(shards)]
    files = files if shards > 1 else ["model.safetensors"]
    places = {name: files[i * shards // len(arrays)] for i, name in enumerate(arrays)}
    for file in files:
        save_file({name: arrays[name] for name in places if places[name] == file}, folder / file, {"format": "pt"})
    if shards > 1:
        index = {"metadata": {"total_size": sum(x.nbytes for x in arrays.values())}, "weight_map": places}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def outputs(config, arrays, tokens):
    """Return the outputs of each sequence without its padding, 0: hidden states of BERT, logits of the others."""
    run = {"bert": _bert, "gpt2": _gpt2}.get(config["model_type"], _decoder)
    wide = {name: np.asarray(x).astype(np.float64) for name, x in arrays.items()}
    return [run(config, wide, sequence[sequence != 0]) for sequence in tokens]


def softmax(x):
    x = np.exp(x - x.max(-1, keepdims=True))
    return x / x.sum(-1, keepdims=True)


def layer_norm(arrays, name, x, epsilon):
    x = x - x.mean(-1, keepdims=True)
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + epsilon) * arrays[f"{name}.weight"] + arrays[f"{name}.bias"]


def linear(arrays, name, x):
    return x @ arrays[f"{name}.weight"].T + arrays.get(f"{name}.bias", 0)


def tanh_gelu(x):
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def split(x, heads):
    """(time, heads · channels) -> (heads, time, channels)"""
    return np.stack(np.split(x, heads, axis=-1))


def attend(q, k, v, visible):
    """Softmax attention of (heads, time, channels), to (time, heads · channels)."""
    scores = np.where(visible, q @ k.transpose(0, 2, 1) / np.sqrt(q.shape[-1]), -np.inf)
    return np.concatenate(softmax(scores) @ v, -1)


def _bert(config, arrays, ids):
    dense = lambda name, x: linear(arrays, name, x)
    norm = lambda name, x: layer_norm(arrays, name, x, 1e-12)
    x = arrays["embeddings.word_embeddings.weight"][ids]
    x = x + arrays["embeddings.position_embeddings.weight"][: len(ids)]
    x = norm("embeddings.LayerNorm", x + arrays["embeddings.token_type_embeddings.weight"][0])
    for index in range(config["num_hidden_layers"]):
        name = f"encoder.layer.{index}"
        parts = (dense(f"{name}.attention.self.{part}", x) for part in ("query", "key", "value"))
        mixed = attend(*(split(y, config["num_attention_heads"]) for y in parts), visible=True)
        x = norm(f"{name}.attention.output.LayerNorm", x + dense(f"{name}.attention.output.dense", mixed))
        y = dense(f"{name}.intermediate.dense", x)
        y = dense(f"{name}.output.dense", y * 0.5 * (1 + erf(y / np.sqrt(2))))
        x = norm(f"{name}.output.LayerNorm", x + y)
    return x


def _gpt2(config, arrays, ids):
    dense = lambda name, x: x @ arrays[f"{name}.weight"] + arrays[f"{name}.bias"]  # its Conv1D is (inputs, outputs)
    norm = lambda name, x: layer_norm(arrays, name, x, 1e-5)
    x = arrays["transformer.wte.weight"][ids] + arrays["transformer.wpe.weight"][: len(ids)]
    visible = np.tri(len(ids), dtype=bool)
    for index in range(config["n_layer"]):
        name = f"transformer.h.{index}"
        parts = np.split(dense(f"{name}.attn.c_attn", norm(f"{name}.ln_1", x)), 3, axis=-1)
        mixed = attend(*(split(y, config["n_head"]) for y in parts), visible)
        x = x + dense(f"{name}.attn.c_proj", mixed)
        x = x + dense(f"{name}.mlp.c_proj", tanh_gelu(dense(f"{name}.mlp.c_fc", norm(f"{name}.ln_2", x))))
    return norm("transformer.ln_f", x) @ arrays["transformer.wte.weight"].T


def _decoder(config, arrays, ids):
    gemma = config["model_type"] == "gemma"
    dense = lambda name, x: linear(arrays, name, x)

    def norm(name, x):
        x = x / np.sqrt((x**2).mean(-1, keepdims=True) + config["rms_norm_eps"])
        return x * (gemma + arrays[f"{name}.weight"])

    activation = tanh_gelu if gemma else lambda x: x / (1 + np.exp(-x))
    heads, shared = config["num_attention_heads"], config["num_key_value_heads"]
    cos, sin = _cos_sin(config, len(ids))
    rotate_half = lambda x: np.concatenate([-x[..., x.shape[-1] // 2 :], x[..., : x.shape[-1] // 2]], -1)
    rotate = lambda x: x * cos + rotate_half(x) * sin
    behind = np.arange(len(ids))[:, None] - np.arange(len(ids))
    visible = (behind >= 0) & (behind < config.get("sliding_window", len(ids)))
    x = arrays["model.embed_tokens.weight"][ids] * (math.sqrt(config["hidden_size"]) if gemma else 1)
    for index in range(config["num_hidden_layers"]):
        name = f"model.layers.{index}"
        y = norm(f"{name}.input_layernorm", x)
        q, k = (split(dense(f"{name}.self_attn.{p}_proj", y), n) for p, n in (("q", heads), ("k", shared)))
        v = split(dense(f"{name}.self_attn.v_proj", y), shared)
        if config["model_type"] == "qwen3":
            q, k = norm(f"{name}.self_attn.q_norm", q), norm(f"{name}.self_attn.k_norm", k)
        q, k, v = rotate(q), *(np.repeat(part, heads // shared, axis=0) for part in (rotate(k), v))
        x = x + dense(f"{name}.self_attn.o_proj", attend(q, k, v, visible))
        y = norm(f"{name}.post_attention_layernorm", x)
        y = activation(dense(f"{name}.mlp.gate_proj", y)) * dense(f"{name}.mlp.up_proj", y)
        x = x + dense(f"{name}.mlp.down_proj", y)
    return norm("model.norm", x) @ arrays.get("lm_head.weight", arrays["model.embed_tokens.weight"]).T


def _cos_sin(config, time):
    depth = config["head_dim"]
    scaling = config.get("rope_parameters") or config.get("rope_scaling") or {}
    frequency = 1 / scaling.get("rope_theta", config.get("rope_theta")) ** (np.arange(0, depth, 2) / depth)
    if scaling.get("rope_type") == "linear":
        frequency = frequency / scaling["factor"]
    if scaling.get("rope_type") == "llama3":
        frequency = np.array([_llama3(f, **scaling) for f in frequency])
    angles = np.arange(time)[:, None] * np.concatenate([frequency, frequency])
    return np.cos(angles), np.sin(angles)


def _llama3(frequency, *, factor, low_freq_factor, high_freq_factor, original_max_position_embeddings, **_):
    wavelength = 2 * math.pi / frequency
    if wavelength < original_max_position_embeddings / high_freq_factor:
        return frequency
    if wavelength > original_max_position_embeddings / low_freq_factor:
        return frequency / factor
    smooth = original_max_position_embeddings / wavelength - low_freq_factor
    smooth = smooth / (high_freq_factor - low_freq_factor)
    return (1 - smooth) * frequency / factor + smooth * frequency


def _bert_shapes(config):
    width, hidden = config["hidden_size"], config["intermediate_size"]
    found = {
        "embeddings.word_embeddings.weight": (config["vocab_size"], width),
        "embeddings.position_embeddings.weight": (config["max_position_embeddings"], width),
        "embeddings.token_type_embeddings.weight": (config["type_vocab_size"], width),
        **_both("embeddings.LayerNorm", width),
    }
    for index in range(config["num_hidden_layers"]):
        name = f"encoder.layer.{index}"
        for part in ("self.query", "self.key", "self.value", "output.dense"):
            found |= _both(f"{name}.attention.{part}", width, width)
        found |= _both(f"{name}.attention.output.LayerNorm", width)
        found |= _both(f"{name}.intermediate.dense", hidden, width) | _both(f"{name}.output.dense", width, hidden)
        found |= _both(f"{name}.output.LayerNorm", width)
    return found


def _gpt2_shapes(config):
    width = config["n_embd"]
    hidden = config.get("n_inner") or 4 * width
    found = {
        "transformer.wte.weight": (config["vocab_size"], width),
        "transformer.wpe.weight": (config["n_positions"], width),
        **_both("transformer.ln_f", width),
    }
    for index in range(config["n_layer"]):
        name = f"transformer.h.{index}"
        for part, inputs, outputs in [
            ("attn.c_attn", width, 3 * width),
            ("attn.c_proj", width, width),
            ("mlp.c_fc", width, hidden),
            ("mlp.c_proj", hidden, width),
        ]:
            found |= {f"{name}.{part}.weight": (inputs, outputs), f"{name}.{part}.bias": (outputs,)}
        found |= _both(f"{name}.ln_1", width) | _both(f"{name}.ln_2", width)
    return found


def _decoder_shapes(config):
    width, hidden, depth = config["hidden_size"], config["intermediate_size"], config["head_dim"]
    own, shared = config["num_attention_heads"] * depth, config["num_key_value_heads"] * depth
    found = {"model.embed_tokens.weight": (config["vocab_size"], width), "model.norm.weight": (width,)}
    qwen2 = config["model_type"] == "qwen2"
    for index in range(config["num_hidden_layers"]):
        name = f"model.layers.{index}"
        for part, outputs in (("q", own), ("k", shared), ("v", shared)):
            biased = qwen2 or config.get("attention_bias", False)
            found |= _weight(f"{name}.self_attn.{part}_proj", outputs, width, biased=biased)
        found |= _weight(f"{name}.self_attn.o_proj", width, own, biased=config.get("attention_bias", False))
        for part, shape in (("gate", (hidden, width)), ("up", (hidden, width)), ("down", (width, hidden))):
            found |= _weight(f"{name}.mlp.{part}_proj", *shape, biased=config.get("mlp_bias", False))
        found |= {f"{name}.input_layernorm.weight": (width,), f"{name}.post_attention_layernorm.weight": (width,)}
        if config["model_type"] == "qwen3":
            found |= {f"{name}.self_attn.{part}_norm.weight": (depth,) for part in ("q", "k")}
    tied = config.get("tie_word_embeddings", config["model_type"] == "gemma")
    return found if tied else found | {"lm_head.weight": (config["vocab_size"], width)}


def _both(name, *shape):
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}


def _weight(name, outputs, inputs, *, biased):
    both = _both(name, outputs, inputs)
    return both if biased else {f"{name}.weight": both[f"{name}.weight"]}
