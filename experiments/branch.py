"""Branches of a finished search: the same levels, each with one thing changed, trained again and compared.

    python experiments/branch.py --run runs/imp-44136fa355 --branch sign_reinit
    python experiments/branch.py --run runs/imp-44136fa355 --branch inverted_mask --levels 9 12 15

Results go into the folder branches/<name> of the run. A branch that was killed goes on when the command is given again.
"""

import dataclasses
import itertools
import json
import pathlib
import sys
import zlib
from collections.abc import Callable, Sequence
from typing import Any, Literal

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))  # `experiments` itself, when run as a script

import jax

from experiments import _cli, _config, _problem, _report, imp
from jaxticket import loops, tickets
from jaxticket.errors import InputError

Branch = Callable[[tickets.Ticket, _problem.Problem, jax.Array], tickets.Ticket]

BRANCHES: dict[str, Branch] = {
    "sign_reinit": lambda ticket, problem, key: loops.branches.sign_reinit(ticket, problem.init, key=key),
    "global_random_ticket": lambda ticket, problem, key: loops.branches.global_random_ticket(ticket, key=key),
    "inverted_mask": lambda ticket, problem, key: loops.branches.inverted_mask(ticket),
    "dense": lambda ticket, problem, key: loops.branches.dense(ticket),
}


@dataclasses.dataclass(frozen=True)
class Config:
    """Train the levels of a finished search again, with one thing changed."""

    run: pathlib.Path
    """The folder of the search."""
    branch: Literal[tuple(BRANCHES)] = "sign_reinit"
    """What is changed: new weights of the same signs, a mask shuffled over all layers, the mask's complement, no mask.
    Each is trained as long as the ticket was."""
    levels: tuple[int, ...] = ()
    """The levels to branch from; all of them if none are named."""
    data_dir: pathlib.Path | None = None
    """Where the data set lies, as for the search."""
    checkpoint_seconds: float = 30.0
    """Seconds between checkpoints inside a training."""


def run(config: Config) -> list[_report.Record]:
    """Trains what is not trained yet, and reports. Returns the records of the tickets and of the branch."""
    search = _config.of_run(config.run, data_dir=config.data_dir, out=config.run.parent)
    found = _finished(config)
    names = ("ticket", config.branch)
    folder = config.run / "branches" / config.branch
    checkpoint = loops.StepCheckpoint(folder / "checkpoint", every=config.checkpoint_seconds)
    levels = sorted({record["level"] for record in found})
    with (
        loops.rundir.lock(config.run),
        _report.Progress(len({record["replicate"] for record in found}), len(levels), names) as progress,
    ):
        folder.mkdir(parents=True, exist_ok=True)
        problem = _problem.build(search, checkpoint=checkpoint, progress=progress.step)
        pairs = ((original, _branched(config, search, problem, original)) for original in found)
        records = _report.keep(itertools.chain.from_iterable(pairs), folder / "metrics.jsonl", progress)
        checkpoint.clear()
    command = ["python", "experiments/branch.py", "--run", str(config.run), "--branch", config.branch]
    _report.write(
        folder,
        records,
        names,
        title=f"{config.branch.replace('_', ' ')}: {imp.title(search, problem)}",
        config=dataclasses.asdict(search),
        command=[*command, *(["--levels", *map(str, config.levels)] if config.levels else [])],
    )
    return records


def _finished(config: Config) -> list[dict[str, Any]]:
    """The records of the search's tickets at the wanted levels."""
    file = config.run / "metrics.jsonl"
    records = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    records = [record for record in records if record["branch"] == "ticket"]
    levels = {record["level"] for record in records}
    if not levels:
        raise InputError(f"{config.run} has no finished level; run the search first")
    if missing := sorted(set(config.levels) - levels):
        raise InputError(f"--levels names {missing[0]}, but the search has the levels 0 to {max(levels)}")
    return [record for record in records if not config.levels or record["level"] in config.levels]


def _branched(
    config: Config, search: _config.Config, problem: _problem.Problem, original: dict[str, Any]
) -> dict[str, Any]:
    index, level = original["replicate"], original["level"]
    folder = config.run / f"replicate_{index}"
    point = imp.rewind_point(search, problem, folder / "rewind_point", index)
    mask = tickets.load(loops.Store(folder / "ticket").path(level)).mask
    keys = imp.keys_of(search, index)
    key = jax.random.fold_in(jax.random.fold_in(keys.reinit, zlib.crc32(config.branch.encode())), level)
    ticket = BRANCHES[config.branch](dataclasses.replace(point, mask=mask, opt_state=None), problem, key)
    train_key, _ = loops.level_keys(keys.search, level)  # the examples come in the ticket's order
    trained = loops.train_level(
        problem.train,
        ticket,
        index=level,
        density=original["density"],
        key=train_key,
        store=loops.Store(folder / config.branch),
    )
    line = imp.record(index, config.branch, trained)
    return {**line, "density": original["density"], "branch_density": line["density"]}  # in the ticket's row


def main(argv: Sequence[str] | None = None) -> int:
    """The command line. Returns the exit code."""
    with _cli.one_line_errors():
        config = _cli.parse(Config, argv, description=__doc__)
        _cli.require_extras("experiments", "models", "io", "data", "plots")
        run(config)
    return 0


if __name__ == "__main__":
    sys.exit(main())
