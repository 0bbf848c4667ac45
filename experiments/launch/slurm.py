r"""An experiment as a SLURM job: one process for each GPU, or for each node without GPUs.

    python experiments/launch/slurm.py --nodes 4 --gpus-per-node 8 --time 24:00:00 --sbatch=--partition=a100 \
        -- imp.py --levels 4 --out /shared/runs

It needs sbatch, and this checkout and the folder of `--out` where all nodes see them. Processes find each other by
SLURM's variables. Two minutes before the time limit, or before SLURM takes the nodes away, each process gets SIGTERM
and saves its state; then the job queues again, and resumes.
"""

import argparse
import pathlib
import shlex
import sys
from collections.abc import Sequence

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))  # `experiments` itself, when run as a script

from experiments.launch import _common

# The signal comes to this shell (B:), which passes it on to the processes: they end as if they had finished, so that
# only the shell knows that they shall go on. `scancel --signal` reaches the steps of a job, not its shell.
BODY = """
cd {root}
again=
stop() {{ again=yes; scancel --signal=TERM "$SLURM_JOB_ID"; }}
trap stop TERM
srun --kill-on-bad-exit=1 {command} &
wait $! || status=$?
if [ "$again" ]; then wait; exec scontrol requeue "$SLURM_JOB_ID"; fi
exit "${{status:-0}}"
"""


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="slurm.py", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--nodes", type=int, default=1, help="the number of nodes (1)")
    parser.add_argument("--gpus-per-node", type=int, default=0, help="GPUs and processes of a node; 0: one process (0)")
    parser.add_argument("--time", required=True, help="the time of each turn, such as 24:00:00; the next one resumes")
    parser.add_argument("--job-name", default="jaxticket", help="the name of the job and of its log (jaxticket)")
    parser.add_argument(
        "--sbatch", action="append", default=[], help="another flag of sbatch, such as --sbatch=--partition=a100"
    )
    flags, command = _common.parse(parser, argv, python=sys.executable)
    options = [
        f"--job-name={flags.job_name}",
        f"--nodes={flags.nodes}",
        f"--ntasks-per-node={max(1, flags.gpus_per_node)}",
        *([f"--gpus-per-node={flags.gpus_per_node}"] if flags.gpus_per_node else []),
        f"--time={flags.time}",
        "--requeue",
        "--signal=B:TERM@120",
        "--open-mode=append",
        "--output=%x-%j.log",
        *flags.sbatch,
    ]
    body = BODY.format(root=shlex.quote(str(_common.ROOT)), command=shlex.join(command))
    _common.run(["sbatch", *options], dry_run=flags.dry_run, script=f"#!/bin/bash{body}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
