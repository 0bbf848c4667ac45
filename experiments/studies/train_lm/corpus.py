"""Documents to train on, and the vocabulary that they make."""

import json
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from experiments.studies.train_lm.config import END, Config
from experiments.training.language import documents
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
    lines = documents(config.text, "--text")
    if len(lines) < _HELD_OUT:
        raise InputError(f"--text {config.text} has {len(lines)} lines; put a document in each, {_HELD_OUT} or more")
    return Corpus(lines[: -(len(lines) // _HELD_OUT)], lines[-(len(lines) // _HELD_OUT) :])


def train_tokenizer(texts: Sequence[str], vocabulary: int) -> Any:
    """Return a tokenizer of byte pairs, at most so many, made of these documents."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=[END], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
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
