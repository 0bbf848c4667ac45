"""The folder of a run: one process, one configuration, whole lines."""

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import types

import pytest

from experiments.runs import folder
from jaxticket import files
from jaxticket.errors import CheckpointError


def test_one_process_at_a_time(tmp_path):
    with (
        folder.lock(tmp_path / "run"),
        pytest.raises(CheckpointError, match="in use by another process"),
        folder.lock(tmp_path / "run"),
    ):
        pass
    with folder.lock(tmp_path / "run"):
        pass


def test_a_dead_process_holds_nothing(tmp_path):
    code = f"import fcntl, time; f = open({str(tmp_path / 'lock')!r}, 'w'); fcntl.flock(f, fcntl.LOCK_EX)"
    command = [sys.executable, "-c", f"{code}; print('locked', flush=True); time.sleep(60)"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as holder:
        holder.stdout.readline()
        with pytest.raises(CheckpointError, match="in use"), folder.lock(tmp_path):
            pass
        holder.send_signal(signal.SIGKILL)
    with folder.lock(tmp_path):
        pass


def test_windows_locks_with_its_own_module(tmp_path, monkeypatch):
    """A stand-in for the system: it holds files, by number, until they are closed."""
    held = []

    def locking(number, mode, count):
        if any(os.path.sameopenfile(number, other) for other in held):
            raise PermissionError(13, "Permission denied")
        held.append(number)

    monkeypatch.setitem(sys.modules, "msvcrt", types.SimpleNamespace(locking=locking, LK_NBLCK=2))
    monkeypatch.setitem(sys.modules, "fcntl", None)
    monkeypatch.setattr(folder.sys, "platform", "win32")
    with folder.lock(tmp_path), pytest.raises(CheckpointError, match="in use"), folder.lock(tmp_path):
        pass
    assert len(held) == 1


def test_an_unwritable_folder(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="cannot be written"), folder.lock(tmp_path / "file" / "run"):
        pass


def test_a_run_belongs_to_one_configuration(tmp_path):
    folder.claim(tmp_path, {"rate": 0.2, "sizes": (1, 2)})
    folder.claim(tmp_path, {"rate": 0.2, "sizes": (1, 2)})
    with pytest.raises(CheckpointError, match=r"rate is 0\.2 there, 0\.3 here"):
        folder.claim(tmp_path, {"rate": 0.3, "sizes": (1, 2)})
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match="not the configuration of a run"):
        folder.claim(tmp_path, {"rate": 0.2})


def test_files_of_others_are_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(CheckpointError, match=r"no run wrote \(thesis\.tex\)"):
        folder.claim(tmp_path, {})


def test_claiming_tidies_what_a_killed_process_left(tmp_path):
    folder.claim(tmp_path, {})
    half = tmp_path / "replicate_0" / "ticket" / ".level_003.x1y2.partial"
    half.mkdir(parents=True)
    (half / "data").write_text("")
    (tmp_path / "config.json.partial").write_text("{")
    folder.claim(tmp_path, {})
    assert not half.exists()


@pytest.mark.parametrize("kept", [0, 10, 31, 45, 1000])
def test_lines_are_neither_torn_nor_repeated(tmp_path, kept):
    values = [{"level": level, "loss": 1 / (level + 1)} for level in range(4)]
    whole = "".join(json.dumps(value) + "\n" for value in values)
    file = tmp_path / "metrics.jsonl"
    file.write_text(whole[:kept])  # what a process killed at any moment left
    lines = folder.JsonLines(file)
    for value in values:
        lines.append(value)
        assert file.read_text().startswith(whole[: whole.index("\n")])
    lines.close()
    assert file.read_text() == whole


@contextlib.contextmanager
def no_file_above(size):
    """As on a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_leaves_whole_lines_and_the_old_text(tmp_path):
    file, table = tmp_path / "metrics.jsonl", tmp_path / "table.txt"
    values = [{"level": level, "note": "x" * 30} for level in range(3)]
    files.write_text(table, "old")
    lines = folder.JsonLines(file)
    for value in values[:2]:
        lines.append(value)
    with no_file_above(120), pytest.raises(CheckpointError, match=r"metrics\.jsonl cannot be .*too large.* make room"):
        lines.append(values[2])
    assert [json.loads(line) for line in file.read_text().splitlines()] == values[:2]
    with no_file_above(120), pytest.raises(CheckpointError, match=r"table\.txt cannot be .* make room"):
        files.write_text(table, "new" * 100)
    assert table.read_text() == "old"
    assert sorted(os.listdir(tmp_path)) == ["metrics.jsonl", "table.txt"]


def test_a_file_that_was_deleted_is_missed(tmp_path):
    lines = folder.JsonLines(tmp_path / "metrics.jsonl")
    lines.append(1)
    (tmp_path / "metrics.jsonl").unlink()
    with pytest.raises(CheckpointError, match="was deleted during the run"):
        lines.append(2)


def test_a_run_that_is_extended_or_shortened_tells_its_own_story(tmp_path):
    file = tmp_path / "metrics.jsonl"
    for values in ([1, 2, 3], [1, 7, 2, 3], [1, 7]):
        lines = folder.JsonLines(file)
        for value in values:
            lines.append(value)
        lines.close()
        assert [json.loads(line) for line in file.read_text().splitlines()] == values


def test_text_is_replaced_whole(tmp_path):
    file = tmp_path / "table.txt"
    files.write_text(file, "old")
    files.write_text(file, "new")
    assert file.read_text() == "new"
    assert os.listdir(tmp_path) == ["table.txt"]
