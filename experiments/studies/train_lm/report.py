"""The report of a trained language model: its size, its perplexity, and the curve of its losses."""

from collections.abc import Sequence

from experiments.reports import page, plots, tables
from experiments.runs.records import SweepRecord, whole
from experiments.studies.train_lm.config import Config
from experiments.studies.train_lm.sweep import CURVE

_COLUMNS = (
    "parameters",
    "tokens seen",
    "training tokens",
    "loss of the last epoch",
    "perplexity",
    "by frequencies alone",
)


def report(config: Config, records: Sequence[SweepRecord]) -> None:
    """Write and print the table, the plot and the page."""
    folder, (record,) = config.folder(), records
    measured = record.metrics
    title = f"A language model of {config.layers} blocks, held-out documents of {config.text or '20 Newsgroups'}"
    row = (
        f"{measured['parameters']:,}",
        f"{config.steps * config.batch_size * config.context:,}",
        f"{measured['train_tokens']:,}",
        f"{measured['train_loss']:.3f}",
        f"{measured['perplexity']:.1f}",
        f"{measured['unigram_perplexity']:.1f}",
    )
    curve = whole(folder / CURVE)
    with plots.figure(folder / "loss.png") as axes:
        axes.plot([line["step"] for line in curve], [line["loss"] for line in curve])
        axes.set(xlabel="step", ylabel="training loss (nats a token)", title=title)
    tables.publish(
        folder,
        text=tables.grid(_COLUMNS, [row], title=title),
        results=dict(measured),
        warnings="",
        columns=_COLUMNS,
        rows=[row],
        page=page.page_of(config, title, shows="the training loss", heading="Language model"),
        others="and the folder model, which transformers loads",
        plot="loss.png",
    )
