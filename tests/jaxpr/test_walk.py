"""The walk over jaxprs, and where the axes of an array go."""

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxticket._jaxpr import arrange, body_of, evaluate, move, regroup, scan_sizes, shape_of, trace, walk, whole


def entered(f, *arguments):
    """Names of the primitives that a walk through all calls meets, and its outputs."""
    names = []

    def step(eqn, values):
        body = body_of(eqn)
        if body is not None:
            return walk(body, values, step, lift=lambda x: x)
        names.append(eqn.primitive.name)
        return evaluate(eqn, values)

    jaxpr, _ = trace(f, *arguments)
    return names, walk(jaxpr, arguments, step, lift=lambda x: x)


@jax.custom_jvp
def _own_jvp(x):
    return jnp.sin(x)


_own_jvp.defjvps(lambda t, y, x: t)


@jax.custom_vjp
def _own_vjp(x):
    return jnp.sin(x)


_own_vjp.defvjp(lambda x: (jnp.sin(x), None), lambda _, t: (t,))


@pytest.mark.parametrize(
    "wrap", [jax.jit, jax.checkpoint, lambda f: _own_jvp, lambda f: _own_vjp, lambda f: jax.jit(jax.checkpoint(f))]
)
def test_calls_are_entered(wrap):
    names, (out,) = entered(lambda x: 2 * wrap(jnp.sin)(x) + 1, jnp.float32(0.5))
    assert names == ["sin", "mul", "add"]
    np.testing.assert_allclose(out, 2 * np.sin(0.5) + 1, rtol=1e-6)


def test_loops_reach_the_step_whole():
    x = jnp.ones(3)
    names, _ = entered(lambda x: jax.lax.scan(lambda c, a: (c + a, c), 0.0, x)[0], x)
    assert "scan" in names
    names, _ = entered(lambda x: jax.lax.cond(x[0] > 0, jnp.sin, jnp.cos, x), x)
    assert "cond" in names


def test_constants_and_several_results():
    table = jnp.arange(3.0)
    names, out = entered(lambda x: (jnp.sort(x + table), table), jnp.zeros(3))
    assert "sort" in names
    np.testing.assert_array_equal(out[0], table)
    np.testing.assert_array_equal(out[1], table)


def test_a_call_keeps_the_arrays_that_its_body_closes_over():
    table = jnp.arange(3.0)
    names, out = entered(lambda x: jax.jit(lambda x: jnp.sin(x) + table)(x), jnp.zeros(3))
    assert "sin" in names
    np.testing.assert_array_equal(out[0], table)


def test_operands_of_a_scan_are_counted_by_their_part():
    def f(x, rates):
        state = {"x": x, "n": jnp.zeros(())}
        return jax.lax.scan(lambda s, r: ({"x": s["x"] * r["a"] + x, "n": s["n"] + 1}, r["b"]), state, rates)

    jaxpr, _ = trace(f, jnp.ones(3), {"a": jnp.ones(4), "b": jnp.ones((4, 2)), "c": jnp.ones(4)})
    (scan,) = [eqn for eqn in jaxpr.eqns if eqn.primitive.name == "scan"]
    constants, carried = scan_sizes(scan)
    shapes = [shape_of(atom) for atom in scan.invars]
    assert (constants, carried) == (1, 2)
    assert shapes[:constants] == [(3,)]
    assert sorted(shapes[constants : constants + carried]) == [(), (3,)]
    assert all(shape[0] == 4 for shape in shapes[constants + carried :])


@st.composite
def movements(draw):
    """A shape, and reshapes and transposes to shapes that split or merge its axes."""
    shape = draw(st.lists(st.sampled_from([1, 2, 3, 4, 6]), min_size=1, max_size=4))
    steps, current = [], list(shape)
    for _ in range(draw(st.integers(1, 4))):
        kind = draw(st.sampled_from(["transpose", "merge", "split", "one"]))
        at = draw(st.integers(0, len(current) - 1))
        if kind == "transpose":
            order = draw(st.permutations(range(len(current))))
            steps.append(("transpose", tuple(order)))
            current = [current[a] for a in order]
            continue
        if kind == "merge" and at + 1 < len(current):
            current[at : at + 2] = [current[at] * current[at + 1]]
        elif kind == "split" and current[at] % 2 == 0:
            current[at : at + 1] = [2, current[at] // 2]
        elif kind == "one":
            current.insert(at, 1)
        steps.append(("reshape", tuple(current)))
    return tuple(shape), steps


@hypothesis.given(movements())
@hypothesis.settings(max_examples=12)
def test_layouts_follow_reshapes_and_transposes(movement):
    """Whatever moved the entries, `arranged` puts them back; and so it does for sums that have size 1."""
    shape, steps = movement
    origin = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    x, layout = origin, whole(shape)
    for kind, argument in steps:
        if kind == "transpose":
            x, layout = x.transpose(argument), tuple(layout[a] for a in argument)
        else:
            x, layout = x.reshape(argument), regroup(layout, argument)
    hypothesis.assume(layout is not None)
    np.testing.assert_array_equal(arrange(jnp.asarray(x), layout, range(len(shape))), origin)
    axes = tuple(range(len(shape)))
    np.testing.assert_array_equal(arrange(jnp.asarray(x), layout, axes[::-1]), origin.transpose(axes[::-1]))


def test_what_layouts_cannot_tell():
    assert regroup(whole((2, 3)), (3, 2)) is None
    assert regroup(whole((4, 6)), (8, 3)) == regroup(regroup(whole((4, 6)), (4, 2, 3)), (8, 3))
    for f in (lambda x: jnp.broadcast_to(x[None], (2, 3, 4)), lambda x: x[:2], jnp.sin):
        (eqn, *rest) = trace(f, jnp.ones((3, 4)))[0].jaxpr.eqns
        layout = move(eqn, whole((3, 4)))
        for later in rest:
            layout = None if layout is None else move(later, layout)
        assert layout is None
        assert shape_of(eqn.invars[0]) == (3, 4)


def test_sums_over_axes_of_no_part():
    layout = whole((2, 3))
    summed = arrange(jnp.arange(6.0).reshape(2, 3), layout, [1])
    np.testing.assert_array_equal(summed, [3, 5, 7])
    kept = arrange(jnp.ones((1, 3, 5)), layout, [0, 1])
    assert kept.shape == (1, 3, 5)
