"""Tickets found on few examples: those hard to learn, and those that pruning forgets.

    python experiments/prac.py                            LeNet-300-100 on Fashion-MNIST: configs/prac_fashion.py
    python experiments/prac.py --preset lenet_mnist5k     on digits that need no download, in a few minutes
    python experiments/prac.py --preset resnet20_cifar --rewind-fraction 0.0165     on a GPU, with late rewinding
    python experiments/prac.py --model conv_4 --data cifar10 --sets-from runs/prac-0123456789
    python experiments/prac.py --dry-run                  the plan, and nothing else

After Zhang et al., "Efficient Lottery Ticket Finding: Less Data is More" (2021). Beside PrAC sets stand iterative
pruning on all examples, random sets of the same sizes, and the hard examples alone; each ticket is trained on all
examples in the end, as is the PrAC ticket with its weights in random places, and the dense network. With --rewind-step
all of these, and all rounds after the first, start from weights early in the first round, which every arm trains on all
examples; its cost is counted once. A run that was killed goes on when the same command is given again; more seeds
extend it.
"""

import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # `experiments` itself, when run as a script


from experiments import _cli, _evidence, _html, _plan, _plot, _pod, _report
from experiments._prac import ARMS, OTHERS, Config, lab, search
from experiments._prac_claims import SAVED, claims
from experiments.configs import conv4_cifar, lenet_mnist5k, prac_fashion, resnet20_cifar
from jaxticket import diagnostics

PRESETS = {
    module.__name__.rpartition(".")[2]: module for module in (prac_fashion, lenet_mnist5k, conv4_cifar, resnet20_cifar)
}
AXES = ("round", "examples (%)")
FREE = "prac_without_minimum"  # the sets of prac, had there been no floor in this round


def run(config: Config) -> list[_report.Record]:
    """Trains what is not trained yet, and reports. Returns the records of all seeds and arms."""
    folder = config.folder()
    with _report.Progress(config.seeds * len((*ARMS, *OTHERS)), _lines(config.seeds)) as progress:
        checkpoint = _cli.step_checkpoint(folder / "checkpoint", every=config.checkpoint_seconds)
        shared = lab(config, checkpoint=checkpoint, progress=progress.step)
        with _cli.run_folder(config, progress):
            records = _report.keep(search(config, shared, folder), folder / "metrics.jsonl", progress)
            checkpoint.clear()
    if _pod.is_main():
        report(config, records, examples=shared.recipe.examples)
    return records


def report(config: Config, records: Sequence[_report.Record], *, examples: int) -> None:
    """Writes and prints the tables, the plot, the page and the claims."""
    folder = config.folder()
    title = f"PrAC sets of {config.model} on {config.data} ({examples:,} training examples), run {config.hash()}"
    columns = ("ticket of", "weights kept", "test", "validation", "iterations saved", "examples, mean")
    rows = [_row(arm, [r for r in records if r["branch"] == arm], examples) for arm in (*ARMS, *OTHERS)]
    sizes = {arm: _sizes([r["examples"] for r in records if r["branch"] == arm], examples) for arm in ARMS}
    sizes[FREE] = _sizes([r["without_minimum"] for r in records if r["branch"] == "prac"], examples)
    by_round = [(str(at), *(_shown(points[at]) for points in sizes.values())) for at in range(config.rounds)]
    with _plot.figure(folder / "sets.png") as axes:
        for arm, points in sizes.items():
            _plot.band(axes, range(config.rounds), points, label=_report.plain(arm))
        axes.set(xlabel=AXES[0], ylabel=AXES[1], title="what each round trains on")
        axes.legend()
    _report.publish(
        folder,
        text=f"{title}: in %, ± 95 % interval over {config.seeds} seeds\n\n"
        + _report.grid(columns, rows, title="tickets, trained on all examples")
        + "\n"
        + _report.grid(("round", *map(_report.plain, sizes)), by_round, title="examples of each round")
        + f"\niterations saved by the paper's PrAC sets: {SAVED[0]} to {SAVED[1]} %, networks on CIFAR-10\n"
        + _classes([r for r in records if r["branch"] == "prac"]),
        results={
            "tickets": list(records),
            "sizes": {arm: [p._asdict() for p in points] for arm, points in sizes.items()},
        },
        warnings=_report.collapse(records, advice="no signal passes it"),
        page=_html.page_of(
            config,
            title,
            columns=columns,
            rows=rows,
            shows="Examples of each round",
            heading="Tickets trained on all examples, in %, with 95 % intervals over seeds",
        ),
        others="metrics.jsonl, and the tickets and sets of all seeds",
        plot="sets.png",
    )
    series = {
        _report.plain(arm): [(at, 100 * p.mean, 100 * p.half_width) for at, p in enumerate(points)]
        for arm, points in sizes.items()
    }
    _evidence.store(config, claims(records), command=config.command(), series=series, axes=AXES)


def plan(config: Config) -> str:
    """What the command would do."""
    shared, folder = lab(config), config.folder()
    count, _ = _plan.sizes(shared.basis.model.init)
    whole, tickets = config.seeds * config.epochs, config.seeds * len((*ARMS, *OTHERS))
    return "\n".join(
        [
            _plan.folder(folder),
            f"searches     {config.seeds * len(ARMS)}: {config.seeds} seeds of {', '.join(map(_report.plain, ARMS))}; "
            f"{config.rounds} rounds each",
            f"epochs       {whole * config.rounds} of imp; the others at most as many, on parts of the "
            f"{shared.recipe.examples:,} examples; {tickets * config.epochs} of tickets on all of them",
            f"rewound to   step {config.plan('prac', shared.steps).rewind_step} of {shared.steps} of the first round",
            f"parameters   {count:,}",
            f"disk         at most {2**-20 * 4 * count * (7 * config.rounds + 2 * tickets):.0f} MiB",
            _plan.TIME,
        ]
    )


def main(argv: Sequence[str] | None = None) -> int:
    """The command line. Returns the exit code."""
    return _cli.train_or_plan(Config(), argv, PRESETS, description=__doc__, plan=plan, run=run)


def _lines(seeds: int) -> _report.Rows:
    """A line for each ticket."""

    def line(row: Sequence[_report.Record]) -> str:
        first = row[0]
        saved = f", {100 * first['saved']:.1f} % of the iterations saved" if "saved" in first else ""
        name = _report.plain(first["branch"])
        return f"seed {first['seed'] + 1}/{seeds}  {name:14} {100 * first['test_accuracy']:5.2f}{saved}"

    return _report.Rows(lambda record: (record["seed"], record["branch"]), 1, line)


def _row(arm: str, records: Sequence[_report.Record], examples: int) -> tuple[str, ...]:
    found = _report.accuracies(records)
    saved, part = "–", "–"
    if arm in ARMS:
        saved = _shown(_point(0, [r["saved"] for r in records]))
        part = _shown(_point(0, [statistics.fmean(r["examples"]) / examples for r in records]))
    kept = f"{100 * statistics.fmean(r['density'] for r in records):.2f}"
    test, validation = (_report.shown(found[f"{split}_accuracy"]) for split in ("test", "validation"))
    return _report.plain(arm), kept, test, validation, saved, part


def _sizes(counts: Sequence[Sequence[int]], examples: int) -> list[_plot.Point]:
    """The part of the examples that each round trains on, of counts by seed and round."""
    rounds = zip(*counts, strict=True)
    return [_point(at, [size / examples for size in sizes]) for at, sizes in enumerate(rounds)]


def _point(at: float, values: Sequence[float]) -> _plot.Point:
    return _plot.Point(at, *diagnostics.interval(values))


def _shown(point: _plot.Point) -> str:
    return _report.shown({"mean": point.mean, "half_width": point.half_width})


def _classes(records: Sequence[dict[str, Any]]) -> str:
    """A line for each seed: how many examples of each class the last round trained on."""
    return "".join(
        f"classes of the last PrAC set, seed {r['seed']}: {' '.join(map(str, r['classes']))}\n" for r in records
    )


if __name__ == "__main__":
    sys.exit(main())
