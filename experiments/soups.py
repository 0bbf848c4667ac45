"""Sparse model soups: is the average of retrained copies better than pruning and retraining one network as long?

    python experiments/soups.py                                  LeNet-300-100 on digits, to 5 % and to 2 %
    python experiments/soups.py --vary weight_decays --densities 0.02
    python experiments/soups.py --dry-run                        the plan, and nothing else

After Zimmer, Spiegel & Pokutta, "Sparse Model Soups" (2024). In each phase the network is pruned, copies of it are
retrained, and their average goes on. Beside it stand the copies (the best on validation examples, their mean, their
prediction ensemble) and pruning one network that is retrained as long as one copy, or as all of them. A run that was
killed goes on when the same command is given again; more densities or seeds extend it. The default takes 2½ minutes of
CPU time.
"""

import dataclasses
import itertools
import pathlib
import statistics
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from jaxticket import tickets, training
from jaxticket.typing import ProgressFn

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))  # `experiments` itself, when run as a script

import jax

from experiments import _cli, _evidence, _levels, _plan, _pod, _problem, _report, imp
from experiments._soups import Config, Lab, claims, dense, lab, trainer
from experiments._together import Together
from jaxticket import diagnostics, loops, masks
from jaxticket.loops import soups
from jaxticket.tickets import rewinds
from jaxticket.typing import Trained

# Without a schedule or a warm-up of their own: here the learning rate falls on a line.
PRESETS = {
    name: preset
    for name, preset in imp.PRESETS.items()
    if (preset.CONFIG.decay, preset.CONFIG.warmup) == ("constant", 0)
}
BRANCHES = ("soup", "best_member", "mean_member", "ensemble", "imp", "imp_as_long")


def search(config: Config, shared: Lab, folder: pathlib.Path, progress: ProgressFn) -> Iterator[dict[str, Any]]:
    """The records of all seeds, which are trained in one program where that is faster, else in turn."""
    checkpoint = _cli.step_checkpoint(folder / "checkpoint", every=config.checkpoint_seconds)
    options = {"checkpoint": checkpoint, "progress": progress, "on_nan": config.on_nan}
    each = lambda seed, fit: replicate(config, shared, folder / f"seed_{seed}", seed, fit)
    fit = training.fit(shared.varied.recipe, placement=shared.placement, **options)
    if shared.placement.each == "sequence":
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
    merge = soups.uniform(state=_problem.recalibration(config, shared.basis))

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


def run(config: Config) -> list[_report.Record]:
    """Trains what is not trained yet, and reports. Returns the records of all phases, branches and seeds."""
    folder, total = config.folder(), config.seeds * len(config.levels()) * len(BRANCHES)
    with _report.Progress(total, _levels.by_level(config.seeds, BRANCHES)) as progress:
        shared = lab(config)
        with _cli.run_folder(config, progress):
            found = _report.keep(search(config, shared, folder, progress.step), folder / "metrics.jsonl", progress)
    if _pod.is_main():
        title = f"soups of {config.members} × {config.model} on {config.data}, run {config.hash()}"
        command = config.command()
        _levels.write(folder, found, BRANCHES, title=title, config=dataclasses.asdict(config), command=command)
        series = _evidence.curves(found, BRANCHES)
        _evidence.store(config, claims(config, found), command=command, series=series, axes=_evidence.AXES)
    return found


def plan(config: Config) -> str:
    """What the command would do."""
    shared = lab(config)
    count, _ = _plan.sizes(shared.basis.model.init)
    phases = len(config.levels())
    epochs = config.epochs + phases * config.retrain_epochs * (2 * config.members + 1)
    return "\n".join(
        [
            _plan.folder(config.folder()),
            f"phases       {phases}, densities {' '.join(f'{density:.4g}' for density, _ in config.levels())}",
            f"trainings    {config.seeds * (1 + phases * (config.members + 2))}: {config.seeds} seeds, of each the "
            f"dense network and in each phase {config.members} members and 2 that are pruned alone",
            f"epochs       {config.seeds * epochs}; seeds {shared.placement.why}",
            f"parameters   {count:,}",
            f"disk         at most {config.seeds * (1 + 6 * phases) * 4 * count / 2**20:.0f} MiB",
        ]
    )


def main(argv: Sequence[str] | None = None) -> int:
    """The command line. Returns the exit code."""
    return _cli.train_or_plan(Config(), argv, PRESETS, description=__doc__, plan=plan, run=run)


if __name__ == "__main__":
    _pod.host_devices()  # seeds side by side, one a core
    sys.exit(main())
