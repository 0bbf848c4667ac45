"""Monarch matrices in the place of dense layers: trained, projected from a dense network, or made dense at the end.

    python experiments/monarch.py                        a wide LeNet on packaged digits (6 minutes)
    python experiments/monarch.py --data fashion_mnist --width 100 --blocks 10
    python experiments/monarch.py --dry-run              the plan, and nothing else

A Monarch matrix is the product of two block-diagonal ones with a permutation between them (Dao et al., 2022). Hidden
layers are trained so from scratch; projected from a trained dense network and fine-tuned, beside drawn ones that are
trained for as short; or made dense for the last tenth of a training (reverse sparsification). A dense network that is
so narrow that it has as few parameters is the control. The table has the accuracy, the parameters, and the times of a
forward pass and of a gradient over those of the dense network, measured in turn. The same command resumes a killed run.
"""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))  # `experiments` itself, when run as a script

from experiments.reports import sweeps
from experiments.runs import command_line
from experiments.studies.monarch.config import Config
from experiments.studies.monarch.report import report
from experiments.studies.monarch.sweep import Lab, points

STUDY = sweeps.study_of(
    Config(),
    Lab,
    points,
    report,
    description=__doc__,
    line="{curve:16} {sparsity:3g} blocks  test {test_accuracy:.4f}  parameters {params:.3f}",
    effort=lambda config: "some seconds on two cores",
    prunes=Lab.prunes,
    extras=command_line.EXTRAS,
)
main = STUDY.main

if __name__ == "__main__":
    sys.exit(main())
