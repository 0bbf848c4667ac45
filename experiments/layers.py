"""Layer tickets: whole blocks of a residual network go before training, beside channels at equal multiply-adds.

    python experiments/layers.py                                16 residual blocks on packaged digits (6 minutes)
    python experiments/layers.py --model resnet_20 --data cifar10 --removed 2 3 --epochs 8 --limit 4000
    python experiments/layers.py --dry-run                      the plan, and nothing else

Blocks are scored at initialisation by SNIP or GraSP, or drawn at random, and removed (Jordao et al., 2023). Channels of
all layers go by the same scores until as few multiply-adds are left. Then what is left is trained. The table has the
accuracy, the size, and the time of training over that of the whole network, measured in turn. The same command resumes
a killed run.
"""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))  # `experiments` itself, when run as a script

from experiments.reports import sweeps
from experiments.runs import command_line
from experiments.studies.layers.config import Config
from experiments.studies.layers.report import report
from experiments.studies.layers.sweep import Lab, points

STUDY = sweeps.study_of(
    Config(),
    Lab,
    points,
    report,
    description=__doc__,
    line="{curve:16} {sparsity:3g} blocks  test {test_accuracy:.4f}  macs {macs:.3f}",
    effort=lambda config: "some seconds for the residual MLP on two cores, minutes for ResNet-20",
    prunes=Lab.groups,
    extras=command_line.EXTRAS,
)
main = STUDY.main

if __name__ == "__main__":
    sys.exit(main())
