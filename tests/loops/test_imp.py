"""The search: exact densities, nested masks, each policy's start, resumption and controls."""

import functools
import itertools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxticket import filters, loops, scopes, tickets, units
from jaxticket.errors import CheckpointError, InputError
from jaxticket.tickets import Ticket, rewinds
from jaxticket.typing import Trained

SHAPES = {"a": (20, 30), "b": (30, 10), "output": (10, 5)}
KEY = jax.random.key(0)


def init(key):
    keys = jax.random.split(key, len(SHAPES))
    params = {
        name: {"kernel": jax.random.normal(k, shape), "bias": jnp.zeros(shape[1])}
        for k, (name, shape) in zip(keys, SHAPES.items(), strict=True)
    }
    return params, {"mean": jnp.zeros(3)}


@functools.partial(jax.jit, donate_argnums=(0, 1, 2, 3))
def move(params, state, mask, opt_state, key):
    moved = {}
    for index, (name, layer) in enumerate(params.items()):
        kernel = layer["kernel"] + jax.random.normal(jax.random.fold_in(key, index), layer["kernel"].shape)
        moved[name] = {**layer, "kernel": jnp.where(mask[name]["kernel"], kernel, 0)}
    # Mask and optimizer state are returned, inverted and moved, so that their buffers are really reused.
    return moved, jax.tree.map(lambda s: s + 1, state), jax.tree.map(jnp.invert, mask), jax.tree.map(jnp.exp, opt_state)


class Train:
    """Stands in for training: moves the weights at random under the mask, donates all it gets, and takes notes."""

    def __init__(self):
        self.calls = []

    def __call__(self, params, state, mask, key, *, step, opt_state):
        self.calls.append({"params": jax.tree.map(np.array, params), "step": step, "opt_state": opt_state is not None})

        params, state, *_ = move(params, state, mask, opt_state, key)
        return Trained(params, state, {"loss": float(params["a"]["kernel"].sum())})


def make_ticket(**fields):
    params, state = init(jax.random.key(1))
    return Ticket(params, filters.full_mask(params, filters.weights()), 7, state, **fields)


def search(train=None, ticket=None, *, densities=(1.0, 0.5, 0.25), prune=None, **options):
    train, ticket = train or Train(), ticket or make_ticket()
    return list(loops.imp(train, ticket, densities=densities, prune=prune or loops.prune_by(), key=KEY, **options))


def equal(a, b):
    return jax.tree.structure(a) == jax.tree.structure(b) and all(
        map(np.array_equal, jax.tree.leaves(a), jax.tree.leaves(b))
    )


def kept(mask):
    return {name: int(layer["kernel"].sum()) for name, layer in mask.items()}


def test_every_level_keeps_exactly_what_was_asked_and_masks_nest():
    densities = [0.8**level for level in range(12)]
    levels = search(densities=densities)
    total = sum(a * b for a, b in SHAPES.values())
    assert [sum(kept(level.ticket.mask).values()) for level in levels] == [round(d * total) for d in densities]
    for high, low in itertools.pairwise(levels):
        for more, fewer in zip(jax.tree.leaves(high.ticket.mask), jax.tree.leaves(low.ticket.mask), strict=True):
            assert not jnp.any(fewer & ~more)
    assert [level.index for level in levels] == list(range(12))


@pytest.mark.parametrize("densities", [(1.0, 0.5, 0.25), (0.75, 0.5)])
def test_a_loop_that_trains_in_its_own_way_comes_to_the_same_tickets(densities):
    ticket, trained = make_ticket(), None
    for level in search(densities=densities):
        how = {"index": level.index, "density": level.density, "prune": loops.prune_by(), "key": KEY}
        ticket = loops.next_ticket(ticket, trained, **how)
        assert equal(ticket.mask, level.ticket.mask)
        assert equal(ticket.params, level.ticket.params)
        trained = level.trained


def test_the_smallest_of_the_survivors_are_pruned():
    dense, sparse = search(densities=(1.0, 0.5))
    magnitudes = jax.tree.map(
        lambda p, m: (np.abs(p[m]), np.abs(p[~m])),
        *({n: layer["kernel"] for n, layer in tree.items()} for tree in (dense.trained.params, sparse.ticket.mask)),
    )
    alive, pruned = (np.concatenate([pair[i] for pair in magnitudes.values()]) for i in (0, 1))
    assert alive.min() >= pruned.max()


def test_layers_at_their_own_rates_and_the_output_layer_at_half():
    levels = range(5)
    densities = [
        {name: {"kernel": 0.9**l if name == "output" else 0.8**l, "bias": None} for name in SHAPES} for l in levels
    ]
    found = search(densities=densities, prune=loops.prune_by(scope=scopes.leaf()))
    for l, level in zip(levels, found, strict=True):
        assert kept(level.ticket.mask) == {
            "a": round(600 * 0.8**l),
            "b": round(300 * 0.8**l),
            "output": round(50 * 0.9**l),
        }


def test_one_shot():
    levels = search(densities=(1.0, 0.1))
    assert sum(kept(levels[1].ticket.mask).values()) == 95


def test_level_0_can_be_sparse_and_a_given_mask_is_kept():
    (level,) = search(densities=(0.3,))
    assert sum(kept(level.ticket.mask).values()) == round(0.3 * 950)
    again, _ = search(ticket=level.ticket, densities=(0.3, 0.2))
    assert equal(again.ticket.mask, level.ticket.mask)


@pytest.mark.parametrize(
    ("rewind", "from_trained", "steps", "keeps_opt_state"),
    [
        (rewinds.weights(), False, [7, 7, 7], False),
        (rewinds.everything(), False, [7, 7, 7], True),
        (rewinds.learning_rate(), True, [7, 7, 7], False),
        (rewinds.fine_tune(900), True, [7, 900, 900], False),
    ],
)
def test_where_each_policy_starts_a_level(rewind, from_trained, steps, keeps_opt_state):
    train, start = Train(), make_ticket(opt_state={"mu": init(KEY)[0]})
    levels = search(train, start, rewind=rewind)
    assert [call["step"] for call in train.calls] == steps
    assert [call["opt_state"] for call in train.calls][1:] == [keeps_opt_state] * 2
    for before, level, call in zip(levels, levels[1:], train.calls[1:], strict=False):
        source = before.trained.params if from_trained else start.params
        assert equal(call["params"], tickets.rewind(Ticket(source, level.ticket.mask)))


def test_donation_never_invalidates_a_ticket():
    start = make_ticket(opt_state={"mu": init(KEY)[0]})
    levels = search(ticket=start, rewind=rewinds.everything())
    for ticket in (start, *(level.ticket for level in levels)):
        assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(ticket))
    assert equal(start.params, init(jax.random.key(1))[0])


def test_the_same_key_gives_the_same_bits():
    first, second = search(), search()
    assert equal([level.trained for level in first], [level.trained for level in second])
    assert equal([level.ticket for level in first], [level.ticket for level in second])


@pytest.mark.parametrize("rewind", [rewinds.weights(), rewinds.everything(), rewinds.learning_rate()])
def test_a_store_resumes_to_the_same_bits_without_training_again(tmp_path, rewind):
    start = make_ticket(opt_state={"mu": init(KEY)[0]})
    unbroken = search(ticket=start, rewind=rewind)
    store = tickets.Store(tmp_path)
    broken = loops.imp(
        Train(), start, densities=(1.0, 0.5), prune=loops.prune_by(), rewind=rewind, key=KEY, store=store
    )
    next(broken)
    next(broken)
    train = Train()
    resumed = search(train, start, rewind=rewind, store=store)
    assert len(train.calls) == 1
    for a, b in zip(unbroken, resumed, strict=True):
        assert equal((a.ticket, a.trained), (b.ticket, b.trained))
    assert equal(tickets.load(store.path(2)).mask, unbroken[2].ticket.mask)
    assert equal(tickets.rewind(tickets.load(store.path(2))), tickets.rewind(unbroken[2].ticket))
    assert equal(store.load_trained(2, like=start), (unbroken[2].trained.params, unbroken[2].trained.state))
    with pytest.raises(CheckpointError, match="level_003: no such directory"):
        store.load_trained(3, like=start)


def test_a_store_of_another_search_is_refused(tmp_path):
    search(store=tickets.Store(tmp_path))
    with pytest.raises(CheckpointError, match="level_001 was trained from another ticket or key"):
        search(densities=(1.0, 0.4), store=tickets.Store(tmp_path))


def test_a_damaged_level_is_refused(tmp_path):
    store = tickets.Store(tmp_path)
    search(store=store)
    record = store.path(1) / "record.json"
    record.write_text(json.dumps({**json.loads(record.read_text()), "step": 8}))
    with pytest.raises(CheckpointError, match="is damaged"):
        search(store=store)


def test_metrics_must_be_json(tmp_path):
    train = lambda params, state, mask, key, *, step, opt_state: Trained(params, state, {"loss": jnp.ones(2)})
    with pytest.raises(InputError, match=r"metrics=.*not JSON"):
        search(train, store=tickets.Store(tmp_path))


def test_bad_densities_are_refused_before_any_training():
    for densities, words in [
        ((), "is empty"),
        ((1.0, 1.5), "1.5 is not a fraction"),
        ((1.0, float("nan")), "nan is not a fraction"),
        ((0.5, 0.8), r"densities\[1\]=0.8 is above"),
        ((1.0, {"a": 0.5}), "densities does not have the structure"),
    ]:
        train = Train()
        with pytest.raises(InputError, match=words):
            loops.imp(train, make_ticket(), densities=densities, prune=loops.prune_by(), key=KEY)
        assert not train.calls


def golden():
    params = {"a": jnp.array([0.9, 0.8, 0.7, 0.6]), "b": jnp.array([0.1, 0.05])}
    return params, jax.tree.map(lambda p: jnp.ones_like(p, bool), params)


def test_the_minimum_of_global_mp():
    """Hand-worked in Gupta et al. (2022): keep 3 of 6, at least one in each layer."""
    params, full = golden()
    kept = lambda mask: jax.tree.map(lambda m: m.tolist(), mask)
    assert kept(loops.prune_by()(params, full, 0.5, key=KEY)) == {"a": [True, True, True, False], "b": [False, False]}
    assert kept(loops.prune_by(minimum=1)(params, full, 0.5, key=KEY)) == {
        "a": [True, True, False, False],
        "b": [True, False],
    }


def test_the_minimum_holds_in_every_layer_and_the_total_is_exact():
    params, _ = init(KEY)
    params["b"]["kernel"] *= 1e-4  # plain global pruning would empty it
    full = filters.full_mask(params, filters.weights())
    mask = loops.prune_by(minimum=17)(params, full, 0.1, key=KEY)
    assert sum(kept(mask).values()) == 95
    assert kept(mask)["b"] == 17
    scaled = jax.tree.map(lambda p: 3 * p, params)
    assert equal(mask, loops.prune_by(minimum=17)(scaled, full, 0.1, key=KEY))
    smaller = loops.prune_by(minimum=17)(params, mask, 0.08, key=KEY)
    assert kept(smaller)["b"] == 17
    with pytest.raises(InputError, match="needs 51 units, more than the 48"):
        loops.prune_by(minimum=17)(params, full, 0.05, key=KEY)
    with pytest.raises(InputError, match="minimum=3"):
        loops.prune_by(minimum=3, scope=scopes.leaf())


def test_pruning_channels():
    levels = search(densities=(1.0, 0.5), prune=loops.prune_by(unit=units.axis(-1), scope=scopes.leaf()))
    for layer in levels[1].ticket.mask.values():
        columns = layer["kernel"].sum(0)
        assert set(columns.tolist()) == {0, layer["kernel"].shape[0]}


def test_pruning_compiles_once_for_all_levels():
    traces = []

    def score(params, *, grads=None, mask=None, key=None, aux=None):
        traces.append(1)
        return jax.tree.map(jnp.abs, params)

    search(densities=[0.9**level for level in range(6)], prune=loops.prune_by(score))
    assert len(traces) == 1


def test_a_random_ticket_keeps_the_counts_and_overlaps_by_chance():
    params = {"a": jnp.zeros((200, 300)), "b": jnp.zeros((100, 100)), "c": jnp.zeros((3, 3))}
    densities = {"a": 0.2, "b": 0.05}
    mask = {
        **{
            n: jax.random.bernoulli(jax.random.key(i), d, params[n].shape) for i, (n, d) in enumerate(densities.items())
        },
        "c": None,
    }
    ticket = Ticket(params, mask, 3)
    shuffled = loops.branches.random_ticket(ticket, key=jax.random.key(9))
    assert shuffled.params is ticket.params
    assert shuffled.step == 3
    assert shuffled.mask["c"] is None
    for name in densities:
        size, count = mask[name].size, int(mask[name].sum())
        assert int(shuffled.mask[name].sum()) == count
        # Hypergeometric: the overlap of two random sets of `count` among `size`.
        mean = count**2 / size
        deviation = np.sqrt(mean * (1 - count / size) * (size - count) / (size - 1))
        assert abs(int((shuffled.mask[name] & mask[name]).sum()) - mean) < 4 * deviation
    other = loops.branches.random_ticket(ticket, key=jax.random.key(10))
    assert not equal(other.mask, shuffled.mask)


def test_a_random_reinit_keeps_mask_and_step_with_other_weights():
    ticket = make_ticket(opt_state={"mu": 1.0})
    control = loops.branches.random_reinit(ticket, init, key=jax.random.key(5))
    assert equal(control.params, init(jax.random.key(5))[0])
    assert control.mask is ticket.mask
    assert control.step == 7
    assert control.opt_state is None
    with pytest.raises(InputError, match="what init"):
        loops.branches.random_reinit(ticket, lambda key: ({"a": jnp.ones(2)}, None), key=KEY)
