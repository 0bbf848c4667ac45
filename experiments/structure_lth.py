"""Coarse tickets: iterative pruning finds a ticket, whose channels are refilled or regrouped, and which trains again.

    python experiments/structure_lth.py                     LeNet-300-100 on Fashion-MNIST
    python experiments/structure_lth.py --data mnist5k --validation 500      on digits that need no files
    python experiments/structure_lth.py --model conv_4 --data cifar10 --learning-rate 3e-4     on a GPU
    python experiments/structure_lth.py --dry-run           the plan, and nothing else

After Chen et al., "Coarsening the Granularity: Towards Structurally Sparse Lottery Tickets" (2022), which prunes
convolutions alone; here also hidden layers become coarse. Whole channels (refill, refill plus, and as many random ones)
make a physically smaller network. Dense blocks (regroup) are gathered and multiplied one by one, in dense layers; where
they are convolutions, they run at full size. Layers of up to 128 channels stay unstructured under regroup, unless
--parts is smaller. All tickets start from the same rewound weights. Times are those of whole networks over the dense
one's, run in turn. Fashion-MNIST takes 15 minutes on two busy cores. The same command resumes a killed run; more seeds
extend it.
"""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))  # `experiments` itself, when run as a script

from experiments.reports import sweeps
from experiments.runs import command_line
from experiments.studies.structure_lth.config import Config
from experiments.studies.structure_lth.report import report
from experiments.studies.structure_lth.sweep import Lab, points

STUDY = sweeps.study_of(
    Config(),
    Lab,
    points,
    report,
    description=__doc__,
    line="{curve:12} {sparsity:.2f}  seed {seed}  test {test_accuracy:.4f}  kept {kept:.3f}  time {time:.2f}",
    effort=lambda config: f"{config.epochs} epochs, and {max(config.rounds) + 1} such trainings a seed to search",
    prunes=Lab.prunes,
    extras=command_line.EXTRAS,
)
main = STUDY.main

if __name__ == "__main__":
    sys.exit(main())
