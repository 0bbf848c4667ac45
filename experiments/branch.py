"""Branches of a finished search: the same levels, each with one thing changed, trained again and compared.

    python experiments/branch.py --run runs/imp-44136fa355 --branch sign_reinit
    python experiments/branch.py --run runs/imp-44136fa355 --branch inverted_mask --levels 9 12 15
    python experiments/branch.py --run runs/imp-44136fa355 --branch rewinding_sweep --rewind-steps 0 50 200
    python experiments/branch.py --run runs/imp-44136fa355 --branch transfer --to-optimizer sgd --learning-rates 0.1

Results go into a folder of branches/ in the run. The same command resumes a killed branch.
"""

import dataclasses
import functools
import pathlib
import shutil
import sys
from collections.abc import Sequence

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))  # `experiments` itself, when run as a script


from experiments.claims import levels
from experiments.reports import searches
from experiments.reports.progress import Progress, keep
from experiments.runs import command_line, environment, processes
from experiments.runs.folder import lock
from experiments.runs.records import LevelRecord
from experiments.studies.imp import branching, claims, variants
from experiments.studies.imp.config import Config, of_run
from experiments.studies.imp.report import title
from experiments.training import problems


def run(config: variants.Config) -> list[LevelRecord]:
    """Train the levels that are not trained yet, and report. Returns the records of the tickets and of the branch."""
    search = of_run(config.run, data_dir=config.data_dir, out=config.run.parent)
    if search.on_nan == "stop":
        search = dataclasses.replace(search, on_nan="record")  # at another learning rate, divergence is a result
    originals = branching.finished(config)
    folder = config.folder()
    changes = variants.variants(config, search)
    # Tickets that went elsewhere are measured on other data; their own column would not compare.
    names = [*(["ticket"] if config.branch != "transfer" else []), *(variant.name for variant in changes)]
    replicates = len({record.replicate for record in originals})
    total, rows = len(originals) * len(names), searches.by_level(replicates, names)
    with lock(config.run), Progress(total, rows) as progress:
        folder.mkdir(parents=True, exist_ok=True)
        environment.record(folder)

        @functools.cache
        def problem_of(search: Config) -> problems.Problem:
            # By search: a training from the same weights at another learning rate must not go on from its checkpoint.
            at = folder / "checkpoint" / search.hash()
            checkpoint = command_line.step_checkpoint(at, every=config.checkpoint_seconds)
            return problems.build(search, checkpoint=checkpoint, progress=progress.step)

        for variant in changes:
            problem = problem_of(variant.search)  # what does not fit is said before anything is trained
        densities = sorted({record.density for record in originals}, reverse=True)
        progress.print(environment.prunable(problem.init, densities))
        trained = branching.records(config, search, originals, changes, problem_of)
        records = keep(trained, folder / "metrics.jsonl", progress)
        if processes.is_main():
            shutil.rmtree(folder / "checkpoint", ignore_errors=True)
    if processes.is_main():
        heading = f"{config.branch.replace('_', ' ')}: {title(search, problem_of(search))}"
        judged = claims.of_branch(config.branch, records)
        levels.report(config, records, names, title=heading, claims=judged, settings=search)
    return records


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line. Returns the exit code."""
    with command_line.one_line_errors():
        config = command_line.parse(variants.Config, argv, description=__doc__)
        command_line.require_extras(*command_line.EXTRAS)
        processes.start(config)
        run(config)
    return 0


if __name__ == "__main__":
    sys.exit(main())
