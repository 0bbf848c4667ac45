"""Documents, their vocabulary, and the sequences of tokens that a language model sees."""

import json
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from experiments.studies.train_lm.config import END, Config
from jaxticket import data
from jaxticket.errors import InputError

_HELD_OUT = 10  # of the documents in a file, the last tenth


class Corpus(NamedTuple):
    """Documents to train on, and others that are held out."""

    train: Sequence[str]
    held_out: Sequence[str]


def load(config: Config) -> Corpus:
    """Return the documents. Raises InputError for a file that cannot be read or has too few."""
    if config.text is None:
        topics = data.newsgroups(seed=0, validation=0)
        shuffle = lambda texts, seed: [texts[row] for row in np.random.default_rng(seed).permutation(len(texts))]
        return Corpus(shuffle(topics.train.x, 0), shuffle(topics.test.x, 1))  # else a topic after the other
    try:
        documents = [line.strip() for line in config.text.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeError) as error:
        raise InputError(f"--text {config.text} cannot be read: {error}") from error
    if len(documents) < _HELD_OUT:
        raise InputError(
            f"--text {config.text} has {len(documents)} lines; put a document in each, {_HELD_OUT} or more"
        )
    return Corpus(documents[: -(len(documents) // _HELD_OUT)], documents[-(len(documents) // _HELD_OUT) :])


def train_tokenizer(documents: Sequence[str], vocabulary: int) -> Any:
    """Return a tokenizer of byte pairs, at most so many, made of these documents."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=[END], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(documents, trainer)
    return tokenizer


def save_tokenizer(tokenizer: Any, folder: pathlib.Path) -> None:
    """Write the files that transformers reads."""
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": END, "eos_token": END}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n")


def unigram_perplexity(train: np.ndarray, held_out: np.ndarray, vocabulary: int) -> float:
    """Return the perplexity of rows by the frequencies of tokens alone, each counted once more than it occurs."""
    counts = np.bincount(train[:, 1:].ravel(), minlength=vocabulary) + 1
    return float(np.exp(-np.mean(np.log(counts / counts.sum())[held_out[:, 1:]])))


def windows(tokenizer: Any, documents: Sequence[str], length: int, *, limit: int | None = None) -> np.ndarray:
    """Return the tokens of all documents, the end after each, as int32 rows of length + 1 that share their ends.

    Args:
      tokenizer: of the library tokenizers.
      documents: the documents, in their order.
      length: the tokens to predict in a row.
      limit: the largest number of tokens to predict; None: all.

    Raises:
      InputError: too few tokens for a row.
    """
    end = tokenizer.token_to_id(END)
    tokens = [token for encoding in tokenizer.encode_batch(list(documents)) for token in (*encoding.ids, end)]
    rows = (min(len(tokens), (limit or len(tokens)) + 1) - 1) // length
    if not rows:
        raise InputError(f"--context is {length}, but there are {len(tokens)} tokens of text; give more text")
    starts = length * np.arange(rows)
    return np.asarray(tokens, np.int32)[starts[:, None] + np.arange(length + 1)]
