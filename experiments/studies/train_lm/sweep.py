"""The training of a language model: a vocabulary, a network with fresh weights, and the folder that keeps both."""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.reports.study import Watch
from experiments.runs import command_line
from experiments.runs.folder import JsonLines
from experiments.runs.records import SweepRecord, whole
from experiments.studies.train_lm import corpus
from experiments.studies.train_lm.config import END, Config
from experiments.training import language
from jaxticket import files, models, training
from jaxticket.typing import Key, Params, PyTree

CURVE = "curve.jsonl"  # the losses, for the plot


class Lab:
    """The corpus and its tokens, which are read when they are first asked for."""

    def __init__(self, config: Config, watch: Watch):
        self.config, self.watch = config, watch
        self.finished = [SweepRecord.parse(line) for line in whole(config.folder() / "metrics.jsonl")]

    @functools.cached_property
    def corpus(self) -> corpus.Corpus:
        """The documents."""
        return corpus.load(self.config)

    def table(self) -> str:
        """Return the sizes of the network and the corpus; nothing, where the network is trained."""
        if self.finished:
            return ""
        sequences = f"{self.config.steps} steps of {self.config.batch_size} × {self.config.context} tokens"
        return f"{len(self.corpus.train):,} documents to train on, {len(self.corpus.held_out):,} held out; {sequences}"


def points(lab: Lab) -> Iterator[SweepRecord]:
    """Yield the record of the network, trained or as it is."""
    if lab.finished:
        yield from lab.finished
        return
    yield SweepRecord(_train(lab), "decoder", 0.0, lab.config.seed)


def _train(lab: Lab) -> dict[str, Any]:
    config, folder = lab.config, lab.config.folder()
    tokenizer = corpus.train_tokenizer(lab.corpus.train, config.vocabulary)
    end = tokenizer.token_to_id(END)
    train = language.windows(tokenizer, lab.corpus.train, config.context, end=end)
    held_out = language.windows(tokenizer, lab.corpus.held_out, config.context, end=end, limit=config.held_out)
    initial = _initial(lab, tokenizer)
    params = jax.tree.map(jnp.asarray, initial.load())
    checkpoint = command_line.step_checkpoint(folder / "checkpoint", every=config.checkpoint_seconds)
    fit = training.fit(
        _recipe(config, initial.model, train),
        placement=training.Placement((jax.devices()[0],), "sequence", ""),  # step by step, to show each
        checkpoint=checkpoint,
        progress=_observer(lab),
        on_nan="stop",
    )
    nothing = jax.tree.map(lambda _: None, params)
    fitted = fit(params, None, nothing, jax.random.key(config.seed), step=0, steps=config.steps)
    if not (folder / "model").exists():
        host = jax.tree.map(np.asarray, fitted.params)
        models.write_checkpoint(folder / "model", initial, host["blocks"].items(), outer=host)
    for name, documents in (("train.txt", lab.corpus.train), ("held_out.txt", lab.corpus.held_out)):
        files.write_text(folder / name, "\n".join(documents) + "\n")
    checkpoint.clear()
    return {
        "perplexity": _perplexity(initial, fitted.params, held_out, config.batch_size),
        "unigram_perplexity": corpus.unigram_perplexity(train, held_out, tokenizer.get_vocab_size()),
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(params)),
        "train_loss": fitted.loss,
        "train_tokens": train[:, 1:].size,
    }


def _perplexity(checkpoint: models.Checkpoint, params: Params, rows: np.ndarray, batch_size: int) -> float:
    scorer = language.Scorer(checkpoint.stages, params, rows, batch_size=batch_size)
    for name in checkpoint.blocks:
        scorer.through(params["blocks"][name])
    return scorer.perplexity()


def _initial(lab: Lab, tokenizer: Any) -> models.Checkpoint:
    """Return the folder of fresh weights, which is made once."""
    folder = lab.config.folder() / "initial"
    if not folder.exists():
        config = lab.config.network(tokenizer.get_vocab_size())
        models.new_checkpoint(folder, config, jax.random.key(lab.config.seed))
    corpus.save_tokenizer(tokenizer, folder)
    return models.read_checkpoint(folder)


def _recipe(config: Config, model: models.Model, train: np.ndarray) -> training.Recipe:
    def loss(params: Params, state: PyTree, batch: jax.Array, key: Key) -> tuple[jax.Array, PyTree]:
        del key
        logits, state = model.apply(params, state, batch[:, :-1], train=True, key=None)
        return jnp.mean(language.losses(logits, batch)), state

    return training.Recipe(
        loss=loss,
        data=jnp.asarray(train),
        learning_rate=optax.warmup_cosine_decay_schedule(0.0, config.learning_rate, config.warmup, config.steps),
        batch_size=config.batch_size,
        optimizer=functools.partial(optax.adamw, b2=0.95, weight_decay=config.weight_decay),
    )


def _observer(lab: Lab) -> Callable[[int, float], None]:
    """Return the function that shows a loss and keeps it for the plot."""
    path, show = lab.config.folder() / CURVE, lab.watch.step
    before, curve = whole(path), JsonLines(path)

    def observe(step: int, loss: float) -> None:
        while before:  # of a killed run, which goes on at its last checkpoint
            line = before.pop(0)
            if line["step"] < step:
                curve.append(line)
        curve.append({"step": step, "loss": loss})
        if show:
            show(step, loss)

    return observe
