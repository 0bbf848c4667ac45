"""Branches of a finished search: the same levels, each with one thing changed, trained again and compared.

    python experiments/branch.py --run runs/imp-44136fa355 --branch sign_reinit
    python experiments/branch.py --run runs/imp-44136fa355 --branch inverted_mask --levels 9 12 15
    python experiments/branch.py --run runs/imp-44136fa355 --branch rewinding_sweep --rewind-steps 0 50 200
    python experiments/branch.py --run runs/imp-44136fa355 --branch transfer --to-optimizer sgd --learning-rates 0.1

Results go into a folder of branches/ in the run. A branch that was killed goes on when the command is given again.
"""

import dataclasses
import functools
import pathlib
import shutil
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))  # `experiments` itself, when run as a script

import jax

from experiments import (
    _cli,
    _config,
    _environment,
    _evidence,
    _levels,
    _pod,
    _problem,
    _report,
    _search_claims,
    _variants,
    imp,
)
from jaxticket import loops, tickets
from jaxticket.errors import InputError

ProblemOf = Callable[[_config.Config], _problem.Problem]


def run(config: _variants.Config) -> list[_report.Record]:
    """Trains what is not trained yet, and reports. Returns the records of the tickets and of the branch."""
    search = _config.of_run(config.run, data_dir=config.data_dir, out=config.run.parent)
    if search.on_nan == "stop":
        search = dataclasses.replace(search, on_nan="record")  # at another learning rate, divergence is a result
    found = _finished(config)
    folder = config.folder()
    variants = _variants.variants(config, search)
    # Tickets that went elsewhere are measured on other data; their own column would not compare.
    names = [*(["ticket"] if config.branch != "transfer" else []), *(variant.name for variant in variants)]
    replicates = len({record["replicate"] for record in found})
    total, rows = len(found) * len(names), _levels.by_level(replicates, names)
    with loops.rundir.lock(config.run), _report.Progress(total, rows) as progress:
        folder.mkdir(parents=True, exist_ok=True)
        _environment.record(folder)

        @functools.cache
        def problem_of(search: _config.Config) -> _problem.Problem:
            # By search: a training from the same weights at another learning rate must not go on from its checkpoint.
            at = folder / "checkpoint" / search.hash()
            checkpoint = _cli.step_checkpoint(at, every=config.checkpoint_seconds)
            return _problem.build(search, checkpoint=checkpoint, progress=progress.step)

        for variant in variants:
            problem_of(variant.search)  # what does not fit is said before anything is trained
        trained = _records(config, search, found, variants, problem_of)
        records = _report.keep(trained, folder / "metrics.jsonl", progress)
        if _pod.is_main():
            shutil.rmtree(folder / "checkpoint", ignore_errors=True)
    if _pod.is_main():
        title = f"{config.branch.replace('_', ' ')}: {imp.title(search, problem_of(search))}"
        command = config.command()
        _levels.write(folder, records, names, title=title, config=dataclasses.asdict(search), command=command)
        series, claims = _evidence.curves(records, names), _search_claims.of_branch(config.branch, records)
        _evidence.store(config, claims, command=command, series=series, axes=_evidence.AXES)
    return records


def _finished(config: _variants.Config) -> list[_report.Record]:
    """The records of the search's tickets at the wanted levels."""
    records = _levels.read(config.run / "metrics.jsonl", "ticket")
    levels = {record["level"] for record in records}
    if not levels:
        raise InputError(f"{config.run} has no finished level; run the search first")
    if missing := sorted(set(config.levels) - levels):
        raise InputError(f"--levels names {missing[0]}, but the search has the levels 0 to {max(levels)}")
    return [record for record in records if not config.levels or record["level"] in config.levels]


def _records(
    config: _variants.Config,
    search: _config.Config,
    found: Sequence[_report.Record],
    variants: Sequence[_variants.Variant],
    problem_of: ProblemOf,
) -> Iterator[_report.Record]:
    for original in found:
        if config.branch != "transfer":
            yield original
        for variant in variants:
            yield _branched(config, search, variant, original, problem_of)


def _branched(
    config: _variants.Config,
    search: _config.Config,
    variant: _variants.Variant,
    original: _report.Record,
    problem_of: ProblemOf,
) -> dict[str, Any]:
    index, level = original["replicate"], original["level"]
    folder = config.run / f"replicate_{index}"
    store = tickets.Store(folder / "ticket")
    at = "rewind_point" if variant.start == search else f"rewind_point_{variant.start.rewind_step}"
    point = imp.rewind_point(variant.start, problem_of(variant.start), folder / at, index)
    mask = tickets.load(store.path(level)).mask
    ticket = dataclasses.replace(point, mask=mask, opt_state=None)
    keys = imp.keys_of(search, index)
    key = jax.random.fold_in(jax.random.fold_in(keys.reinit, zlib.crc32(variant.name.encode())), level)
    before = _variants.Found(ticket, lambda: store.trained(max(level - 1, 0), like=point))
    problem = problem_of(variant.search)
    train_key, _ = loops.level_keys(keys.search, level)  # the examples come in the ticket's order
    trained = loops.train_level(
        problem.train,
        variant.make(before, problem, key),
        index=level,
        density=original["density"],
        key=train_key,
        store=tickets.Store(folder / "branches" / config.name() / variant.name),
    )
    line = imp.record(index, variant.name, trained)
    return {**line, "density": original["density"], "branch_density": line["density"]}  # in the ticket's row


def main(argv: Sequence[str] | None = None) -> int:
    """The command line. Returns the exit code."""
    with _cli.one_line_errors():
        config = _cli.parse(_variants.Config, argv, description=__doc__)
        _cli.require_extras("experiments", "models", "io", "data", "plots")
        _pod.start(config)
        run(config)
    return 0


if __name__ == "__main__":
    sys.exit(main())
