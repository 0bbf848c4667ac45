"""What every experiment shows in the end: a table, the page and the numbers behind them."""

import io
import json
import math
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from experiments.runs.records import Record
from jaxticket import diagnostics, files, tickets


def accuracies(records: Sequence[Record]) -> dict[str, dict[str, float]]:
    """For each split the mean accuracy over replicates, and half its 95 % interval."""
    splits = ("test_accuracy", "validation_accuracy")
    return {split: diagnostics.interval(r[split] for r in records)._asdict() for split in splits}


def publish(
    folder: pathlib.Path,
    *,
    text: str,
    results: Any,
    warnings: str,
    page: Callable[..., str],
    others: str,
    plot: str = "accuracy.png",
) -> None:
    """Prints the table and writes table.txt, results.json and, around the plot, report.html."""
    files.write_text(folder / "table.txt", text + warnings)
    files.write_text(folder / "results.json", json.dumps(finite(results), indent=1) + "\n")
    files.write_text(folder / "report.html", page(plot=folder / plot, warnings=warnings))
    print(f"{text}{warnings}\n{folder}: report.html, table.txt, results.json, {plot}, {others}")


def grid(columns: Sequence[str], cells: Iterable[Sequence[str]], *, title: str) -> str:
    """A table as text."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    made = Table(title=title, title_justify="left", box=box.SIMPLE)
    for name in columns:
        made.add_column(name, justify="right", no_wrap=True)
    for row in cells:
        made.add_row(*row)
    page = io.StringIO()
    Console(file=page, width=140).print(made)
    return "\n".join(line.rstrip() for line in page.getvalue().strip("\n").splitlines()).rstrip() + "\n"


def layers(ticket: pathlib.Path, *, title: str) -> str:
    """What a saved ticket keeps of each layer, as a table."""
    kept = tickets.describe(ticket)["density"]
    cells = [(path, f"{d['kept']:,}", f"{d['of']:,}", f"{d['kept'] / d['of']:.4f}") for path, d in kept.items()]
    return grid(("layer", "kept", "of", "density"), cells, title=title)


def collapse(records: Iterable[Record], *, advice: str = "--minimum keeps some of each") -> str:
    """A line for each layer and branch that came to keep no weight at all: from which density on, and what helps."""
    first: dict[tuple[str, str], float] = {}
    for record in records:
        for layer in record.get("collapsed", ()):
            where = (plain(record["branch"]), layer)
            first[where] = max(first.get(where, 0.0), record["density"])
    return "".join(
        f"warning: {branch}: {layer} keeps no weight from density {density:.4g} on; {advice}\n"
        for (branch, layer), density in sorted(first.items())
    )


def shown(accuracy: Mapping[str, float]) -> str:
    return f"{100 * accuracy['mean']:.2f} ± {100 * accuracy['half_width']:5.2f}".replace("  nan", "    –")


def plain(branch: str) -> str:
    return branch.replace("_", " ")


def finite(value: Any) -> Any:
    """The value for JSON, which has no NaN: the interval of a single replicate is null, as is a loss that diverged."""
    if isinstance(value, Mapping):
        return {name: finite(v) for name, v in value.items()}
    if isinstance(value, list):
        return [finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
