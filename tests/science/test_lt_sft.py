"""LT-SFT on digits: two shifts of a trained network, each tuned sparsely, against random entries; and both added."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxticket.methods.finetune.lt_sft import lt_sft, tune_only
from jaxticket.tickets import take_difference
from tests.science.digits import BATCH, accuracy, digits, init, loss

SEEDS, STEPS, WIDTHS, PART = 3, 200, (64, 256, 256, 10), 0.1
SWAPPED = jnp.array([0, 7, 2, 8, 4, 5, 6, 1, 3, 9])  # of the digits, 1 and 7, 3 and 8


def rolled(images):
    """By one column of pixels."""
    return jnp.roll(images.reshape(-1, 8, 8), 1, axis=2).reshape(-1, 64)


def task(name, part):
    x, y = digits()[part]
    return (rolled(x) if "A" in name else x), (SWAPPED[y] if "B" in name else y)


@functools.partial(jax.jit, static_argnames="steps")
def fit(params, mask, x, y, key, *, steps=STEPS):
    tx = tune_only(optax.adam(1e-3), mask)

    def step(carry, key):
        rows = jax.random.randint(key, (BATCH,), 0, len(y))
        updates, state = tx.update(jax.grad(loss)(carry[0], (x[rows], y[rows])), carry[1], carry[0])
        return (optax.apply_updates(carry[0], updates), state), None

    return jax.lax.scan(step, (params, tx.init(params)), jax.random.split(key, steps))[0][0]


def everything(params):
    return jax.tree.map(lambda p: jnp.ones(p.shape, bool), params)


@pytest.mark.science
def test_lottery_tickets_of_tunings():
    shown = {}
    for seed in range(SEEDS):
        key = jax.random.key(seed)
        base = init(key, WIDTHS)
        base = fit(base, everything(base), *task("", 0), key, steps=3 * STEPS)
        size = sum(p.size for p in jax.tree.leaves(base))
        test = lambda name, params: float(accuracy(params, task(name, 1)))
        differences = {}
        for name in "AB":
            train = lambda params, mask, name=name, key=key: fit(params, mask, *task(name, 0), key)
            tuned, mask = lt_sft(base, train, round(PART * size))
            differences[name] = take_difference(base, tuned, mask)
            assert differences[name].entries <= round(PART * size)
            drawn = jax.tree.map(lambda m, key=key: jax.random.permutation(key, m.ravel()).reshape(m.shape), mask)
            values = {
                "before": test(name, base),
                "lottery": test(name, differences[name].add_to(base)),
                "random": test(name, train(base, drawn)),
                "all": test(name, train(base, everything(base))),
            }
            for what, value in values.items():
                shown.setdefault(f"{name} {what}", []).append(value)
        both = differences["A"].add_to(differences["B"].add_to(base))
        shown.setdefault("A+B composed", []).append(test("AB", both))
        shown.setdefault("A+B by B alone", []).append(test("AB", differences["B"].add_to(base)))
    print({name: np.round(values, 1).tolist() for name, values in shown.items()})
    for name in "AB":
        gain = np.subtract(shown[f"{name} lottery"], shown[f"{name} random"])
        assert (gain > 0).all(), name
        assert gain.mean() >= 3, name
    assert np.subtract(shown["A+B composed"], shown["A+B by B alone"]).mean() >= 15
