"""The faults that a run meets most, one after the other: it ends in the bits of the unbroken one."""

import random
import signal
import time

import pytest

from tests.drill import _damage, _runs

pytestmark = pytest.mark.slow


def test_preempted_killed_out_of_room_damaged_and_refused_it_ends_in_the_same_bits(broken, unbroken):
    run = broken(_runs.TRAIN)
    saved = _runs.present(run.out, "checkpoint/state_*/record.json")

    process = run.start()
    assert _runs.wait_until(saved, process)
    process.send_signal(signal.SIGSTOP)  # until it is clear that nobody else can have the folder
    assert "is in use by another process; wait for it, or end it" in _runs.one_line_error(run.start())
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGCONT)
    _, errors = _runs.finish(process)
    assert "the same command goes on from here" in errors
    run.fault()
    run.fault()

    error = _runs.one_line_error(run.start(preexec_fn=_damage.no_large_files))
    assert "cannot be written (File too large); make room" in error
    assert str(run.folder) in error
    run.fault()

    newest = sorted(run.folder.glob("checkpoint/state_*"))[-1]
    _damage.flip_a_bit(newest)
    run.fault()
    _, errors = run.ends_as(unbroken(_runs.TRAIN))
    assert f"warning: {newest}: " in errors
    assert f"set aside as damaged_{newest.name}; going on from the state before" in errors


def test_a_search_killed_twice_and_preempted_ends_in_the_bits_of_the_unbroken_one(broken, unbroken):
    run, chance = broken(_runs.IMP), random.Random(0)
    for reached in (
        _runs.present(run.out, "checkpoint/state_*/record.json"),  # inside the training before the rewind point
        _runs.lines(run.out, 2),  # after some levels and controls, from here at any moment of the next
    ):
        process = run.start()
        assert _runs.wait_until(reached, process)
        time.sleep(chance.uniform(0, 0.2))
        _runs.kill(process)
        run.fault()
    process = run.start()
    assert _runs.wait_until(_runs.lines(run.out, 5), process)
    process.send_signal(signal.SIGTERM)
    assert "the same command goes on from here" in _runs.finish(process)[1]
    run.fault()
    run.ends_as(unbroken(_runs.IMP))
    assert len(_runs.results(run.out)) == 2 * (2 * 3 + 1)
