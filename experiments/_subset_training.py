"""Trains networks on subsets of the training examples: several in one program, each kept as soon as it is trained."""

import dataclasses
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments import _arrays, _problem
from experiments._config import Training
from experiments._data_pruning import ALL, RANDOM, Cell, Config, Study, cell_keys, keys
from jaxticket import data, data_pruning, loops
from jaxticket.data_pruning import Batch
from jaxticket.errors import CheckpointError
from jaxticket.loops import rundir
from jaxticket.loops.distillation import LogitsFn
from jaxticket.typing import Key, Params, PyTree

_TOGETHER = 16  # trainings in one program, at most


class Lane(NamedTuple):
    """A training on a subset; or several, if every leaf has a leading axis."""

    params: Params
    state: PyTree  # of the model, and what the loss or the observer must know beside it
    opt_state: PyTree  # None before the first step
    key: Key  # of the order of the examples
    subset: jax.Array  # (examples,) bool


class Taught(NamedTuple):
    """The model state of a student."""

    model: PyTree
    weight: jax.Array  # of its teacher; here and not in the loss, so that no fraction compiles anew


class Lesson(NamedTuple):
    """Training examples, and what the teacher says of each."""

    x: jax.Array
    y: jax.Array
    teacher: jax.Array  # (examples, classes) logits


class Trainer:
    """Trains lanes whose subsets are of one size, `lanes` at a time.

    Args:
      together: how many trainings there are.
      observe, checkpoint, progress: as of `data_pruning.subset_fit`.
    """

    def __init__(self, config: Training, model: Any, recipe: loops.Recipe, *, together: int, **options: Any):
        placement = _problem.place(config, model, min(together, _TOGETHER))
        self._stacked = placement.each != "sequence"
        # What runs in turn gains nothing from longer programs, and fills the last one worse.
        filled = together if placement.each == "vmap" else 1
        devices = len(placement.devices)
        self.lanes = min(filled, _TOGETHER) + -min(filled, _TOGETHER) % devices
        self.where = placement.why
        self._fit = data_pruning.subset_fit(recipe, placement=placement, on_nan=config.on_nan, **options)

    def train(
        self, lanes: Sequence[Lane], *, steps: int, step: int = 0, stretch: float = 1.0
    ) -> list[tuple[Lane, float]]:
        """The lanes after so many steps from `step` on, and the mean loss of the last epoch of each."""
        done = []
        for at in range(0, len(lanes), self.lanes):
            some = lanes[at : at + self.lanes]
            carry = self._join(some)
            nothing = jax.tree.map(lambda _: None, carry.params)  # all weights are kept
            given = (carry.params, carry.state, nothing, carry.key)
            fit = self._fit(carry.subset, stretch=stretch)
            fitted = fit(*given, step=step, steps=steps, opt_state=carry.opt_state)
            carry = Lane(fitted.params, fitted.state, fitted.opt_state, carry.key, carry.subset)
            done += zip(self._split(carry, len(some)), fitted.loss if self._stacked else [fitted.loss])
        return done

    def _join(self, lanes: Sequence[Lane]) -> Lane:
        if not self._stacked:
            return lanes[0]
        padded = [*lanes, *[lanes[0]] * (self.lanes - len(lanes))]  # another number of them would compile anew
        return cast(Lane, jax.tree.map(lambda *xs: jnp.stack(xs), *padded))

    def _split(self, carry: Lane, count: int) -> list[Lane]:
        if not self._stacked:
            return [carry]
        carry = jax.device_put(carry, jax.devices()[0])
        return [jax.tree.map(lambda x, lane=lane: x[lane], carry) for lane in range(count)]


def steps(config: Training, examples: int) -> int:
    """Of a training on so many examples, with all its epochs."""
    return config.epochs * epoch(config, examples)


def epoch(config: Training, examples: int) -> int:
    """The steps of an epoch of so many examples; the last may be smaller."""
    return -(-examples // config.batch_size)


def logits(config: Training, model: Any) -> LogitsFn:
    """What a network says of a batch in training: augmented, with batch statistics and dropout."""

    def apply(params: Params, state: PyTree, batch: Batch, key: Key) -> tuple[jax.Array, PyTree]:
        x = batch.examples.x
        if config.augment == "crop-and-flip":
            augment_key, key = jax.random.split(key)
            x = data.augment.crop_and_flip(augment_key, x)
        return model.apply(params, state, x, train=True, key=key)

    return apply


def recipe(config: Training, basis: _problem.Basis) -> loops.Recipe:
    """How networks are trained on the labels of a subset."""
    found = logits(config, basis.model)

    def loss(params: Params, state: PyTree, batch: Batch, key: Key) -> tuple[jax.Array, PyTree]:
        ours, state = found(params, state, batch, key)
        values = optax.softmax_cross_entropy_with_integer_labels(ours, batch.examples.y)
        return data_pruning.mean(values, batch.real), state

    return dataclasses.replace(basis.recipe, loss=loss)


def distilled(config: Config, basis: _problem.Basis, teacher: jax.Array) -> loops.Recipe:
    """How students are trained: (1 − weight) · cross-entropy + weight · T² · KL(teacher ‖ student) at temperature T.

    As Ben-Baruch et al. ("Distilling the knowledge in data pruning", 2024) do. `teacher` are its logits of the training
    examples, as they are: augmented ones would need logits of their own.
    """
    found = logits(config, basis.model)
    apart = jax.vmap(lambda ours, its: loops.divergence(ours[None], its[None], temperature=config.temperature))

    def loss(params: Params, state: Taught, batch: Batch, key: Key) -> tuple[jax.Array, Taught]:
        ours, model = found(params, state.model, batch, key)
        hard = optax.softmax_cross_entropy_with_integer_labels(ours, batch.examples.y)
        values = (1 - state.weight) * hard + state.weight * apart(ours, batch.examples.teacher)
        return data_pruning.mean(values, batch.real), Taught(model, state.weight)

    return dataclasses.replace(basis.recipe, loss=loss, data=Lesson(*basis.dataset.train, teacher))


def choose(config: Config, study: Study, cell: Cell, scores: Mapping[str, np.ndarray]) -> jax.Array:
    """The training examples of a cell, (examples,) bool. `scores` are (examples,), higher = harder."""
    options: dict[str, Any] = {"labels": study.labels, "balance": config.balance}
    examples, size = len(study.labels), float(cell.fraction)
    if cell.score == ALL:
        return jnp.ones(examples, bool)
    if cell.score == RANDOM:
        return data_pruning.random_subset(cell_keys(config, cell.seed)[2], examples, size, **options)
    score = jnp.asarray(scores[cell.score])
    if cell.order == "middle":
        return data_pruning.middle(score, size, skip=config.skip or 0, **options)
    return {"hard": data_pruning.hardest, "easy": data_pruning.easiest}[cell.order](score, size, **options)


class Students:
    """Trains the cells of one study, several in one program, and keeps the record of each."""

    def __init__(self, config: Config, study: Study, scores: Mapping[str, np.ndarray], **options: Any):
        self._config, self._study, self._scores, self._options = config, study, scores, options
        self._trainers: dict[bool, Trainer] = {}

    def train(self, cells: Sequence[Cell]) -> Iterator[dict[str, Any]]:
        """The record of each cell of this study, as soon as its program has ended."""
        folder = self._config.folder()
        for program in self.programs(cells):
            missing = [cell for cell in program if not cell.path(folder).exists()]
            if missing:
                self._train(missing)
            yield from (read(cell, self._config) for cell in program)

    def programs(self, cells: Sequence[Cell]) -> Iterator[list[Cell]]:
        """Which cells are trained together: those of one size of subset."""
        for kind in dict.fromkeys((cell.taught, cell.fraction) for cell in cells):
            alike = [cell for cell in cells if (cell.taught, cell.fraction) == kind]
            lanes = self.trainer(taught=False).lanes
            yield from (alike[at : at + lanes] for at in range(0, len(alike), lanes))

    def trainer(self, *, taught: bool) -> Trainer:
        """Of students, or of networks that see labels alone. The teacher of the former is trained if it is not yet."""
        if taught not in self._trainers:
            basis, config = self._study.basis, self._config
            how = distilled(config, basis, self._teacher()) if taught else recipe(config, basis)
            together = len(config.scores) * len(config.kept()) * config.seeds
            self._trainers[taught] = Trainer(config, basis.model, how, together=together, **self._options)
        return self._trainers[taught]

    def _teacher(self) -> jax.Array:
        """The logits of a network that was trained on all examples, with weights of its own."""
        basis, study = self._study.basis, self._study

        def trained() -> dict[str, np.ndarray]:
            init_key, train_key = jax.random.split(keys(self._config).teacher)
            everything = jnp.ones(len(study.labels), bool)
            lane = Lane(*basis.init(init_key), None, train_key, everything)
            ((lane, _),) = self.trainer(taught=False).train([lane], **self._clock(len(study.labels)))
            return {"logits": evaluated(basis.model, lane.params, lane.state, basis.dataset.train.x)}

        file = self._config.folder() / "teachers" / f"size_{study.size}.npz"
        return jnp.asarray(_arrays.kept(file, {"logits"}, trained, data=basis.dataset.train)["logits"])

    def _clock(self, size: int) -> dict[str, Any]:
        """Steps of a training on so many examples, and the learning rate's schedule fitted to them."""
        count = steps(self._config, size if self._config.budget == "epochs" else len(self._study.labels))
        return {"steps": count, "stretch": self._study.basis.steps / count}

    def _train(self, cells: Sequence[Cell]) -> None:
        basis, taught = self._study.basis, cells[0].taught
        subsets = [choose(self._config, self._study, cell, self._scores) for cell in cells]
        size = int(subsets[0].sum())
        lanes = [self._begin(cell, rows) for cell, rows in zip(cells, subsets, strict=True)]
        trained = self.trainer(taught=taught).train(lanes, **self._clock(size))
        for cell, rows, (lane, loss) in zip(cells, subsets, trained, strict=True):
            record = {
                **cell._asdict(),
                "name": cell.name,
                "examples": size,
                "loss": loss if math.isfinite(loss) else None,
                **self._study.composition(np.asarray(rows)),
                **basis.evaluate(lane.params, lane.state.model if taught else lane.state),
            }
            file = cell.path(self._config.folder())
            file.parent.mkdir(parents=True, exist_ok=True)
            rundir.write_text(file, json.dumps(record) + "\n")

    def _begin(self, cell: Cell, rows: jax.Array) -> Lane:
        init_key, train_key, _ = cell_keys(self._config, cell.seed)
        params, state = self._study.basis.init(init_key)
        if cell.taught:
            state = Taught(state, jnp.float32(self._config.weight_of_teacher(cell.fraction)))
        return Lane(params, state, None, train_key, rows)


def evaluated(model: Any, params: Params, state: PyTree, x: jax.Array) -> np.ndarray:
    """(examples, classes) logits in evaluation mode, a thousand examples at a time."""
    apply = jax.jit(lambda params, state, x: model.apply(params, state, x, train=False, key=None)[0])
    return np.concatenate([apply(params, state, x[at : at + 1000]) for at in range(0, len(x), 1000)])


def read(cell: Cell, config: Config) -> dict[str, Any]:
    """The record of a finished cell. Raises CheckpointError if it is damaged."""
    file = cell.path(config.folder())
    try:
        record = json.loads(file.read_text())
        if Cell(*(record[name] for name in Cell._fields)) != cell:
            raise ValueError("it is of another training")
        return dict(record)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        fix = "delete it, and the same command trains it again"
        raise CheckpointError(f"{file} is damaged ({error}); {fix}") from error
