"""Experiments as processes that are broken and started again, and the comparison of every bit that they leave."""

import dataclasses
import os
import pathlib
import signal
import subprocess
import sys
import time

import jax
import numpy as np

from jaxticket.files import PARTIAL
from jaxticket.tickets import _archive

SCRIPTS = pathlib.Path(__file__).resolve().parents[2] / "experiments"
IMP = ("imp.py", "--levels", "2", "--replicates", "2", "--epochs", "2", "--rewind-step", "20", "--rewind", "everything")
TRAIN = ("train.py", "--method", "rigl", "--density", "0.1", "--seeds", "2", "--epochs", "4")
REPORTS = ("metrics.jsonl", "results.json", "table.txt", "config.json")
SECONDS = 300  # after which a run hangs


@dataclasses.dataclass
class Tally:
    """What the drill counts."""

    faults: int = 0
    finished: int = 0  # runs that came to their end after faults
    identical: int = 0  # of these, with every bit of the unbroken run
    lost: int = 0  # levels or records that were finished before a fault, and missing or different afterwards

    def __str__(self):
        found = f"{self.faults} faults injected, {self.finished} runs finished, {self.identical} bit-identical"
        return f"fault drill: {found}, data lost = {self.lost}"


def start(command, out, *arguments, environment=None, seconds=0, **options):
    """A process of an experiment, whose checkpoints are so many seconds apart."""
    script, *flags = command
    # What one process has compiled the next ones load, however short it took.
    fixed = {"XLA_FLAGS": "", "JAX_PLATFORMS": "cpu", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    words = [sys.executable, str(SCRIPTS / script), *flags, "--checkpoint-seconds", str(seconds), "--out", str(out)]
    return subprocess.Popen(
        [*words, *arguments],
        env={**os.environ, **fixed, **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def finish(process, code=0):
    """Waits for the end with this code. Returns what it printed, and its errors."""
    try:
        output, errors = process.communicate(timeout=SECONDS)
    finally:
        process.kill()
    assert process.returncode == code, f"{process.returncode}: {errors}"
    return output, errors


def one_line_error(process):
    """The error with which the process must end: one line, and the code of what the user can mend."""
    _, errors = finish(process, code=2)
    lines = [line for line in errors.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, errors
    assert "Traceback" not in errors, errors
    return lines[0]


def wait_until(condition, process):
    """Waits for the condition; says whether it came before the process ended."""
    deadline = time.monotonic() + SECONDS
    while not condition():
        if process.poll() is not None:
            return False
        assert time.monotonic() < deadline, "it hangs"
        time.sleep(0.003)
    return True


def kill(process):
    process.send_signal(signal.SIGKILL)
    process.communicate()


def folder_in(out):
    """The folder of the run in `out`, once it is there."""
    found = [path for path in out.glob("*-*") if path.is_dir()] if out.exists() else []
    return found[0] if found else None


def present(out, *patterns):
    """A condition: one of these paths exists in the run's folder."""
    return lambda: (run := folder_in(out)) is not None and any(any(run.glob(pattern)) for pattern in patterns)


def new(out, *patterns):
    """A condition: one of these paths has come into being since now."""
    matching = lambda: {p for run in [folder_in(out)] if run for pattern in patterns for p in run.glob(pattern)}
    known = matching()
    return lambda: bool(matching() - known)


def lines(out, number):
    """A condition: the run has so many records."""
    return lambda: len(records(out)) >= number


def records(out):
    """The lines of metrics.jsonl that are whole."""
    run = folder_in(out)
    file = run / "metrics.jsonl" if run else None
    return (
        [line for line in file.read_bytes().splitlines(True) if line.endswith(b"\n")] if file and file.is_file() else []
    )


def results(out):
    """What is finished, by its path: the record of every ticket with the checksums of its files, and when it was."""
    run = folder_in(out)
    found = sorted(run.rglob("record.json")) if run else []
    return {
        file.parent.relative_to(run).as_posix(): (file.stat().st_mtime_ns, file.read_bytes())
        for file in found
        if "checkpoint" not in file.parts and PARTIAL not in file.parent.name
    }


def contents(run):
    """All bits that a run leaves: the reports, and every array of every ticket."""
    files = {name: (run / name).read_text() for name in REPORTS}
    arrays = {}
    for record in sorted(run.rglob("record.json")):
        trees, more = _archive.read(record.parent)
        leaves = jax.tree_util.tree_leaves_with_path((trees, more["more"], more["meta"]))
        arrays[record.parent.relative_to(run).as_posix()] = {jax.tree_util.keystr(k): np.asarray(v) for k, v in leaves}
    return files, arrays


def differences(found, expected):
    """The paths at which two runs' contents differ."""
    (files, arrays), (expected_files, expected_arrays) = found, expected
    differing = [name for name in expected_files if files[name] != expected_files[name]]
    differing += sorted(arrays.keys() ^ expected_arrays.keys())
    for path in arrays.keys() & expected_arrays.keys():
        mine, others = arrays[path], expected_arrays[path]
        same = mine.keys() == others.keys() and all(np.array_equal(mine[k], others[k]) for k in others)
        differing += [] if same else [path]
    return differing


class Broken:
    """One run that is broken again and again, and must end as the unbroken one.

    Args:
      tally: where its faults are counted.
      command: of the run.
      out: the folder in which it gets its own.
      environment: variables of its processes.
    """

    def __init__(self, tally, command, out, environment=None):
        self.tally, self.command, self.out = tally, command, out
        self.environment = environment or {}
        self._results, self._records = {}, []

    @property
    def folder(self):
        return folder_in(self.out)

    def start(self, *arguments, environment=None, **options):
        both = {**self.environment, **(environment or {})}
        return start(self.command, self.out, *arguments, environment=both, **options)

    def fault(self):
        """Counts a fault, after which nothing that was finished may be missing. Call it when the process is dead."""
        self.tally.faults += 1
        self._check()

    def ends_as(self, unbroken):
        """Lets it finish, and compares. Returns what it printed, and its errors."""
        printed = finish(self.start())
        self._check()
        self.tally.finished += 1
        differing = differences(contents(self.folder), contents(folder_in(unbroken)))
        self.tally.identical += not differing
        assert not differing
        assert not (self.folder / "checkpoint").exists()
        return printed

    def _check(self):
        found, told = results(self.out), records(self.out)
        lost = [path for path, record in self._results.items() if found.get(path) != record]
        lost += [line for line in self._records if line not in told]
        self.tally.lost += len(lost)
        assert not lost
        self._results, self._records = found, told
