"""A report in one file: the plot, the table, the settings, the machine, and the command that repeats the run."""

import base64
import dataclasses
import datetime
import functools
import html
import pathlib
import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Protocol

from experiments.reports.tables import Layers
from experiments.runs import environment

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums; }
th, td { padding: 0.25rem 0.8rem; border-bottom: 1px solid #ddd; text-align: right; }
th:first-child, td:first-child { text-align: left; }
img { max-width: 100%; height: auto; }
.wide { overflow-x: auto; }
.wide td, .wide th { white-space: nowrap; }
.facts td { overflow-wrap: anywhere; }
@media (max-width: 40rem) { h1 { font-size: 1.4rem; } h2 { font-size: 1.15rem; } th, td { padding: 0.25rem 0.5rem; } }
pre { background: #f5f5f5; padding: 0.8rem; overflow-x: auto; }
"""


class Made(Protocol):
    """A dataclass that has the command of its run: `runs.config.Run`, or alike."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    def command(self) -> list[str]: ...


def page(
    title: str,
    *,
    plot: pathlib.Path,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    warnings: str,
    config: Mapping[str, Any],
    command: Sequence[str],
    layers: Layers | None = None,
    shows: str = "Test accuracy against the weights kept",
    heading: str = "Accuracy on test examples, in %, with 95 % intervals over replicates",
) -> str:
    """Return the HTML page, which refers to nothing outside itself.

    Args:
      title: the heading of the page.
      plot: the image, which becomes a part of the page.
      columns: the names above the table.
      rows: its cells.
      warnings: a line for each.
      config: the settings of the run.
      command: repeats the run.
      layers: the densities of layers, if the run has a ticket to show.
      shows: a description of the plot.
      heading: stands above the table.
    """
    image = base64.b64encode(plot.read_bytes()).decode()
    written = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{html.escape(title)}</title><style>{_STYLE}</style>
</head>
<body>
<h1>{html.escape(title)}</h1>
<img alt="{html.escape(shows)}" src="data:image/png;base64,{image}">
<h2>{html.escape(heading)}</h2>
{_table(columns, rows)}
{"".join(f"<p>{html.escape(line)}</p>" for line in warnings.splitlines())}
{_layers(layers) if layers else ""}<h2>To repeat the run</h2>
<pre>{html.escape(shlex.join(command))}</pre>
<h2>Settings</h2>
{_table(("name", "value"), [(name, str(value)) for name, value in config.items()], kind="facts")}
<h2>Environment</h2>
{_table(("what", "version"), list(environment.versions().items()), kind="facts")}
<p>Written {written}.</p>
</body>
</html>
"""


def page_of(config: Made, title: str, **shown: Any) -> Callable[..., str]:
    """Return `page` with the settings of a configuration; `tables.publish` adds the table and the plot."""
    return functools.partial(page, title, config=dataclasses.asdict(config), command=config.command(), **shown)


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, kind: str = "wide") -> str:
    line = lambda cells, tag: f"<tr>{''.join(f'<{tag}>{html.escape(cell)}</{tag}>' for cell in cells)}</tr>"
    body = [line(columns, "th"), *(line(row, "td") for row in rows)]
    return "\n".join([f'<div class="{kind}"><table>', *body, "</table></div>"])


def _layers(layers: Layers) -> str:
    return f"<h2>{html.escape(layers.title)}</h2>\n{_table(layers.columns, layers.rows())}\n"
