"""Controls of a ticket: exact counts, nothing shared that must not be, and errors before any work."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxticket import filters, masks, scopes, tickets
from jaxticket._check_trees import check_fits
from jaxticket.errors import InputError, NoMatchError, StructureError
from jaxticket.loops import branches
from jaxticket.training import Fitted

KEY = jax.random.key(0)


def equal(a, b):
    return jax.tree.structure(a) == jax.tree.structure(b) and all(map(np.array_equal, *map(jax.tree.leaves, (a, b))))


def kept(mask):
    return {name: int(leaf.sum()) for name, leaf in mask.items() if leaf is not None}


@pytest.fixture(scope="module")
def ticket():
    """Three leaves: 'a' sparse, 'b' nearly whole, 'c' not sparsified."""
    normal = jax.random.normal
    params = {"a": normal(KEY, (60, 50)), "b": normal(jax.random.key(1), (30, 20)), "c": jnp.full(4, 7.0)}
    mask = {"a": jnp.arange(3000).reshape(60, 50) % 10 == 0, "b": jnp.arange(600).reshape(30, 20) >= 60, "c": None}
    return tickets.Ticket(params, mask, 5, {"mean": jnp.ones(3)}, {"mu": jnp.ones(3)}, {"seed": 1})


def init(key):
    a, b = jax.random.split(key)
    return {
        "a": jax.random.normal(a, (60, 50)),
        "b": jax.random.normal(b, (30, 20)),
        "c": jnp.full(4, -1.0),
    }, "fresh state"


MASK_BRANCHES = {
    "global_random_ticket": functools.partial(branches.global_random_ticket, key=KEY),
    "inverted_mask": branches.inverted_mask,
    "inverted_scores": lambda t: branches.inverted_scores(t, t.params),
    "dense": branches.dense,
}


@pytest.mark.parametrize("name", MASK_BRANCHES)
def test_a_new_mask_leaves_all_else_and_takes_a_fresh_optimizer(ticket, name):
    control = MASK_BRANCHES[name](ticket)
    assert control.params is ticket.params
    assert control.state is ticket.state
    assert (control.step, control.meta["seed"], control.opt_state) == (5, 1, None)
    assert control.mask["c"] is None
    assert not equal(control.mask, ticket.mask)
    check_fits(control.params, control.mask)


def hypergeometric(total, marked, drawn):
    """Mean and standard deviation of how many of `drawn` among `total` are marked."""
    mean = drawn * marked / total
    return mean, np.sqrt(mean * (1 - marked / total) * (total - drawn) / (total - 1))


def test_a_global_random_ticket_keeps_the_total_and_spreads_it_evenly(ticket):
    total, count = 3600, sum(kept(ticket.mask).values())
    shuffled = [branches.global_random_ticket(ticket, key=jax.random.key(i)).mask for i in range(8)]
    for mask in shuffled:
        assert sum(kept(mask).values()) == count
        for size, name in ((3000, "a"), (600, "b")):
            mean, deviation = hypergeometric(total, size, count)
            assert abs(kept(mask)[name] - mean) < 4 * deviation
        common = sum(int(np.sum(np.asarray(mask[n]) & np.asarray(ticket.mask[n]))) for n in ("a", "b"))
        mean, deviation = hypergeometric(total, count, count)
        assert abs(common - mean) < 4 * deviation
    # Any entry is as likely as any other: no position is favoured over eight shuffles together.
    often = sum(np.asarray(mask["a"], int) for mask in shuffled)
    assert abs(often[:30].sum() - often[30:].sum()) < 4 * np.sqrt(8 * 3000 * (count / total) * (1 - count / total))
    assert len({mask["a"].tobytes() for mask in map(jax.device_get, shuffled)}) == 8


def test_global_shuffles_of_channels_of_nothing_and_of_no_mask():
    channels = tickets.Ticket({"w": jnp.ones((3, 8))}, {"w": jnp.arange(8).reshape(1, 8) < 3})
    assert branches.global_random_ticket(channels, key=KEY).mask["w"].shape == (1, 8)
    assert kept(branches.global_random_ticket(channels, key=KEY).mask) == {"w": 3}
    nothing = dataclasses.replace(channels, mask={"w": jnp.zeros((1, 8), bool)})
    assert kept(branches.global_random_ticket(nothing, key=KEY).mask) == {"w": 0}
    unmasked = dataclasses.replace(channels, mask={"w": None})
    assert branches.global_random_ticket(unmasked, key=KEY).mask == {"w": None}


def test_an_inverted_mask_is_the_complement(ticket):
    inverted = branches.inverted_mask(ticket)
    assert kept(inverted.mask) == {"a": 2700, "b": 60}
    assert kept(masks.intersection(inverted.mask, ticket.mask)) == {"a": 0, "b": 0}
    assert equal(branches.inverted_mask(inverted).mask, ticket.mask)


@pytest.mark.parametrize("scope", [scopes.leaf(), scopes.tree()])
def test_inverted_scores_keep_the_lowest(ticket, scope):
    scores = jax.tree.map(jnp.abs, ticket.params)
    mask = branches.inverted_scores(ticket, scores, scope=scope).mask
    groups = [["a", "b"]] if scope.joint else [["a"], ["b"]]
    for names in groups:
        values = np.concatenate([np.ravel(scores[n]) for n in names])
        chosen = np.concatenate([np.ravel(mask[n]) for n in names])
        assert chosen.sum() == sum(kept(ticket.mask)[n] for n in names)
        assert values[chosen].max() < values[~chosen].min()


def test_inverted_scores_of_integers_and_of_other_shapes():
    ticket = tickets.Ticket({"w": jnp.ones((2, 3))}, {"w": jnp.array([[True, False, False]])})
    scores = {"w": jnp.array([[2, 0, 1]], jnp.uint32)}
    assert branches.inverted_scores(ticket, scores).mask["w"].tolist() == [[False, True, False]]
    for bad in (jnp.ones((2, 3)), None):
        with pytest.raises(StructureError, match="scores at 'w'"):
            branches.inverted_scores(ticket, {"w": bad})
    with pytest.raises(StructureError, match=r"structure of ticket\.mask"):
        branches.inverted_scores(ticket, {"v": scores["w"]})


def test_dense_keeps_everything_that_can_be_masked(ticket):
    assert kept(branches.dense(ticket).mask) == {"a": 3000, "b": 600}


def test_sign_reinit_has_the_signs_of_the_ticket_and_the_magnitudes_of_init(ticket):
    control = branches.sign_reinit(ticket, init, key=jax.random.key(3))
    fresh, _ = init(jax.random.key(3))
    for name in ("a", "b"):
        assert np.array_equal(np.sign(control.params[name]), np.sign(ticket.params[name]))
        assert np.array_equal(np.abs(control.params[name]), np.abs(fresh[name]))
        assert not np.array_equal(np.sign(fresh[name]), np.sign(ticket.params[name]))
    assert np.array_equal(control.params["c"], fresh["c"])  # not sparsified: fresh, with its sign
    assert control.mask is ticket.mask
    assert (control.step, control.state, control.opt_state) == (5, "fresh state", None)


def test_a_zero_counts_as_positive_for_sign_reinit():
    ticket = tickets.Ticket({"w": jnp.array([0.0, -1.0])}, {"w": jnp.array([True, True])})
    control = branches.sign_reinit(ticket, lambda key: ({"w": jnp.array([-2.0, -3.0])}, None), key=KEY)
    assert control.params["w"].tolist() == [2.0, -3.0]


def test_sign_reinit_refuses_other_shapes(ticket):
    with pytest.raises(StructureError, match=r"at 'c' has shape \(5,\)"):
        branches.sign_reinit(ticket, lambda key: (init(key)[0] | {"c": jnp.zeros(5)}, None), key=KEY)


@pytest.mark.parametrize("most", [2, 3, 7, 16, 100, 12345])
def test_widest_is_the_largest_that_fits(most):
    def size(width):
        return 2 * width**2 - width + 1

    width = branches.widest(size, most)
    assert size(width) <= most < size(width + 1)


def test_widest_refuses_what_has_no_answer():
    with pytest.raises(InputError, match="width 1 has 20 parameters, more than the 19"):
        branches.widest(lambda width: 20 * width, 19)
    with pytest.raises(InputError, match="must grow"):
        branches.widest(lambda width: 3, 5)


def mlp(width, key):
    widths = (20, 3 * width, width, 10)
    value = jax.random.uniform(key)
    kernels = [jnp.full(shape, value) for shape in itertools.pairwise(widths)]
    return {str(i): {"kernel": k, "bias": jnp.zeros(k.shape[1])} for i, k in enumerate(kernels)}, {"width": width}


def test_small_dense_has_at_most_the_parameters_of_the_ticket():
    params, _ = mlp(20, KEY)
    mask = jax.tree.map(lambda p: jnp.arange(p.size).reshape(p.shape) % 3 == 0 if p.ndim == 2 else None, params)
    ticket = tickets.Ticket(params, mask, 5, opt_state={"mu": 1.0}, meta={"seed": 1})
    most = masks.summary(params, mask).all.kept  # kernels by the mask, biases whole
    small = branches.small_dense(ticket, mlp, key=jax.random.key(1))
    width = small.state["width"]
    counts = [20 * 3 * w + 3 * w + 3 * w * w + w + w * 10 + 10 for w in (width, width + 1)]
    assert sum(p.size for p in jax.tree.leaves(small.params)) == counts[0] <= most < counts[1]
    assert equal(small.params, mlp(width, jax.random.key(1))[0])
    assert masks.density(small.params, small.mask) == 1
    assert small.mask["0"]["bias"] is None
    assert (small.step, small.opt_state, small.meta["seed"]) == (5, None, 1)
    with pytest.raises(NoMatchError):
        branches.small_dense(ticket, mlp, key=KEY, where=filters.match("^nothing$"))
    nothing = {"w": jnp.zeros((20, 4), bool)}
    with pytest.raises(InputError, match="width 1 has 87 parameters, more than the 0"):
        branches.small_dense(tickets.Ticket(nothing, nothing), mlp, key=KEY)


@functools.partial(jax.jit, donate_argnums=(0, 1, 2))
def noisy_descent(weights, seen, moment, key, first, last):
    """Momentum with a falling learning rate, so that steps, keys and optimizer states matter."""

    def body(step, carry):
        weights, seen, moment = carry
        target = jax.random.normal(jax.random.fold_in(key, step), weights.shape)
        moment = 0.9 * moment + weights - target
        return weights - 0.1 / (1 + step) * moment, seen + step, moment

    return jax.lax.fori_loop(first, last, body, (weights, seen, moment))


def fit(params, state, mask, key, *, step, steps, opt_state):
    moment = jnp.zeros(3) if opt_state is None else opt_state
    weights, seen, moment = noisy_descent(params["w"], state["seen"], moment, key, step, step + steps)
    return Fitted({"w": weights}, {"seen": seen}, moment, 0.0)


@pytest.fixture
def start():
    return tickets.Ticket({"w": jnp.zeros(3)}, {"w": jnp.ones(3, bool)}, state={"seen": jnp.array(0)})


def test_a_rewinding_sweep_gives_each_point_of_one_training(start):
    found = dataclasses.replace(start, mask={"w": jnp.array([True, False, True])}, step=99, opt_state={"mu": 1.0})
    points = list(branches.rewinding_sweep(found, start, fit, steps=[0, 3, 8, 21], key=jax.random.key(7)))
    assert [point.step for point in points] == [0, 3, 8, 21]
    for point in points:
        copied = jax.tree.map(jnp.array, (start.params, start.state))
        alone = fit(*copied, start.mask, jax.random.key(7), step=0, steps=point.step, opt_state=None)
        assert equal(point.params, alone.params)
        assert int(point.state["seen"]) == sum(range(point.step))
        assert point.mask is found.mask
        assert point.opt_state is None
    assert np.all(np.asarray(points[-1].params["w"]) != 0)  # dense: a control can still move the mask over it
    assert equal(start.params, {"w": jnp.zeros(3)})  # not donated


@pytest.mark.parametrize("steps", [[3, 3], [5, 2], [-1, 2]])
def test_a_sweep_refuses_steps_that_do_not_rise(start, steps):
    with pytest.raises(InputError, match="must be 0 or more, and rise"):
        branches.rewinding_sweep(start, start, fit, steps=steps, key=KEY)


def test_a_sweep_starts_at_the_initialisation_of_the_same_network(start):
    with pytest.raises(InputError, match=r"start\.step=4"):
        branches.rewinding_sweep(start, dataclasses.replace(start, step=4), fit, steps=[5], key=KEY)
    with pytest.raises(StructureError, match=r"start\.params"):
        branches.rewinding_sweep(start, dataclasses.replace(start, params=jnp.ones(2)), fit, steps=[5], key=KEY)


def test_transfer_redraws_what_does_not_fit_whole(ticket):
    def other(key):
        return init(key)[0] | {"b": jax.random.normal(key, (30, 7))}, "fresh state"

    moved = branches.transfer(ticket, other, key=jax.random.key(2), redraw=filters.match("^b$"))
    assert equal(moved.params["b"], other(jax.random.key(2))[0]["b"])
    assert kept(moved.mask) == {"a": 300, "b": 210}
    assert moved.mask["c"] is None
    for name in ("a", "c"):
        assert moved.params[name] is ticket.params[name]
    assert moved.mask["a"] is ticket.mask["a"]
    assert (moved.step, moved.state, moved.opt_state) == (5, "fresh state", None)


def test_transfer_without_redrawing_keeps_weights_and_mask(ticket):
    moved = branches.transfer(ticket, init, key=KEY)
    assert equal(moved.params, ticket.params)
    assert equal(moved.mask, ticket.mask)
    assert (moved.state, moved.opt_state) == ("fresh state", None)


def test_transfer_names_the_leaf_that_does_not_fit(ticket):
    with pytest.raises(StructureError, match=r"shape \(5,\) at 'c', where the ticket has \(4,\)"):
        branches.transfer(ticket, lambda key: (init(key)[0] | {"c": jnp.zeros(5)}, None), key=KEY)
    with pytest.raises(StructureError, match="what init"):
        branches.transfer(ticket, lambda key: ({"a": jnp.zeros(2)}, None), key=KEY)
    with pytest.raises(NoMatchError):
        branches.transfer(ticket, init, key=KEY, redraw=filters.match("^output$"))
