"""The memorisation of each training example, by many networks, each trained on a random part of the examples."""

import functools
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.runs import arrays
from experiments.runs.config import require
from experiments.studies.data_pruning.config import Config, Study
from experiments.studies.data_pruning.keys import keys
from experiments.studies.data_pruning.students import clock
from experiments.training import subsets
from experiments.training.trainer import Lane, Trainer
from jaxticket.methods.datasets import memorisation

_PART = 0.7  # of the examples, for each network, as Feldman & Zhang (2020) take


class Memorisation:
    """An estimator for the examples of one study; each network is trained on a random part.

    Args:
      model: the network.
      folder: keeps the examples that each network classifies right.
      origin: fingerprint of the training examples.
      finished: called after each network, with its name.
      options: checkpoint and progress, as of `training.fit`.
    """

    def __init__(
        self,
        config: Config,
        study: Study,
        *,
        model: Any,
        folder: pathlib.Path,
        origin: str,
        finished: Callable[[str], None],
        **options: Any,
    ):
        self._config, self._study, self._model = config, study, model
        self._folder, self._origin, self._finished, self._options = folder, origin, finished, options

    def scores(self, replicate: int) -> np.ndarray:
        """Return (examples,), higher = harder, by networks of its own; stored results are loaded."""
        included = drawn(self._config, len(self._study.labels), replicate)
        right = np.stack([*self._right(replicate, included)])
        return np.asarray(memorisation.memorisation(jnp.asarray(right), included))

    def _right(self, replicate: int, included: jax.Array) -> Iterator[np.ndarray]:
        """Return for each network (examples,) bool: those it classifies right, trained on or not."""
        together = self._trainer.lanes
        for first in range(0, len(included), together):
            some = range(first, min(first + together, len(included)))
            files = {model: self._folder / f"{replicate}" / f"{model}.npz" for model in some}
            missing = [model for model in some if not files[model].exists()]
            trained = dict(zip(missing, self._train(replicate, missing, included), strict=True)) if missing else {}
            for model, file in files.items():
                make = functools.partial(trained.__getitem__, model)
                yield arrays.kept(file, {"right"}, make, origin=self._origin)["right"]
                self._finished(f"memorisation by network {model + 1} of replicate {replicate + 1}")

    def _train(self, replicate: int, models: Sequence[int], included: jax.Array) -> list[dict[str, np.ndarray]]:
        x, y = self._study.basis.dataset.train
        lanes = [self._begin(replicate, model, included[model]) for model in models]
        size, epochs = int(included[0].sum()), self._config.memorisation_epochs or self._config.epochs
        trained = self._trainer.train(lanes, **clock(self._config, self._study, size, epochs=epochs))
        logits = (self._evaluated(lane.params, lane.state, x) for lane, _ in trained)
        return [{"right": outputs.argmax(-1) == np.asarray(y)} for outputs in logits]

    def _begin(self, replicate: int, model: int, subset: jax.Array) -> Lane:
        key = jax.random.fold_in(_keys(self._config, replicate)[1], model)
        init_key, train_key = jax.random.split(key)
        return Lane(*self._init(init_key), None, train_key, subset=subset)

    @functools.cached_property
    def _init(self) -> Callable[..., Any]:
        return jax.jit(self._model.init)

    @functools.cached_property
    def _evaluated(self) -> Callable[..., np.ndarray]:
        return subsets.evaluation(self._model)

    @functools.cached_property
    def _trainer(self) -> Trainer:
        basis, models = self._study.basis._replace(model=self._model), self._config.memorisation_models
        recipe = subsets.recipe(self._config, basis)
        return subsets.trainer(self._config, self._model, recipe, together=models, **self._options)


def drawn(config: Config, examples: int, replicate: int) -> jax.Array:
    """Return (networks, examples) bool: the examples on which each network of a replicate is trained."""
    return memorisation.draw_subsets(config.memorisation_models, examples, _PART, key=_keys(config, replicate)[0])


def check(config: Config, study: Study) -> None:
    """Raise InputError, before anything is trained, if an example is in the part of every network, or of none."""
    if "memorisation" not in config.scores:
        return
    examples = len(study.labels)
    for replicate in range(config.score_replicates):
        having = np.asarray(drawn(config, examples, replicate)).sum(0)
        least, most = int(having.min()), int(having.max())
        enough = 0 < least <= most < config.memorisation_models
        what = f"more: one of the {examples} examples is in the part of every network, or of none"
        require(enough, config, "memorisation_models", what)


def _keys(config: Config, replicate: int) -> jax.Array:
    """Return the keys of the parts, and of the networks."""
    return jax.random.split(jax.random.fold_in(keys(config.seed).memorisation, replicate))
