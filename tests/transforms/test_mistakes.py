"""Arguments of `sparsify` that are easy to get wrong: one clear error each."""

import jax
import jax.numpy as jnp
import optax
import pytest

import jaxticket as jt
from jaxticket.errors import InputError, NoMatchError, StructureError

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


PLANS = {
    "static": jt.static(0.5),
    "rigl": jt.rigl(0.5, every=1, stop=9),
    "snfs": jt.snfs(0.5, every=1, stop=9),
    "itop": jt.itop(0.5, steps=9, every=1, grow=jt.scores.unfired),
}


def make(plan, inner=None):
    return jt.sparsify(inner or optax.sgd(0.1), PLANS[plan], key=jax.random.key(0))


@pytest.mark.parametrize(
    ("plan", "other"), [("snfs", "rigl"), ("itop", "static"), ("snfs", "itop"), ("rigl", "snfs"), ("static", "itop")]
)
def test_the_state_of_another_plan(plan, other):
    params, state = jt.init(make(other), {"kernel": jnp.ones((4, 4))})
    with pytest.raises(InputError, match=r"state is that of another plan: in state\.refresh, ") as caught:
        make(plan).update(params, state, params)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("plan", ["static", "rigl"])
@pytest.mark.parametrize(
    ("inner", "other"),
    [
        (optax.adam(0.1), optax.sgd(0.1)),
        (optax.adam(0.1), optax.rmsprop(0.1)),
        (optax.sgd(0.1), optax.adam(0.1)),
    ],
)
def test_the_state_of_another_inner_optimizer(plan, inner, other):
    params, state = jt.init(make(plan, other), {"kernel": jnp.ones((4, 4))})
    with pytest.raises(InputError, match=r"state is (that of another optimizer|not that of inner)"):
        make(plan, inner).update(params, state, params)


def test_an_error_of_the_optimizer_itself_passes():
    def fail(updates, state, params=None):
        raise ZeroDivisionError

    tx = make("rigl", optax.GradientTransformation(lambda params: optax.EmptyState(), fail))
    params, state = jt.init(tx, {"kernel": jnp.ones((4, 4))})
    with pytest.raises(ZeroDivisionError):
        tx.update(params, state, params)


def test_the_state_of_other_parameters():
    tx = make("rigl")
    params, _ = jt.init(tx, {"kernel": jnp.ones((4, 4))})
    _, state = jt.init(tx, {"other": {"kernel": jnp.ones((4, 4))}})
    with pytest.raises(StructureError, match=r"mask in state.*'other/kernel'"):
        tx.update(params, state, params)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda tx, params, state: jt.init(params, tx), "tx is a dict, not an optimizer"),
        (lambda tx, params, state: tx.update(state, params, params), "state is a dict, not a SparseState"),
        (lambda tx, params, state: tx.update(params, params, state), "state is a dict, not a SparseState"),
        (lambda tx, params, state: jt.mask_of(params), "opt_state holds no SparseState"),
        (lambda tx, params, state: jt.mask_params(state, params), "opt_state holds no SparseState"),
    ],
)
def test_swapped_arguments(call, message):
    tx = make("rigl")
    params, state = jt.init(tx, {"kernel": jnp.ones((4, 4))})
    with pytest.raises(InputError, match=message):
        call(tx, params, state)


@pytest.mark.parametrize(
    ("where", "words"),
    [
        (jt.filters.weights(), "called kernel, w, weight"),
        (jt.filters.match("nowhere"), "whose path matches 'nowhere'"),
        (jt.filters.weights() & ~jt.filters.match("a"), "kernel, w, .* and also all but float leaves"),
        (jt.filters.match("x") | jt.filters.match("y"), "'x' or float leaves whose path matches 'y'"),
        (lambda params: {"a": False}, "where matches no leaf; leaves: 'a'"),
    ],
)
def test_a_filter_without_a_match_says_what_it_looks_for(where, words):
    with pytest.raises(NoMatchError, match=words):
        jt.filters.only({"a": jnp.ones((2, 2))}, where)


def test_errors_of_filters_stay_short():
    params = {f"layer{i}": jnp.ones(2) for i in range(1000)}
    for call in (
        lambda: jt.filters.only(params, jt.filters.weights()),
        lambda: jt.filters.weights(include="nowhere")(params),
        lambda: jt.allocate.rules(params, {"nowhere": 0.5}),
    ):
        with pytest.raises(NoMatchError, match="980 others") as caught:
            call()
        assert len(str(caught.value)) < 800
