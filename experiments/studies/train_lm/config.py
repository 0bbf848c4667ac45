"""The configuration of the training of a small language model."""

import dataclasses
import pathlib
from typing import Any

from experiments.runs.config import Run, require

END = "<|end|>"  # the token after each document


@dataclasses.dataclass(frozen=True)
class Config(Run):
    """Train a decoder of the Llama kind on text, with a vocabulary of its own."""

    EXPERIMENT = "train_lm"
    NOT_HASHED = Run.NOT_HASHED | {"checkpoint_seconds"}

    text: pathlib.Path | None = None
    """A text file with a document in each line, the last tenth of which is held out.
    By default the training documents of 20 Newsgroups, whose test documents are held out."""
    vocabulary: int = 4096
    """The tokens of the vocabulary, made by byte-pair encoding of the training documents."""
    layers: int = 6
    """The number of blocks."""
    width: int = 256
    """The size of a hidden state."""
    heads: int = 8
    """The attention heads."""
    key_value_heads: int = 4
    """The heads of keys and values."""
    hidden: int = 704
    """The units of a perceptron."""
    context: int = 128
    """The tokens of a training sequence."""
    tokens: int = 3_000_000
    """The tokens to train on."""
    batch_size: int = 16
    """Sequences in a step."""
    learning_rate: float = 2e-3
    """The peak of the learning rate, which then falls to 0 by a cosine."""
    warmup: int = 100
    """Steps in which the learning rate rises from 0."""
    weight_decay: float = 0.1
    """The decay of weights, as AdamW has it."""
    held_out: int = 65_536
    """The held-out tokens of which the perplexity is measured."""
    checkpoint_seconds: float = 60.0
    """Seconds between checkpoints inside the training."""

    def __post_init__(self) -> None:
        super().__post_init__()
        sizes = ("layers", "width", "heads", "key_value_heads", "hidden", "context", "batch_size", "held_out")
        for name in sizes:
            require(getattr(self, name) >= 1, self, name, "at least 1")
        require(self.vocabulary >= 300, self, "vocabulary", "at least 300: the 256 bytes and some more")
        require(self.width % (2 * self.heads) == 0, self, "width", "a multiple of twice --heads")
        require(self.heads % self.key_value_heads == 0, self, "key_value_heads", "a divisor of --heads")
        require(self.steps >= 1, self, "tokens", "at least those of a step, --batch-size times --context")
        require(0 <= self.warmup < self.steps, self, "warmup", "at least 0 and below the steps")
        require(self.learning_rate > 0, self, "learning_rate", "above 0")
        for name in ("weight_decay", "checkpoint_seconds"):
            require(getattr(self, name) >= 0, self, name, "at least 0")

    @property
    def steps(self) -> int:
        """The steps of the training."""
        return self.tokens // (self.batch_size * self.context)

    def identity(self) -> dict[str, Any]:
        """The values that define the numbers of the run."""
        return super().identity() | {"text": str(self.text) if self.text else None}

    def network(self, vocabulary: int) -> dict[str, Any]:
        """Return the config.json of the network, as transformers reads it."""
        return {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "vocab_size": vocabulary,
            "hidden_size": self.width,
            "intermediate_size": self.hidden,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.key_value_heads,
            "max_position_embeddings": self.context,
            "tie_word_embeddings": True,
            "bos_token_id": 0,
            "eos_token_id": 0,
            "torch_dtype": "float32",
        }
