"""The faults that a run meets most, one after the other: it ends in the bits of the unbroken one."""

import signal

import pytest

from tests.drill import _damage, _runs

pytestmark = pytest.mark.slow


def test_preempted_out_of_room_damaged_and_killed_a_search_ends_in_the_same_bits(broken, unbroken):
    run = broken(_runs.IMP)
    process = run.start()
    assert _runs.wait_until(_runs.lines(run.out, 1), process)
    process.send_signal(signal.SIGSTOP)  # until it is clear that nobody else can have the folder
    assert "is in use by another process; wait for it, or end it" in _runs.one_line_error(run.start())
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGCONT)
    _, errors = _runs.finish(process)
    assert "the same command resumes from here" in errors
    run.fault()

    process = run.start()
    _damage.no_large_files(process)
    error = _runs.one_line_error(process)
    assert "cannot be written (File too large); make room" in error
    assert str(run.folder) in error
    run.fault()

    newest = sorted(run.folder.glob("checkpoint/state_*"))[-1]
    _damage.flip_a_bit(newest)
    process = run.start()
    assert _runs.wait_until(_runs.lines(run.out, len(_runs.records(run.out)) + 2), process)
    process.send_signal(signal.SIGKILL)
    _, errors = process.communicate()
    assert f"warning: {newest}: " in errors
    assert f"set aside as damaged_{newest.name}; resuming from the state before" in errors
    run.fault()
    run.ends_as(unbroken(_runs.IMP))
    assert len(_runs.results(run.out)) == 2 * (2 * 3 + 1)
