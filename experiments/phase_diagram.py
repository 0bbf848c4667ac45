"""The three regimes of pruning: when does a hotter training of the dense network make a better pruned one?

    python experiments/phase_diagram.py                                early stopping against density, LeNet-300-100
    python experiments/phase_diagram.py --temperature batch-size --temperatures 15 60 240
    python experiments/phase_diagram.py --dry-run                      the plan, and nothing else

After Zhou, Yang, Chang & Mahoney, "A Three-regime Model of Network Pruning" (2023). The dense network is trained at
several temperatures (fewer epochs or smaller batches are hotter), pruned by magnitude to several densities in each
layer, and each pruned network is retrained twice, from the same weights, with the examples in different orders. Between
both lies a straight path: a barrier on it, the training error and the likeness of both (linear CKA of logits) tell the
regime. All retrainings of a temperature are one program, and those of all temperatures the same one. A run that was
killed goes on when the same command is given again; more temperatures extend it. The default takes 4 minutes of CPU
time.
"""

import itertools
import json
import pathlib
import statistics
import sys
from collections.abc import Sequence
from typing import Any

from jaxticket import tickets

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))  # `experiments` itself, when run as a script


from experiments import _cli, _evidence, _html, _plan, _plot, _pod, _report
from experiments._phase_diagram import Config, Lab, claims
from experiments.imp import PRESETS
from jaxticket import diagnostics, loops
from jaxticket.errors import CheckpointError
from jaxticket.methods.analysis.three_regimes import regime

_PANELS = {
    "test_accuracy": "test accuracy (%)",
    "train_error": "training error (%)",
    "mode_connectivity": "mode connectivity (points, below 0: a barrier)",
    "cka": "linear CKA of logits (%)",
}


def column(lab: Lab, temperature: int) -> list[dict[str, Any]]:
    """The records of one temperature, found finished or trained now."""
    config = lab.config
    file = config.folder() / "columns" / f"{config.temperature}_{temperature}.json"
    cells = list(itertools.product(config.densities, range(config.seeds)))
    if file.exists():
        try:
            found = json.loads(file.read_text())
            if [(record["density"], record["seed"]) for record in found] != cells:
                raise ValueError("other densities or seeds")
            return found
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise CheckpointError(f"{file} is damaged ({error}); delete it, and it is measured again") from error
    ends = iter(lab.retrained(lab.dense(temperature)))
    found = [
        {"temperature": temperature, "density": density, "seed": seed, **lab.measure(next(ends), next(ends))}
        for density, seed in cells
    ]
    if _pod.is_main():
        file.parent.mkdir(exist_ok=True)
        loops.files.write_text(file, json.dumps(found))
    return found


def summarise(config: Config, records: Sequence[_report.Record]) -> list[dict[str, Any]]:
    """For each cell the intervals over seeds, and the regime of their means."""
    cells = []
    for temperature, density in itertools.product(config.temperatures, config.densities):
        mine = [r for r in records if (r["temperature"], r["density"]) == (temperature, density)]
        found = {name: diagnostics.interval(r[name] for r in mine)._asdict() for name in _PANELS}
        kind = regime(found["train_error"]["mean"], found["mode_connectivity"]["mean"])
        cells.append({"temperature": temperature, "density": density, "regime": kind.value if kind else "–", **found})
    return cells


def report(config: Config, records: Sequence[_report.Record]) -> None:
    """Writes and prints the tables, the heat maps and the page."""
    folder, cells = config.folder(), summarise(config, records)
    rows = [cells[at : at + len(config.densities)] for at in range(0, len(cells), len(config.densities))]
    title = f"{config.model} on {config.data}, run {config.hash()}"
    columns = (config.temperature, *(f"{100 * density:g} %" for density in config.densities))
    table = lambda cell: [(str(t), *(cell(c) for c in row)) for t, row in zip(config.temperatures, rows, strict=True)]
    shown = {name: table(lambda c, name=name: _report.shown(c[name])) for name in _PANELS}
    regimes = table(lambda c: c["regime"])
    _plot.heat_maps(
        {label: [[100 * c[name]["mean"] for c in row] for row in rows] for name, label in _PANELS.items()},
        folder / "heatmaps.png",
        rows=(config.temperature, config.temperatures),
        columns=("weights kept (%)", [f"{100 * density:g}" for density in config.densities]),
        notes=[row[1:] for row in regimes],
        title=title,
    )
    command = config.command()
    grids = [_report.grid(columns, regimes, title="regime (–: trained badly, but no barrier)")]
    grids += [_report.grid(columns, shown[name], title=label) for name, label in _PANELS.items()]
    _report.publish(
        folder,
        text=f"{title}: ± 95 % interval over {config.seeds} seeds, by temperature and weights kept\n\n"
        + "\n".join(grids),
        results=cells,
        warnings="",
        page=_html.page_of(
            config,
            title,
            columns=columns,
            rows=[[t, *map("{}, {}".format, a, r)] for (t, *a), (_, *r) in zip(shown["test_accuracy"], regimes)],
            shows="Heat maps over temperature and density",
            heading="Accuracy on test examples, in %, with 95 % intervals over seeds, and the regime",
        ),
        plot="heatmaps.png",
        others="metrics.jsonl, and the dense networks",
    )
    series = {
        f"{config.temperature} {t}": _evidence.percent((c["density"], *c["test_accuracy"].values()) for c in row)
        for t, row in zip(config.temperatures, rows, strict=True)
    }
    made = claims(config, records, [c["regime"] for c in cells])
    _evidence.store(config, made, command=command, series=series, axes=_evidence.AXES)


def run(config: Config) -> list[_report.Record]:
    """Trains what is not trained yet, and reports. Returns the records of all cells."""
    folder = config.folder()
    total = len(config.temperatures) * len(config.densities) * config.seeds
    with _report.Progress(total, _lines(config)) as progress:
        lab = Lab(config, progress.step)
        with _cli.run_folder(config, progress):
            found = itertools.chain.from_iterable(column(lab, t) for t in config.temperatures)
            records = _report.keep(found, folder / "metrics.jsonl", progress)
            tickets.StepCheckpoint(folder / "checkpoint", every=0).clear()
    if _pod.is_main():
        report(config, records)
    return records


def plan(config: Config) -> str:
    """What the command would do."""
    lab = Lab(config)
    count, _ = _plan.sizes(lab.basis.model.init)
    return "\n".join(
        [
            _plan.folder(config.folder()),
            f"cells        {len(config.temperatures)} temperatures × {len(config.densities)} densities × "
            f"{config.seeds} seeds",
            f"retrainings  {lab.lanes} at a time, once a temperature, {lab.basis.steps} steps of {config.batch_size} "
            f"examples; {lab.placement.why}",
            f"parameters   {count:,}",
            f"memory       about {lab.lanes * 21 * count / 2**20:.0f} MiB beside data and compiled programs",
        ]
    )


def main(argv: Sequence[str] | None = None) -> int:
    """The command line. Returns the exit code."""
    return _cli.train_or_plan(Config(), argv, PRESETS, description=__doc__, plan=plan, run=run)


def _lines(config: Config) -> _report.Rows:
    """A line for each cell."""

    def line(row: Sequence[_report.Record]) -> str:
        mean = {name: 100 * statistics.fmean(r[name] for r in row) for name in _PANELS}
        numbers = "  ".join(f"{name.replace('_', ' ')} {value:6.2f}" for name, value in mean.items())
        return f"{config.temperature} {row[0]['temperature']:<4} density {row[0]['density']:<6g} {numbers}"

    return _report.Rows(lambda record: (record["temperature"], record["density"]), config.seeds, line)


if __name__ == "__main__":
    _pod.host_devices()  # retrainings side by side, one a core
    sys.exit(main())
