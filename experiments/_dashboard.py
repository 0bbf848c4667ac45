"""The page of claims: one file of HTML without scripts, which refers to nothing but the table of methods."""

import collections
import html
import io
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from experiments._claims import FAILS, HOLDS, UNDECIDED, VERDICTS, Claim, Evidence, Point, slug
from experiments._evidence import AXES

_SIGNS = {HOLDS: "✓", FAILS: "✗", UNDECIDED: "?"}  # beside the words and the colours
_COLUMNS = {"claim": 20, "the paper": 15, "here": 10, "seeds": 5, "verdict": 19, "command": 17, "commit": 7, "date": 7}
_INK = "#010203"  # of texts and axes in a plot, in the place of the page's own colour
_STYLE = """
:root { color-scheme: light dark; --ink: #222; --paper: #fff; --soft: #f3f3f3; --line: #ddd; --link: #0b57d0;
  --holds: #17692d; --fails: #a8261c; --undecided: #6b5200; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e4e4; --paper: #16181c; --soft: #22252b; --line: #3a3f47;
  --link: #8ab4f8; --holds: #7fd492; --fails: #ff9d92; --undecided: #e3c667; } }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 76rem; margin: 0 auto; padding: 1rem; color: var(--ink);
  background: var(--paper); }
a { color: var(--link); }
h2 { margin-top: 2.5rem; }
h3 { margin: 2rem 0 0.5rem; scroll-margin-top: 1rem; }
.counts { display: flex; flex-wrap: wrap; gap: 1rem; padding: 0; list-style: none; }
.counts li { background: var(--soft); padding: 0.6rem 1.2rem; border-radius: 0.5rem; }
.counts b { font-size: 1.6rem; margin-right: 0.4rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 0.9rem; width: 100%;
  min-width: 62rem; table-layout: fixed; }
th, td { padding: 0.4rem 0.7rem; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
th[scope=rowgroup] { padding-top: 1.6rem; font-size: 1.05rem; }
tr:target, tbody:target th, section:target > h3 { background: var(--soft); }
code { font-size: 0.85rem; overflow-wrap: anywhere; }
.verdict { font-weight: 600; white-space: nowrap; }
td .verdict { white-space: normal; }
.holds { color: var(--holds); } .fails { color: var(--fails); } .undecided { color: var(--undecided); }
.why { display: block; font-size: 0.8rem; opacity: 0.85; }
svg { display: block; width: 100%; max-width: 46rem; height: auto; }
"""


class _Row(NamedTuple):
    claim: Claim
    run: Evidence


def page(found: Sequence[Evidence], *, tables: Sequence[tuple[str, str]]) -> str:
    """The HTML page of all that is stored.

    Args:
      tables: (words, link) of the pages that list methods, from where the page will lie.
    """
    papers: dict[str, list[_Row]] = collections.defaultdict(list)
    for run in found:
        for claim in run.claims:
            papers[claim.paper].append(_Row(claim, run))
    body = _body(found, dict(sorted(papers.items()))) if papers else _NOTHING
    links = " · ".join(f'<a href="{html.escape(link)}">{html.escape(words)}</a>' for words, link in tables)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>Claims of papers, tested</title>
<style>{_STYLE}</style>
</head>
<body>
<h1>Claims of papers, tested</h1>
<p>What papers on sparsity say, and what the experiments of jaxticket found: small networks and data, so that a claim
that fails here may hold elsewhere. {links}</p>
{body}
</body>
</html>
"""


def anchor(run: Evidence, claim: Claim) -> str:
    """Where the claim stands on the page."""
    return f"{run.id}-{claim.id}"


_NOTHING = """<p>No claims are stored yet. An experiment stores them when it is run with
<code>--evidence docs/evidence</code>.</p>"""


def _body(found: Sequence[Evidence], papers: dict[str, list[_Row]]) -> str:
    contents = "".join(
        f'<li><a href="#{slug(paper)}">{html.escape(paper)}</a>: {_tally(row.claim for row in rows)}</li>\n'
        for paper, rows in papers.items()
    )
    return "\n".join(
        [
            _overview([claim for run in found for claim in run.claims]),
            "<h2>Papers</h2>",
            f"<ul>\n{contents}</ul>",
            "<h2>Claims</h2>",
            _table(papers),
            "<h2>Runs</h2>",
            *(_run(run) for run in found),
        ]
    )


def _overview(claims: Sequence[Claim]) -> str:
    counts = collections.Counter(claim.verdict for claim in claims)
    boxes = "".join(f"<li><b>{counts[verdict]}</b>{_verdict(verdict)}</li>\n" for verdict in VERDICTS)
    return f"""<ul class="counts">
{boxes}</ul>
<p>A difference <b>holds</b> if its whole 95 % interval over seeds lies above what is claimed, and <b>fails</b> if it
lies below. It is <b>not testable at this size</b> if the interval contains what is claimed: more seeds, data or larger
networks would have to decide.</p>"""


def _tally(claims: Iterable[Claim]) -> str:
    counts = collections.Counter(claim.verdict for claim in claims)
    return ", ".join(f"{counts[verdict]} {_verdict(verdict)}" for verdict in VERDICTS if counts[verdict])


def _table(papers: dict[str, list[_Row]]) -> str:
    """The rows of all claims, a group of them for each paper."""
    widths = "".join(f'<col style="width: {width}%">' for width in _COLUMNS.values())
    head = "".join(f'<th scope="col">{name}</th>' for name in _COLUMNS)
    named = f'<th scope="rowgroup" colspan="{len(_COLUMNS)}">'
    groups = "\n".join(
        "\n".join(
            [f'<tbody id="{slug(paper)}">', f"<tr>{named}{html.escape(paper)}</th></tr>", *map(_line, rows), "</tbody>"]
        )
        for paper, rows in papers.items()
    )
    return f"""<div class="scroll" tabindex="0" role="region" aria-label="Claims"><table>
<colgroup>{widths}</colgroup>
<thead><tr>{head}</tr></thead>
{groups}
</table></div>"""


def _line(row: _Row) -> str:
    claim, run = row
    cells = (
        html.escape(claim.claim),
        html.escape(claim.expected),
        f'<data value="{claim.value}" data-half-width="{claim.half_width}">{html.escape(claim.measured)}</data>',
        str(claim.seeds),
        f'{_verdict(claim.verdict)}<span class="why">{html.escape(claim.why)}</span>',
        f'<a href="#{run.id}"><code>{html.escape(run.command)}</code></a>',
        f"<code>{html.escape(run.commit)}</code>",
        html.escape(run.date),
    )
    return f'<tr id="{anchor(run, claim)}">{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>'


def _verdict(verdict: str) -> str:
    kind = {HOLDS: "holds", FAILS: "fails", UNDECIDED: "undecided"}[verdict]
    return f'<span class="verdict {kind}">{_SIGNS[verdict]} {verdict}</span>'


def _run(run: Evidence) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in run.versions.items())
    plot = _plot(run) if run.series else ""
    return f"""<section id="{run.id}">
<h3>{html.escape(run.experiment)}, run {html.escape(run.hash)}</h3>
<p><code>{html.escape(run.command)}</code><br>commit {html.escape(run.commit)}, {html.escape(run.date)}:
{_tally(run.claims)}<br><small>{html.escape(versions)}</small></p>
{plot}
</section>"""


def _plot(run: Evidence) -> str:
    """The curves of a run as an SVG whose texts and axes have the page's colour."""
    import matplotlib
    from matplotlib import ticker
    from matplotlib.figure import Figure

    inked = ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color", "legend.labelcolor")
    options = {**dict.fromkeys(inked, _INK), "svg.fonttype": "none", "svg.hashsalt": run.id, "font.size": 9}
    with matplotlib.rc_context(options):
        made = Figure(figsize=(7, 4.2 + 0.1 * len(run.series)), layout="constrained")
        axes = made.subplots()
        for number, (name, curve) in enumerate(run.series.items()):
            _draw(axes, name, curve, number)
        axes.grid(color="#808080", alpha=0.3)
        axes.set(xlabel=(run.axes or AXES)[0], ylabel=(run.axes or AXES)[1])
        if run.axes == AXES:  # as every plot of accuracy against density: dense at the left
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter("{x:.3g}")
            axes.xaxis.set_minor_formatter(ticker.LogFormatter())  # labels where there are few
            axes.invert_xaxis()
        made.legend(loc="outside lower center", ncols=3, frameon=False)
        text = io.StringIO()
        made.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    image = text.getvalue()[text.getvalue().index("<svg") :].replace(_INK, "currentColor")
    # Names of parts must differ between the plots of a page.
    image = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{run.id}-", image)
    label = html.escape(f"{run.experiment}: {' against '.join(reversed(run.axes or AXES))}")
    return image.replace("<svg", f'<svg role="img" aria-label="{label}"', 1)


def _draw(axes: object, name: str, curve: Sequence[Point], number: int) -> None:
    """Colours come again after ten curves, with other lines."""
    xs, means, halves = zip(*sorted(curve), strict=True) if curve else ((), (), ())
    style = {"marker": "osv^Dp*XP<>hdH"[number % 14], "linestyle": "--" if number >= 10 else "-"}
    (line,) = axes.plot(xs, means, markersize=3.5, linewidth=1.2, label=name, **style)
    low, high = ([mean + sign * half for mean, half in zip(means, halves, strict=True)] for sign in (-1, 1))
    axes.fill_between(xs, low, high, alpha=0.15, color=line.get_color(), linewidth=0)
