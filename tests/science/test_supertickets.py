"""SuperTickets on real digits: channels are searched away and weights pruned in one training of a supernet.

The images of `digits` in a small supernet, three seeds. The search is beside the dense supernet, and beside a search
for channels after which the weights are pruned at once: all three for as many epochs.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxticket as jt
from jaxticket import diagnostics, models, structure, training
from jaxticket.loops import soups
from jaxticket.methods.channels.supertickets import begin, prune, scale_costs, search_loss, supertickets
from tests.science.digits import digits

pytestmark = pytest.mark.science

SEEDS, EPOCHS, INTERVAL, TARGET, BATCH, RHO = 3, 20, 4, 0.5, 60, 1e-2
MODEL = models.supernet(blocks=2, width=12, hidden=8, patch=2, shape=(8, 8, 1))
NO_MASK = lambda params: jax.tree.map(lambda _: None, params)


def loss(params, state, batch, key):
    logits, state = MODEL.apply(params, state, batch[0], train=True, key=key)
    return optax.softmax_cross_entropy_with_integer_labels(logits, batch[1]).mean(), state


def logits(variables, x):
    return MODEL.apply(variables["params"], variables["state"], x, train=False, key=None)[0]


def trace(params, state):
    return structure.trace(logits, {"params": params, "state": state}, jnp.ones((1, 64)))


@functools.cache
def fit(rho):
    data = digits()[0]
    steps = len(data[1]) // BATCH
    ramp = optax.linear_schedule(0.0, rho, 2 * steps)
    recipe = training.Recipe(
        loss=search_loss(loss, ramp, decay=0.98),
        data=data,
        learning_rate=optax.cosine_decay_schedule(1e-2, EPOCHS * steps),
        batch_size=BATCH,
        optimizer=optax.adam,
    )
    return training.fit(recipe), steps


def search(seed, rho, **options):
    """Return the epochs of a search."""
    run, steps = fit(rho)
    init, order = jax.random.split(jax.random.key(seed))
    params, state = MODEL.init(init)

    def train(params, search, opt_state, epoch):
        more = {"step": epoch * steps, "steps": steps, "opt_state": opt_state}
        fitted = run(params, search, NO_MASK(params), order, **more)
        return fitted.params, fitted.state, fitted.opt_state

    start = begin(params, state, scale_costs(params, trace(params, state)))
    options = {"epochs": EPOCHS, "interval": INTERVAL, "target": TARGET, "every": INTERVAL, "least": 500, **options}
    return supertickets(train, params, start, trace, **options)


def accuracy(epoch, mask):
    """Return the accuracy of the averaged network under a mask, in %, with batch statistics of the training images."""
    (images, _), (test, labels) = digits()
    params = jt.apply_mask(epoch.search.average, mask)
    train = lambda params, state, x: MODEL.apply(params, state, x, train=True, key=None)[1]
    state = soups.recalibrate(params, epoch.search.model, train, [images[i : i + 120] for i in range(0, 1200, 120)])
    return 100 * float(jnp.mean(logits({"params": params, "state": state}, test).argmax(-1) == labels))


def scales(epoch):
    return sum(c.size for c in jax.tree.leaves(epoch.search.costs))


@pytest.mark.parametrize("reset", [False, True])
def test_one_training_searches_and_prunes(reset):
    above_dense, above_later, dropped, returned = [], [], [], 0
    for seed in range(SEEDS):
        *_, dense = search(seed, 0.0, target=0.0)
        *_, later = search(seed, RHO, target=0.0)
        before = None
        for number, found in enumerate(search(seed, RHO, reset=reset)):
            if (number + 1) % INTERVAL == 0:
                mask = jax.tree.map(np.asarray, found.mask)
                kept, size = sum(m.sum() for m in jax.tree.leaves(mask)), sum(m.size for m in jax.tree.leaves(mask))
                assert kept == round(size * (1 - min((number + 1) // INTERVAL / 10, TARGET)))
                if before is not None and jax.tree.map(np.shape, before) == jax.tree.map(np.shape, mask):
                    returned += sum((~b & m).sum() for b, m in zip(*map(jax.tree.leaves, (before, mask)), strict=True))
                before = mask
        ours, whole = accuracy(found, found.mask), accuracy(dense, dense.mask)
        above_dense.append(ours - whole)
        above_later.append(ours - accuracy(later, prune(later.params, TARGET)))
        dropped.append(1 - scales(found) / scales(dense))
    print(
        f"over the dense supernet {diagnostics.interval(above_dense)}, over pruning afterwards "
        f"{diagnostics.interval(above_later)}, channels that went {dropped}, weights that returned {returned}"
    )
    assert min(dropped) >= 0.3
    assert np.mean(above_dense) >= -1.5
    assert np.mean(above_later) > 0
    assert returned >= 1
