"""The study of structured tickets: channels removed from a trained network, fine-tuned at the smaller widths."""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np

from experiments.claims.judge import Contest, by_replicate
from experiments.claims.record import Claim
from experiments.reports.study import Watch
from experiments.runs.config import Training, require
from experiments.runs.records import LevelRecord
from experiments.training import problems
from experiments.training.levels import groups, train_all, train_levels
from experiments.training.trainer import Trainer, is_stacked
from jaxticket import export, filters, structure, tickets, training
from jaxticket.loops import Level
from jaxticket.methods.channels.obspa import obspa
from jaxticket.tickets import Ticket
from jaxticket.typing import Key, PyTree

BRANCHES = ("dense", "group_magnitude", "obspa", "random")
EXPORTED = "obspa"
_TUNED = 0.25  # the last part of a training, whose learning rate fine-tuning has
_CALIBRATED, _TOGETHER = 1000, 250  # examples that OBSPA sees, and of them at a time
_PAPERS = {"group_magnitude": "Fang et al. 2023, DepGraph", "obspa": "Wang et al. 2024, OBSPA"}

Choose = Callable[[PyTree, structure.Budget, Key], tuple[PyTree, Mapping[str, np.ndarray]]]


@dataclasses.dataclass(frozen=True)
class Config(Training):
    """Remove channels from a trained network, and fine-tune what is left."""

    EXPERIMENT = "structured"
    NOT_HASHED = Training.NOT_HASHED | {"macs", "seeds"}

    macs: tuple[float, ...] = (0.5, 0.1)
    """The fractions of the multiply-adds to keep."""
    seeds: int = 4
    """Repetitions with other random numbers; the split of the data stays."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 < len(self.macs) == len(set(self.macs)), self, "macs", "different values, one or more")
        require(all(0 < part < 1 for part in self.macs), self, "macs", "between 0 and 1")
        require(self.seeds >= 1, self, "seeds", "at least 1")


def records(config: Config, basis: problems.Basis, watch: Watch) -> Iterator[LevelRecord]:
    """Yield the records of all seeds, which are trained in one program where that is faster, else in turn."""
    placement = problems.place(config, basis.model, config.seeds)
    stacked = is_stacked(placement)
    fit = training.fit(basis.recipe, placement=placement, on_nan=config.on_nan, **watch.looks)
    trainer = Trainer(fit, lanes=config.seeds if stacked else 1, stacked=stacked)
    for seeds in groups(trainer, config.seeds):
        yield from _side_by_side(config, basis, trainer, seeds)


def traced(basis: problems.Basis) -> structure.Groups:
    """Return the groups of the network of an experiment."""
    params, state = jax.eval_shape(basis.model.init, jax.random.key(0))
    x = jax.ShapeDtypeStruct((1, *basis.dataset.train.x.shape[1:]), jnp.float32)
    return structure.trace(_apply(basis), {"params": params, "state": state}, x)


def choices(basis: problems.Basis, channels: structure.Groups) -> dict[str, Choose]:
    """Return the ways to choose channels, by branch: (variables, budget, key) -> (variables, mask of channels)."""
    shown = basis.dataset.train.x[:_CALIBRATED]
    batches = [shown[i : i + _TOGETHER] for i in range(0, len(shown), _TOGETHER)]

    def by_size(variables: PyTree, budget: structure.Budget, key: Key) -> tuple[PyTree, Mapping[str, np.ndarray]]:
        scores = structure.group_magnitude(variables, channels)
        return variables, structure.choose(scores, channels, budget)

    def at_random(variables: PyTree, budget: structure.Budget, key: Key) -> tuple[PyTree, Mapping[str, np.ndarray]]:
        keys = jax.random.split(key, len(channels))
        scores = {g.name: jax.random.uniform(k, (g.width,)) for g, k in zip(channels, keys, strict=True)}
        return variables, structure.choose(scores, channels, budget)

    def by_surgeon(variables: PyTree, budget: structure.Budget, key: Key) -> tuple[PyTree, Mapping[str, np.ndarray]]:
        return obspa(variables, _apply(basis), batches, channels, budget)

    return {"group_magnitude": by_size, "obspa": by_surgeon, "random": at_random}


def _apply(basis: problems.Basis) -> Callable[[PyTree, jax.Array], Any]:
    def apply(variables: PyTree, x: jax.Array) -> Any:
        return basis.model.apply(variables["params"], variables["state"], x, train=False, key=None)[0]

    return apply


def _side_by_side(
    config: Config, basis: problems.Basis, trainer: Trainer, seeds: Sequence[int]
) -> Iterator[LevelRecord]:
    keys = [jax.random.split(jax.random.fold_in(jax.random.key(config.seed), seed), 3) for seed in seeds]
    channels = traced(basis)
    ways = choices(basis, channels)

    def train(name: str, chosen: Sequence[Ticket], part: float, start: int) -> list[Level]:
        own = train_all(trainer, steps=basis.steps - start, evaluate=basis.evaluate)
        stores = [tickets.Store(config.folder() / f"seed_{seed}" / f"macs_{part}" / name) for seed in seeds]
        return train_levels(own, chosen, index=0, density=part, keys=[key[1] for key in keys], stores=stores)

    def ticket(variables: PyTree, step: int) -> Ticket:
        mask = filters.full_mask(variables["params"], filters.weights())
        return Ticket(variables["params"], mask, step, variables["state"])

    fresh = [dict(zip(("params", "state"), basis.init(key[0]), strict=True)) for key in keys]
    dense = train("dense", [ticket(variables, 0) for variables in fresh], 1.0, 0)
    tuned_from = basis.steps - round(_TUNED * basis.steps)
    kept: dict[str, Mapping[str, np.ndarray]] = {}
    for level, part in enumerate(sorted(config.macs, reverse=True)):
        budget = structure.Budget(part, channels.macs)
        by_branch = {"dense": dense}
        for name, way in ways.items():
            smaller = []
            for key, (_, _, _, trained) in zip(keys, dense, strict=True):
                variables, kept[name] = way(_variables(trained), budget, key[2])
                smaller.append(ticket(structure.shrink(variables, kept[name], channels), tuned_from))
            by_branch[name] = train(name, smaller, part, tuned_from)
        if part == min(config.macs) and seeds[-1] == config.seeds - 1:  # `kept` is that of the last seed
            networks = (_variables(by_branch[name][-1].trained) for name in ("dense", EXPORTED))
            _export(config, basis, channels, kept[EXPORTED], *networks)
        for branch in BRANCHES:
            for seed, (_, _, _, trained) in zip(seeds, by_branch[branch], strict=True):
                yield LevelRecord(trained.metrics, seed, level, branch, part, [])


def _variables(trained: Any) -> PyTree:
    return {"params": trained.params, "state": trained.state}


def _export(
    config: Config,
    basis: problems.Basis,
    channels: structure.Groups,
    kept: Mapping[str, np.ndarray],
    dense: PyTree,
    ticket: PyTree,
) -> None:
    """Write the smallest ticket of the last seed, as a program that runs without this library, and a page about it."""
    folder, x = config.folder() / "ticket", jnp.asarray(basis.dataset.test.x[:1])
    if jax.process_index() or (folder / "report.html").is_file():
        return
    apply = _apply(basis)
    each = jax.vmap(lambda variables, x: apply(variables, x[None])[0], in_axes=(None, 0))  # at any size of a batch
    any_batch = jax.ShapeDtypeStruct((*jax.export.symbolic_shape("batch"), *x.shape[1:]), x.dtype)
    export.save_program(folder / "program.jax", each, ticket, any_batch)
    export.save_weights(folder / "weights.safetensors", ticket)
    title = f"{config.setting}: {100 * min(config.macs):g} % of the multiply-adds"
    networks = {"dense": (apply, dense), "ticket": (apply, ticket)}
    export.write_report(folder / "report.html", channels, kept, x, title=title, **networks)


def claims(config: Config, records: Sequence[LevelRecord]) -> list[Claim]:
    """Return the claims that channels that were chosen are worth more than random ones."""
    judged = []
    for level, part in enumerate(sorted(config.macs, reverse=True)):
        of = functools.partial(by_replicate, records, level=level)
        for branch, paper in _PAPERS.items():
            name = branch.replace("_", " ")
            claim = f"At {100 * part:g} % of the multiply-adds channels by {name} beat random ones after fine-tuning."
            contest = Contest(paper, claim, "more accurate", branch, "random", part, 0.0)
            judged += contest.judged(of(branch=branch), of(branch="random"))
    return judged
