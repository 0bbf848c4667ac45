"""The report of a pruned language model: perplexities, the layers, and the claims of the papers."""

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.claims import store
from experiments.claims.judge import above
from experiments.claims.record import Claim
from experiments.reports import page, plots, tables
from experiments.runs.records import SweepRecord
from experiments.studies.prune_lm.config import DENSE, Config, Pattern
from jaxticket import diagnostics, files

_WANDA, _SPARSEGPT = "Sun et al. 2024, Wanda", "Frantar & Alistarh 2023, SparseGPT"
_PUBLISHED = {  # LLaMA-2 7B on WikiText-2: perplexities of magnitude, SparseGPT and Wanda
    (0.5, None): "LLaMA-2 7B: magnitude 14.89, SparseGPT 6.51, Wanda 6.42",
    (0.5, 4): "LLaMA-2 7B: magnitude 54.59, SparseGPT 10.17, Wanda 11.02",
    (0.5, 8): "LLaMA-2 7B: magnitude 16.48, SparseGPT 8.12, Wanda 7.97",
}
_NAMES = {"magnitude": "magnitude", "wanda": "Wanda", "sparsegpt": "SparseGPT"}
_COLUMNS = ("choice", "weights kept (%)", "perplexity", "over dense", "seeds")


def report(config: Config, records: Sequence[SweepRecord]) -> None:
    """Write and print the table, the plot, the layers and the page."""
    folder = config.folder()
    (dense,) = (record.metrics["perplexity"] for record in records if record.curve == DENSE)
    points = {curve: _points(records, curve) for curve in dict.fromkeys(record.curve for record in records)}
    rows = [
        (
            curve,
            f"{100 - sparsity:.1f}",
            f"{mean:.2f} ± {half:.2f}".replace("nan", "–"),
            f"{mean / dense:.3f}",
            str(sum((r.curve, 100 * r.sparsity) == (curve, sparsity) for r in records)),
        )
        for curve, line in points.items()
        for sparsity, mean, half in line
    ]
    title = f"{config.setting}, pruned in one shot"
    axes = ("weights removed (%)", "perplexity")
    with plots.figure(folder / "perplexity.png") as drawn:
        drawn.axhline(dense, color="gray", linestyle=":", label=DENSE)
        for curve, line in points.items():
            if curve != DENSE:
                drawn.errorbar(*zip(*line, strict=True), fmt="o-", markersize=4, capsize=3, label=curve)
        drawn.set(xlabel=axes[0], ylabel=axes[1], yscale="log", title=title)
        drawn.legend()
    files.write_text(folder / "layers.csv", _layers(records))
    note = f"± 95 % interval over seeds; {config.sequences} calibration sequences"
    tables.publish(
        folder,
        text=tables.grid(_COLUMNS, rows, title=f"{title}; {note}"),
        results={"points": points},
        warnings="",
        columns=_COLUMNS,
        rows=rows,
        page=page.page_of(config, title, shows="perplexity against the weights removed", heading="Perplexity"),
        others="layers.csv, metrics.jsonl, and the pruned networks",
        plot="perplexity.png",
    )
    store.write(config, claims(config, records), series=points, axes=axes)


def claims(config: Config, records: Sequence[SweepRecord]) -> list[Claim]:
    """Return the claims about the order of the methods, at each pattern."""
    judged = []
    for pattern in config.patterns:
        by_method = {method: _by_seed(records, method, pattern) for method in config.method}
        expected = _PUBLISHED.get((pattern.density, pattern.group), "–")
        where = f"at{pattern.name}" if pattern.group else f"with {100 * pattern.density:g} % of the weights"
        pairs = (
            ("wanda", "magnitude", _WANDA),
            ("sparsegpt", "magnitude", _SPARSEGPT),
            ("sparsegpt", "wanda", _SPARSEGPT),
        )
        for better, worse, paper in pairs:
            gains = _gains(by_method.get(better, {}), by_method.get(worse, {}))
            if gains:
                claim = f"{_NAMES[better]} leaves a lower perplexity than {_NAMES[worse]} {where}."
                judged.append(Claim(paper, claim, expected, *above(gains, unit="%")))
    return judged


def _points(records: Sequence[SweepRecord], curve: str) -> list[tuple[float, float, float]]:
    """Return (sparsity in %, mean perplexity, half its interval) of a curve."""
    own = [record for record in records if record.curve == curve]
    line = []
    for sparsity in dict.fromkeys(record.sparsity for record in own):
        interval = diagnostics.interval(r.metrics["perplexity"] for r in own if r.sparsity == sparsity)
        line.append((100 * sparsity, interval.mean, interval.half_width))
    return line


def _by_seed(records: Sequence[SweepRecord], method: str, pattern: Pattern) -> dict[int, float]:
    place = (method + pattern.name, 1 - pattern.density)
    return {r.seed: r.metrics["perplexity"] for r in records if (r.curve, r.sparsity) == place}


def _gains(better: Mapping[int, float], worse: Mapping[int, float]) -> list[float]:
    """Return by how many % the perplexity is lower, for each seed; magnitude has one value for all of them."""
    return [100 * (1 - mine / worse.get(seed, worse[0])) for seed, mine in better.items()] if worse else []


def _layers(records: Sequence[SweepRecord]) -> str:
    columns = ("choice", "sparsity", "layer", "density", "squared norm removed")
    rows: list[tuple[Any, ...]] = [
        (record.curve, f"{record.sparsity:g}", layer, f"{density:.4f}", f"{lost:.4f}")
        for record in records
        for layer, (density, lost) in record.metrics["layers"].items()
    ]
    return tables.comma_separated(columns, rows)
