"""The live progress of an experiment, and the file of its records."""

import contextlib
import pathlib
import sys
import time
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, NamedTuple, TypeVar

from experiments.runs import processes
from experiments.runs.folder import JsonLines
from experiments.runs.profile import Profile
from experiments.runs.records import Record

RecordT = TypeVar("RecordT", bound=Record)
_LOG_EVERY = 15.0  # seconds between lines about steps, where no bar shows them


class Rows(NamedTuple):
    """The trainings that share a line of progress, and its text."""

    of: Callable[[Any], Hashable]  # those of equal values share a line …
    size: int  # … which is shown when there are so many
    line: Callable[[Sequence[Any]], str]


class Progress(contextlib.AbstractContextManager["Progress"]):
    """A line for each row of trainings; on a terminal also a bar with the current training, otherwise lines.

    Of several processes the first one shows it.

    Attributes:
      profile: looks at each report of steps, or None.
      steps: the last step of a training, or 0 if it is unknown.
    """

    def __init__(self, total: int, rows: Rows):
        self.profile: Profile | None = None
        self.steps = 0
        self._first = (0, 0.0)  # the step at which this training was first heard of, and when
        self._silent = not processes.is_main()
        self._compiling = False  # already shown, and no step has ended since
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
        """Show that a training reached this step."""
        if self.profile:
            self.profile.look()
        self._compiling = False
        self.at(f"step {step}{self._to_end(step)}, loss {loss:.4f}")

    def at(self, what: str) -> None:
        """Show the current work."""
        self._began = self._mark
        if self._bar:
            self._bar.update(self._task, description=what, left=self._left())
        elif time.monotonic() - self._said >= _LOG_EVERY:
            self.say(what)

    def compiling(self, program: str = "") -> None:
        """Show that a program is compiled, which comes before its first step."""
        what = f"compiling {program}".rstrip()
        if self._bar:
            self._bar.update(self._task, description=what)
        elif not self._compiling:
            self.print(f"{what} …")
        self._compiling = True

    def finished(self, record: Record) -> None:
        """Count a training that ended, or that was loaded."""
        self._done += 1
        self._compiling = False
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
        """Print a line, with the progress of the run unless a bar shows it."""
        self.print(line if self._bar else f"{line}  | {100 * self._done // self._total:3} %  {self._left()}")

    def print(self, line: str) -> None:
        """Print a line, above the bar if there is one."""
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
        """Return the end of this training: the end of the run is known only once a training has ended."""
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


def keep(records: Iterable[RecordT], file: pathlib.Path, progress: Progress) -> list[RecordT]:
    """Write and show each record as soon as it is there, and return all of them."""
    lines = JsonLines(file) if processes.is_main() else None
    kept = []
    for record in records:
        if lines:
            lines.append(record.line())
        kept.append(record)
        progress.finished(record)
    if lines:
        lines.close()
    return kept
