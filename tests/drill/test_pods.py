"""A run of two processes: where one of them dies, is told to stop or is refused, both end, and a restart goes on."""

import signal
import socket
import time

import pytest

from tests.drill import _runs

pytestmark = pytest.mark.slow

PROCESSES = 2
ONE_DEVICE = {"JAX_NUM_CPU_DEVICES": "1"}  # of each process: devices that share a core wait too long for each other
# In a fixed order of sums, so that two processes and one find the same bits.
COMMAND = (
    *("train.py", "--method", "rigl", "--seeds", "1", "--epochs", "6"),
    *("--batch-size", "64", "--reduction", "fixed"),
)


def start(out, **options):
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        address = f"localhost:{probe.getsockname()[1]}"
    pod = ["--coordinator", address, "--num-processes", str(PROCESSES), "--process-id"]
    return [_runs.start(COMMAND, out, *pod, str(i), environment=ONE_DEVICE, **options) for i in range(PROCESSES)]


def ended(processes, within):
    """What the processes print, once all have ended; fails if that takes longer than so many seconds."""
    limit = time.monotonic() + within
    try:
        return [process.communicate(timeout=max(0.1, limit - time.monotonic())) for process in processes]
    finally:
        for process in processes:
            process.kill()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The unbroken run, of one process."""
    out = tmp_path_factory.mktemp("whole")
    _runs.finish(_runs.start(COMMAND, out, environment=ONE_DEVICE))
    return out


def begun(run):
    processes = start(run.out)
    saved = _runs.present(run.out, "checkpoint/state_*/record.json")
    if not _runs.wait_until(saved, processes[0]):
        pytest.fail(str(ended(processes, 60)))
    return processes


@pytest.mark.parametrize("victim", range(PROCESSES))
def test_one_process_dies(broken, whole, victim):
    run = broken(COMMAND, environment=ONE_DEVICE)
    processes = begun(run)
    processes[victim].send_signal(signal.SIGKILL)
    ended(processes, within=240)
    assert all(process.returncode for process in processes)  # nobody takes it for a success
    run.fault()
    ended(processes := start(run.out), within=_runs.SECONDS)
    assert not any(process.returncode for process in processes)
    run.ends_as(whole)


def test_one_process_is_told_to_stop(broken, whole):
    run = broken(COMMAND, environment=ONE_DEVICE)
    processes = begun(run)
    processes[1].send_signal(signal.SIGTERM)
    printed = ended(processes, within=240)
    assert [process.returncode for process in processes] == [0, 0], printed
    assert all("the same command resumes from here" in errors for _, errors in printed)
    assert "memory: " in printed[0][0]
    assert "memory: " not in printed[1][0]  # only the first one tells how it goes
    run.fault()
    run.ends_as(whole)


def test_a_second_run_of_two_processes_is_refused(broken, whole):
    run = broken(COMMAND, environment=ONE_DEVICE)
    first = run.start()
    assert _runs.wait_until(_runs.present(run.out, "checkpoint/state_*/record.json"), first)
    first.send_signal(signal.SIGSTOP)
    printed = ended(processes := start(run.out), within=240)
    assert [process.returncode for process in processes] == [2, 2]
    assert all("is in use by another process" in errors for _, errors in printed)
    first.send_signal(signal.SIGCONT)
    _runs.finish(first)
    run.fault()
    run.ends_as(whole)
