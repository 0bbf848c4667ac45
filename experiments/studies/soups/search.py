"""The search of sparse model soups, and pruning and retraining one network beside it."""

import itertools
import pathlib
import statistics
from collections.abc import Iterator, Sequence
from typing import Any

import jax

from experiments.runs import command_line
from experiments.studies.soups.lab import Config, Lab, dense, trainer
from experiments.training import problems
from experiments.training.together import Together
from jaxticket import diagnostics, loops, masks, tickets, training
from jaxticket.loops import soups
from jaxticket.tickets import rewinds
from jaxticket.typing import ProgressFn, Trained

BRANCHES = ("soup", "best_member", "mean_member", "ensemble", "imp", "imp_as_long")


def search(config: Config, shared: Lab, folder: pathlib.Path, progress: ProgressFn) -> Iterator[dict[str, Any]]:
    """The records of all seeds, which are trained in one program where that is faster, else in turn."""
    checkpoint = command_line.step_checkpoint(folder / "checkpoint", every=config.checkpoint_seconds)
    options = {"checkpoint": checkpoint, "progress": progress, "on_nan": config.on_nan}
    each = lambda seed, fit: replicate(config, shared, folder / f"seed_{seed}", seed, fit)
    fit = training.fit(shared.varied.recipe, placement=shared.placement, **options)
    if shared.placement.batching == "sequence":
        yield from itertools.chain.from_iterable(each(seed, fit) for seed in range(config.seeds))
    else:
        together = Together(fit, config.seeds)
        yield from together.advance([each(seed, together.fit_of(seed)) for seed in range(config.seeds)])
    checkpoint.clear()


def replicate(
    config: Config, shared: Lab, folder: pathlib.Path, seed: int, fit: training.FitFn
) -> Iterator[dict[str, Any]]:
    """The records of one seed, from dense to sparse within each search."""
    keys = jax.random.split(jax.random.fold_in(jax.random.key(config.seed), seed), 3)
    evaluate = shared.basis.evaluate
    start = dense(shared, folder / "dense", fit, *keys[:2])
    merge = soups.uniform(state=problems.recalibration(config, shared.basis))

    def measure(members: Trained, soup: soups.Soup) -> dict[str, Any]:
        return {**evaluate(soup.params, soup.state), "ensemble": shared.ensemble(members.params, members.state)}

    members = soups.in_turn([trainer(shared, fit, "member", number) for number in range(config.members)])
    for end in config.densities:
        given = {"densities": soups.phases(end, config.phases), "key": keys[2]}
        of = lambda name, end=end: tickets.Store(folder / f"density_{end}" / name)
        mixed = soups.search(members, start, **given, merge=merge, measure=measure, store=of("soup"))
        plain = [
            loops.imp(
                trainer(shared, fit, name, config.members + number),
                start,
                **given,
                prune=loops.prune_by(),
                rewind=rewinds.learning_rate(),
                store=of(name),
            )
            for number, name in enumerate(("imp", "imp_as_long"))
        ]
        for levels in zip(mixed, *plain, strict=True):
            yield from records(config, seed, end, levels)


def records(config: Config, seed: int, end: float, levels: Sequence[loops.Level]) -> Iterator[dict[str, Any]]:
    """What one phase of the soup, and of pruning and retraining alone, came to."""
    mixed = levels[0].trained.metrics
    members = [
        dict(zip(mixed["members"], values, strict=True)) for values in zip(*mixed["members"].values(), strict=True)
    ]
    splits = ("validation_accuracy", "test_accuracy")
    found = {
        "soup": (levels[0], {name: mixed[name] for name in splits}),
        "best_member": (levels[0], max(members, key=lambda m: m["validation_accuracy"])),
        "mean_member": (levels[0], {name: statistics.fmean(m[name] for m in members) for name in splits}),
        "ensemble": (levels[0], mixed["ensemble"]),
        "imp": (levels[1], levels[1].trained.metrics),
        "imp_as_long": (levels[2], levels[2].trained.metrics),
    }
    for branch, (level, metrics) in found.items():
        mask = level.ticket.mask
        yield {
            "replicate": seed,
            "level": config.levels().index((level.density, end)),
            "branch": branch,
            "density": masks.summary(level.ticket.params, mask).maskable.density,
            "collapsed": sorted(diagnostics.layer_collapse([mask])),
            **{name: metrics[name] for name in splits},
        }
