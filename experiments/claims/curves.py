"""The curves of a run on the page of claims."""

import html
import io
import re
from collections.abc import Sequence

from experiments.claims.record import Evidence, Point
from experiments.claims.store import AXES

_INK = "#010203"  # of texts and axes in a plot, in the place of the page's own colour


def svg(run: Evidence) -> str:
    """Return the curves of a run as an SVG whose texts and axes have the page's colour."""
    import matplotlib
    from matplotlib import ticker
    from matplotlib.figure import Figure

    inked = ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color", "legend.labelcolor")
    options = {**dict.fromkeys(inked, _INK), "svg.fonttype": "none", "svg.hashsalt": run.id, "font.size": 9}
    with matplotlib.rc_context(options):
        figure = Figure(figsize=(7, 4.2 + 0.1 * len(run.series)), layout="constrained")
        axes = figure.subplots()
        for number, (name, curve) in enumerate(run.series.items()):
            _draw(axes, name, curve, number)
        axes.grid(color="#808080", alpha=0.3)
        axes.set(xlabel=(run.axes or AXES)[0], ylabel=(run.axes or AXES)[1])
        if run.axes == AXES:  # as every plot of accuracy against density: dense at the left
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter("{x:.3g}")
            axes.xaxis.set_minor_formatter(ticker.LogFormatter())  # labels where there are few
            axes.invert_xaxis()
        figure.legend(loc="outside lower center", ncols=3, frameon=False)
        text = io.StringIO()
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    image = text.getvalue()[text.getvalue().index("<svg") :].replace(_INK, "currentColor")
    # Names of parts must differ between the plots of a page.
    image = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{run.id}-", image)
    label = html.escape(f"{run.experiment}: {' against '.join(reversed(run.axes or AXES))}")
    return image.replace("<svg", f'<svg role="img" aria-label="{label}"', 1)


def _draw(axes: object, name: str, curve: Sequence[Point], number: int) -> None:
    """Draw a curve. Colours repeat after ten curves, with another line style."""
    xs, means, halves = zip(*sorted(curve), strict=True) if curve else ((), (), ())
    style = {"marker": "osv^Dp*XP<>hdH"[number % 14], "linestyle": "--" if number >= 10 else "-"}
    (line,) = axes.plot(xs, means, markersize=3.5, linewidth=1.2, label=name, **style)
    low, high = ([mean + sign * half for mean, half in zip(means, halves, strict=True)] for sign in (-1, 1))
    axes.fill_between(xs, low, high, alpha=0.15, color=line.get_color(), linewidth=0)
