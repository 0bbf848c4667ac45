"""The three regimes of pruning: a hotter training of the dense network makes a better pruned network, or a worse one.

    python experiments/phase_diagram.py                                early stopping against density, LeNet-300-100
    python experiments/phase_diagram.py --temperature batch-size --temperatures 15 60 240
    python experiments/phase_diagram.py --dry-run                      the plan, and nothing else

After Zhou, Yang, Chang & Mahoney, "A Three-regime Model of Network Pruning" (2023). The dense network is trained at
several temperatures (fewer epochs or smaller batches are hotter), pruned by magnitude to several densities in each
layer, and each pruned network is retrained twice, from the same weights, with the examples in different orders. Between
both lies a straight path: a barrier on it, the training error and the likeness of both (linear CKA of logits) show the
regime. All retrainings of a temperature are one program, and those of all temperatures the same one. The same command
resumes a killed run; more temperatures extend it. The default takes 4 minutes of CPU time.
"""

import itertools
import json
import pathlib
import statistics
import sys
from collections.abc import Iterator, Sequence

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))  # `experiments` itself, when run as a script

from experiments.configs import PRESETS
from experiments.reports import study
from experiments.reports.progress import Rows
from experiments.reports.study import Watch
from experiments.runs import command_line, dry_run, environment, processes
from experiments.runs.records import DiagramRecord
from experiments.studies.phase_diagram.lab import Config, Lab
from experiments.studies.phase_diagram.report import PANELS, report
from jaxticket import files
from jaxticket.errors import CheckpointError


def column(lab: Lab, temperature: int) -> list[DiagramRecord]:
    """Return the records of one temperature, loaded or trained."""
    config = lab.config
    file = config.folder() / "columns" / f"{config.temperature}_{temperature}.json"
    cells = list(itertools.product(config.densities, range(config.seeds)))
    if file.exists():
        try:
            records = [*map(DiagramRecord.parse, json.loads(file.read_text()))]
            if [(record.density, record.seed) for record in records] != cells:
                raise ValueError("other densities or seeds")
            return records
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise CheckpointError(f"{file} is damaged ({error}); delete it, and it is measured again") from error
    ends = iter(lab.retrained(lab.dense(temperature)))
    records = [DiagramRecord(lab.measure(next(ends), next(ends)), temperature, *cell) for cell in cells]
    if processes.is_main():
        file.parent.mkdir(exist_ok=True)
        files.write_text(file, json.dumps([record.line() for record in records]))
    return records


def columns(config: Config, lab: Lab, watch: Watch) -> Iterator[DiagramRecord]:
    """Yield the records of all temperatures."""
    return itertools.chain.from_iterable(column(lab, temperature) for temperature in config.temperatures)


def rows(config: Config) -> tuple[int, Rows]:
    """A line for each cell."""

    def line(row: Sequence[DiagramRecord]) -> str:
        mean = {name: 100 * statistics.fmean(r.metrics[name] for r in row) for name in PANELS}
        numbers = "  ".join(f"{name.replace('_', ' ')} {value:6.2f}" for name, value in mean.items())
        return f"{config.temperature} {row[0].temperature:<4} density {row[0].density:<6g} {numbers}"

    total = len(config.temperatures) * len(config.densities) * config.seeds
    return total, Rows(lambda record: (record.temperature, record.density), config.seeds, line)


def plan(config: Config, lab: Lab) -> list[str]:
    """Return the lines of --dry-run."""
    count, _ = dry_run.sizes(lab.basis.model.init)
    return [
        f"cells        {len(config.temperatures)} temperatures × {len(config.densities)} densities × "
        f"{config.seeds} seeds",
        f"retrainings  {lab.lanes} at a time, once a temperature, {lab.basis.steps} steps of {config.batch_size} "
        f"examples; {lab.placement.why}",
        f"parameters   {count:,}",
        f"memory       about {lab.lanes * 21 * count / 2**20:.0f} MiB beside data and compiled programs",
    ]


STUDY = study.Study(
    configure=lambda argv: command_line.training_config(Config(), argv, PRESETS, description=__doc__),
    rows=rows,
    prepare=lambda config, watch: Lab(config, **watch.looks),
    records=columns,
    report=report,
    plan=plan,
    prunes=lambda config, shared: environment.prunable(shared.basis.init, config.densities),
)
main = STUDY.main

if __name__ == "__main__":
    processes.host_devices()  # retrainings side by side, one a core
    sys.exit(main())
