"""The code that the launchers share: the experiment and its flags, and commands that are shown or run."""

import argparse
import pathlib
import shlex
import subprocess
import sys
from collections.abc import Sequence

ROOT = pathlib.Path(__file__).resolve().parents[2]
EXPERIMENTS = tuple(sorted(file.name for file in (ROOT / "experiments").glob("[!_]*.py")))


def parse(
    parser: argparse.ArgumentParser, argv: Sequence[str] | None, *, python: str = "python3"
) -> tuple[argparse.Namespace, list[str]]:
    """Return the flags of the launcher, and after `--` the command of each process.

    Adds --python, whose default is `python`, and --dry-run. Ends the program with one line for wrong flags and for
    unknown experiments.
    """
    given = list(sys.argv[1:] if argv is None else argv)
    end = given.index("--") if "--" in given else len(given)
    parser.usage = f"{parser.prog} [flags] -- EXPERIMENT.py [its flags] (--help lists all)"
    parser.add_argument("--python", default=python, help=f"the interpreter that each process starts ({python})")
    parser.add_argument("--dry-run", action="store_true", help="print the command, and run nothing")
    flags = parser.parse_args(given[:end])
    name, *others = given[end + 1 :] or [""]
    name = name.removeprefix("experiments/")
    if name not in EXPERIMENTS:
        parser.error(f"after -- comes one of {', '.join(EXPERIMENTS)}, not {name!r}")
    if any("\n" in argument or "\0" in argument for argument in others):
        parser.error("an argument of the experiment has a line break, which shells and manifests on the way would cut")
    return flags, [flags.python, f"experiments/{name}", "--distributed", *others]


def run(command: Sequence[str], *, dry_run: bool, script: str | None = None) -> None:
    """Print the command, and unless `dry_run` run it with `script` as its input; end the program if it fails."""
    print(shlex.join(command), *([script] if script else []), sep="\n", flush=True)
    if dry_run:
        return
    try:
        done = subprocess.run(command, input=script, text=True, cwd=ROOT, check=False)
    except FileNotFoundError:
        sys.exit(f"error: {command[0]} is not installed on this machine, or not on its PATH")
    if done.returncode:
        sys.exit(done.returncode)
