"""COLT on digits: two halves of the classes prune faster than all of them, to a ticket that is as good."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxticket as jt
from jaxticket import diagnostics, filters, training
from jaxticket.methods.tickets import colt
from tests.science import digits

pytestmark = pytest.mark.science

SEEDS, ORDERS, GOAL = 3, 3, 0.15
(IMAGES, LABELS), TEST = digits.digits()


def recipe(data):
    return training.Recipe(
        loss=lambda params, state, batch, key: (digits.loss(params, batch), state),
        data=data,
        learning_rate=optax.constant_schedule(1.2e-3),
        batch_size=digits.BATCH,
    )


def init(classes):
    return lambda key: (digits.init(key, (64, 256, 256, classes)), None)


def reached(partitions, rounds):
    """For each seed the first level that keeps no more than the goal; ten epochs a training, 15 % a round."""
    data = colt.partition(IMAGES, LABELS, partitions=partitions, classes=10)
    train = colt.partition_train(recipe, data, steps=10 * (data[0].shape[1] // digits.BATCH))
    found = []
    for seed in range(SEEDS):
        params, _ = init(10 // partitions)(jax.random.key(seed))
        ticket = jt.Ticket(params, filters.full_mask(params, filters.match("^[01]/kernel")))
        levels = colt.colt(train, ticket, partitions=partitions, rounds=rounds, key=jax.random.key(seed))
        found.append(next(level for level in levels if level.density <= GOAL))
    print(f"{partitions} partitions: {[f'{level.density:.3f} in round {level.index}' for level in found]}")
    return found


@jax.jit
def accuracy(params, mask):
    """On all classes, from the first weights, the mean over orders of the examples."""

    def one(key):
        train = training.scan_train(recipe((IMAGES, LABELS)), steps=600)
        return digits.accuracy(train(jt.apply_mask(params, mask), None, mask, key, step=0, opt_state=None).params, TEST)

    return jnp.mean(jax.vmap(one)(jax.random.split(jax.random.key(7), ORDERS)))


def test_a_density_is_reached_in_fewer_rounds_than_by_iterative_pruning():
    """Which is COLT of one partition. Both tickets are then trained on all classes, from their first weights."""
    found = {"colt": reached(2, 11), "imp": reached(1, 14)}
    scored = {}
    for name, levels in found.items():
        whole = [
            colt.full_ticket(level, init(10), key=jax.random.key(seed), redraw=filters.match("^2/."))
            for seed, level in enumerate(levels)
        ]
        scored[name] = np.array([accuracy(ticket.params, ticket.mask) for ticket in whole])
        print(f"{name}: {scored[name].round(2)} %")
    gap = diagnostics.interval((scored["colt"] - scored["imp"]).tolist())
    print(f"colt − imp: {gap.mean:.2f} ± {gap.half_width:.2f} points")
    assert max(level.index for level in found["colt"]) < min(level.index for level in found["imp"])
    assert gap.mean >= -1
