"""Several finished searches side by side: the accuracy of their tickets at each density, in a table and a plot.

    python experiments/compare_runs.py --runs runs/imp-44136fa355 runs/imp-0f2c6e1b7a --out comparison

The folder of --out gets table.txt and accuracy.png. Runs are named by the settings in which they differ.
"""

import dataclasses
import json
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))  # `experiments` itself, when run as a script

from experiments.reports import plots, searches
from experiments.runs import command_line
from experiments.studies.imp.config import of_run
from jaxticket import files
from jaxticket.errors import InputError


@dataclasses.dataclass(frozen=True)
class Config:
    """Compare finished searches."""

    runs: tuple[pathlib.Path, ...]
    """The folders of the searches, two or more."""
    branch: str = "ticket"
    """The branch to compare: ticket, random_reinit or random_ticket."""
    out: pathlib.Path = pathlib.Path("runs/comparison")
    """The folder of the table and the plot."""


def labels(runs: Sequence[pathlib.Path]) -> list[str]:
    """Return a name for each run: the settings that not all of them share, or its folder if they share all."""
    identities = [of_run(run).identity() for run in runs]
    differ = [name for name in identities[0] if len({json.dumps(i[name]) for i in identities}) > 1]
    return [
        ", ".join(f"{name.replace('_', ' ')} {identity[name]}" for name in differ) or run.name
        for run, identity in zip(runs, identities, strict=True)
    ]


def rows(run: pathlib.Path, branch: str) -> list[dict[str, Any]]:
    """Return a row for each level of a run. Raises InputError if it has none of this branch."""
    mine = searches.read(run / "metrics.jsonl", branch)
    if not mine:
        raise InputError(f"{run} has no results of the branch {branch!r}; name a branch of a search that has run")
    return searches.summarise(mine, [branch])


def compare(config: Config) -> str:
    """Write the plot and the table, and return the table."""
    if len(config.runs) < 2:
        raise InputError(f"--runs names {len(config.runs)} run; name at least two")
    names = labels(config.runs)
    curves = {
        name: searches.curve(rows(run, config.branch), config.branch)
        for name, run in zip(names, config.runs, strict=True)
    }
    lines = [f"{config.branch.replace('_', ' ')}: test accuracy in %, ± 95 % interval over replicates"]
    for name, points in curves.items():
        lines += [
            "",
            name,
            *(
                f"  {p.density:8.4f}  {100 * p.mean:6.2f} ± {100 * p.half_width:5.2f}".replace("nan", "–")
                for p in points
            ),
        ]
    config.out.mkdir(parents=True, exist_ok=True)
    text = "\n".join(lines) + "\n"
    files.write_text(config.out / "table.txt", text)
    plots.accuracy(curves, config.out / "accuracy.png", title=f"{len(curves)} searches")
    return text


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line. Returns the exit code."""
    with command_line.one_line_errors():
        config = command_line.parse(Config, argv, description=__doc__)
        command_line.require_extras("experiments", "plots")
        print(f"{compare(config)}{config.out}: table.txt, accuracy.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
