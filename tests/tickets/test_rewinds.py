"""What a ticket is, and the facts of each rewind policy, bit by bit (Renda et al., 2020)."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxticket import tickets
from jaxticket.errors import InputError, StructureError
from jaxticket.tickets import Ticket, rewinds
from jaxticket.typing import Trained

PARAMS = {
    "a": {"kernel": jnp.arange(1.0, 7.0).reshape(2, 3), "bias": jnp.ones(3)},
    "b": {"a": {"kernel": jnp.ones((2, 3))}},
}
FULL = {"a": {"kernel": jnp.ones((2, 3), bool), "bias": None}, "b": {"a": {"kernel": None}}}
MASK = {
    "a": {"kernel": jnp.array([[True, False, True], [False, False, True]]), "bias": None},
    "b": {"a": {"kernel": None}},
}
TRAINED = Trained(jax.tree.map(lambda p: p + 10, PARAMS), {"mean": jnp.ones(2)}, {"loss": 0.5})


def warm(tx):
    """An optimizer state after a step, nowhere zero where it has the shape of a parameter."""
    _, state = tx.update(PARAMS, tx.init(PARAMS), PARAMS)
    return state


def ticket(**fields):
    return Ticket(PARAMS, FULL, 7, {"mean": jnp.zeros(2)}, **fields)


def equal(a, b):
    return jax.tree.structure(a) == jax.tree.structure(b) and all(
        map(np.array_equal, jax.tree.leaves(a), jax.tree.leaves(b))
    )


def masked(params, mask):
    return {**params, "a": {**params["a"], "kernel": jnp.where(mask["a"]["kernel"], params["a"]["kernel"], 0)}}


def test_rewind_masks_and_copies():
    start = tickets.rewind(Ticket(PARAMS, MASK))
    assert equal(start, masked(PARAMS, MASK))
    jax.jit(lambda p: jax.tree.map(lambda x: x + 1, p), donate_argnums=0)(start)
    assert equal(tickets.rewind(Ticket(PARAMS, MASK)), masked(PARAMS, MASK))
    assert start["a"]["bias"].is_deleted()
    assert not PARAMS["a"]["bias"].is_deleted()


def test_rewind_wants_the_structure_of_the_parameters():
    with pytest.raises(StructureError, match=r"ticket\.mask"):
        tickets.rewind(Ticket(PARAMS, {"a": None}))


def test_rewind_and_prune_commute():
    first, second = FULL, MASK
    assert equal(
        tickets.rewind(Ticket(tickets.rewind(Ticket(PARAMS, first)), second)), tickets.rewind(Ticket(PARAMS, MASK))
    )


def test_weights_come_from_the_rewind_point_with_a_fresh_optimizer():
    new = rewinds.weights()(ticket(opt_state=warm(optax.adam(0.1))), TRAINED, MASK)
    assert equal(new.params, PARAMS)
    assert equal(tickets.rewind(new), masked(PARAMS, MASK))
    assert (new.step, new.opt_state) == (7, None)
    assert equal(new.state, {"mean": jnp.zeros(2)})


@pytest.mark.parametrize(
    "tx",
    [
        optax.adam(0.1),
        optax.sgd(0.1, momentum=0.9),
        optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(optax.cosine_decay_schedule(0.1, 10))),
        optax.masked(optax.adam(0.1), {"a": {"kernel": True, "bias": False}, "b": {"a": {"kernel": False}}}),
        optax.multi_transform(
            {"x": optax.adam(0.1), "y": optax.sgd(0.1, momentum=0.9)},
            {"a": {"kernel": "x", "bias": "y"}, "b": {"a": {"kernel": "y"}}},
        ),
    ],
    ids=["adam", "momentum", "chain", "masked", "multi_transform"],
)
def test_everything_rewinds_the_optimizer_under_the_mask(tx):
    old = warm(tx)
    new = rewinds.everything()(ticket(opt_state=old), TRAINED, MASK)
    assert equal(new.params, PARAMS)
    assert new.step == 7
    changed = 0
    for (path, before), after in zip(
        jax.tree_util.tree_flatten_with_path(old)[0], jax.tree.leaves(new.opt_state), strict=True
    ):
        owner = jax.tree_util.keystr(path).endswith("['a']['kernel']") and "['b']" not in jax.tree_util.keystr(path)
        expected = jnp.where(MASK["a"]["kernel"], before, 0) if owner else before
        np.testing.assert_array_equal(after, expected)
        changed += owner
    assert changed


def test_everything_leaves_factored_statistics_alone():
    old = warm(optax.adafactor(0.1, min_dim_size_to_factor=2))
    new = rewinds.everything()(ticket(opt_state=old), TRAINED, MASK)
    shapes = [leaf.shape for leaf in jax.tree.leaves(new.opt_state)]
    assert shapes == [leaf.shape for leaf in jax.tree.leaves(old)]


def test_everything_needs_an_optimizer_state():
    with pytest.raises(InputError, match=r"rewinds\.weights"):
        rewinds.everything()(ticket(), TRAINED, MASK)


def test_learning_rate_keeps_the_trained_weights_and_rewinds_the_step():
    new = rewinds.learning_rate()(ticket(opt_state=warm(optax.adam(0.1))), TRAINED, MASK)
    assert equal(tickets.rewind(new), masked(TRAINED.params, MASK))
    assert (new.step, new.opt_state) == (7, None)
    assert equal(new.state, TRAINED.state)


def test_fine_tuning_goes_on_from_the_last_step():
    new = rewinds.fine_tune(1000)(ticket(), TRAINED, MASK)
    assert equal(tickets.rewind(new), masked(TRAINED.params, MASK))
    assert (new.step, new.opt_state) == (1000, None)
    with pytest.raises(InputError, match="step=-1"):
        rewinds.fine_tune(-1)


def test_a_ticket_is_a_pytree_whose_step_and_meta_are_static():
    traces = []

    @jax.jit
    def f(t):
        traces.append(t.step)
        return t

    a = ticket(meta={"seed": 0})
    out = f(f(a))
    assert (out.step, out.meta) == (7, {"seed": 0})
    assert traces == [7]
    assert f(ticket(meta={"seed": 1})).meta["seed"] == 1
    assert jax.vmap(lambda t: t.params["a"]["bias"])(jax.tree.map(lambda x: x[None], a)).shape == (1, 3)
