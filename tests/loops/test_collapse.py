"""A search that loses a layer says which, and how to keep it."""

import warnings

import jax
import pytest

from jaxticket import loops, scopes
from jaxticket.errors import CollapseWarning
from jaxticket.filters import everything, full_mask
from jaxticket.tickets import Ticket
from jaxticket.typing import Trained

TORSO, HEAD = jax.random.split(jax.random.key(0))
PARAMS = {
    "torso": {"kernel": jax.random.normal(TORSO, (64, 64)) / 8},
    "head": {"kernel": 0.01 * jax.random.normal(HEAD, (64, 2))},
}


def train(params, state, mask, key, *, step, opt_state):
    return Trained(params, state, {})


def search(loop, **options):
    ticket = Ticket(PARAMS, full_mask(PARAMS, everything()))
    levels = loop(train, ticket, densities=(1.0, 0.5, 0.25), prune=loops.prune_by(**options), key=jax.random.key(1))
    return list(levels) if loop is loops.imp else levels


@pytest.mark.parametrize("loop", [loops.imp, loops.imp_scan])
def test_the_layer_and_the_fix_are_named(loop):
    with pytest.warns(CollapseWarning, match=r"\['head/kernel'\] keep no weight.*minimum=.*scope=") as caught:
        search(loop)
    assert len({str(w.message) for w in caught}) == 1


@pytest.mark.parametrize("loop", [loops.imp, loops.imp_scan])
@pytest.mark.parametrize("options", [{"minimum": 4}, {"scope": scopes.leaf()}], ids=["minimum", "leaf"])
def test_with_the_fix_there_is_no_warning(loop, options):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        search(loop, **options)


def test_a_compiled_search_cannot_look():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        jax.jit(lambda: search(loops.imp_scan))()
