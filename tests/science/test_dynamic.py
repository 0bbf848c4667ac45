"""Dynamic sparse training, alternation and straight-through training, against controls that would expose a bug.

The orders that hold on the problem of `digits` whatever the seed. RigL against SET and GraNet against gradual pruning
are not among them.
"""

import functools

import pytest

import jaxticket as jt
from jaxticket import reparam, scores
from tests.science.digits import Run, gap, report

SEEDS = 4


def one_percent(params, density, *, where):
    """1 % of each layer but the last, of which 10 %."""
    return jt.allocate.rules(params, {"^2/": 10 * density}, default=density, where=where)


@functools.cache
def explorers():
    """At 1 %: a static mask, SET and RigL, whose refreshes are due every 25 steps up to three quarters of training."""
    plans = {
        "static": jt.static(0.01, score=scores.random, allocate=one_percent),
        "set": jt.sparse_evolutionary(
            0.01, drop_fraction=jt.schedules.cosine(0.3, stop=2250), every=25, stop=2250, allocate=one_percent
        ),
        "rigl": jt.rigl(0.01, stop=2250, every=25, allocate=one_percent),
    }
    runs = {name: Run(plan, steps=3000, seeds=SEEDS) for name, plan in plans.items()}
    report(**runs)
    return runs


@pytest.mark.science
@pytest.mark.parametrize("name", ["set", "rigl"])
def test_exploration_beats_a_static_mask_by_far(name):
    """A RigL whose growth saw masked gradients would land near static."""
    runs = explorers()
    mean, half = gap(runs[name], runs["static"])
    assert mean >= 40
    assert mean - half > 30
    assert runs[name].kept == [[192, 300, 100]] * SEEDS


@pytest.mark.science
def test_set_explores_more_than_rigl_and_that_more_than_static():
    runs = explorers()
    assert runs["set"].exploration > 2 * runs["rigl"].exploration
    assert runs["rigl"].exploration > 2 * runs["static"].exploration
    assert runs["static"].exploration == pytest.approx(592 / 50200)


@pytest.mark.science
def test_ac_dc_at_five_percent_is_not_worse_than_gradual_pruning():
    """In as many steps, within half a point (Peste et al., 2021)."""
    tree = jt.scopes.tree()
    ac_dc = Run(jt.ac_dc(0.05, steps=3000), steps=3000, seeds=8)
    gradual = Run(jt.gradual(0.05, start=300, stop=2250, every=25, scope=tree), steps=3000, seeds=8)
    report(ac_dc=ac_dc, gradual=gradual)
    assert gap(ac_dc, gradual)[0] >= -0.5
    assert {sum(kept) for kept in ac_dc.kept} == {round(0.05 * 50200)}


@pytest.mark.science
def test_straight_through_at_ten_percent_is_within_a_point_of_dense():
    ste = Run(reparam.straight_through(0.1), steps=2000, seeds=SEEDS)
    dense = Run(jt.static(1.0), steps=2000, seeds=SEEDS)
    report(ste=ste, dense=dense)
    assert gap(ste, dense)[0] >= -1
