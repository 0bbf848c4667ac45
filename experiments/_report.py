"""What every experiment shows: progress while it runs, then a table, a plot and the numbers behind them."""

import contextlib
import io
import json
import math
import pathlib
import sys
import time
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from experiments import _pod
from experiments._profile import Profile
from jaxticket import diagnostics, files, tickets
from jaxticket.loops import rundir

Record = Mapping[str, Any]
_LOG_EVERY = 15.0  # seconds between lines about steps, where no bar shows them


class Rows(NamedTuple):
    """Which trainings are shown in one line, and how."""

    of: Callable[[Record], Hashable]  # those of equal values share a line …
    size: int  # … which is shown when there are so many
    line: Callable[[Sequence[Record]], str]


class Progress(contextlib.AbstractContextManager["Progress"]):
    """A line for each row of trainings; on a terminal also a bar that says what is being trained, else lines of that.

    Of several processes the first one shows it.

    Attributes:
      profile: looks at each report of steps, or None.
      steps: at which a training ends, or 0 if that is not known.
    """

    def __init__(self, total: int, rows: Rows):
        self.profile: Profile | None = None
        self.steps = 0
        self._first = (0, 0.0)  # the step at which this training was first heard of, and when
        self._silent = not _pod.is_main()
        self._said = time.monotonic()
        self._done, self._total, self._rows = 0, total, rows
        self._open: dict[Hashable, list[Record]] = {}  # rows not shown yet
        self._seconds, self._timed = 0.0, 0  # spent on trainings, and how many of them; loading is not worth timing
        self._began: float | None = None  # None until something is trained
        self._bar: Any = None

    def __enter__(self) -> "Progress":
        if sys.stdout.isatty() and not self._silent:
            from rich import progress

            columns = [progress.TextColumn("{task.description}"), progress.BarColumn(), progress.MofNCompleteColumn()]
            more = [progress.TimeElapsedColumn(), progress.TextColumn("{task.fields[left]}")]
            self._bar = progress.Progress(*columns, *more)
            self._task = self._bar.add_task("loading", total=self._total, left="")
            self._bar.start()
        self._mark = time.monotonic()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar:
            self._bar.stop()
        if self.profile:
            self.profile.close()

    def step(self, step: int, loss: float) -> None:
        """A training reached this step."""
        if self.profile:
            self.profile.look()
        self.at(f"step {step}{self._to_end(step)}, loss {loss:.4f}")

    def at(self, what: str) -> None:
        """Something that takes its time is being done."""
        self._began = self._mark
        if self._bar:
            self._bar.update(self._task, description=what, left=self._left())
        elif time.monotonic() - self._said >= _LOG_EVERY:
            self.say(what)

    def finished(self, record: Record) -> None:
        """A training ended, or was found finished."""
        self._done += 1
        if self._began is not None:
            self._seconds += time.monotonic() - self._began
        self._timed += self._seconds > 0  # also those of the same program, which come with the first of them
        self._began, self._mark = None, time.monotonic()
        row = self._open.setdefault(self._rows.of(record), [])
        row.append(record)
        if self._bar:
            self._bar.update(self._task, completed=self._done, left=self._left())
        if len(row) == self._rows.size:
            self.say(self._rows.line(row))
            del self._open[self._rows.of(record)]

    def say(self, line: str) -> None:
        """Prints a line, with how far the run is unless a bar shows it."""
        self.tell(line if self._bar else f"{line}  | {100 * self._done // self._total:3} %  {self._left()}")

    def tell(self, line: str) -> None:
        """Prints a line, above the bar if there is one."""
        self._said = time.monotonic()
        if self._bar:
            self._bar.console.print(line, highlight=False)
        elif not self._silent:
            print(line, flush=True)

    def _left(self) -> str:
        if not self._timed:
            return ""
        return f"{_clock(self._seconds / self._timed * (self._total - self._done))} left"

    def _to_end(self, step: int) -> str:
        """Where this training ends and when: what is left of the run is known when the first one has ended."""
        if not self.steps:
            return ""
        first, since = self._first
        if self._began is None or step <= first:
            self._first = (step, time.monotonic())
            return f"/{self.steps}"
        left = (time.monotonic() - since) / (step - first) * max(0, self.steps - step)
        return f"/{self.steps} in {_clock(left)}"


def _clock(seconds: float) -> str:
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"


def keep(records: Iterable[Record], file: pathlib.Path, progress: Progress) -> list[Record]:
    """Writes and shows each record as soon as it is there, and returns all of them."""
    lines = rundir.JsonLines(file) if _pod.is_main() else None
    kept = []
    for record in records:
        if lines:
            lines.append(record)
        kept.append(record)
        progress.finished(record)
    if lines:
        lines.close()
    return kept


def whole(file: pathlib.Path) -> list[Record]:
    """The records in a file that `keep` writes, up to a line that is torn or damaged; none if there is no such file."""
    found: list[Record] = []
    for line in file.read_bytes().splitlines(keepends=True) if file.exists() else []:
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            return found
        if not line.endswith(b"\n") or not isinstance(record, dict):
            return found
        found.append(record)
    return found


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
