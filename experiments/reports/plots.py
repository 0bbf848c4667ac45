"""Plots of accuracies, with bands of 95 % intervals."""

import contextlib
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from experiments.runs.records import CellRecord
from jaxticket import diagnostics


class Point(NamedTuple):
    """The accuracy at one density, as fractions: the mean over replicates, and half the width of its 95 % interval."""

    density: float
    mean: float
    half_width: float


def accuracy(
    curves: Mapping[str, Sequence[Point]], file: pathlib.Path, *, title: str, dense: Point | None = None
) -> None:
    """Plot test accuracy against density, dense at the left, with bands of the 95 % intervals.

    Args:
      curves: the points of each curve, by name.
      file: the image to write.
      title: stands above the plot.
      dense: the accuracy of the dense network, a line across.
    """
    from matplotlib import ticker

    many = len(curves) > 6
    with figure(file, width=9 if many else 7) as axes:
        for number, (label, points) in enumerate(curves.items()):
            # Colours come again after ten.
            style = (
                {"marker": "osv^Dp*XP<>hdH"[number % 14], "linestyle": "--" if number >= 10 else "-"} if many else {}
            )
            band(axes, [100 * p.density for p in points], points, label=label, **style)
        if dense is not None:
            axes.axhline(100 * dense.mean, color="black", linewidth=1, linestyle="--", label="dense")
            low, high = (100 * (dense.mean + sign * dense.half_width) for sign in (-1, 1))
            axes.axhspan(low, high, color="black", alpha=0.1, linewidth=0)
        axes.set(xscale="log", xlabel="weights kept (%)", ylabel="test accuracy (%)", title=title)
        axes.xaxis.set_major_formatter("{x:.3g}")
        axes.xaxis.set_minor_formatter(ticker.LogFormatter())  # labels where there are few
        densities = {100 * point.density for points in curves.values() for point in points}
        if len(densities) <= 6:
            axes.set_xticks(sorted(densities), minor=False)
            axes.set_xticks([], minor=True)
        axes.invert_xaxis()
        axes.legend(**({"loc": "center left", "bbox_to_anchor": (1, 0.5)} if many else {}))


def band(axes: Any, xs: Sequence[float], points: Sequence[Point], *, marker: str = "o", **style: Any) -> None:
    """Draw a curve of means in %, and its intervals."""
    (line,) = axes.plot(xs, [100 * p.mean for p in points], marker=marker, markersize=3, **style)
    low, high = ([100 * (p.mean + sign * p.half_width) for p in points] for sign in (-1, 1))
    axes.fill_between(xs, low, high, alpha=0.15, color=line.get_color(), linewidth=0)


def heat_maps(
    panels: Mapping[str, Sequence[Sequence[float]]],
    file: pathlib.Path,
    *,
    rows: tuple[str, Sequence[Any]],
    columns: tuple[str, Sequence[Any]],
    notes: Sequence[Sequence[str]],
    title: str,
) -> None:
    """Draw grids of values side by side, two in a row; each cell shows its value and its note.

    Args:
      panels: the values of each grid, by name.
      file: the image to write.
      rows: the name of the vertical axis, and its values.
      columns: the name of the horizontal axis, and its values.
      notes: a text for each cell.
      title: stands above the grids.
    """
    height = 1.2 + 0.55 * len(rows[1])
    with _saved(file, nrows=-(-len(panels) // 2), ncols=2, figsize=(11, height * -(-len(panels) // 2))) as (
        canvas,
        grid,
    ):
        for axes, (name, values) in zip(grid.flat, panels.items(), strict=False):
            image = axes.imshow(values, aspect="auto")
            canvas.colorbar(image, ax=axes)
            axes.set(title=name, xlabel=columns[0], ylabel=rows[0])
            axes.set_xticks(range(len(columns[1])), columns[1])
            axes.set_yticks(range(len(rows[1])), rows[1])
            for y, line in enumerate(values):
                for x, value in enumerate(line):
                    dark = image.norm(value) < 0.5
                    text = f"{round(value, 1) + 0.0:.1f}\n{notes[y][x]}"  # no −0.0
                    axes.text(x, y, text, ha="center", va="center", fontsize=8, color="white" if dark else "black")
        canvas.suptitle(title)


@contextlib.contextmanager
def figure(file: pathlib.Path, *, width: float = 7) -> Iterator[Any]:
    """Yield axes to draw on, which become the file."""
    with _saved(file, figsize=(width, 4.5)) as (_, axes):
        axes.grid(alpha=0.3)
        yield axes


@contextlib.contextmanager
def _saved(file: pathlib.Path, **options: Any) -> Iterator[tuple[Any, Any]]:
    """Yield a figure and its axes, which become the file."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    canvas, axes = pyplot.subplots(layout="constrained", **options)
    yield canvas, axes
    temporary = file.with_name(f"partial-{file.name}")
    canvas.savefig(temporary, dpi=150)
    pyplot.close(canvas)
    temporary.replace(file)


def history(records: Sequence[CellRecord], file: pathlib.Path, *, title: str) -> None:
    """Plot validation accuracy and density over watched trainings; nothing is chosen by test examples."""
    steps = [seen["step"] for seen in records[0].metrics["history"]]
    epochs = list(zip(*(record.metrics["history"] for record in records), strict=True))
    points = [
        Point(epoch[0]["density"], *diagnostics.interval(seen["validation_accuracy"] for seen in epoch))
        for epoch in epochs
    ]
    with figure(file) as axes:
        band(axes, steps, points)
        axes.set(xlabel="step", ylabel="validation accuracy (%)", title=title)
        right = axes.twinx()
        right.plot(steps, [100 * point.density for point in points], color="gray", linestyle=":")
        right.set(yscale="log", ylabel="weights kept (%, dotted)")
