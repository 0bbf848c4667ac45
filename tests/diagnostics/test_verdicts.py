"""The verdict of Sanity Checks: a table of cases, the margins, and what is refused."""

import math

import pytest

from jaxticket import diagnostics
from jaxticket.diagnostics import Outcome, verdict
from jaxticket.errors import InputError


def around(mean, spread=0.001):
    return [mean - spread, mean, mean + spread]


# dense, ticket, reinit -> outcome; best is 0.950 and replicates spread by 0.001: the margin is half a point.
CASES = [
    (0.950, 0.951, 0.930, Outcome.JACKPOT),
    (0.950, 0.950, 0.930, Outcome.JACKPOT),  # as good is good enough
    (0.950, 0.949, 0.930, Outcome.SECONDARY),
    (0.950, 0.936, 0.930, Outcome.SECONDARY),
    (0.950, 0.934, 0.930, Outcome.NONE),  # a gap, but not a clear one
    (0.950, 0.920, 0.930, Outcome.NONE),
    (0.950, 0.960, 0.946, Outcome.TRIVIAL_SPARSITY),  # the reinit matches: whatever the ticket does
    (0.950, 0.951, 0.955, Outcome.TRIVIAL_SPARSITY),
    (0.946, 0.950, 0.930, Outcome.JACKPOT),  # the recipe is within the margin of the best
    (0.944, 0.950, 0.930, Outcome.BAD_RECIPE),
    (0.900, 0.890, 0.899, Outcome.BAD_RECIPE),  # before all else
]


@pytest.mark.parametrize(("dense", "ticket", "reinit", "outcome"), CASES)
def test_cases(dense, ticket, reinit, outcome):
    found = verdict(around(dense), around(ticket), around(reinit), around(0.9), best=0.95)
    assert found.outcome is outcome
    assert {member.value for member in Outcome} == {"jackpot", "secondary", "none", "trivial_sparsity", "bad_recipe"}


def test_the_evidence():
    dense, ticket, reinit, again = [0.95, 0.96], [0.96, 0.97, 0.98], [0.90, 0.91], [0.97, 0.97]
    found = verdict(dense, ticket, reinit, again, best=0.96)
    assert found.outcome is Outcome.JACKPOT
    assert found.ticket[:2] == diagnostics.interval(ticket)
    assert (found.ticket.deviation, found.ticket.n) == (pytest.approx(0.01), 3)
    # t · √(0.01² / 3 + 0.00707² / 2), where t is Student's 97.5 % quantile at 3 + 2 − 2 degrees of freedom
    assert found.gap.margin == pytest.approx(3.182446 * math.sqrt(1e-4 / 3 + 5e-5 / 2))
    assert found.recipe == (pytest.approx(0.005), pytest.approx(12.7062 * 0.005))
    assert found.gap.difference == pytest.approx(0.065)
    assert found.gap.clear
    assert found.prize.difference == pytest.approx(0.015)
    assert found.gain.difference == pytest.approx(0)
    assert not found.gain.clear


@pytest.mark.parametrize(("n", "quantile"), [(2, 4.30), (3, 2.78), (5, 2.31)])
def test_margins_are_students_t(n, quantile):
    """97.5 % at 2n − 2 degrees of freedom; a fixed 2 would err one-sided in 9.2, 5.8 and 4.0 % of the cases."""
    values = [0.9 + 0.01 * i for i in range(n)]
    found = verdict(values, values, values, values, best=0.95, margin=0.0)
    assert found.gap.margin / math.sqrt(2 * found.dense.deviation**2 / n) == pytest.approx(quantile, abs=0.005)


def test_noisy_replicates_widen_the_margin_and_the_argument_is_its_least():
    calm = verdict(around(0.95), around(0.949), around(0.93), around(0.9), best=0.95)
    noisy = verdict(around(0.95), around(0.949, 0.03), around(0.93, 0.03), around(0.9), best=0.95)
    assert calm.outcome is Outcome.SECONDARY
    assert noisy.outcome is Outcome.TRIVIAL_SPARSITY  # the reinit might match the dense network
    assert calm.gap.margin == 0.005
    strict = verdict(around(0.95), around(0.949), around(0.93), around(0.9), best=0.95, margin=0.025)
    assert strict.outcome is Outcome.TRIVIAL_SPARSITY
    assert strict.gap.margin == 0.025


def test_the_order_of_replicates_does_not_matter():
    values = [0.1, 0.7, 0.3, 0.9, 0.2]
    found = verdict(values, values[::-1], [0.0, 0.01], [0.0, 0.0], best=0.5)
    assert found.prize.difference == 0  # not a rounding error below, which would cost the jackpot
    assert found.outcome is Outcome.JACKPOT


GOOD = {"dense": around(0.95), "ticket": around(0.95), "reinit": around(0.9), "retrained": around(0.95)}


@pytest.mark.parametrize("name", GOOD)
@pytest.mark.parametrize(
    ("values", "message"),
    [([], "too few"), ([0.9], "too few"), ([0.9, math.nan], "between 0 and 1"), ([95.0, 94.0], "percentages")],
)
def test_samples_that_prove_nothing(name, values, message):
    with pytest.raises(InputError, match=f"{name}=.*{message}"):
        verdict(**GOOD | {name: values}, best=0.95)


@pytest.mark.parametrize("best", [95.0, math.nan, -0.1])
def test_a_best_that_is_no_accuracy(best):
    with pytest.raises(InputError, match="best="):
        verdict(**GOOD, best=best)


@pytest.mark.parametrize("margin", [-0.01, math.nan])
def test_a_margin_that_is_none(margin):
    with pytest.raises(InputError, match="margin="):
        verdict(**GOOD, best=0.95, margin=margin)
