"""Whatever is loaded, matched or configured: it works, or one of the documented errors says why not."""

import sys
import warnings

import hypothesis
import pytest

from jaxticket import tickets
from tests.trust.fuzzing import TARGETS
from tests.trust.tampering import ticket

# Orbax closes its loop of events before it has thrown away what failed in it.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved") / "t"
    tickets.save(folder, ticket())
    return folder


def attempt(name, folder, count):
    """Tries about `count` inputs; returns how many it tried, and the error of the smallest input that crashed."""
    tried = 0
    target = TARGETS[name]

    @hypothesis.settings(
        max_examples=count,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
        phases=(hypothesis.Phase.generate, hypothesis.Phase.shrink),
    )
    @hypothesis.given(target.inputs)
    def one(value):
        nonlocal tried
        tried += 1
        target.attempt(folder, value)

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            one()
    except Exception as error:
        return tried, error
    return tried, None


@pytest.mark.parametrize("name", ["records of any bytes", "rules", "configurations", "headers of safetensors"])
def test_a_sample(name, saved):
    tried, crash = attempt(name, saved, 10)
    assert tried >= 10
    if crash is not None:
        raise crash


def test_a_crash_is_found(saved, monkeypatch):
    target = TARGETS["rules"]
    monkeypatch.setitem(TARGETS, "rules", target._replace(attempt=lambda folder, given: given["nowhere"]))
    _, crash = attempt("rules", saved, 10)
    assert isinstance(crash, KeyError)


@pytest.mark.slow
def test_twenty_thousand(saved, capsys):
    results = {name: attempt(name, saved, target.share) for name, target in TARGETS.items()}
    total = sum(tried for tried, _ in results.values())
    crashes = {name: crash for name, (_, crash) in results.items() if crash is not None}
    counts = ", ".join(f"{name} {tried:,}" for name, (tried, _) in results.items())
    summary = f"fuzz: {total:,} inputs, crashes other than documented exceptions: {len(crashes)} ({counts})"
    with capsys.disabled():  # on stderr, which the workers of xdist share with the terminal
        print(f"\n{summary}", file=sys.stderr)
    for crash in crashes.values():
        raise crash
    assert total >= 20_000
