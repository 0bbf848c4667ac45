"""Replicates whose levels are trained together: each gets its own results, and what is stored is not trained again."""

import jax
import jax.numpy as jnp
import pytest

from experiments.training.levels import groups, search_levels, train_all, train_levels
from experiments.training.trainer import Lane, Trainer
from jaxticket import loops, tickets
from jaxticket.errors import DivergedError
from jaxticket.tickets import rewinds
from jaxticket.training import Fitted
from jaxticket.typing import Trained


def trainer(calls, lanes, *, stacked=True, fails=()):
    """Adds the steps to every parameter, and keeps what it was called with."""

    def fit(params, state, mask, key, *, step, steps, opt_state=None, subset=None, stretch=1.0):
        values = jnp.ravel(params["w"]).tolist()
        calls.append((values, step, steps))
        if bad := tuple(number for number, value in enumerate(values) if value in fails):
            raise DivergedError("not finite", replicates=bad)
        return Fitted({"w": params["w"] + steps}, state, None, values if stacked else values[0])

    return Trainer(fit, lanes=lanes, stacked=stacked)


def lane(value):
    return Lane({"w": jnp.float32(value)}, None, None, jax.random.key(0))


def test_missing_lanes_are_filled_with_the_first():
    calls = []
    trained = trainer(calls, 3).train([lane(value) for value in (0, 10, 20, 30)], step=1, steps=2)
    assert [(float(each.params["w"]), loss) for each, loss in trained] == [(2, 0), (12, 10), (22, 20), (32, 30)]
    assert calls == [([0, 10, 20], 1, 2), ([30, 30, 30], 1, 2)]


def test_lanes_that_are_not_stacked_are_trained_one_by_one():
    calls = []
    trained = trainer(calls, 1, stacked=False).train([lane(value) for value in (0, 10)], steps=2)
    assert [(float(each.params["w"]), loss) for each, loss in trained] == [(2, 0), (12, 10)]
    assert calls == [([0], 0, 2), ([10], 0, 2)]


def test_replicates_are_searched_side_by_side_or_in_turn():
    assert groups(trainer([], 3), 3) == [[0, 1, 2]]
    assert groups(trainer([], 1, stacked=False), 3) == [[0], [1], [2]]


def begin(value):
    return tickets.Ticket({"w": jnp.arange(4.0) + value}, {"w": jnp.ones(4, bool)})


def options(folder, replicates):
    keys = [jax.random.key(number) for number in range(replicates)]
    return {"keys": keys, "stores": [tickets.Store(folder / str(number)) for number in range(replicates)]}


def alone(params, state, mask, key, *, step, opt_state):
    return Trained({"w": params["w"] + jax.random.normal(key, (4,))}, state, {"loss": 0.0})


def together(calls):
    def train(starts):
        calls.append(len(starts))
        return [alone(*start[:4], step=start.step, opt_state=start.opt_state) for start in starts]

    return train


@pytest.mark.parametrize("densities", [(1.0, 0.5, 0.25), (0.75, 0.5)])
def test_replicates_come_to_what_imp_comes_to_alone(tmp_path, densities):
    given = {"densities": densities, "prune": loops.prune_by(), "rewind": rewinds.weights()}
    calls, points = [], [begin(0), begin(10)]
    how = options(tmp_path, 2)
    found = list(search_levels(together(calls), points, **given, **how))
    assert calls == [2] * len(densities)
    for number, point in enumerate(points):
        for level, side_by_side in zip(loops.imp(alone, point, **given, key=how["keys"][number]), found, strict=True):
            own = side_by_side[number]
            assert (own.index, own.density) == (level.index, level.density)
            assert jnp.array_equal(own.ticket.mask["w"], level.ticket.mask["w"])
            assert jnp.array_equal(own.trained.params["w"], level.trained.params["w"])
        # What was kept is known to either way: nothing is trained.
        again = loops.imp(None, point, **given, key=how["keys"][number], store=how["stores"][number])
        assert len(list(again)) == len(densities)


def test_only_what_is_not_stored_is_trained(tmp_path):
    calls, chosen, given = [], [begin(0), begin(10), begin(20)], options(tmp_path, 3)
    first = {name: values[:1] for name, values in given.items()}
    train_levels(together(calls), chosen[:1], index=0, density=1.0, **first)
    levels = train_levels(together(calls), chosen, index=0, density=1.0, **given)
    assert calls == [1, 2]
    assert [float(level.ticket.params["w"][0]) for level in levels] == [0, 10, 20]
    train_levels(None, chosen, index=0, density=1.0, **given)


def test_a_training_that_diverges_is_named_among_all_replicates(tmp_path):
    chosen = [tickets.Ticket({"w": jnp.float32(value)}, {"w": jnp.bool_(True)}) for value in (0, 10, 20)]
    given = options(tmp_path, 3)
    train = train_all(trainer([], 3, fails=(20,)), steps=1, evaluate=lambda params, state: {})
    first = {name: values[:1] for name, values in given.items()}
    train_levels(train, chosen[:1], index=0, density=1.0, **first)  # so that replicate 2 is lane 1
    with pytest.raises(DivergedError, match="not finite") as caught:
        train_levels(train, chosen, index=0, density=1.0, **given)
    assert caught.value.replicates == (2,)
