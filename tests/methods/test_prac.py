"""PrAC sets: forgetting and disagreement make the sets, the mask ends the rounds, and the accounting is the paper's."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxticket import data_pruning, loops, masks, schedules, tickets, training
from jaxticket.errors import InputError
from jaxticket.methods.datasets import prac
from tests import classifier

EXAMPLES, BATCH = 40, 8


def statistics(histories):
    """Of examples that were right or wrong so, one list each; [] was not seen."""
    found = data_pruning.init(len(histories), ("el2n",))
    for at in range(max(map(len, histories))):
        seen = [row for row, history in enumerate(histories) if at < len(history)]
        right = jnp.array([bool(histories[row][at]) for row in seen])
        observed = {"correct": right, "el2n": jnp.array([row / 10 for row in seen])}
        found = data_pruning.update(found, jnp.array(seen), observed)
    return found


HISTORIES = [[1, 1, 1], [1, 0, 1], [0, 0, 0], [], [0, 1, 1], [1, 0, 0]]


def found(round_, dense=(0, 0, 0, 0, 0, 0), sparse=(0, 0, 0, 0, 0, 0)):
    return prac.Outcome(round_, statistics(HISTORIES), jnp.array(dense), jnp.array(sparse))


def rows(subset):
    return np.flatnonzero(np.asarray(subset)).tolist()


def test_hard_are_the_forgotten_and_the_never_learned():
    assert rows(prac.hard(statistics(HISTORIES))) == [1, 2, 5]
    assert rows(prac.hard(statistics(HISTORIES), 1)) == [2]


def test_the_most_forgotten_are_never_the_unseen_and_none_are_none():
    assert rows(prac.most_forgotten(statistics(HISTORIES), 1)) == [2]
    assert rows(prac.most_forgotten(statistics(HISTORIES), 6)) == [0, 1, 2, 4, 5]
    assert rows(prac.most_forgotten(statistics(HISTORIES), 0)) == []  # argsort()[-0:] would be all


def test_what_the_ticket_sees_differently_joins_from_the_second_round_on():
    differently = {"dense": (0, 0, 0, 3, 0, 0), "sparse": (1, 0, 0, 0, 0, 0)}
    assert rows(prac.prac_set(found(0, **differently))) == [1, 2, 5]
    assert rows(prac.prac_set(found(1, **differently))) == [0, 1, 2, 3, 5]
    assert rows(prac.prac_set(found(1, **differently), size=0)) == [0, 3]


def test_an_empty_hard_set_stays_empty_and_a_floor_fills_it_with_the_hardest_seen():
    easy = prac.Outcome(0, statistics([[1, 1], [1, 1], [1, 1], []]), jnp.zeros(4, int), jnp.zeros(4, int))
    assert rows(prac.prac_set(easy)) == []
    assert rows(prac.prac_set(easy, minimum=0.3)) == [1, 2]  # ⌈1.2⌉, and their EL2N rises with the row
    differently = easy._replace(round=1, sparse=jnp.array([1, 0, 0, 0]))
    assert rows(prac.prac_set(differently, minimum=0.5)) == [0, 2]
    assert rows(prac.prac_set(found(0), minimum=0.5)) == [1, 2, 5]
    assert rows(prac.prac_set(found(0), minimum=0.6)) == [1, 2, 4, 5]


@pytest.mark.parametrize(
    ("distances", "stop"),
    [
        ([0.5, 0.2, 0.09, 0.05, 0.04, 0.03, 0.02, 0.01], 8),
        ([0.01] * 20, None),  # it never moved, so that nothing can have settled
        ([0.01, 0.5, 0.01, 0.01, 0.01, 0.01, 0.01], 7),
        ([0.5, 0.01, 0.01, 0.01, 0.09, 0.01, 0.01, 0.01, 0.01, 0.01], 10),
    ],
)
def test_a_mask_has_settled_after_five_small_distances_that_follow_a_large_one(distances, stop):
    state, stopped = prac.init_settling(), None
    for number, distance in enumerate(distances, 1):
        state, settled = jax.jit(prac.settle)(state, distance)
        stopped = number if stopped is None and settled else stopped
    assert stopped == stop


def test_distances_of_the_warm_up_are_not_kept():
    """The authors' code: a mask may move in it, which starts the record, but its distances are not in the queue."""
    distances = [0.5, 0.02, 0.02, 0.02, 0.02, 0.02, 0.02, 0.02]
    ends = []
    for warmup in (0, 2):
        state = prac.init_settling()
        for epoch, distance in enumerate(distances, 1):
            state, settled = prac.settle(state, distance, keep=epoch > warmup)
            if settled:
                ends.append(epoch)
                break
    assert ends == [6, 7]


def test_rounds_end_later_with_a_warm_up():
    options, plan = held_from_half_on(16), PLAN._replace(rounds=1, epochs=16, tolerance=0.1)
    (first,) = search(plan, **options)
    distances = first.level.trained.metrics["distances"]
    moved = max(at for at, distance in enumerate(distances) if distance >= 0.1)
    (later,) = search(plan._replace(warmup=moved + 3), **options)
    assert later.cost[0] == first.cost[0] + 2  # the warm-up takes the two epochs after the last move


def test_distances_count_what_differs_of_what_is_left():
    params, whole = {"w": jnp.ones(10)}, {"w": jnp.arange(10) < 8}
    old, swapped = {"w": jnp.arange(10) < 4}, {"w": jnp.array([1, 1, 1, 0, 1, 0, 0, 0, 0, 0], bool)}
    assert prac.mask_distance(params, whole, old, old) == 0
    np.testing.assert_allclose(prac.mask_distance(params, whole, old, swapped), 2 / 8, rtol=1e-6)


def test_the_accounting():
    assert prac.allowed_epochs(182, 22_500, 45_000) == 91
    assert prac.allowed_epochs(182, 100, 45_000) == 1
    plan = prac.Plan()
    assert prac.iterations_saved([(182, 45_000)] * 16, plan, examples=45_000) == 0
    costs = [(182, 45_000), (60, 15_000), *[(1, 4_500)] * 14]
    spent = 182 * 45_000 + 60 * 15_000 + 14 * 4_500
    assert prac.iterations_saved(costs, plan, examples=45_000) == 1 - spent / (16 * 182 * 45_000)


@functools.cache
def problem():
    x, y = classifier.examples(EXAMPLES, 6, noise=0.7)
    rate = optax.constant_schedule(0.1)
    recipe = training.Recipe(
        loss=classifier.loss_of(classifier.logits), data=(x, y), learning_rate=rate, batch_size=BATCH
    )
    observe = training.observer(classifier.logits, labels=lambda rows: rows[1], measures={"el2n": data_pruning.el2n})
    fit = training.fit(recipe, observe=observe)
    params = {"kernel": 0.1 * jax.random.normal(jax.random.key(9), (6, 3)), "bias": jnp.zeros(3)}
    ticket = tickets.Ticket(params, {"kernel": jnp.ones((6, 3), bool), "bias": None})
    predict = lambda params, state: jnp.argmax(x @ params["kernel"] + params["bias"][None], -1)
    evaluate = lambda params, state: float((predict(params, state) == y).mean())
    return {"fit": fit, "ticket": ticket, "recipe": recipe, "predict": predict, "evaluate": evaluate}


PLAN = prac.Plan(rounds=3, epochs=8, tolerance=0.08)


def search(plan=PLAN, **options):
    given = {**problem(), "key": jax.random.key(0), **options}
    return prac.prac(given.pop("fit"), given.pop("ticket"), plan, **given)


@functools.cache
def unbroken():
    return list(search())


def test_a_search_prunes_rewinds_and_trains_on_its_sets():
    rounds = unbroken()
    assert rounds[0].subset.all()
    for before, after in itertools.pairwise(rounds):
        assert (after.subset == prac.prac_set(before.outcome, minimum=0.2)).all()
        assert after.level.trained.metrics["examples"] == int(after.subset.sum()) >= 0.2 * EXAMPLES
        assert (data_pruning.forgetting(after.outcome.statistics)[~after.subset] == -1).all()
        assert not masks.difference(after.ticket.mask, before.ticket.mask)["kernel"].any()
    for number, each in enumerate(rounds, 1):
        assert int(each.ticket.mask["kernel"].sum()) == round(0.8**number * 18)
        np.testing.assert_array_equal(each.ticket.params["kernel"], problem()["ticket"].params["kernel"])
        epochs, size = each.cost
        assert 1 <= epochs <= prac.allowed_epochs(PLAN.epochs, size, EXAMPLES)
        seen = each.outcome.statistics.seen
        assert (seen == epochs * each.subset).all()  # each example of the set once an epoch
    assert all(r.outcome.dense is rounds[0].outcome.sparse for r in rounds)
    assert any((r.outcome.sparse != r.outcome.dense).any() for r in rounds)


def test_on_all_examples_to_the_end_it_is_iterative_pruning():
    everything = lambda found: jnp.ones(EXAMPLES, bool)
    plan = PLAN._replace(tolerance=0.0)
    rounds = list(search(plan, choose=everything))
    assert [r.cost for r in rounds] == [(8, EXAMPLES)] * 3
    given = problem()
    train = training.train_fn(
        functools.partial(training.fit(given["recipe"]), subset=jnp.ones(EXAMPLES, bool)), steps=8 * 5
    )
    densities = schedules.levels(4)
    levels = list(loops.imp(train, given["ticket"], densities=densities, prune=loops.prune_by(), key=jax.random.key(0)))
    for mine, level in zip(rounds, levels[1:], strict=True):
        np.testing.assert_array_equal(mine.ticket.mask["kernel"], level.ticket.mask["kernel"])


def held_from_half_on(epochs):
    """What a search takes whose rate is 0 in the second half of all rounds, so that masks stand still there."""
    given = problem()
    half = optax.piecewise_constant_schedule(0.3, {epochs * EXAMPLES // BATCH // 2: 0.0})
    recipe = dataclasses.replace(given["recipe"], learning_rate=half)
    observe = training.observer(classifier.logits, labels=lambda rows: rows[1])
    part = lambda found: jnp.arange(EXAMPLES) < EXAMPLES // 2
    fit = training.fit(recipe, observe=observe)
    return {"recipe": recipe, "fit": fit, "choose": part, "measures": ()}


def test_each_round_runs_the_whole_schedule_and_ends_once_its_mask_has_settled():
    options, plan = held_from_half_on(16), PLAN._replace(rounds=2, epochs=16, tolerance=0.0)
    whole = list(search(plan, **options))
    assert [r.cost for r in whole] == [(16, EXAMPLES), (8, EXAMPLES // 2)]
    for each in whole:
        distances, epochs = each.level.trained.metrics["distances"], each.cost[0]
        assert len(distances) == epochs - 1
        assert max(distances[: epochs // 2]) > 0.1
        assert set(distances[epochs // 2 :]) == {0.0}
    first, second = search(plan._replace(tolerance=0.1), **options)
    moved = max(at for at, distance in enumerate(whole[0].level.trained.metrics["distances"]) if distance >= 0.1)
    assert first.cost == (moved + 1 + 5 + 1, EXAMPLES)  # the first epoch has no distance, and the last five are small
    assert second.cost == (8, EXAMPLES // 2)  # too short for five
    np.testing.assert_array_equal(first.ticket.mask["kernel"], whole[0].ticket.mask["kernel"])
    last = first.cost[0] * 5 + 1  # a step of the epoch after
    (longer,) = search(plan._replace(rounds=1, tolerance=0.1, rewind_step=last), **options)
    assert longer.cost[0] == first.cost[0] + 1  # no end before the weights that are rewound to


def test_rounds_start_from_early_weights_which_round_0_passes():
    """Seven steps are an epoch and two more; round 0 itself, its cost and its sets stay as they are."""
    given, (first, _, _) = problem(), unbroken()
    rounds = list(search(PLAN._replace(rounds=2, rewind_step=7)))
    state = data_pruning.Tracked(None, data_pruning.init(EXAMPLES, ("el2n",)))
    train_key, _ = loops.level_keys(0, key=jax.random.key(0))
    early = given["fit"](
        tickets.rewind(given["ticket"]),
        state,
        given["ticket"].mask,
        train_key,
        step=0,
        steps=7,
        subset=jnp.ones(EXAMPLES, bool),
    )
    assert rounds[0].cost == first.cost
    jax.tree.map(np.testing.assert_array_equal, rounds[0].outcome, first.outcome)
    np.testing.assert_array_equal(rounds[0].ticket.mask["kernel"], first.ticket.mask["kernel"])
    for each in rounds:
        np.testing.assert_array_equal(each.ticket.params["kernel"], early.params["kernel"])
        assert each.ticket.step == 7
    np.testing.assert_array_equal(rounds[1].level.ticket.params["kernel"], early.params["kernel"])


def test_nothing_is_chosen_after_the_last_round():
    """On easy data that choice may be empty, which must not end a search that has found its ticket."""
    chosen = []

    def everything_once(found):
        chosen.append(found.round)
        return jnp.full(EXAMPLES, found.round == 0)

    assert len(list(search(PLAN._replace(rounds=2, epochs=2), choose=everything_once))) == 2
    assert chosen == [0]


def test_the_best_epoch_predicts():
    """An evaluation that falls from epoch to epoch makes the first one the best."""
    given, falling = problem(), iter(range(0, -100, -1))
    (first,) = search(PLAN._replace(rounds=1, tolerance=0.0), evaluate=lambda params, state: float(next(falling)))
    assert first.level.trained.metrics["best"] == 0
    everything = jnp.ones(EXAMPLES, bool)
    state = data_pruning.Tracked(None, data_pruning.init(EXAMPLES, ("el2n",)))
    train_key, _ = loops.level_keys(0, key=jax.random.key(0))
    after_one = given["fit"](
        tickets.rewind(given["ticket"]), state, given["ticket"].mask, train_key, step=0, steps=5, subset=everything
    )
    np.testing.assert_array_equal(first.outcome.sparse, given["predict"](after_one.params, None))


@pytest.mark.slow
def test_a_killed_search_goes_on_to_the_same_bits(tmp_path):
    plan = PLAN._replace(rewind_step=7)
    whole = list(search(plan))
    trained = 0

    def interrupted(params, state):
        nonlocal trained
        trained += 1
        if trained == 11:  # in the second round
            raise KeyboardInterrupt
        return problem()["evaluate"](params, state)

    kept = {"store": tickets.Store(tmp_path / "rounds"), "checkpoint": tickets.StepCheckpoint(tmp_path / "at", every=0)}
    with pytest.raises(KeyboardInterrupt):
        list(search(plan, evaluate=interrupted, **kept))
    trained = 100
    again = list(search(plan, evaluate=interrupted, **kept))
    assert trained - 100 == sum(r.cost[0] for r in whole) - 10
    for mine, theirs in zip(again, whole, strict=True):
        assert mine.level.trained.metrics == theirs.level.trained.metrics
        for name in ("subset", "found", "ticket"):
            jax.tree.map(np.testing.assert_array_equal, getattr(mine, name), getattr(theirs, name))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: search(PLAN._replace(rounds=0)), "rounds=0"),
        (lambda: search(PLAN._replace(epochs=2.5)), "epochs=2.5"),
        (lambda: search(PLAN._replace(rate=1.0)), "rate=1.0"),
        (lambda: search(PLAN._replace(tolerance=-1.0)), "tolerance=-1"),
        (lambda: search({"rounds": 3}), "plan is a dict"),
        (lambda: search(PLAN._replace(rewind_step=-1)), "rewind_step=-1"),
        (lambda: search(PLAN._replace(warmup=-1)), "warmup=-1"),
        (lambda: search(PLAN._replace(rewind_step=40)), "rewind_step=40 must be below the 40 steps"),
        (lambda: list(search(choose=lambda found: jnp.zeros(EXAMPLES, bool))), "at least one"),
        (lambda: prac.prac_set(found(0), threshold=-1), "threshold=-1"),
        (lambda: prac.prac_set(found(0), minimum=2.0), "minimum=2"),
        (lambda: prac.most_forgotten(statistics(HISTORIES), -1), "size=-1"),
    ],
)
def test_what_is_wrong_is_named(call, words):
    with pytest.raises(InputError, match=words):
        call()


def test_a_plan_is_the_papers():
    assert tuple(prac.Plan()) == (16, 0.2, 182, 0.08, 0, 0)


def test_the_readmes_plan_rewinds_to_the_end_of_the_third_epoch():
    recipe = problem()["recipe"]
    assert prac.readme_plan(recipe) == prac.Plan(rewind_step=3 * -(-EXAMPLES // BATCH))
