"""An experiment on TPU slices of Google Kubernetes Engine, through XPK.

    python experiments/launch/xpk.py my-run --cluster my-cluster --tpu-type v5litepod-16 \\
        --docker-image gcr.io/my-project/jaxticket:latest -- imp.py --levels 4 --out /mnt/shared/runs

It needs xpk (`pip install xpk`) and a cluster that xpk made. The image holds this repository as its working directory,
installed with `pip install 'jax[tpu]' -e '.[experiments]'`; with --base-docker-image xpk adds this checkout to an
image that has the rest. Kubernetes starts the processes again after a preemption (--max-restarts); they resume,
if `--out` is a folder that outlives them, such as a mounted bucket.
"""

import argparse
import pathlib
import shlex
import sys
from collections.abc import Sequence

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))  # `experiments` itself, when run as a script

from experiments.launch import _common


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="xpk.py", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("workload", help="a name for the run on the cluster")
    parser.add_argument("--cluster", required=True, help="the cluster to run on")
    parser.add_argument("--tpu-type", required=True, help="the type of each slice, such as v5litepod-16")
    parser.add_argument("--num-slices", type=int, default=1, help="the number of slices (1)")
    image = parser.add_mutually_exclusive_group(required=True)
    image.add_argument("--docker-image", help="an image that holds this repository, installed")
    image.add_argument("--base-docker-image", help="an image to which xpk adds this checkout")
    parser.add_argument("--zone", help="the zone of the cluster, if not that of gcloud's configuration")
    parser.add_argument("--project", help="the project of the cluster, if not that of gcloud's configuration")
    parser.add_argument("--max-restarts", type=int, default=10, help="restarts after failures and preemptions (10)")
    parser.add_argument(
        "--grace-seconds", type=int, default=120, help="seconds in which a stopped run saves its state (120)"
    )
    flags, command = _common.parse(parser, argv, python="python")
    options = {
        "cluster": flags.cluster,
        "tpu-type": flags.tpu_type,
        "num-slices": flags.num_slices,
        "max-restarts": flags.max_restarts,
        "termination-grace-period-seconds": flags.grace_seconds,
        "zone": flags.zone,
        "project": flags.project,
        "docker-image": flags.docker_image,
        "base-docker-image": flags.base_docker_image,
        "script-dir": _common.ROOT if flags.base_docker_image else None,
        "command": shlex.join(command),
    }
    given = [f"--{name}={value}" for name, value in options.items() if value is not None]
    _common.run(["xpk", "workload", "create", f"--workload={flags.workload}", *given], dry_run=flags.dry_run)
    return 0


if __name__ == "__main__":
    sys.exit(main())
