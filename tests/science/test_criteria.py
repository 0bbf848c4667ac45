"""Filter criteria on real digits: 30 % of the channels go, one epoch of finetuning brings the accuracy back.

Scikit-learn's 8 × 8 digits, 1,200 to train and 597 to test; an MLP 64-96-64-10, whose hidden units are channels; Adam
at 1e-3, batches of 20, 25 epochs; then 30 % of the units of each hidden layer go, with their biases, and it trains one
epoch more. Four seeds. The controls are the criteria backwards: the units of highest score go instead.
"""

import jax
import numpy as np
import optax
import pytest

import jaxticket as jt
from jaxticket import diagnostics, scores, units
from tests.science.digits import accuracy, apply, digits, init, loss

BATCH, EPOCHS, SEEDS, DENSITY = 20, 25, 4, 0.7
WIDTHS = (64, 96, 64, 10)


TRAIN, TEST = digits()


def trained(params, key, epochs, mask=None):
    tx = optax.adam(1e-3)
    if mask is not None:
        tx = optax.chain(tx, jt.keep_params_sparse(mask))

    def step(carry, rows):
        params, state = carry
        grads = jax.grad(loss)(params, (TRAIN[0][rows], TRAIN[1][rows]))
        updates, state = tx.update(grads, state, params)
        return (optax.apply_updates(params, updates), state), None

    orders = jax.vmap(lambda k: jax.random.permutation(k, len(TRAIN[1])))(jax.random.split(key, epochs))
    (params, _), _ = jax.lax.scan(step, (params, tx.init(params)), orders.reshape(-1, BATCH))
    return params


SAMPLE = [(TRAIN[0][:300], TRAIN[1][:300])]
INPUTS = [TRAIN[0][:300]]
CRITERIA = {
    "l1": (scores.magnitude, units.total),
    "l2": (scores.magnitude, units.l2),
    "fpgm": (scores.fpgm(), units.mean),
    "activation_norm": (scores.activation_norm(apply, INPUTS), units.mean),
    "mean_activation": (scores.mean_activation(apply, INPUTS), units.mean),
    "apoz": (scores.apoz(apply, INPUTS), units.mean),
    "taylor": (scores.activation_taylor(loss, SAMPLE), units.mean),
    "random": (scores.random, units.mean),
}


def masks(params, criterion, key, sign):
    """Masks of the hidden layers' units, their biases included."""
    score, reduce = CRITERIA[criterion]
    pooled = units.axis(-1, reduce=reduce).pool([layer["kernel"] for layer in score(params, key=key)[:-1]])
    # Backwards it is the unit's own score that changes sign, whatever pools it.
    kept = jt.select([sign * p for p in pooled], DENSITY)
    return [*({"kernel": m, "bias": m} for m in kept), {"kernel": None, "bias": None}]


@pytest.mark.science
def test_pruned_filters_come_back_and_the_best_are_missed():
    train_keys, tune_keys, draw_keys = (jax.random.split(jax.random.key(i), SEEDS) for i in range(3))
    params = jax.jit(jax.vmap(lambda k: trained(init(k, WIDTHS, jax.nn.initializers.he_normal()), k, EPOCHS)))(
        train_keys
    )
    dense = np.asarray(jax.vmap(accuracy, (0, None))(params, TEST))
    print(f"dense: {_interval(dense)}")

    def before_and_after(criterion, sign):
        def one(params, tune_key, draw_key):
            mask = masks(params, criterion, draw_key, sign)
            pruned = jt.apply_mask(params, mask)
            return accuracy(pruned, TEST), accuracy(trained(pruned, tune_key, 1, mask), TEST)

        return (np.asarray(a) for a in jax.jit(jax.vmap(one))(params, tune_keys, draw_keys))

    for criterion in CRITERIA:
        before, after = before_and_after(criterion, 1)
        print(f"{criterion}: {_interval(before)} before finetuning, {_interval(after)} after")
        if criterion != "random":
            assert after.mean() >= dense.mean() - 2, criterion
        if criterion in ("l1", "taylor"):
            worst, _ = before_and_after(criterion, -1)
            gap = before - worst  # paired: the same trained networks
            print(f"{criterion} backwards: {_interval(worst)} before finetuning, {_interval(gap)} fewer")
            assert gap.mean() >= 5, criterion
            assert gap.mean() - diagnostics.interval(gap.tolist()).half_width > 0, criterion


def _interval(x):
    return "{:.2f} ± {:.2f}".format(*diagnostics.interval(x.tolist()))
