"""A language model pruned in one shot, block by block, without training: magnitude, Wanda or SparseGPT.

    python experiments/train_lm.py                                        a model to prune, or one of transformers:
    python experiments/prune_lm.py MODEL --method wanda --density 0.5 --calibration train.txt --evaluation test.txt
    python experiments/prune_lm.py MODEL --method wanda sparsegpt --nm 2:4 --context 2048
    python experiments/prune_lm.py --method magnitude wanda sparsegpt --density 0.5 0.4 0.3 --nm 2:4 --seeds 3
    python experiments/prune_lm.py --dry-run                              the plan, and nothing else

MODEL is a folder that transformers saved: GPT-2, or a decoder of the Llama kind, with tokenizer.json. Each block is
read, pruned by what the pruned blocks before it put out, and written, so that one block and its inputs are in memory.
The run has a folder for each choice, which transformers loads, the perplexity before and after, and a table of layers.
The same command resumes a killed run at its last block.
"""

import dataclasses
import pathlib
import sys
from collections.abc import Sequence

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))  # `experiments` itself, when run as a script

from experiments.reports import sweeps
from experiments.runs import command_line
from experiments.studies.prune_lm.config import Config
from experiments.studies.prune_lm.report import report
from experiments.studies.prune_lm.sweep import Lab, points


def configure(argv: Sequence[str] | None) -> Config:
    """Return the configuration; a first argument without a flag is the model's folder."""
    given = list(sys.argv[1:] if argv is None else argv)
    if given and not given[0].startswith("-"):
        given.insert(0, "--model")
    return command_line.parse(Config(), given, description=__doc__)


STUDY = dataclasses.replace(
    sweeps.study_of(
        Config(),
        Lab,
        points,
        report,
        description=__doc__,
        line="{curve:14} sparsity {sparsity:.2f}  seed {seed}  perplexity {perplexity:.2f}",
        effort=lambda config: f"{config.sequences} calibration sequences through each block, twice",
        prunes=Lab.table,
        extras=("experiments", "models", "plots", "text"),
    ),
    configure=configure,
)
main = STUDY.main

if __name__ == "__main__":
    sys.exit(main())
