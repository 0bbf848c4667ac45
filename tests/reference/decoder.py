"""A small decoder of the Llama kind by hand, in float64, whose linear layers show their inputs to hooks."""

import numpy as np

WIDTH, HIDDEN, HEADS, SHARED, DEPTH, LAYERS = 8, 12, 4, 2, 4, 3
SEQUENCES, TIME, VOCABULARY = 3, 6, 20
LINEARS = {  # (outputs, inputs), in the order of the authors' modules
    "self_attn.q_proj": (HEADS * DEPTH, WIDTH),
    "self_attn.k_proj": (SHARED * DEPTH, WIDTH),
    "self_attn.v_proj": (SHARED * DEPTH, WIDTH),
    "self_attn.o_proj": (WIDTH, HEADS * DEPTH),
    "mlp.gate_proj": (HIDDEN, WIDTH),
    "mlp.up_proj": (HIDDEN, WIDTH),
    "mlp.down_proj": (WIDTH, HIDDEN),
}


class Decoder:
    """Weights of the blocks by the names of transformers, norms, embeddings, and calibration sequences."""

    def __init__(self) -> None:
        draw = np.random.default_rng(5)
        self.layers = [
            {name: draw.normal(size=shape) / np.sqrt(shape[1]) for name, shape in LINEARS.items()}
            for _ in range(LAYERS)
        ]
        self.norms = [draw.uniform(0.5, 1.5, (2, WIDTH)) for _ in range(LAYERS)]
        # Of very unequal sizes, so that the norms of inputs matter.
        self.embedding = draw.normal(size=(VOCABULARY, WIDTH)) * np.exp(draw.normal(size=WIDTH))
        self.tokens = draw.integers(VOCABULARY, size=(SEQUENCES, TIME))

    def embed(self) -> list[np.ndarray]:
        """Return what the first block reads, a sequence each."""
        return [self.embedding[sequence] for sequence in self.tokens]

    def forward(self, number: int, linears: dict, x: np.ndarray, hook=lambda name, inputs: None) -> np.ndarray:
        """Return the output of a block, (time, width); `hook` sees the input of each linear layer."""

        def linear(name: str, inputs: np.ndarray) -> np.ndarray:
            hook(name, inputs)
            return inputs @ linears[name].T

        norm = lambda scale, x: scale * x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6)
        split = lambda y, heads: y.reshape(len(y), heads, DEPTH).transpose(1, 0, 2)
        y = norm(self.norms[number][0], x)
        q = _rotate(split(linear("self_attn.q_proj", y), HEADS))
        k = _rotate(split(linear("self_attn.k_proj", y), SHARED))
        v = split(linear("self_attn.v_proj", y), SHARED)
        k, v = (np.repeat(part, HEADS // SHARED, axis=0) for part in (k, v))
        scores = np.where(np.tri(len(x), dtype=bool), q @ k.transpose(0, 2, 1) / np.sqrt(DEPTH), -np.inf)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        mixed = (weights / weights.sum(-1, keepdims=True)) @ v
        x = x + linear("self_attn.o_proj", mixed.transpose(1, 0, 2).reshape(len(x), -1))
        y = norm(self.norms[number][1], x)
        gate = linear("mlp.gate_proj", y)
        return x + linear("mlp.down_proj", gate / (1 + np.exp(-gate)) * linear("mlp.up_proj", y))


def _rotate(x: np.ndarray) -> np.ndarray:
    """Turn the channels of heads, (heads, time, channels), by their positions."""
    angles = np.arange(x.shape[1])[:, None] / 10_000 ** (np.arange(0, DEPTH, 2) / DEPTH)
    cos, sin = np.cos(angles), np.sin(angles)
    first, second = np.split(x, 2, axis=-1)
    return np.concatenate([first * cos - second * sin, second * cos + first * sin], -1)


def by_block(weights: list[dict]) -> dict:
    """Return layers by one name each, for a record."""
    return {f"{number}.{name}": w for number, linears in enumerate(weights) for name, w in linears.items()}
