"""AP: who goes, how many, what is left to the other method, and the same compiled."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxticket import loops
from jaxticket.errors import InputError, StructureError
from jaxticket.methods.tickets.activate_while_pruning import activate_while_pruning

KEY = jax.random.key(0)
SHAPES = {"a": (5, 6), "b": (6, 5)}
SIZE = 60


@pytest.fixture(scope="module", autouse=True)
def quick_to_compile():
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


def weights(seed, shift=0.0):
    rng = np.random.default_rng(seed)
    return {name: jnp.asarray(rng.normal(size=shape) + shift, jnp.float32) for name, shape in SHAPES.items()}


def flat(tree):
    return np.concatenate([np.asarray(tree[name]).ravel() for name in SHAPES])


def oracle(trained, start, mask, density, share):
    """Weight by weight: by magnitude first, then negative ones by movement, then by magnitude what is missing."""
    w, moved, alive = flat(trained), np.abs(flat(trained) - flat(start)), flat(mask).copy()
    final = max(round(density * SIZE), 1)
    by_movement = round(share * (alive.sum() - final))

    def remove(score, among, n):
        order = sorted(np.flatnonzero(among), key=lambda i: (score[i], -i))
        alive[order[: max(n, 0)]] = False

    remove(np.abs(w), alive, alive.sum() - final - by_movement)
    remove(moved, alive & (w < 0), by_movement)
    remove(np.abs(w), alive, alive.sum() - final)
    return alive


FULL = {name: jnp.ones(shape, bool) for name, shape in SHAPES.items()}


@settings(max_examples=15)
@given(
    st.integers(0, 20),
    st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    st.sampled_from([-1.0, 0.0, 1.5]),
    st.lists(st.sampled_from([0.8, 0.55, 0.3, 0.05]), min_size=1, max_size=3, unique=True),
)
def test_levels_against_an_oracle(seed, share, shift, densities):
    """Exact counts at every level, also where there are few negative weights."""
    start, mask = weights(seed + 100), FULL
    ap = activate_while_pruning(loops.prune_by(), start, share=share)
    for i, density in enumerate(sorted(densities, reverse=True)):
        trained = weights(seed + i, shift)
        expected = oracle(trained, start, mask, density, share)
        mask = ap(trained, mask, density, key=KEY)
        np.testing.assert_array_equal(flat(mask), expected)
        assert flat(mask).sum() == max(round(density * SIZE), 1)


def test_by_movement_no_positive_weight_goes():
    start, trained = weights(1), weights(2)
    mask = activate_while_pruning(loops.prune_by(), start, share=1.0)(trained, FULL, 0.8, key=KEY)
    assert (flat(trained)[~flat(mask)] < 0).all()


def test_compiled_with_a_traced_density_it_prunes_as_by_levels():
    """As `imp_scan` calls it; one program for all densities, and not what magnitude alone would take."""
    start, trained = weights(1), weights(2)
    ap, traces = activate_while_pruning(loops.prune_by(), start, share=0.5), []

    @jax.jit
    def compiled(mask, density):
        traces.append(density)
        return ap(trained, mask, density, key=KEY)

    for density in (0.8, 0.5, 0.05):
        expected = oracle(trained, start, FULL, density, 0.5)
        np.testing.assert_array_equal(flat(compiled(FULL, density)), expected)
        assert (expected != oracle(trained, start, FULL, density, 0.0)).any()
    assert len(traces) == 1


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: activate_while_pruning(loops.prune_by(), FULL, share=1.5), InputError, "share=1.5"),
        (lambda: pruned(density={"a": 0.5, "b": 0.5}), InputError, "density="),
        (lambda: pruned(mask={"a": jnp.ones((1, 6), bool), "b": FULL["b"]}), StructureError, "full shape"),
        (lambda: pruned(start={"a": 1.0}), StructureError, "start does not have"),
    ],
)
def test_bad_input_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


def pruned(density=0.5, mask=FULL, start=FULL):
    return activate_while_pruning(loops.prune_by(), start)(weights(0), mask, density, key=KEY)
