"""The search of sparse model soups, and pruning and retraining one network beside it."""

import pathlib
import statistics
from collections.abc import Iterator, Sequence
from typing import Any

import jax

from experiments.runs.records import LevelRecord
from experiments.studies.soups.lab import Config, Lab, train_dense, train_varied
from experiments.training import problems
from experiments.training.levels import Start, TrainAllFn, as_trained, copied, groups, search_levels
from experiments.training.trainer import Trainer, is_stacked
from jaxticket import diagnostics, loops, masks, tickets, training
from jaxticket.loops import soups
from jaxticket.tickets import rewinds
from jaxticket.typing import Trained

BRANCHES = ("soup", "best_member", "mean_member", "ensemble", "imp", "imp_as_long")


def search(config: Config, shared: Lab, **looks: Any) -> Iterator[LevelRecord]:
    """Yield the records of all seeds, which are trained in one program where that is faster, else in turn.

    `looks` are checkpoint and progress, as of `training.fit`.
    """
    stacked = is_stacked(shared.placement)
    fit = training.fit(shared.varied.recipe, placement=shared.placement, on_nan=config.on_nan, **looks)
    trainer = Trainer(fit, lanes=config.seeds if stacked else 1, stacked=stacked)
    for seeds in groups(trainer, config.seeds):
        yield from side_by_side(config, shared, trainer, seeds, config.folder())


def side_by_side(
    config: Config, shared: Lab, trainer: Trainer, seeds: Sequence[int], folder: pathlib.Path
) -> Iterator[LevelRecord]:
    """Yield the records of these seeds, from dense to sparse within each search."""
    keys = [jax.random.split(jax.random.fold_in(jax.random.key(config.seed), seed), 3) for seed in seeds]
    homes = [folder / f"seed_{seed}" for seed in seeds]
    start = train_dense(shared, trainer, [home / "dense" for home in homes], [tuple(key[:2]) for key in keys])
    trains = {
        "soup": _train_soup(config, shared, trainer),
        "imp": train_varied(shared, trainer, "imp", config.members),
        "imp_as_long": train_varied(shared, trainer, "imp_as_long", config.members + 1),
    }
    for end in config.densities:
        searches = [
            search_levels(
                train,
                start,
                densities=soups.phases(end, config.phases),
                prune=loops.prune_by(),
                rewind=rewinds.learning_rate(),
                keys=[key[2] for key in keys],
                stores=[tickets.Store(home / f"density_{end}" / name) for home in homes],
            )
            for name, train in trains.items()
        ]
        for phase in zip(*searches, strict=True):  # of each search the levels of all seeds
            by_seed = [records(config, seed, end, levels) for seed, levels in zip(seeds, zip(*phase), strict=True)]
            for branch in zip(*by_seed, strict=True):
                yield from branch


def _train_soup(config: Config, shared: Lab, trainer: Trainer) -> TrainAllFn:
    """Train the members of all seeds, each member of all seeds together, and average those of a seed."""
    evaluate = shared.basis.evaluate
    members = [train_varied(shared, trainer, "member", number) for number in range(config.members)]
    merge = soups.uniform(state=problems.recalibration(config, shared.basis))

    def measure(trained: Trained, soup: soups.Soup) -> dict[str, Any]:
        return {**evaluate(soup.params, soup.state), "ensemble": shared.ensemble(trained.params, trained.state)}

    def train(starts: Sequence[Start]) -> list[Trained]:
        keys = [jax.random.split(start.key, len(members)) for start in starts]
        own = lambda start, key: Start(*copied(start[:3]), key, start.step, copied(start.opt_state))
        trained = [
            train_member([own(start, key[number]) for start, key in zip(starts, keys, strict=True)])
            for number, train_member in enumerate(members)
        ]
        mixed = []
        for start, of_seed in zip(starts, zip(*trained, strict=True), strict=True):
            given = soups.in_turn([as_trained(member) for member in of_seed])
            mix = soups.soup_train(given, merge=merge, measure=measure)
            mixed.append(mix(*start[:4], step=start.step, opt_state=start.opt_state))
        return mixed

    return train


def records(config: Config, seed: int, end: float, levels: Sequence[loops.Level]) -> Iterator[LevelRecord]:
    """Return the records of one phase of the soup, and of pruning and retraining alone."""
    mixed = levels[0].trained.metrics
    members = [
        dict(zip(mixed["members"], values, strict=True)) for values in zip(*mixed["members"].values(), strict=True)
    ]
    splits = ("validation_accuracy", "test_accuracy")
    by_branch = {
        "soup": (levels[0], {name: mixed[name] for name in splits}),
        "best_member": (levels[0], max(members, key=lambda m: m["validation_accuracy"])),
        "mean_member": (levels[0], {name: statistics.fmean(m[name] for m in members) for name in splits}),
        "ensemble": (levels[0], mixed["ensemble"]),
        "imp": (levels[1], levels[1].trained.metrics),
        "imp_as_long": (levels[2], levels[2].trained.metrics),
    }
    for branch, (level, metrics) in by_branch.items():
        mask = level.ticket.mask
        yield LevelRecord(
            replicate=seed,
            level=config.levels().index((level.density, end)),
            branch=branch,
            density=masks.summary(level.ticket.params, mask).maskable.density,
            collapsed=sorted(diagnostics.layer_collapse([mask])),
            metrics={name: metrics[name] for name in splits},
        )
