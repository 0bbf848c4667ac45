"""The report of trainings on ImageNet: tables, the plot and the page."""

import pathlib
from collections.abc import Sequence

from experiments.reports import page, plots, tables
from experiments.runs.records import TrainingRecord
from experiments.studies.imagenet import training
from experiments.studies.imagenet.config import Config


def report(config: Config, records: Sequence[TrainingRecord], folder: pathlib.Path) -> None:
    """Write and print the tables, the plot and the page."""
    title = f"{config.model} on ImageNet by {tables.plain(config.method)}, run {config.hash()}"
    columns = ("training", "weights kept", "validation accuracy")
    rows = [(r.training, f"{r.density:.4f}", f"{100 * r.metrics['validation_accuracy']:.2f}") for r in records]
    newest = folder / ("ticket" if config.method != "imp" else f"levels/level_{len(records) - 1:03d}")
    seen = [r for r in training.read(folder / "metrics.jsonl") if "validation_accuracy" in r.metrics]
    with plots.figure(folder / "accuracy.png") as axes:
        for record in records:
            mine = [r for r in seen if r.training == record.training]
            points = [(r.step, 100 * r.metrics["validation_accuracy"]) for r in mine]
            axes.plot(*zip(*points, strict=True), marker="o", markersize=3, label=record.training)
        axes.set(xlabel="step", ylabel="validation accuracy (%)", title=title)
        axes.legend()
    layers = tables.Layers(f"Weights kept by layer: {rows[-1][0]}", newest)
    tables.publish(
        folder,
        text=f"{title}\n\n"
        + tables.grid(columns, rows, title="accuracy in % on the validation split")
        + "\n"
        + layers.text(),
        results=[record.line() for record in records],
        warnings="",
        columns=columns,
        rows=rows,
        page=page.page_of(
            config,
            title,
            layers=layers,
            shows="Validation accuracy over the training",
            heading="Accuracy in % on the validation split, which is what papers report; one seed",
        ),
        others=f"metrics.jsonl, and the ticket {newest.relative_to(folder)}",
    )
