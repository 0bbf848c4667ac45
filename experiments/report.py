"""The dashboard of claims: one page of all that experiments found, from the files they stored with --evidence.

    python experiments/imp.py --evidence docs/evidence      stores what the run says of its paper's claims
    python experiments/report.py                            build/report/index.html

The page needs no server and no scripts. The documentation shows the same one beside the table of methods.
"""

import collections
import dataclasses
import os
import pathlib
import sys
from collections.abc import Sequence

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))  # `experiments` itself, when run as a script

from experiments.claims import dashboard
from experiments.claims.record import VERDICTS, load
from experiments.runs import command_line
from jaxticket import files
from jaxticket.errors import InputError

_DOCS = pathlib.Path(__file__).resolve().parents[1] / "docs"
_PAGES = (("Methods", "methods.md"), ("Registry", "registry.md"), ("How claims are made", "evidence/README.md"))


@dataclasses.dataclass(frozen=True)
class Config:
    """Build the page of claims."""

    evidence: pathlib.Path = pathlib.Path("docs/evidence")
    """The folder of what is stored."""
    out: pathlib.Path = pathlib.Path("build/report")
    """The folder that gets index.html."""


def report(config: Config) -> str:
    """Writes the page, and returns a line that says what is on it. Raises InputError if what is stored is damaged."""
    if not config.evidence.is_dir():
        raise InputError(
            f"--evidence is {config.evidence}, which is no folder; name the one that experiments stored in"
        )
    found = load(config.evidence)
    links = [(words, os.path.relpath(_DOCS / page, config.out)) for words, page in _PAGES]
    file = config.out / "index.html"
    with files.writing(file):
        config.out.mkdir(parents=True, exist_ok=True)
    files.write_text(file, dashboard.page(found, links=links))
    claims = [claim for run in found for claim in run.claims]
    counts = collections.Counter(claim.verdict for claim in claims)
    verdicts = ", ".join(f"{counts[verdict]} {verdict}" for verdict in VERDICTS)
    papers = len({claim.paper for claim in claims})
    said = f"{len(claims)} claims of {papers} papers from {len(found)} runs: {verdicts}" if claims else "no claims yet"
    return f"{file}: {said}"


def main(argv: Sequence[str] | None = None) -> int:
    """The command line. Returns the exit code."""
    with command_line.one_line_errors():
        config = command_line.parse(Config, argv, description=__doc__)
        command_line.require_extras("experiments", "plots")
        print(report(config))
    return 0


if __name__ == "__main__":
    sys.exit(main())
