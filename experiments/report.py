"""The dashboard of claims: a page of all claims that experiments stored with --evidence.

    python experiments/imp.py --evidence docs/evidence      stores the claims that the run tests
    python experiments/report.py                            writes build/report/index.html

The page needs no server and no scripts. The documentation shows the same page beside the table of methods.
"""

import dataclasses
import os
import pathlib
import sys
from collections.abc import Sequence

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))  # `experiments` itself, when run as a script

from experiments.claims import dashboard
from experiments.claims.outcomes import tally
from experiments.claims.record import load
from experiments.runs import command_line
from jaxticket import files
from jaxticket.errors import InputError

_DOCS = pathlib.Path(__file__).resolve().parents[1] / "docs"
_PAGES = (("Methods", "methods.md"), ("Registry", "registry.md"), ("How claims are made", "evidence/README.md"))


@dataclasses.dataclass(frozen=True)
class Config:
    """Build the page of claims."""

    evidence: pathlib.Path = pathlib.Path("docs/evidence")
    """The folder of the stored claims."""
    out: pathlib.Path = pathlib.Path("build/report")
    """The folder to which index.html is written."""


def report(config: Config) -> str:
    """Write the page, and return a line that sums it up. Raises InputError if a stored file is damaged."""
    if not config.evidence.is_dir():
        raise InputError(
            f"--evidence is {config.evidence}, which is not a folder; name the one in which experiments stored claims"
        )
    runs = load(config.evidence)
    links = [(words, os.path.relpath(_DOCS / page, config.out)) for words, page in _PAGES]
    file = config.out / "index.html"
    with files.writing(file):
        config.out.mkdir(parents=True, exist_ok=True)
    files.write_text(file, dashboard.page(runs, links=links))
    pairs = [(run, claim) for run in runs for claim in run.claims]
    if not pairs:
        return f"{file}: no claims yet"
    papers = len({claim.paper for _, claim in pairs})
    outcomes = ", ".join(f"{count} {shown.words}" for shown, count in tally(pairs).items())
    return f"{file}: {len(pairs)} claims of {papers} papers from {len(runs)} runs: {outcomes}"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line. Returns the exit code."""
    with command_line.one_line_errors():
        config = command_line.parse(Config, argv, description=__doc__)
        command_line.require_extras("experiments", "plots")
        print(report(config))
    return 0


if __name__ == "__main__":
    sys.exit(main())
