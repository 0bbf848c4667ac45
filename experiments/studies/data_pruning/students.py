"""The training of networks on the training examples that scores choose; each is kept as soon as it is trained."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.runs import arrays
from experiments.runs.records import SubsetRecord
from experiments.studies.data_pruning.config import ALL, RANDOM, Cell, Config, Study
from experiments.studies.data_pruning.keys import cell_keys, keys
from experiments.training import subsets
from experiments.training.subsets import Taught
from experiments.training.trainer import Lane, Trainer
from jaxticket import data_pruning, files
from jaxticket.errors import CheckpointError
from jaxticket.tickets import fingerprint


class Students:
    """A trainer of the cells of one study, several in one program; it keeps the record of each."""

    def __init__(self, config: Config, study: Study, scores: Mapping[str, np.ndarray], **options: Any):
        self._config, self._study, self._scores, self._options = config, study, scores, options
        self._trainers: dict[bool, Trainer] = {}

    def train(self, cells: Sequence[Cell]) -> Iterator[SubsetRecord]:
        """Yield the record of each cell of this study, as soon as its program has ended."""
        folder = self._config.folder()
        for program in self.programs(cells):
            missing = [cell for cell in program if not cell.path(folder).exists()]
            if missing:
                self._train(missing)
            yield from (read(cell, self._config) for cell in program)

    def programs(self, cells: Sequence[Cell]) -> Iterator[list[Cell]]:
        """Return the cells that are trained together: those of one size of subset."""
        for kind in dict.fromkeys((cell.taught, cell.fraction) for cell in cells):
            alike = [cell for cell in cells if (cell.taught, cell.fraction) == kind]
            lanes = self.trainer(taught=False).lanes
            yield from (alike[at : at + lanes] for at in range(0, len(alike), lanes))

    def trainer(self, *, taught: bool) -> Trainer:
        """Return the trainer of students, or of networks that see labels alone, and train a missing teacher."""
        if taught not in self._trainers:
            basis, config = self._study.basis, self._config
            how = (
                subsets.distilled(config, basis, self._teacher(), temperature=config.temperature)
                if taught
                else subsets.recipe(config, basis)
            )
            together = len(config.scores) * len(config.kept()) * config.seeds
            self._trainers[taught] = subsets.trainer(config, basis.model, how, together=together, **self._options)
        return self._trainers[taught]

    def _teacher(self) -> jax.Array:
        """The logits of a network that was trained on all examples, with weights of its own."""
        basis, study = self._study.basis, self._study

        def trained() -> dict[str, np.ndarray]:
            init_key, train_key = jax.random.split(keys(self._config.seed).teacher)
            everything = jnp.ones(len(study.labels), bool)
            lane = Lane(*basis.init(init_key), None, train_key, subset=everything)
            ((lane, _),) = self.trainer(taught=False).train(
                [lane], **clock(self._config, study, len(everything), epochs=self._config.epochs)
            )
            evaluated = subsets.evaluation(basis.model)
            return {"logits": evaluated(lane.params, lane.state, basis.dataset.train.x)}

        file = self._config.folder() / "teachers" / f"size_{study.size}.npz"
        return jnp.asarray(arrays.kept(file, {"logits"}, trained, origin=fingerprint(basis.dataset.train))["logits"])

    def _train(self, cells: Sequence[Cell]) -> None:
        basis, taught = self._study.basis, cells[0].taught
        chosen = [choose(self._config, self._study, cell, self._scores) for cell in cells]
        size = int(chosen[0].sum())
        lanes = [self._begin(cell, rows) for cell, rows in zip(cells, chosen, strict=True)]
        trained = self.trainer(taught=taught).train(
            lanes, **clock(self._config, self._study, size, epochs=self._config.epochs)
        )
        for cell, rows, (lane, loss) in zip(cells, chosen, trained, strict=True):
            measured = {
                "loss": loss if math.isfinite(loss) else None,
                **self._study.composition(np.asarray(rows)),
                **basis.evaluate(lane.params, lane.state.model if taught else lane.state),
            }
            if cell.seed == 0 and cell.order and not taught:
                self._keep_subset(cell, rows)
            record = SubsetRecord(measured, *cell, cell.name, size)
            files.write_together(cell.path(self._config.folder()), json.dumps(record.line()) + "\n")

    def _keep_subset(self, cell: Cell, rows: jax.Array) -> None:
        """The subset of all seeds as a file, for other networks and programs to be trained on."""
        folder = self._config.folder() / "subsets" / f"size_{cell.size}"
        provenance = {"score": cell.score, "order": cell.order, "config": self._config.identity()}
        file = folder / f"{cell.score}-{cell.order}-{cell.fraction}.json"
        data_pruning.save_subset(file, rows, data=self._study.basis.dataset.train, provenance=provenance)

    def _begin(self, cell: Cell, rows: jax.Array) -> Lane:
        init_key, train_key, _ = cell_keys(self._config.seed, cell.seed)
        params, state = self._study.basis.init(init_key)
        if cell.taught:
            state = Taught(state, jnp.float32(self._config.weight_of_teacher(cell.fraction)))
        return Lane(params, state, None, train_key, subset=rows)


def clock(config: Config, study: Study, size: int, *, epochs: int) -> dict[str, Any]:
    """Return the steps of a training on so many of the examples, and the learning rate's schedule fitted to them."""
    count = epochs * subsets.epoch(config, size if config.budget == "epochs" else len(study.labels))
    return {"steps": count, "stretch": study.basis.steps / count}


def choose(config: Config, study: Study, cell: Cell, scores: Mapping[str, np.ndarray]) -> jax.Array:
    """Return the training examples of a cell, (examples,) bool. `scores` are (examples,), higher = harder."""
    options: dict[str, Any] = {"labels": study.labels, "balance": config.balance}
    examples, size = len(study.labels), float(cell.fraction)
    if cell.score == ALL:
        return jnp.ones(examples, bool)
    if cell.score == RANDOM:
        key = cell_keys(config.seed, cell.seed)[2]
        return data_pruning.random_subset(examples, size, **options, key=key)
    score = jnp.asarray(scores[cell.score])
    if cell.order == "middle":
        return data_pruning.middle(score, size, skip=config.skip or 0, **options)
    return {"hard": data_pruning.hardest, "easy": data_pruning.easiest}[cell.order](score, size, **options)


def read(cell: Cell, config: Config) -> SubsetRecord:
    """The record of a finished cell. Raises CheckpointError if it is damaged."""
    file = cell.path(config.folder())
    try:
        record = SubsetRecord.parse(json.loads(file.read_text()))
        if Cell(*(getattr(record, name) for name in Cell._fields)) != cell:
            raise ValueError("it is of another training")
        return record
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        fix = "delete it, and the same command trains it again"
        raise CheckpointError(f"{file} is damaged ({error}); {fix}") from error
