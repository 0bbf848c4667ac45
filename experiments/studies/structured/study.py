"""The study of structured tickets: channels removed from a trained network, fine-tuned at the smaller widths."""

import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np

from experiments.claims.judge import Contest, by_replicate
from experiments.claims.record import Claim
from experiments.reports.study import Watch
from experiments.runs.records import LevelRecord
from experiments.studies.structured.choices import PAPERS, apply_of, choice, cost
from experiments.studies.structured.config import COUNTED, Config
from experiments.training import problems
from experiments.training.levels import groups, train_all, train_levels
from experiments.training.trainer import Trainer, is_stacked
from jaxticket import export, filters, structure, tickets, training
from jaxticket.loops import Level
from jaxticket.tickets import Ticket
from jaxticket.typing import PyTree

_TUNED = 0.25  # the last part of a training, whose learning rate fine-tuning has


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
    return structure.trace(apply_of(basis), {"params": params, "state": state}, x)


def _side_by_side(
    config: Config, basis: problems.Basis, trainer: Trainer, seeds: Sequence[int]
) -> Iterator[LevelRecord]:
    keys = [jax.random.split(jax.random.fold_in(jax.random.key(config.seed), seed), 3) for seed in seeds]
    channels = traced(basis)
    counted = cost(config, basis, channels)
    ways = {method: choice(method, config, basis, channels) for method in config.methods}

    def train(name: str, chosen: Sequence[Ticket], part: float, start: int) -> list[Level]:
        own = train_all(trainer, steps=basis.steps - start, evaluate=basis.evaluate)
        stores = [tickets.Store(config.folder() / f"seed_{seed}" / f"{config.cost}_{part}" / name) for seed in seeds]
        return train_levels(own, chosen, index=0, density=part, keys=[key[1] for key in keys], stores=stores)

    def ticket(variables: PyTree, step: int) -> Ticket:
        mask = filters.full_mask(variables["params"], filters.weights())
        return Ticket(variables["params"], mask, step, variables["state"])

    fresh = [dict(zip(("params", "state"), basis.init(key[0]), strict=True)) for key in keys]
    dense = train("dense", [ticket(variables, 0) for variables in fresh], 1.0, 0)
    tuned_from = basis.steps - round(_TUNED * basis.steps)
    for level, part in enumerate(sorted(config.kept, reverse=True)):
        budget = structure.Budget(part, counted)
        by_branch, kept = {"dense": dense}, {}
        for method, way in ways.items():
            smaller = []
            for key, (_, _, _, trained) in zip(keys, dense, strict=True):
                variables, kept[method] = way(_variables(trained), budget, key[2])
                smaller.append(ticket(structure.shrink(variables, kept[method], channels), tuned_from))
            by_branch[method] = train(method, smaller, part, tuned_from)
        if part == min(config.kept) and seeds[-1] == config.seeds - 1:  # `kept` is that of the last seed
            first = config.methods[0]
            networks = (_variables(by_branch[name][-1].trained) for name in ("dense", first))
            _export(config, basis, channels, kept[first], *networks)
        for branch, of_seeds in by_branch.items():
            for seed, (_, _, _, trained) in zip(seeds, of_seeds, strict=True):
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
    part, x = min(config.kept), jnp.asarray(basis.dataset.test.x[:1])
    folder = config.folder() / f"ticket_{config.methods[0]}_{config.cost}_{part:g}"
    if jax.process_index() or (folder / "report.html").is_file():
        return
    apply = apply_of(basis)
    batched = jax.vmap(lambda variables, x: apply(variables, x[None])[0], in_axes=(None, 0))  # at any size of a batch
    any_batch = jax.ShapeDtypeStruct((*jax.export.symbolic_shape("batch"), *x.shape[1:]), x.dtype)
    export.save_program(folder / "program.jax", batched, ticket, any_batch)
    export.save_weights(folder / "weights.safetensors", ticket)
    title = f"{config.setting}: {100 * part:g} % of the {COUNTED[config.cost]}"
    networks = {"dense": (apply, dense), "ticket": (apply, ticket)}
    export.write_report(folder / "report.html", channels, kept, x, title=title, **networks)


def claims(config: Config, records: Sequence[LevelRecord]) -> list[Claim]:
    """Return the claims that channels that were chosen are worth more than random ones."""
    judged = []
    for level, part in enumerate(sorted(config.kept, reverse=True)):
        of = functools.partial(by_replicate, records, level=level)
        for branch in config.methods if "random" in config.methods else ():
            if branch == "random":
                continue
            share, name = f"At {100 * part:g} % of the {COUNTED[config.cost]}", branch.replace("_", " ")
            claim = f"{share} channels by {name} beat random ones after fine-tuning."
            contest = Contest(PAPERS[branch], claim, "more accurate", branch, "random", part, 0.0)
            judged += contest.judged(of(branch=branch), of(branch="random"))
    return judged
