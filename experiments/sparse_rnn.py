"""Recurrent networks on strings of a grammar: which part may be pruned, and which random structures learn.

    python experiments/sparse_rnn.py                           tanh, ReLU, GRU and LSTM layers (12 minutes)
    python experiments/sparse_rnn.py --recurrences gru --sparsities 0.5 0.7 0.9 0.95 --graphs 0
    python experiments/sparse_rnn.py --strings 18750 --longest 50 --widths 50 50 50 --epochs 50 --retrained 10
    python experiments/sparse_rnn.py --dry-run                 the plan, and nothing else

Trained networks lose the smallest weights from input to hidden units, from hidden to hidden units, or of both, and are
trained again under the mask (Darji, 2024). The table has the accuracy before and after. Other networks are connected
like Watts–Strogatz and Barabási–Albert graphs from their start; a second table has the correlation of the graphs'
properties with the accuracy. The same command resumes a killed run.
"""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))  # `experiments` itself, when run as a script

from experiments.reports import sweeps
from experiments.runs import command_line
from experiments.studies.sparse_rnn.config import Config
from experiments.studies.sparse_rnn.report import report
from experiments.studies.sparse_rnn.sweep import Lab, points

STUDY = sweeps.study_of(
    Config(),
    Lab,
    points,
    report,
    description=__doc__,
    line="{curve:20} {sparsity:4.0%} pruned  test {test_accuracy:.4f}",
    effort=lambda config: "some seconds on two cores",
    prunes=Lab.prunes,
    extras=(*command_line.EXTRAS, "graphs"),
)
main = STUDY.main

if __name__ == "__main__":
    sys.exit(main())
