"""PrAC sets on digits: what is forgotten is hard, and a ticket needs only a few examples to be found."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import stats

import jaxticket as jt
from jaxticket import data_pruning, diagnostics, filters, training
from jaxticket.methods.datasets import prac
from tests import classifier
from tests.science import digits

pytestmark = pytest.mark.science

SEEDS, EPOCHS = 4, 10
TRAIN, OTHERS = digits.digits(1000)
VALIDATION, TEST = ([part[at] for part in OTHERS] for at in (slice(200), slice(200, None)))
EXAMPLES = len(TRAIN[1])
PLAN = prac.Plan(rounds=3, rate=0.6, epochs=EPOCHS)


def logits(params, state, batch, key):
    return digits.apply(params, batch.examples[0]), state


@functools.cache
def lab():
    rate = optax.constant_schedule(1.2e-3)
    loss = classifier.loss_of(logits)
    recipe = training.Recipe(loss=loss, data=TRAIN, learning_rate=rate, batch_size=digits.BATCH)
    observe = training.observer(logits, labels=lambda rows: rows[1], measures={"el2n": data_pruning.el2n})
    return recipe, training.fit(recipe, observe=observe), training.fit(recipe)


def begin(seed):
    params = digits.init(jax.random.key(seed))
    return jt.Ticket(params, filters.full_mask(params, filters.weights()))


@jax.jit
def predicted(params):
    return jnp.argmax(digits.apply(params, TRAIN[0]), -1)


def search(seed, choose=None):
    recipe, fit, _ = lab()
    correct = jax.jit(lambda params, state: digits.accuracy(params, VALIDATION))
    options = {"predict": lambda params, state: predicted(params), "evaluate": lambda p, s: float(correct(p, s))}
    return list(prac.prac(fit, begin(seed), PLAN, recipe=recipe, choose=choose, key=jax.random.key(seed), **options))


def on_all_examples(ticket, seed):
    """Accuracy of a ticket that is trained on all examples, in %."""
    fit = lab()[2]
    steps = 2 * EPOCHS * -(-EXAMPLES // digits.BATCH)
    everything, key = jnp.ones(EXAMPLES, bool), jax.random.key(100 + seed)
    fitted = fit(jt.rewind(ticket), None, ticket.mask, key, step=0, steps=steps, subset=everything)
    return float(digits.accuracy(fitted.params, TEST))


@functools.cache
def searches():
    """For each seed the search on PrAC sets, and the one on random sets of their sizes."""
    found = []
    for seed in range(SEEDS):
        rounds = search(seed)
        sizes = [each.cost[1] for each in rounds]

        def as_large(shown, seed=seed, sizes=sizes):
            key = jax.random.fold_in(jax.random.key(200 + seed), shown.round)
            return data_pruning.random_subset(EXAMPLES, sizes[shown.round + 1], key=key)

        found.append((rounds, search(seed, as_large)))
    return found


def test_what_is_forgotten_is_hard_for_another_network_early_in_its_training():
    """A counter from wrong to right would correlate as well, but make sets of nearly all examples below."""
    correlations = []
    for seed, (rounds, _) in enumerate(searches()):
        key, everything = jax.random.key(300 + seed), jnp.ones(EXAMPLES, bool)
        steps = 2 * EXAMPLES // digits.BATCH
        early = lab()[2](digits.init(key), None, begin(seed).mask, key, step=0, steps=steps, subset=everything)
        hardness = data_pruning.el2n(digits.apply(early.params, TRAIN[0]), TRAIN[1])
        events = data_pruning.forgetting(rounds[0].outcome.statistics)
        correlations.append(float(stats.spearmanr(events, hardness).statistic))
    found = diagnostics.interval(correlations)
    print(f"Spearman of forgetting and early EL2N of another network: {found.mean:.2f} ± {found.half_width:.2f}")
    assert found.low > 0


def test_tickets_of_few_examples_are_as_good_as_those_of_random_ones():
    parts = [[each.cost[1] / EXAMPLES for each in rounds] for rounds, _ in searches()]
    saved = [prac.iterations_saved([r.cost for r in rounds], PLAN, examples=EXAMPLES) for rounds, _ in searches()]
    scored = np.array(
        [[on_all_examples(found[-1].ticket, seed) for found in pair] for seed, pair in enumerate(searches())]
    )
    gap = diagnostics.interval((scored[:, 0] - scored[:, 1]).tolist())
    print(f"parts of the examples {np.round(parts, 2).tolist()}, iterations saved {np.round(saved, 2).tolist()}")
    print(f"PrAC {scored[:, 0].round(2)}, random {scored[:, 1].round(2)}: {gap.mean:.2f} ± {gap.half_width:.2f} points")
    assert max(part[1] for part in parts) < 0.4
    assert min(saved) > 0.5
    assert gap.mean >= -0.3
