"""The page of claims: one file of HTML without scripts, which refers to nothing but pages of the documentation."""

import collections
import html
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from experiments.claims import curves
from experiments.claims.outcomes import OUTCOMES, Outcome, outcome, tally
from experiments.claims.record import Claim, Evidence, slug

_COLUMNS = {"claim": 25, "the paper": 20, "here": 13, "seeds": 6, "verdict": 19, "run": 17}  # widths in %
_STYLE = """
:root { color-scheme: light dark; --ink: #222; --paper: #fff; --soft: #f3f3f3; --line: #ddd; --link: #0b57d0;
  --holds: #17692d; --fails: #a8261c; --inconclusive: #6b5200; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e4e4; --paper: #16181c; --soft: #22252b; --line: #3a3f47;
  --link: #8ab4f8; --holds: #7fd492; --fails: #ff9d92; --inconclusive: #e3c667; } }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 76rem; margin: 0 auto; padding: 1rem; color: var(--ink);
  background: var(--paper); }
a { color: var(--link); }
h2 { margin-top: 2.5rem; }
h3 { margin: 2rem 0 0.5rem; scroll-margin-top: 1rem; }
fieldset { display: flex; flex-wrap: wrap; gap: 0.8rem; padding: 0; margin: 1rem 0; border: 0; }
legend { padding: 0; margin-bottom: 0.3rem; }
fieldset label { background: var(--soft); padding: 0.6rem 1rem; border-radius: 0.5rem; cursor: pointer; }
fieldset label:has(:checked) { outline: 2px solid var(--link); }
fieldset b { font-size: 1.4rem; margin: 0 0.3rem; }
.papers { columns: 30rem; padding-left: 1.2rem; }
.papers li { break-inside: avoid; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 0.9rem; width: 100%;
  table-layout: fixed; }
th, td { padding: 0.4rem 0.7rem; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top;
  overflow-wrap: anywhere; }
thead th { position: sticky; top: 0; background: var(--paper); }
th[scope=rowgroup] { padding-top: 1.6rem; font-size: 1.05rem; }
tr, tbody { scroll-margin-top: 2.5rem; }
tr:target, tbody:target th, section:target > h3 { background: var(--soft); }
code { font-size: 0.85rem; overflow-wrap: anywhere; }
.command { display: block; background: var(--soft); padding: 0.6rem 0.8rem; border-radius: 0.5rem; }
summary { cursor: pointer; }
.self { text-decoration: none; opacity: 0.5; margin-left: 0.3rem; }
.self::after { content: "#"; }
.verdict { font-weight: 600; white-space: nowrap; }
td .verdict { white-space: normal; }
.verdict.holds { color: var(--holds); } .verdict.fails, .verdict.not-reproduced { color: var(--fails); }
.verdict.inconclusive { color: var(--inconclusive); }
.why { display: block; font-size: 0.8rem; opacity: 0.85; }
@media (max-width: 50rem) { /* each claim a card */
  thead, colgroup { display: none; }
  table, tbody, tr, th, td { display: block; }
  tr { padding: 0.6rem 0; border-bottom: 1px solid var(--line); }
  th, td { border: 0; padding: 0.1rem 0; }
  td[data-is]::before { content: attr(data-is) ": "; opacity: 0.7; }
}
svg { display: block; width: 100%; max-width: 46rem; height: auto; }
"""


class _Row(NamedTuple):
    run: Evidence
    claim: Claim

    @property
    def outcome(self) -> Outcome:
        return outcome(self.run, self.claim)


def page(runs: Sequence[Evidence], *, links: Sequence[tuple[str, str]]) -> str:
    """Return the HTML page of all stored claims.

    Args:
      runs: the evidence, one for each run.
      links: (words, link) of pages that say more, relative to the folder of this page.
    """
    papers: dict[str, list[_Row]] = collections.defaultdict(list)
    for run in runs:
        for claim in run.claims:
            papers[claim.paper].append(_Row(run, claim))
    body = _body(runs, dict(sorted(papers.items()))) if papers else _NOTHING
    more = " · ".join(f'<a href="{html.escape(link)}">{html.escape(words)}</a>' for words, link in links)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>Claims of papers, tested</title>
<style>{_STYLE}{_filters()}</style>
</head>
<body>
<h1>Claims of papers, tested</h1>
<p>The statements of papers on sparsity, and the measurements of jaxticket's experiments. Networks and data are small:
a claim that is not reproduced here may hold at the paper's size. {more}</p>
{body}
</body>
</html>
"""


def anchor(run: Evidence, claim: Claim) -> str:
    """Return the id of the claim on the page."""
    return f"{run.id}-{claim.id}"


_NOTHING = """<p>No claims are stored yet. An experiment stores them when it is run with
<code>--evidence docs/evidence</code>.</p>"""


def _body(runs: Sequence[Evidence], papers: dict[str, list[_Row]]) -> str:
    contents = "".join(
        f'<li class="{_kinds(rows)}"><a href="#{slug(paper)}">{html.escape(paper)}</a>: {_tally(rows)}</li>\n'
        for paper, rows in papers.items()
    )
    return "\n".join(
        [
            _overview(runs),
            "<h2>Papers</h2>",
            f'<ul class="papers">\n{contents}</ul>',
            "<h2>Claims</h2>",
            _table(papers),
            "<h2>Runs</h2>",
            *(_run(run) for run in runs),
        ]
    )


def _overview(runs: Sequence[Evidence]) -> str:
    """Return the number of claims with each outcome; each number is a choice of what the page shows."""
    pairs = [(run, claim) for run in runs for claim in run.claims]
    papers, intervals = {claim.paper for _, claim in pairs}, sum(claim.half_width is not None for _, claim in pairs)
    choices = [("all", f"<b>{len(pairs)}</b>all", " checked")]
    choices += [(shown.kind, f"<b>{count}</b>{_verdict(shown)}", "") for shown, count in tally(pairs).items()]
    labels = "\n".join(
        f'<label><input type="radio" name="show" id="show-{kind}"{checked}>{words}</label>'
        for kind, words, checked in choices
    )
    return f"""<p>{len(pairs)} claims of {len(papers)} papers, from {len(runs)} runs, the last on
{max(run.date for run in runs)}.</p>
<fieldset>
<legend>Show</legend>
{labels}
</fieldset>
<p>{intervals} claims rest on a 95 % interval over seeds (or sentences); the column "seeds" states their number. A
claim <b>holds</b> if the whole interval lies above the claimed value. It is <b>inconclusive</b> if the interval
contains the value: more seeds, data or larger networks have to decide. It <b>fails</b> if the interval lies below the
value, and is <b>not reproduced at this size</b> if network or data differ from the paper's. The other
{len(pairs) - intervals} claims have no interval: they are counts, or have a single seed. Of {intervals} intervals
about {round(0.05 * intervals)} miss the true value by chance. Each claim names its run, whose command repeats the
test.</p>"""


def _filters() -> str:
    """Return the CSS that hides claims of other outcomes than the chosen one, and papers that have only those.

    A claim to which a link led is shown all the same.
    """
    others = ":is(.papers li, tbody, tr[id])"
    linked = ":target, :has(:target)"
    return "".join(
        f"body:has(#show-{kind}:checked) {others}:not(.{kind}, {linked}) {{ display: none; }}\n"
        for kind, _, _ in OUTCOMES
    )


def _kinds(rows: Iterable[_Row]) -> str:
    """Return the outcomes among the rows, as classes of CSS."""
    return " ".join(dict.fromkeys(row.outcome.kind for row in rows))


def _tally(rows: Iterable[_Row]) -> str:
    return ", ".join(f"{count}&nbsp;{_verdict(shown)}" for shown, count in tally(rows).items() if count)


def _table(papers: dict[str, list[_Row]]) -> str:
    """Return the rows of all claims, a group for each paper."""
    widths = "".join(f'<col style="width: {width}%">' for width in _COLUMNS.values())
    head = "".join(f'<th scope="col">{name}</th>' for name in _COLUMNS)
    named = f'<th scope="rowgroup" colspan="{len(_COLUMNS)}">'
    groups = "\n".join(
        f'<tbody id="{slug(paper)}" class="{_kinds(rows)}">\n<tr>{named}{html.escape(paper)}</th></tr>\n'
        + "\n".join([*map(_line, rows), "</tbody>"])
        for paper, rows in papers.items()
    )
    return f"""<table>
<colgroup>{widths}</colgroup>
<thead><tr>{head}</tr></thead>
{groups}
</table>"""


def _line(row: _Row) -> str:
    run, claim = row
    at = anchor(run, claim)
    cells = (
        f'{html.escape(claim.claim)}<a class="self" href="#{at}" aria-label="link to this claim"></a>',
        html.escape(claim.expected),
        f'<data value="{claim.value}" data-half-width="{claim.half_width}">{html.escape(claim.measured)}</data>'
        f'<span class="why">{html.escape(run.setting)}</span>',
        str(claim.seeds),
        f'{_verdict(row.outcome)}<span class="why">{html.escape(claim.why)}</span>',
        f'<a href="#{run.id}">{html.escape(run.id)}</a><br>commit <code>{html.escape(run.commit)}</code>, '
        f"{html.escape(run.date)}<details><summary>command</summary><code>{html.escape(run.command)}</code></details>",
    )
    first, *others = zip(_COLUMNS, cells, strict=True)
    line = "".join([f"<td>{first[1]}</td>", *(f'<td data-is="{name}">{cell}</td>' for name, cell in others)])
    return f'<tr id="{at}" class="{row.outcome.kind}">{line}</tr>'


def _verdict(shown: Outcome) -> str:
    return f'<span class="verdict {shown.kind}">{shown.sign} {shown.words}</span>'


def _run(run: Evidence) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in run.versions.items())
    claims = "".join(
        f'<li>{_verdict(outcome(run, claim))}: <a href="#{anchor(run, claim)}">{html.escape(claim.claim)}</a> '
        f"{html.escape(claim.measured)}</li>\n"
        for claim in run.claims
    )
    return f"""<section id="{run.id}">
<h3>{html.escape(run.experiment)}, run {html.escape(run.hash)}</h3>
<code class="command">{html.escape(run.command)}</code>
<p>{html.escape(run.setting)}<br>
commit {html.escape(run.commit)}, {html.escape(run.date)}<br><small>{html.escape(versions)}</small></p>
<ul>
{claims}</ul>
{curves.svg(run) if run.series else ""}
</section>"""
