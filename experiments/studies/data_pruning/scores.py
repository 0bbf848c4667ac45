"""Scores of how hard each training example is, by networks that train on all of them; kept in the run's folder."""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.runs import arrays
from experiments.runs.records import SubsetRecord
from experiments.studies.data_pruning.config import Config, Study
from experiments.studies.data_pruning.keys import keys
from experiments.studies.data_pruning.memorisation import Memorisation
from experiments.training import problems, subsets
from experiments.training.trainer import Lane, Trainer
from jaxticket import data_pruning, training
from jaxticket.data_pruning import Statistics, Tracked
from jaxticket.methods.datasets import prototypes
from jaxticket.tickets import fingerprint
from jaxticket.typing import Params, PyTree

_MEASURES = {
    "el2n": data_pruning.el2n,
    "margin": data_pruning.margin,
    "logit_margin": data_pruning.logit_margin,
    "entropy": data_pruning.entropy,
    "loss": data_pruning.cross_entropy,
}
_GRADIENTS = 64  # of single examples, held at once
_COMPONENTS = 50  # of the embeddings whose prototypes are found


class Scorer:
    """A scorer of the examples of one study. No score sees any but its training examples.

    Args:
      model: the network that scores.
      name: of the files in which the scores of such networks are kept.
      finished: called with a record after each network, or None.
      options: checkpoint and progress, as of `training.fit`.
    """

    def __init__(
        self,
        config: Config,
        study: Study,
        *,
        model: Any,
        name: str,
        finished: Callable[[SubsetRecord], None] | None = None,
        **options: Any,
    ):
        self._config, self._study, self._model = config, study, model
        self._folder = config.folder() / "scores" / f"size_{study.size}"
        self._name, self._options, self._finished = name, options, finished

    def scores(self, names: Sequence[str]) -> dict[str, np.ndarray]:
        """Return (replicates, examples) for each name, higher = harder; stored scores are loaded."""
        replicates: dict[str, list[np.ndarray]] = {name: [] for name in names}
        for replicate in range(self._config.score_replicates):
            scores = self._of_network(replicate, {*names} - {"prototypes", "memorisation"})
            if "prototypes" in names:
                scores |= self._of_prototypes(replicate)
            if "memorisation" in names:
                scores["memorisation"] = self._memorisation.scores(replicate)
            for name in names:
                replicates[name].append(scores[name])
            self._tell(f"scores by network {replicate + 1}")
        return {name: np.stack(values) for name, values in replicates.items()}

    def _tell(self, name: str) -> None:
        if self._finished:
            named = f"{name}, {self._name}", len(self._study.labels)
            self._finished(SubsetRecord({}, self._study.size, "", "", False, 1.0, 0, *named))

    def _of_network(self, replicate: int, names: set[str]) -> dict[str, np.ndarray]:
        if not names:
            return {}
        file = self._folder / f"{self._name}_{replicate}.npz"
        about = {"model": self._name, "replicate": replicate, "epochs": self._config.epochs}
        make = lambda: self._train(replicate, grand="grand" in names)
        return arrays.kept(file, names, make, origin=self._origin, about=about)

    def _train(self, replicate: int, *, grand: bool) -> dict[str, np.ndarray]:
        """Return all scores of a network: those of one moment early in training, and those over the whole of it."""
        config, study, trainer = self._config, self._study, self._trainer
        examples, per_epoch = len(study.labels), subsets.epoch(config, len(study.labels))
        early = config.score_epochs * per_epoch
        steps = subsets.steps(config, examples)
        stretch = study.basis.steps / steps
        ((lane, _),) = trainer.train([self._begin(replicate)], steps=early, stretch=stretch)
        scores = self._at(lane.params, lane.state.model, grand=grand)
        if early < steps:
            ((lane, _),) = trainer.train([lane], step=early, steps=steps - early, stretch=stretch)
        return scores | _streamed(lane.state.statistics)

    @functools.cached_property
    def _trainer(self) -> Trainer:
        basis = self._study.basis._replace(model=self._model)
        recipe = subsets.recipe(self._config, basis)
        logits = subsets.logits(self._config, self._model)
        observe = training.observer(logits, labels=lambda examples: examples.y, measures=_MEASURES)
        return subsets.trainer(self._config, self._model, recipe, together=1, observe=observe, **self._options)

    def _begin(self, replicate: int) -> Lane:
        key = jax.random.fold_in(keys(self._config.seed).networks, replicate)
        init_key, train_key = jax.random.split(key)
        params, state = jax.jit(self._model.init)(init_key)
        examples = len(self._study.labels)
        watched = Tracked(state, data_pruning.init(examples, tuple(_MEASURES)))
        return Lane(params, watched, None, train_key, subset=jnp.ones(examples, bool))

    def _at(self, params: Params, state: PyTree, *, grand: bool) -> dict[str, np.ndarray]:
        """The scores of one moment, in evaluation mode and without augmentation."""
        x, y = self._study.basis.dataset.train
        logits = jnp.asarray(subsets.evaluation(self._model)(params, state, x))
        scores = {name: np.asarray(measure(logits, y)) for name, measure in _MEASURES.items()}
        return scores | ({"grand": _gradients(self._model, params, state, x, y)} if grand else {})

    def _of_prototypes(self, replicate: int) -> dict[str, np.ndarray]:
        def make() -> dict[str, np.ndarray]:
            key = jax.random.fold_in(keys(self._config.seed).prototypes, replicate)
            x = embeddings(self._study, seed=self._config.seed)
            return {"prototypes": np.asarray(prototypes.self_supervised(x, self._study.classes, key=key))}

        file = self._folder / f"prototypes_{replicate}.npz"
        about = {"model": f"principal components, {_COMPONENTS} at most", "replicate": replicate}
        return arrays.kept(file, {"prototypes"}, make, origin=self._origin, about=about)

    @functools.cached_property
    def _origin(self) -> str:
        return fingerprint(self._study.basis.dataset.train)

    @functools.cached_property
    def _memorisation(self) -> Memorisation:
        folder = self._folder / f"{self._name}_memorisation"
        named = {"model": self._model, "folder": folder, "origin": self._origin, "finished": self._tell}
        return Memorisation(self._config, self._study, **named, **self._options)


def embeddings(study: Study, *, seed: int) -> jax.Array:
    """Return (examples, components): the training images by their principal components, which need no labels."""
    from sklearn.decomposition import PCA

    x = np.asarray(study.basis.dataset.train.x).reshape(len(study.labels), -1)
    components = PCA(min(_COMPONENTS, *x.shape), random_state=seed)
    return jnp.asarray(components.fit_transform(x), jnp.float32)


def score_model(config: Config, study: Study) -> Any:
    """The network that scores: the one that is trained, unless --score-model or --score-width say otherwise."""
    from jaxticket import models  # needs an extra, whose absence the command line reports

    dataset = study.basis.dataset
    if config.score_model == "same":
        return problems.make_model(config, dataset, config.score_width) if config.score_width else study.basis.model
    shape = dataset.train.x.shape[1:]
    sizes = {"width": config.score_width} if config.score_width else {}
    if config.score_model == "lenet_300_100":
        return models.lenet_300_100(features=math.prod(shape), **sizes)
    side = math.isqrt(math.prod(shape))
    image = shape if len(shape) == 3 else (side, side, 1)  # of what is flat because the trained network wants it so
    model = getattr(models, config.score_model)(shape=image, **sizes)

    def apply(params: Params, state: PyTree, x: jax.Array, **others: Any) -> tuple[jax.Array, PyTree]:
        return model.apply(params, state, x.reshape(-1, *image), **others)

    return model._replace(apply=apply)


def averaged(scores: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return (examples,) for each name: the mean over replicates."""
    return {name: values.mean(0) for name, values in scores.items()}


def _streamed(watched: Statistics) -> dict[str, np.ndarray]:
    """Return scores; an example that was never learned counts as forgotten, and as learned at the end."""
    never = np.asarray(watched.correct) == 0
    scores = {
        # Not the 200,000 of `forgetting`, which would be all that is left of a mean over replicates.
        "forgetting": np.asarray(data_pruning.forgetting_over_runs(jax.tree.map(lambda x: x[None], watched))),
        "first_learned": np.where(never, int(watched.step), np.asarray(watched.first_learned)),
        **{f"mean_{name}": np.asarray(data_pruning.means(watched, name)) for name in _MEASURES},
    }
    return {name: values.astype(np.float32) for name, values in scores.items()}


def _gradients(model: Any, params: Params, state: PyTree, x: jax.Array, y: jax.Array) -> np.ndarray:
    """Return (examples,): the exact norm of the gradient by all parameters."""

    def loss(params: Params, example: tuple[jax.Array, jax.Array], state: PyTree) -> jax.Array:
        logits, _ = model.apply(params, state, example[0][None], train=False, key=None)
        return optax.softmax_cross_entropy_with_integer_labels(logits[0], example[1])

    @jax.jit
    def norms(params: Params, state: PyTree, x: jax.Array, y: jax.Array) -> jax.Array:
        of_one = lambda params, example: loss(params, example, state)
        return data_pruning.grand(params, of_one, (x, y), batch_size=_GRADIENTS)

    # From Python: convolutions are slow inside loops on CPU.
    parts = [slice(at, at + _GRADIENTS) for at in range(0, len(y), _GRADIENTS)]
    return np.concatenate([norms(params, state, x[part], y[part]) for part in parts])
