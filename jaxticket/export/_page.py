"""The page of a report: one HTML file that fetches nothing."""

import html

from jaxticket.export._costs import Cost, Report

_STYLE = (
    "body{font-family:sans-serif;max-width:52em;margin:2em auto;padding:0 1em;color:#222}"
    "table{border-collapse:collapse}"
    "td,th{padding:.3em 1em;text-align:right;white-space:nowrap;border-bottom:1px solid #ddd}"
    "td:first-child,th:first-child{text-align:left}svg{max-width:100%;height:auto}"
)


def page(title: str, report: Report, widths: str, sizes: str) -> str:
    """Return the page of a report as HTML.

    Args:
      title: its heading.
      report: the numbers.
      widths: the picture of the widths, as SVG.
      sizes: the dtypes and shapes of the inputs.
    """
    title, sizes, device = (html.escape(text) for text in (title, sizes, report.device))
    dense, ticket = report.dense, report.ticket
    rows = [
        ("parameters", f"{dense.parameters:,}", f"{ticket.parameters:,}", _ratio(dense.parameters, ticket.parameters)),
        ("FLOPs", f"{dense.flops:,}", f"{ticket.flops:,}", _ratio(dense.flops, ticket.flops)),
        ("bytes of weights", f"{dense.bytes:,}", f"{ticket.bytes:,}", _ratio(dense.bytes, ticket.bytes)),
        ("latency", _time(dense), _time(ticket), f"{report.speedup:.2f} ×"),
    ]
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style>'
        f"</head><body><h1>{title}</h1>"
        f"<table><tr><th></th><th>dense</th><th>ticket</th><th>dense / ticket</th></tr>{body}</table>"
        f"<p>Inputs: {sizes}. FLOPs are two for each multiply-add of the traced batch. Latency is the median of "
        f"{report.rounds} calls on {device}, with quartiles; both networks were compiled and called in turn in one "
        "process, and the last column has the median of the ratios.</p>"
        f"<h2>Widths</h2>{widths}</body></html>\n"
    )


def _ratio(dense: int, ticket: int) -> str:
    return f"{dense / ticket:.2f} ×" if ticket else "–"


def _time(cost: Cost) -> str:
    first, third = cost.quartiles
    return f"{1e6 * cost.seconds:,.0f} µs ({1e6 * first:,.0f} – {1e6 * third:,.0f})"
