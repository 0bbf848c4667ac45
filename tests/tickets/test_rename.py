"""Tickets of models whose names changed, and parts of tickets."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxticket as jt
from jaxticket.errors import CheckpointError, InputError, NoMatchError

LAYERS = {"0": {"kernel": jnp.arange(4.0).reshape(2, 2)}, "1": {"kernel": 2 * jnp.ones((2, 2))}}
HEAD = {"kernel": 3 * jnp.ones((2, 3)), "bias": jnp.ones(3)}


def make(params):
    tx = jt.sparsify(optax.adam(0.1), jt.rigl(0.5, every=1, stop=9), key=jax.random.key(0))
    params, state = jt.init(tx, params)
    return jt.Ticket(params, jt.mask_of(state), 3, opt_state=state)


@pytest.fixture
def saved(tmp_path):
    ticket = make({"encoder": LAYERS, "head": HEAD})
    jt.save(tmp_path / "ticket", ticket)
    return tmp_path / "ticket", ticket


def test_a_model_that_was_renamed_loads(saved):
    path, ticket = saved
    like = make({"body": {"layers": {"first": LAYERS["0"], "1": LAYERS["1"]}}, "out": HEAD})
    loaded = jt.load(
        path, like=like, rename={"encoder": "body/layers", "encoder/0": "body/layers/first", "head": "out"}
    )
    assert jax.tree.structure(loaded) == jax.tree.structure(like.__class__(**{**vars(like), "step": 3}))
    np.testing.assert_array_equal(
        loaded.params["body"]["layers"]["first"]["kernel"], ticket.params["encoder"]["0"]["kernel"]
    )
    np.testing.assert_array_equal(loaded.mask["out"]["kernel"], ticket.mask["head"]["kernel"])
    np.testing.assert_array_equal(
        loaded.opt_state.inner[0].mu["body"]["layers"]["1"]["kernel"],
        ticket.opt_state.inner[0].mu["encoder"]["1"]["kernel"],
    )


def test_a_part_of_a_ticket_loads(saved):
    path, ticket = saved
    like = jax.eval_shape(lambda: make({"encoder": LAYERS}))
    loaded = jt.load(path, like=like, rename={"head": None})
    jax.tree.map(np.testing.assert_array_equal, loaded.params, {"encoder": ticket.params["encoder"]})


def test_without_a_mapping_names_are_exact(saved):
    path, _ = saved
    with pytest.raises(CheckpointError, match="head/bias is float32"):
        jt.load(path, like=make({"encoder": LAYERS}))


@pytest.mark.parametrize(
    ("rename", "error", "match"),
    [
        ({"nowhere": "head"}, NoMatchError, "nowhere.* is in no saved path; there are "),
        ({"hea": None}, NoMatchError, "hea"),
    ],
)
def test_a_name_that_nothing_has_is_refused(saved, rename, error, match):
    path, ticket = saved
    with pytest.raises(error, match=match):
        jt.load(path, like=ticket, rename=rename)


def test_rename_needs_like(saved):
    with pytest.raises(InputError, match="rename needs like"):
        jt.load(saved[0], rename={"head": None})
