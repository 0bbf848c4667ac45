"""Arguments of `sparsify` that are easy to get wrong: one clear error each."""

import jax.numpy as jnp
import optax
import pytest

import jaxticket as jt
from jaxticket.errors import InputError

PARAMS = {"w": jnp.ones((2, 2))}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: jt.sparsify(optax.sgd(0.1), jt.static), "plan is a function, not a Plan; call it"),
        (lambda: jt.sparsify(jt.static(0.5), optax.sgd(0.1)), "inner is a Plan, not an optax optimizer"),
        (lambda: jt.sparsify(optax.sgd(0.1), 0.5), "plan is a float, not a Plan, such as"),
        (lambda: jt.sparsify(optax.sgd, jt.static(0.5)), "inner is a function, not an optax optimizer"),
    ],
)
def test_wrong_arguments(call, message):
    with pytest.raises(InputError, match=message):
        call()


@pytest.mark.parametrize(
    "other", [optax.adam(0.1), optax.chain(optax.clip(1.0), jt.sparsify(optax.sgd(0.1), jt.static(0.5)))]
)
def test_the_state_of_another_optimizer(other):
    tx = jt.sparsify(optax.sgd(0.1), jt.static(0.5))
    with pytest.raises(InputError, match="state is a tuple, not a SparseState"):
        tx.update(PARAMS, other.init(PARAMS), PARAMS)
