"""The counters of the drill, and its summary at the end of the session."""

import dataclasses

import pytest

from tests.drill import _runs

_TALLY = pytest.StashKey[_runs.Tally]()


def pytest_configure(config):
    config.stash[_TALLY] = _runs.Tally()


@pytest.fixture(scope="session")
def tally(pytestconfig):
    return pytestconfig.stash[_TALLY]


@pytest.fixture(scope="session")
def unbroken(tmp_path_factory):
    """Where the unbroken run of a command lies; it is run once."""
    found = {}

    def of(command):
        if command not in found:
            found[command] = tmp_path_factory.mktemp("unbroken")
            _runs.finish(_runs.start(command, found[command]))
        return found[command]

    return of


@pytest.fixture
def broken(tally, tmp_path):
    """Makes a run to break."""
    return lambda command, out=tmp_path / "broken", **options: _runs.Broken(tally, command, out, **options)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node):
    """What a worker of pytest-xdist counted."""
    for name, count in getattr(node, "workeroutput", {}).get("drill", {}).items():
        total = node.config.stash[_TALLY]
        setattr(total, name, getattr(total, name) + count)


def pytest_sessionfinish(session):
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["drill"] = dataclasses.asdict(session.config.stash[_TALLY])


def pytest_terminal_summary(terminalreporter, config):
    if config.stash[_TALLY].faults:
        terminalreporter.write_line(str(config.stash[_TALLY]))
