"""Channels that go by the votes of the leaves of their group."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxticket import models, structure, transforms
from jaxticket.errors import InputError, NoMatchError

WIDTH, NORMS = 4, 3


def stream(params, x):
    x = x @ params["a"]
    for number in range(NORMS):
        x = x * params[f"scale{number}"][None]
    return x @ params["b"]


PARAMS = {"a": jnp.ones((2, WIDTH)), "b": jnp.ones((WIDTH, 2)), **{f"scale{i}": jnp.ones(WIDTH) for i in range(NORMS)}}
GROUPS = structure.trace(stream, PARAMS, jnp.ones((1, 2)))


def votes_of(dropped):
    mask = {"a": None, "b": None, **{f"scale{i}": ~np.array(row, bool) for i, row in enumerate(dropped)}}
    return structure.vote(mask, GROUPS)["a:1"]


def published(dropped):
    """Return which channels go, as `prune` does (CASIA-IVA-Lab/MaskSparsity@2827de4, netslim/prune.py)."""
    total = np.zeros(len(dropped[0]))
    fewest = min(sum(row) for row in dropped)
    for row in dropped:
        total = total + np.array(row)
    for i in range(len(dropped), 0, -1):
        gone = total >= i
        if gone.sum() >= fewest:
            break
    return gone


def test_channels_go_by_the_votes_of_norms():
    # Three, two, one and one votes; the most careful norm drops two.
    np.testing.assert_array_equal(votes_of([[1, 1, 0, 0], [1, 0, 1, 0], [1, 1, 0, 1]]), [False, False, True, True])


@given(st.lists(st.lists(st.integers(0, 1), min_size=WIDTH, max_size=WIDTH), min_size=NORMS, max_size=NORMS))
def test_channels_go_as_published(dropped):
    kept, gone = votes_of(dropped), published(dropped)
    if gone.all():
        assert kept.sum() == 1, "a group keeps a channel"
    else:
        np.testing.assert_array_equal(kept, ~gone)


def test_small_scales_make_a_smaller_network():
    model = models.resnet_20(width=8, channels=1)
    params, state = model.init(jax.random.key(0))
    rng = np.random.default_rng(0)

    def drop_half(path, p):
        small = rng.permutation(p.size) < p.size // 2
        return jnp.where(small, 1e-5, 1.0) if path[-1].key == "scale" else p

    params = jax.tree_util.tree_map_with_path(drop_half, params)
    apply = lambda v, x: model.apply(v["params"], v["state"], x, train=False, key=None)[0]
    variables, x = {"params": params, "state": state}, jnp.ones((1, 8, 8, 1))
    groups = structure.trace(apply, variables, x)
    kept = structure.vote(transforms.scales_to_keep(params), groups)
    alone = [g for g in groups if sum(m.path.endswith("scale") for m in g.members) == 1]
    assert alone
    assert all(kept[g.name].sum() == g.width // 2 for g in alone)
    streams = [g for g in groups if g not in alone]
    assert streams
    assert all(0 < kept[g.name].sum() <= g.width // 2 for g in streams)
    smaller = structure.shrink(variables, kept, groups)
    assert apply(smaller, x).shape == (1, 10)
    zeroed = structure.expand(smaller, kept, groups)
    np.testing.assert_allclose(apply(smaller, x), apply(zeroed, x), rtol=1e-4, atol=1e-5)


def test_bad_input():
    with pytest.raises(NoMatchError, match="none of no leaves"):
        structure.vote(dict.fromkeys(PARAMS), GROUPS)
    with pytest.raises(InputError, match="scale0"):
        structure.vote({**dict.fromkeys(PARAMS), "scale0": jnp.ones(WIDTH)}, GROUPS)
    with pytest.raises(InputError, match="does not broadcast"):
        structure.vote({**dict.fromkeys(PARAMS), "scale0": jnp.ones(3, bool)}, GROUPS)
