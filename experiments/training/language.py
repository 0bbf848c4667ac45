"""Text as tokens for language models, and the perplexity of a model a block at a time."""

import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxticket.errors import InputError
from jaxticket.typing import Params, Stages

_TRIES = 100  # documents that are looked at for a window, before text is taken to be too short


def documents(file: pathlib.Path, flag: str) -> list[str]:
    """Return the lines of a text file, each a document. Raises InputError, naming the flag, if it cannot be read."""
    try:
        lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeError) as error:
        raise InputError(f"{flag} {file} cannot be read: {error}") from error
    if not lines:
        raise InputError(f"{flag} {file} is empty; put a document in each line")
    return lines


def windows(
    tokenizer: Any, texts: Sequence[str], length: int, *, end: int | None, limit: int | None = None
) -> np.ndarray:
    """Return the tokens of all documents as int32 rows of length + 1 that share their ends.

    Args:
      tokenizer: of the library tokenizers.
      texts: the documents, in their order.
      length: the tokens to predict in a row.
      end: the token after each document, or None.
      limit: the largest number of tokens to predict; None: all.

    Raises:
      InputError: too few tokens for a row.
    """
    after = () if end is None else (end,)
    tokens: list[int] = []
    for encoding in tokenizer.encode_batch(list(texts)):
        tokens += (*encoding.ids, *after)
        if limit is not None and len(tokens) > limit:
            break
    rows = (min(len(tokens), len(tokens) if limit is None else limit + 1) - 1) // length
    if rows < 1:
        raise InputError(f"--context is {length}, but there are {len(tokens)} tokens of text; give more text")
    starts = length * np.arange(rows)
    return np.asarray(tokens, np.int32)[starts[:, None] + np.arange(length + 1)]


def random_windows(
    tokenizer: Any, texts: Sequence[str], length: int, *, number: int, seed: Sequence[int]
) -> np.ndarray:
    """Return random windows of random documents that are long enough, (number, length) int32.

    Raises InputError if hardly any document is as long.
    """
    rng = np.random.default_rng(seed)
    rows: list[list[int]] = []
    for _ in range(_TRIES * number):
        ids = tokenizer.encode(texts[rng.integers(len(texts))]).ids
        if len(ids) >= length:
            start = rng.integers(len(ids) - length + 1)
            rows.append(ids[start : start + length])
        if len(rows) == number:
            return np.asarray(rows, np.int32)
    raise InputError(f"--context is {length}, but hardly any document has as many tokens; ask for fewer")


def losses(logits: jax.Array, rows: jax.Array) -> jax.Array:
    """Return the negative log-likelihood of each token of rows (batch, time + 1) after those before: (batch, time)."""
    return optax.softmax_cross_entropy_with_integer_labels(logits.astype(jnp.float32), rows[:, 1:])


class Scorer:
    """The perplexity of rows of tokens under a network whose blocks come singly."""

    def __init__(self, stages: Stages, outer: Params, rows: np.ndarray, *, batch_size: int):
        self._block, self._outer = jax.jit(stages.block), outer
        embed = jax.jit(lambda outer, rows: stages.embed(outer, rows[:, :-1]))
        self._loss = jax.jit(lambda outer, stream, rows: jnp.sum(losses(stages.head(outer, stream), rows)))
        self._rows = [rows[first : first + batch_size] for first in range(0, len(rows), batch_size)]
        self._streams = [embed(outer, part) for part in self._rows]
        self._tokens = rows[:, 1:].size

    def through(self, params: Params) -> None:
        """Run the next block."""
        self._streams = [self._block(params, stream) for stream in self._streams]

    def perplexity(self) -> float:
        """Return the exponential of the mean loss, after all blocks."""
        pairs = zip(self._streams, self._rows, strict=True)
        total = np.sum([self._loss(self._outer, stream, rows) for stream, rows in pairs], dtype=np.float64)
        return float(np.exp(total / self._tokens))
