"""The points of a run: dense recurrent networks, what is left of them when a part is pruned, and random graphs."""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import optax

import jaxticket as jt
from experiments.reports.sweeps import Sweep
from experiments.runs.records import SweepRecord
from experiments.studies.sparse_rnn import graphs
from experiments.studies.sparse_rnn.config import DENSE, Config
from experiments.training import problems
from experiments.training.trainer import Lane, Trainer, fill, is_stacked
from jaxticket import data, filters, models, scopes, scores, training
from jaxticket.methods.recurrent.random_structure import layer_graph, structure_mask
from jaxticket.typing import Filter, Key, Mask, Params

Cell = tuple[str, float, int]  # recurrence and part, sparsity, seed
_PARTS: dict[str, Filter] = {
    "both": filters.match(r"^layer\d+/(input|recurrent)/kernel$"),
    "ih": filters.match(r"^layer\d+/input/kernel$"),
    "hh": filters.match(r"^layer\d+/recurrent/kernel$"),
}


class Lab(Sweep):
    """The records that a run has, and the data and the networks, which are made when they are first read."""

    def __init__(self, config: Config, **looks: Any):
        super().__init__(config, ("test_accuracy", "validation_accuracy"), **looks)

    @functools.cached_property
    def dataset(self) -> data.Dataset:
        config = self.config
        sizes = {"train": config.strings, "validation": config.validation, "test": config.test}
        return data.reber(seed=config.seed, longest=config.longest, **sizes)

    def basis(self, model: models.Model, epochs: int) -> problems.Basis:
        """Return the training of a network for so many epochs, with gradients that are clipped."""
        basis = problems.basis(dataclasses.replace(self.config, epochs=epochs), self.dataset, model)
        clipped = lambda rate: optax.chain(
            optax.clip_by_global_norm(self.config.clip), problems.optimizer(self.config, rate)
        )
        return basis._replace(recipe=dataclasses.replace(basis.recipe, optimizer=clipped))

    @functools.cache  # noqa: B019 - as long as the run
    def network(self, kind: str) -> problems.Basis:
        """Return the network that is pruned."""
        return self.basis(models.recurrent(cell=kind, widths=self.config.widths), self.config.epochs)

    @functools.cache  # noqa: B019
    def trainer(self, kind: str, together: int) -> Trainer:
        """Return the trainer of so many networks of a kind."""
        basis = self.network(kind)
        placement = problems.place(self.config, basis.model, together)
        stacked = together > 1 and is_stacked(placement)
        fit = training.fit(
            basis.recipe, placement=placement if stacked else None, on_nan=self.config.on_nan, **self.looks
        )
        return Trainer(fit, lanes=fill(together, placement) if stacked else 1, stacked=stacked)

    def prunes(self) -> str:
        """Return the number of weights of each part; nothing, where no point is missing."""
        if not self.missing:
            return ""
        lines = []
        for kind in self.config.recurrences:
            params, _ = jax.eval_shape(self.network(kind).init, jax.random.key(0))
            counts = {part: _count(params, part) for part in self.config.parts}
            lines.append(f"{kind:5}" + "".join(f"  {part} {count:,} weights" for part, count in counts.items()))
        return "\n".join(lines)

    def keys(self, kind: str, seed: int) -> tuple[Key, Key, Key]:
        """Return the keys of the first weights, and of the order of the examples before and after pruning."""
        of_kind = jax.random.fold_in(jax.random.key(self.config.seed), list(_INDEX).index(kind))
        init, order, again = jax.random.split(jax.random.fold_in(of_kind, seed), 3)
        return init, order, again

    def dense(self, kind: str, seed: int) -> Params:
        """Return the trained dense parameters of a seed, which its record has stored before."""
        return jt.load(self.place(kind, seed)).params

    def place(self, kind: str, seed: int) -> Any:
        """Return the folder of a dense ticket."""
        return self.config.folder() / "dense" / kind / f"seed_{seed}"


_INDEX = ("tanh", "relu", "gru", "lstm")


def points(lab: Lab, show: Callable[[str], None]) -> Iterator[SweepRecord]:
    """Yield a record for each cell; finished ones are yielded as they are. `show` gets the current work."""
    yield from lab.finished
    for (kind, part, sparsity), group in itertools.groupby(lab.missing, _together):
        cells = list(group)
        show(f"{kind}, {part}" + (f", {sparsity:.0%} pruned" if sparsity else ""))
        yield from _MEASURES.get(part, _random_graphs)(lab, kind, cells)


def _together(cell: Cell) -> tuple[str, str, float]:
    """Return what the cells of one program have in common."""
    kind, part = cell[0].split()
    return kind, "pruned" if part in _PARTS else part, cell[1]


def _dense(lab: Lab, kind: str, cells: Sequence[Cell]) -> Iterator[SweepRecord]:
    """Train dense networks and store them."""
    basis, lanes = lab.network(kind), []
    for _, _, seed in cells:
        init, order, _ = lab.keys(kind, seed)
        lanes.append(Lane(*basis.init(init), None, order))
    trained = lab.trainer(kind, lab.config.seeds).train(lanes, steps=basis.steps)
    for (curve, sparsity, seed), (lane, loss) in zip(cells, trained, strict=True):
        mask = jax.tree.map(lambda _: None, lane.params)
        jt.save(lab.place(kind, seed), jt.Ticket(lane.params, mask, basis.steps))
        yield SweepRecord({**basis.evaluate(lane.params, None), "loss": loss}, curve, sparsity, seed)


def _pruned(lab: Lab, kind: str, cells: Sequence[Cell]) -> Iterator[SweepRecord]:
    """Prune dense networks, measure, and train them again under the mask."""
    basis, lanes, before = lab.network(kind), [], []
    for curve, sparsity, seed in cells:
        params = lab.dense(kind, seed)
        mask = make_mask(params, curve.split()[1], sparsity)
        params = jt.apply_mask(params, mask)
        before.append(basis.evaluate(params, None, splits=("test",))["test_accuracy"])
        lanes.append(Lane(params, None, None, lab.keys(kind, seed)[2], mask=_whole(params, mask)))
    trainer = lab.trainer(kind, lab.config.seeds * len(lab.config.parts))
    trained = trainer.train(lanes, steps=lab.config.retrained * basis.recipe.steps_per_epoch)
    for (curve, sparsity, seed), (lane, loss), at_once in zip(cells, trained, before, strict=True):
        measured = {**basis.evaluate(lane.params, None), "before": at_once, "loss": loss}
        yield SweepRecord(measured, curve, sparsity, seed)


def _random_graphs(lab: Lab, kind: str, cells: Sequence[Cell]) -> Iterator[SweepRecord]:
    """Train networks that are connected like random graphs."""
    config = lab.config
    for curve, sparsity, number in cells:
        family = curve.split()[1]
        init, order, draw = lab.keys(kind, number)
        seed = int(jax.random.randint(draw, (), 0, 2**31 - 1))
        graph = graphs.draw(family, config.fewest + seed % (config.most - config.fewest + 1), seed)
        layered = layer_graph(graph.edges)
        model = models.recurrent(cell=kind, widths=layered.widths, skips=layered.skips)
        basis = lab.basis(model, config.graph_epochs)
        params, _ = basis.init(init)
        mask = structure_mask(layered, params)
        fitted = training.fit(basis.recipe, on_nan=config.on_nan, **lab.looks)(
            jt.apply_mask(params, mask), None, mask, order, step=0, steps=basis.steps
        )
        measured = {**basis.evaluate(fitted.params, None), **graphs.measure(graph, layered.widths)}
        yield SweepRecord(measured, curve, sparsity, number)


_MEASURES = {DENSE: _dense, "pruned": _pruned}


def make_mask(params: Params, part: str, sparsity: float) -> Mask:
    """Return the mask that keeps the largest weights of a part, all layers together."""
    return jt.select(scores.magnitude(params), 1 - sparsity, scope=scopes.tree(), where=_PARTS[part])


def _whole(params: Params, mask: Mask) -> Mask:
    """Return a mask of all leaves, so that those of several parts have the same tree."""
    return jax.tree.map(
        lambda p, m: jax.numpy.ones(p.shape, bool) if m is None else m, params, mask, is_leaf=lambda x: x is None
    )


def _count(params: Params, part: str) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(filters.only(params, _PARTS[part])))
