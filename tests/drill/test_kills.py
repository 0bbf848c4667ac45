"""Runs that are killed again and again, at any point of their work, end in the bits of the unbroken ones."""

import itertools
import random
import signal
import time

import pytest

from tests.drill import _runs

pytestmark = pytest.mark.slow

MANY = ("imp.py", "--levels", "3", *_runs.IMP[3:])  # enough work to be killed many times
KILLS = 22


def moments(out, chance):
    """Conditions at which a process is killed: what it has just begun, or how far it came."""
    return {
        "training": _runs.lines(out, len(_runs.records(out)) + chance.randint(1, 4)),
        "checkpoint being written": _runs.new(out, "checkpoint/.state_*.partial"),
        "checkpoint written": _runs.new(out, "checkpoint/state_*/record.json"),
        "ticket being written": _runs.new(out, "replicate_*/*/.level_*.partial", "replicate_*/.rewind_point*.partial"),
        "pruning": _runs.new(out, "replicate_*/ticket/level_*"),
        "report being written": _runs.new(out, "*.partial", "table.txt", "report.html"),
    }


def break_once(run, chance, name):
    """Starts the run and kills it at this moment, or a little later. Says whether it came to that."""
    process = run.start(seconds=chance.choice([0, 0, 1]))
    if not _runs.wait_until(moments(run.out, chance)[name], process):
        assert process.returncode == 0, process.communicate()[1]
        process.communicate()
        return False
    time.sleep(chance.choice([0, chance.uniform(0, 0.05), chance.uniform(0, 1)]))
    _runs.kill(process)
    run.fault()
    return True


def test_killed_more_than_twenty_times_runs_end_in_the_bits_of_the_unbroken_one(broken, unbroken, tmp_path):
    chance = random.Random(0)
    expected = unbroken(MANY)
    runs, met = [broken(MANY, tmp_path / "0")], []
    names = itertools.cycle(moments(runs[0].out, chance))
    while len(met) < KILLS:
        if break_once(runs[-1], chance, name := next(names)):
            met.append(name)
        else:  # it came to its end
            runs.append(broken(MANY, tmp_path / str(len(runs))))
    for run in runs:
        run.ends_as(expected)
    assert len(set(met)) == len(moments(runs[0].out, chance)), met


def test_methods_killed_again_and_again_end_in_the_same_bits(broken, unbroken):
    run = broken(_runs.TRAIN)
    for wanted in (
        "checkpoint/.state_*.partial",
        "checkpoint/state_*1",
        "checkpoint/state_*2",
        "cells/**/.seed_*",
        "table*",
    ):
        process = run.start()
        assert _runs.wait_until(_runs.new(run.out, wanted), process), wanted
        _runs.kill(process)
        run.fault()
    run.ends_as(unbroken(_runs.TRAIN))


def test_a_method_that_is_preempted_ends_in_the_same_bits(broken, unbroken):
    run = broken(_runs.TRAIN)
    process = run.start()
    assert _runs.wait_until(_runs.present(run.out, "checkpoint/state_*/record.json"), process)
    process.send_signal(signal.SIGTERM)
    assert "the same command resumes from here" in _runs.finish(process)[1]
    run.fault()
    run.ends_as(unbroken(_runs.TRAIN))
