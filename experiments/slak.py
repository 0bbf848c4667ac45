"""Very large depthwise kernels as sparse branches of a wider network, beside dense ones and 7 × 7 kernels.

    python experiments/slak.py                            two blocks on packaged digits (12 minutes)
    python experiments/slak.py --data cifar10 --data-dir … --patch 2 --kernels 15 7 --dims 24 48 --depths 1 1
    python experiments/slak.py --dry-run                  the plan, and nothing else

A large kernel is the sum of two rectangles and a small square, each with its batch norm (SLaK, Liu et al., 2023). The
network is wider by 1.3, keeps 60 % of its weights in the ratios of SNIP, and replaces the smallest ones at random while
it trains. Beside it stand the same masks without regrowth, dense branches, a dense large kernel, and 7 × 7 kernels. The
table has the accuracy, the multiply-adds and parameters that are kept, and the times of the branches and of the one
kernel into which they merge, over full kernels in turn. The same command resumes a killed run.
"""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))  # `experiments` itself, when run as a script

from experiments.reports import sweeps
from experiments.runs import command_line
from experiments.studies.slak.config import Config
from experiments.studies.slak.report import report
from experiments.studies.slak.sweep import Lab, points

STUDY = sweeps.study_of(
    Config(),
    Lab,
    points,
    report,
    description=__doc__,
    line="{curve:12} test {test_accuracy:.4f}  macs {macs:.3f}  parameters {params:.3f}",
    effort=lambda config: "a minute or less on two cores",
    prunes=Lab.table,
    extras=command_line.EXTRAS,
)
main = STUDY.main

if __name__ == "__main__":
    sys.exit(main())
