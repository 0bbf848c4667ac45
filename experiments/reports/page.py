"""A report in one file: what was found, with which settings, on what machine, and how to run it again."""

import base64
import dataclasses
import datetime
import functools
import html
import pathlib
import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Protocol

from experiments.runs import environment

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums; }
th, td { padding: 0.25rem 0.8rem; border-bottom: 1px solid #ddd; text-align: right; }
th:first-child, td:first-child { text-align: left; }
img { max-width: 100%; }
pre { background: #f5f5f5; padding: 0.8rem; overflow-x: auto; }
"""


class Made(Protocol):
    """A dataclass that says by which command its run is made: `runs.config.Run`, or alike."""

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
    shows: str = "Test accuracy against the weights kept",
    heading: str = "Accuracy on test examples, in %, with 95 % intervals over replicates",
) -> str:
    """The HTML page. It refers to nothing outside itself: the plot, which `shows` something, is part of it."""
    image = base64.b64encode(plot.read_bytes()).decode()
    written = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    return f"""<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>{html.escape(title)}</title><style>{_STYLE}</style></head>
<body>
<h1>{html.escape(title)}</h1>
<img alt="{html.escape(shows)}" src="data:image/png;base64,{image}">
<h2>{html.escape(heading)}</h2>
{_table(columns, rows)}
{"".join(f"<p>{html.escape(line)}</p>" for line in warnings.splitlines())}
<h2>To run it again</h2>
<pre>{html.escape(shlex.join(command))}</pre>
<h2>Settings</h2>
{_table(("name", "value"), [(name, str(value)) for name, value in config.items()])}
<h2>Environment</h2>
{_table(("what", "version"), list(environment.versions().items()))}
<p>Written {written}.</p>
</body>
</html>
"""


def page_of(config: Made, title: str, **shown: Any) -> Callable[..., str]:
    """`page`, with what a configuration says, for `tables.publish` to add the plot and the warnings to."""
    return functools.partial(page, title, config=dataclasses.asdict(config), command=config.command(), **shown)


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    line = lambda cells, tag: f"<tr>{''.join(f'<{tag}>{html.escape(cell)}</{tag}>' for cell in cells)}</tr>"
    return "\n".join(["<table>", line(columns, "th"), *(line(row, "td") for row in rows), "</table>"])
