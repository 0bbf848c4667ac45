"""An experiment on all hosts of a Cloud TPU VM: copies the committed code there, installs it, and starts it.

    python experiments/launch/tpu_vm.py my-pod --zone us-east5-b -- imp.py --levels 4 --out /mnt/shared/runs

It needs gcloud, and a pod that exists (`gcloud compute tpus tpu-vm create`), with Python 3.11 or newer. Processes find
each other by the pod's metadata. `--out` must be a folder that all hosts share, such as a mounted bucket or Filestore.
The run ends with the connection: start it in tmux, and after a preemption give the same command again, which resumes
it.
"""

import argparse
import pathlib
import shlex
import sys
from collections.abc import Sequence

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))  # `experiments` itself, when run as a script

from experiments.launch import _common

ARCHIVE = "build/launch.tar.gz"
# All that gcloud prints reaches this terminal, from every host; the processes themselves report once.
SETUP = (
    "mkdir -p jaxticket && tar -xzf launch.tar.gz -C jaxticket && cd jaxticket && {{ [ -d .venv ] || {python} -m venv "
    ".venv; }} && .venv/bin/python -m pip install --quiet 'jax[tpu]' --editable '.[experiments]' && exec {command}"
)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="tpu_vm.py", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("name", help="the name of the TPU VM")
    parser.add_argument("--zone", required=True, help="its zone, such as us-east5-b")
    parser.add_argument("--project", help="the project it belongs to, if not that of gcloud's configuration")
    flags, (python, *command) = _common.parse(parser, argv)
    where = [f"--zone={flags.zone}", *([f"--project={flags.project}"] if flags.project else []), "--worker=all"]
    pod = ["gcloud", "compute", "tpus", "tpu-vm"]
    there = SETUP.format(python=shlex.quote(python), command=shlex.join([".venv/bin/python", *command]))
    if not flags.dry_run:
        (_common.ROOT / ARCHIVE).parent.mkdir(exist_ok=True)
    for step in (
        ["git", "archive", "--format=tar.gz", f"--output={ARCHIVE}", "HEAD"],
        [*pod, "scp", ARCHIVE, f"{flags.name}:launch.tar.gz", *where],
        [*pod, "ssh", flags.name, *where, f"--command={there}"],
    ):
        _common.run(step, dry_run=flags.dry_run)
    return 0


if __name__ == "__main__":
    sys.exit(main())
