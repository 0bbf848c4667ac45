"""Prints the lower bounds of setup.cfg as constraints for pip, each as the exact version that it names.

python requirements/oldest.py > constraints.txt
"""

import configparser
import pathlib
import re

SETUP = pathlib.Path(__file__).resolve().parents[1] / "setup.cfg"


def oldest(setup: str) -> list[str]:
    """Return a constraint for each requirement of the text of a setup.cfg that has a lower bound."""
    options = configparser.ConfigParser()
    options.read_string(setup)
    groups = [options["options"]["install_requires"], *options["options.extras_require"].values()]
    lines = [line.strip() for group in groups for line in group.splitlines()]
    return sorted({line.replace(">=", "==") for line in lines if re.fullmatch(r"[\w.-]+>=[\d.]+", line)})


if __name__ == "__main__":
    print(*oldest(SETUP.read_text()), sep="\n")
