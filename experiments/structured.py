"""Structured tickets: channels are removed from a trained network, and what is left is fine-tuned at smaller widths.

    python experiments/structured.py                 LeNet-300-100 on digits, at 50 % and at 10 % of the multiply-adds
    python experiments/structured.py --methods obspa,snip,random --cost params --kept 0.2
    python experiments/structured.py --preset vgg16_cifar --limit 5000
    python experiments/structured.py --dry-run       the plan, and nothing else

Channels are chosen by OBSPA (Wang et al., 2024), by the magnitude of their group (Fang et al., 2023), at random, or by
a score of weights that is lifted to channels: magnitude, snip, fisher (SPA; Wang et al., 2024). UDFC goes by magnitude
and makes up for what goes without data (Bai et al., 2023). Fine-tuning is as long
as the last quarter of a training, and has its learning rate. The same command resumes a killed run; more methods,
budgets or seeds extend it. The folder `ticket_…` of a run holds the smallest ticket of the first method as a program
that jax runs without this library, its weights, and a page with sizes and times. It needs the extra jaxticket[export].
"""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))  # `experiments` itself, when run as a script

from experiments.claims import levels
from experiments.configs import PRESETS
from experiments.runs import command_line, processes
from experiments.studies.structured import study
from experiments.studies.structured.config import Config

STUDY = levels.study_of(
    lambda argv: command_line.training_config(Config(), argv, PRESETS, description=__doc__),
    study.records,
    study.claims,
    branches=Config.branches,
    size=lambda config: (config.seeds, len(config.kept)),
    prunes=lambda config, basis: str(study.traced(basis)),
)
main = STUDY.main

if __name__ == "__main__":
    processes.host_devices()  # seeds side by side, one a core
    sys.exit(main())
