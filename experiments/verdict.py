"""The verdicts on a search: the levels that are winning tickets by the rigorous definition, with the evidence.

    python experiments/branch.py --run runs/imp-44136fa355 --branch retrained
    python experiments/verdict.py --run runs/imp-44136fa355 --best 0.985

After Ma et al., "Sanity Checks for Lottery Tickets: Does Your Winning Ticket Really Win the Jackpot?" (2021). The run
gets verdict.txt and verdict.json.
"""

import pathlib
import sys
from collections.abc import Sequence

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))  # `experiments` itself, when run as a script

from experiments.runs import command_line
from experiments.studies.imp.verdicts import Config, judge


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line. Returns the exit code."""
    with command_line.one_line_errors():
        print(judge(command_line.parse(Config, argv, description=__doc__)), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
