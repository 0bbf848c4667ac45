"""Gradual pruning against one-shot pruning, at 1 and 2 % of a small net, on real digits (Zhu & Gupta, 2017).

2,000 steps. Both prune the same magnitudes over the whole tree and have their final density from step 1,500 on. In the
authors' setting as elsewhere the gap is wide at 1 %.
"""

import pytest

import jaxticket as jt
from tests.science.digits import Run, gap, report

STEPS, STOP, SEEDS = 2000, 1500, 4


@pytest.mark.science
@pytest.mark.parametrize(("density", "points"), [(0.01, 6.0), (0.02, 0.5)])
def test_gradual_beats_one_shot(density, points):
    tree = jt.scopes.tree()
    one_shot = jt.schedules.one_shot(density, step=STOP)
    found = {
        "gradual": Run(jt.gradual(density, start=200, stop=STOP, every=25, scope=tree), steps=STEPS, seeds=SEEDS),
        "one_shot": Run(jt.gradual(one_shot, start=STOP, stop=STOP, scope=tree), steps=STEPS, seeds=SEEDS),
    }
    report(**found)
    assert {sum(kept) for run in found.values() for kept in run.kept} == {round(density * 50200)}
    mean, half = gap(found["gradual"], found["one_shot"])
    assert mean >= points
    assert mean - half > 0
