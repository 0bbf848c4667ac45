"""SLaK's exchange of weights while training, against the masks that it begins with."""

import jax
import pytest

import jaxticket as jt
from jaxticket import filters, scores
from jaxticket.methods.channels import slak
from tests.science.digits import BATCH, Run, digits, gap, init, loss, report

SEEDS, STEPS, EVERY, DENSITY = 4, 1200, 25, 0.01


@pytest.mark.science
def test_exchanged_weights_are_better_than_those_of_the_start():
    """In ratios of SNIP. Weights that were born and stayed zero, or died, would leave the masks of the start."""
    (x, y), _ = digits()
    params = init(jax.random.key(0))
    batches = [(x[: 10 * BATCH], y[: 10 * BATCH])]
    densities = slak.ratios(params, scores.snip(loss, batches)(params), DENSITY, where=filters.weights())
    exchanged = Run(slak.slak(densities, steps=STEPS, every=EVERY, drop_fraction=0.3), steps=STEPS, seeds=SEEDS)
    fixed = Run(jt.static(densities, score=scores.random), steps=STEPS, seeds=SEEDS)
    report(exchanged=exchanged, fixed=fixed)
    mean, half = gap(exchanged, fixed)
    assert exchanged.kept == fixed.kept
    assert mean - half > 5
