"""The course of every experiment: from the command line to records that are kept, shown and reported."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from experiments.reports.progress import Progress, Rows, keep
from experiments.runs import command_line, dry_run, processes
from experiments.runs.config import Run, Training
from experiments.runs.profile import Profile
from experiments.runs.records import Record
from jaxticket import tickets
from jaxticket.typing import ProgressFn

ConfigT = TypeVar("ConfigT", bound=Run)
LabT = TypeVar("LabT")


class Watch(NamedTuple):
    """The observers of the trainings of a run; a plan has none."""

    checkpoint: tickets.StepCheckpoint | None = None
    progress: Progress | None = None

    @property
    def looks(self) -> dict[str, Any]:
        """The arguments checkpoint and progress of `training.fit`."""
        return {"checkpoint": self.checkpoint, "progress": self.step}

    @property
    def step(self) -> ProgressFn | None:
        """The function that gets the step reached and the loss."""
        return self.progress.step if self.progress else None

    def by_epoch(self, per_epoch: int) -> ProgressFn | None:
        """Return `step` with a line at each end of an epoch."""
        progress = self.progress
        if progress is None:
            return None

        def step(at: int, loss: float) -> None:
            progress.step(at, loss)
            if at % per_epoch == 0:
                progress.say(f"epoch {at // per_epoch:3}/{progress.steps // per_epoch}  loss {loss:.4f}")

        return step

    def compiling(self, program: str = "") -> None:
        """Show that a program is compiled, which comes before its first step."""
        if self.progress:
            self.progress.compiling(program)

    def announce(self, memory: str, *, steps: int) -> None:
        """Show the memory of the run, and keep the last step of each training."""
        if self.progress:
            self.progress.print(memory)
            self.progress.steps = steps


@dataclasses.dataclass(frozen=True)
class Study(Generic[ConfigT, LabT]):
    """The parts of an experiment; `main` does the rest.

    Attributes:
      configure: arguments of the command line -> the configuration.
      rows: the configuration -> the number of trainings, and their lines of progress.
      prepare: (configuration, watch) -> the values that all trainings share. Bad settings raise here, before the run
        has a folder.
      records: (configuration, shared values, watch) -> the record of each training, as soon as it is trained.
      report: (configuration, shared values, records) -> shows and writes the results.
      plan: (configuration, shared values) -> the lines of --dry-run.
      prunes: (configuration, shared values) -> the table of the weights that the run prunes; None if it prunes none.
      extras: the extras of the package that must be installed.
    """

    configure: Callable[[Sequence[str] | None], ConfigT]
    rows: Callable[[ConfigT], tuple[int, Rows]]
    prepare: Callable[[ConfigT, Watch], LabT]
    records: Callable[[ConfigT, LabT, Watch], Iterable[Record]]
    report: Callable[[ConfigT, LabT, Sequence[Record]], None]
    plan: Callable[[ConfigT, LabT], Iterable[str]]
    prunes: Callable[[ConfigT, LabT], str] | None
    extras: tuple[str, ...] = command_line.EXTRAS

    def main(self, argv: Sequence[str] | None = None) -> int:
        """Run the command line, or with --dry-run print the plan. Returns the exit code."""
        with command_line.one_line_errors():
            command_line.run_or_plan(self.configure(argv), plan=self.describe, run=self.conduct, extras=self.extras)
        return 0

    def conduct(self, config: ConfigT) -> list[Record]:
        """Train what is not trained yet, and report. Returns the records of all trainings."""
        folder = config.folder()
        checkpoint, trains = None, isinstance(config, Training)
        if trains:
            checkpoint = command_line.step_checkpoint(folder / "checkpoint", every=config.checkpoint_seconds)
        with Progress(*self.rows(config)) as progress:
            watch = Watch(checkpoint, progress)
            shared = self.prepare(config, watch)
            if self.prunes and (table := self.prunes(config, shared)):
                progress.print(table)
            with command_line.opened(config):
                if trains and config.profile and processes.is_main():
                    progress.profile = Profile(folder / "profile")
                if not (folder / "metrics.jsonl").exists():  # else it may be that nothing is left to train
                    watch.compiling()
                records = keep(self.records(config, shared, watch), folder / "metrics.jsonl", progress)
                if checkpoint:
                    checkpoint.clear()
        if processes.is_main():
            self.report(config, shared, records)
        return records

    def describe(self, config: ConfigT) -> str:
        """Return the text of --dry-run."""
        return "\n".join([dry_run.folder(config.folder()), *self.plan(config, self.prepare(config, Watch()))])
