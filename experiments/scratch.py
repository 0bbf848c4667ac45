"""The value of pruned weights: a network that is pruned and fine-tuned, against fresh weights under the same mask.

    python experiments/scratch.py                     LeNet-300-100 on digits, at 20 % and at 5 % of the weights
    python experiments/scratch.py --densities 0.1 --seeds 8
    python experiments/scratch.py --dry-run           the plan, and nothing else

After Liu et al., "Rethinking the Value of Network Pruning" (2019). Fresh weights train for as many epochs as the dense
network (Scratch-E), or for as many FLOPs (Scratch-B). Fine-tuning is as long as the last quarter of a training, and has
its learning rate. The same command resumes a killed run; more densities or seeds extend it.
"""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))  # `experiments` itself, when run as a script

from experiments.claims import levels
from experiments.configs import PRESETS
from experiments.runs import command_line, processes
from experiments.studies import scratch

STUDY = levels.study_of(
    lambda argv: command_line.training_config(scratch.Config(), argv, PRESETS, description=__doc__),
    scratch.records,
    scratch.claims,
    branches=lambda config: scratch.BRANCHES,
    size=lambda config: (config.seeds, len(config.densities)),
)
main = STUDY.main

if __name__ == "__main__":
    processes.host_devices()  # seeds side by side, one a core
    sys.exit(main())
