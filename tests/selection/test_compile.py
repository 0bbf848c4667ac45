"""The size of programs: linear in the number of leaves, with one function a distinct shape."""

import functools

import jax
import jax.numpy as jnp
import optax
import pytest

import jaxticket as jt
from jaxticket import scopes

SCOPES = {"leaf": scopes.leaf(), "tree": scopes.tree(), "slices": scopes.slices(-1), "groups": scopes.groups(4)}


def different(count):
    """Return leaves of different shapes, small beside those of other tests, so that no cache is shared with them."""
    return {f"layer{i}": {"kernel": jax.ShapeDtypeStruct((5, 3 + i), jnp.float32)} for i in range(count)}


def alike(count):
    return {f"layer{i}": {"kernel": jax.ShapeDtypeStruct((8, 7), jnp.float32)} for i in range(count)}


def select(scores, *, scope):
    return jt.select(scores, 0.3, scope=scope)


def evolve(scores, *, scope):
    mask = jax.tree.map(lambda s: s > 0, scores)
    return jt.drop_and_grow(mask, drop=scores, grow=scores, drop_fraction=0.3, scope=scope)


def update(grads, *, scope):
    tx = jt.sparsify(optax.adam(0.1), jt.rigl(0.3, stop=9, scope=scope), key=jax.random.key(0))
    params = jax.tree.map(jnp.ones_like, grads)
    return tx.update(grads, tx.init(params), params)


def equations(function, *arguments):
    """Count the equations of a function and of all functions that it calls, each of these once."""
    seen, waiting = {}, [jax.make_jaxpr(function)(*arguments).jaxpr]
    while waiting:
        jaxpr = waiting.pop()
        if id(jaxpr) not in seen:
            seen[id(jaxpr)] = jaxpr
            waiting += subjaxprs(jaxpr)
    return sum(len(jaxpr.eqns) for jaxpr in seen.values())


def subjaxprs(jaxpr):
    is_jaxpr = lambda x: hasattr(x, "eqns") or hasattr(x, "jaxpr")
    values = jax.tree.leaves([e.params for e in jaxpr.eqns], is_leaf=is_jaxpr)
    return [getattr(x, "jaxpr", x) for x in values if is_jaxpr(x)]


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("function", [select, evolve, update])
def test_programs_grow_linearly_with_leaves_of_different_shapes(function, scope):
    function = functools.partial(function, scope=SCOPES[scope])
    few, some, many = (equations(function, different(n)) for n in (4, 8, 16))
    assert many - some <= 2 * (some - few)


@pytest.mark.parametrize("scope", ["leaf", "tree"])
@pytest.mark.parametrize("function", [select, evolve])
def test_leaves_of_equal_shape_share_their_functions(function, scope):
    text = [jax.jit(functools.partial(function, scope=SCOPES[scope])).lower(alike(n)).as_text() for n in (2, 6)]
    assert text[0].count("stablehlo.reduce") == text[1].count("stablehlo.reduce")
    calls = [t.count("call @count") for t in text]
    assert calls[1] == 3 * calls[0] > 0
