"""Widths within a budget of multiply-adds: computed, searched or drawn, beside the same part of every layer.

    python experiments/widths.py                                     a residual network on packaged digits
    python experiments/widths.py --model supernet --methods uniform random supertickets --blocks 2 --epochs 10
        --batch-size 60 --optimizer sgd --learning-rate 0.1 --weight-decay 1e-3    parallel branches
    python experiments/widths.py --data fashion_mnist --validation 5000 --limit 10000
    python experiments/widths.py --data cifar10 --width 16 --epochs 60 --batch-size 128    on a GPU
    python experiments/widths.py --dry-run                           the plan, and nothing else

PreCrop computes the widths of layers from their sizes alone. TAS searches widths and depths by gradients. SuperTickets
lets channels inside blocks go by their scales, in a training that also prunes weights. All networks keep as many
multiply-adds, and are trained from fresh weights under the whole network's logits (--teacher-weight 0: labels alone).
The table has the accuracy, the size and the time of the search. The default took 19 minutes on two busy cores. The same
command resumes a killed run, also inside a search; more seeds extend it.
"""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))  # `experiments` itself, when run as a script

from experiments.reports import sweeps
from experiments.runs import command_line
from experiments.studies.widths.config import Config
from experiments.studies.widths.lab import Lab
from experiments.studies.widths.report import report
from experiments.studies.widths.supernet import lab_of
from experiments.studies.widths.sweep import points

STUDY = sweeps.study_of(
    Config(),
    lab_of,
    points,
    report,
    description=__doc__,
    line="{curve:16} {sparsity:.2f} gone  seed {seed}  test {test_accuracy:.4f}  macs {macs:.3f}",
    effort=lambda config: "half a minute on two cores; searches take longer",
    prunes=Lab.table,
    extras=command_line.EXTRAS,
)
main = STUDY.main

if __name__ == "__main__":
    sys.exit(main())
