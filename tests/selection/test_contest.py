"""Large trees, whose keys are never stored: the same survivors, and no memory beside the masks."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxticket import scopes, selection
from jaxticket.selection import _contest
from tests.selection import oracle

SHAPE = (1024, 600)


@functools.cache
def large_scores():
    """Few values, so that ties decide, with all that is special to keys among them."""
    values = np.random.default_rng(0).integers(-200, 200, SHAPE).astype(np.float32)
    values[::7, ::5] = np.nan
    values[1::9] = -0.0
    values[2::11, :7] = 1e-40
    values.setflags(write=False)
    return values


@pytest.mark.parametrize("density", [0.3, 0.0])
@pytest.mark.parametrize("alive", [False, True])
def test_a_large_leaf_keeps_what_a_stable_sort_of_its_keys_keeps(density, alive):
    scores = large_scores()
    assert scores.size > _contest._STORED
    mask = np.random.default_rng(1).random(SHAPE) < 0.25 if alive else None
    found = selection.select(jnp.asarray(scores), density, mask=mask)
    np.testing.assert_array_equal(found, oracle.top(scores, oracle.count(density, scores.size), mask))


def test_a_large_tree_keeps_what_a_stable_sort_of_all_its_keys_keeps():
    scores = large_scores()
    first, second = scores[:300], scores[300:]
    found = selection.select({"a": first, "b": second}, 0.3, scope=scopes.tree())
    expected = oracle.top(scores, oracle.count(0.3, scores.size))
    np.testing.assert_array_equal(np.concatenate([found["a"], found["b"]]), expected)


@pytest.mark.parametrize("scope", [scopes.tree(), pytest.param(scopes.leaf(), marks=pytest.mark.slow)], ids=repr)
def test_a_large_selection_takes_no_memory_but_its_masks(scope):
    shapes = {name: jax.ShapeDtypeStruct(SHAPE, jnp.float32) for name in "ab"}
    size = 2 * SHAPE[0] * SHAPE[1]
    used = jax.jit(functools.partial(selection.select, density=0.1, scope=scope)).lower(shapes).compile()
    used = used.memory_analysis()
    assert used.output_size_in_bytes < 1.01 * size  # one byte a mask entry
    assert used.temp_size_in_bytes < 0.01 * size
