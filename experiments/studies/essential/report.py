"""The report of a sweep: the table, the plot, the page and the claims."""

from collections.abc import Mapping, Sequence

from experiments.claims import store
from experiments.reports import page, plots, tables
from experiments.runs.records import SweepRecord
from experiments.studies.essential import claims
from experiments.studies.essential.config import CURVES, Config
from jaxticket import diagnostics
from jaxticket.methods.analysis import essential_sparsity


def report(config: Config, records: Sequence[SweepRecord]) -> None:
    """Write and print the table, the plot and the page."""
    folder, title = config.folder(), f"all-MiniLM-L6-v2 pruned in one shot, {config.sentences} sentences"
    curves = {c: _curve(records, c) for c in dict.fromkeys(r.curve for r in records)}
    with plots.figure(folder / "accuracy.png") as axes:
        for name, curve in curves.items():
            xs, means = [100 * p[0] for p in curve], [p[1] for p in curve]
            axes.plot(xs, means, "o-" if name in CURVES else "s", markersize=4, label=name)
        axes.set(xlabel="weights removed (%)", ylabel="cosine to the dense embedding", title=title)
        axes.legend()
    rows = [
        (name, f"{100 * s:.1f}", f"{cosine:.4f} ± {half:.4f}", f"{100 * same:.1f}")
        for name, curve in curves.items()
        for s, cosine, half, same in curve
    ]
    knees = {c: essential_sparsity.knee(config.sparsities, [p[1] for p in curves[c]]) for c in CURVES}
    said = "".join(
        f"{name}: {100 * k.essential:g} % of the weights go for less than 1 % of the cosine; sharpest bend at "
        f"{100 * k.sharpest:g} %\n"
        for name, k in knees.items()
    )
    columns = ("pruning", "removed %", "cosine", "same neighbour %")
    tables.publish(
        folder,
        text=tables.grid(columns, rows, title=f"{title}; ± 95 % interval over sentences (random: over seeds)") + said,
        results={"points": curves, "knees": {name: k._asdict() for name, k in knees.items()}},
        warnings="",
        columns=columns,
        rows=rows,
        page=page.page_of(
            config,
            title,
            shows="Cosine to the dense embedding against the weights removed",
            heading="What is left of the embeddings",
        ),
        others="metrics.jsonl",
    )
    series = {name: [(100 * s, cosine, half) for s, cosine, half, _ in curve] for name, curve in curves.items()}
    axes = ("weights removed (%)", "cosine to the dense embedding")
    judged = claims.claims(curves, knees["global"], texts=config.sentences)
    store.write(config, judged, series=series, axes=axes)


def _curve(records: Sequence[SweepRecord], name: str) -> list[tuple[float, float, float, float]]:
    """Return (sparsity, mean cosine, half its interval, part of neighbours kept); several seeds are averaged."""
    by_sparsity: dict[float, list[Mapping[str, float]]] = {}
    for record in records:
        if record.curve == name:
            by_sparsity.setdefault(record.sparsity, []).append(record.metrics)
    curve = []
    for sparsity, members in by_sparsity.items():
        mean, half = diagnostics.interval(r["cosine"] for r in members)
        half = members[0]["half_width"] if len(members) == 1 else half
        curve.append((sparsity, mean, half, sum(r["neighbours"] for r in members) / len(members)))
    return curve
