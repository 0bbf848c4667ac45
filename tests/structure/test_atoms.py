"""Atoms against a naive partition, splits of axes, and random networks."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxticket import structure
from jaxticket.structure._atoms import Atoms
from jaxticket.structure._splits import blocks, refine
from tests.structure import _removal

PAIRS = st.lists(st.lists(st.tuples(st.integers(0, 19), st.integers(0, 19)), min_size=1, max_size=8), max_size=6)


@given(PAIRS, st.lists(st.integers(0, 19), max_size=3))
def test_classes_are_those_of_a_naive_partition(joins, frozen):
    atoms = Atoms()
    atoms.fresh(20)
    classes = {i: {i} for i in range(20)}
    for pairs in joins:
        a, b = np.array(pairs).T
        atoms.join(a, b)
        for x, y in pairs:
            union = classes[x] | classes[y]
            classes.update(dict.fromkeys(union, union))
    for i in frozen:
        atoms.freeze(np.array([i]), "a reason")
    everything = np.arange(20)
    roots = atoms.roots(everything)
    for i in range(20):
        assert set(np.flatnonzero(roots == roots[i])) == classes[i]
        assert atoms.frozen(np.array([i]))[0] == bool(classes[i] & set(frozen))


def test_reasons_of_frozen_classes_stay_apart():
    atoms = Atoms()
    a, b, c = atoms.pinned(1, "first"), atoms.pinned(1, "second"), atoms.fresh(1)
    atoms.join(a, b)
    atoms.join(b, c)
    assert [atoms.why_frozen(int(x[0])) for x in (a, b, c)] == ["first", "second", "second"]


@given(st.lists(st.integers(1, 4), min_size=1, max_size=5), st.data())
def test_blocks_cover_both_shapes(factors, data):
    """Any grouping of the same factors gives runs of equal products."""

    def grouped():
        cuts = sorted(data.draw(st.lists(st.integers(0, len(factors)), max_size=3)))
        edges = [0, *cuts, len(factors)]
        return [int(np.prod(factors[a:b])) for a, b in itertools.pairwise(edges)]

    old, new = grouped(), grouped()
    runs = blocks(old, new)
    assert [a for left, _ in runs for a in left] == [a for a, n in enumerate(old) if n != 1]
    assert [b for _, right in runs for b in right] == [b for b, n in enumerate(new) if n != 1]
    for left, right in runs:
        assert np.prod([old[a] for a in left]) == np.prod([new[b] for b in right])
        sizes = refine([old[a] for a in left], [new[b] for b in right])
        assert sizes is None or np.prod(sizes) == np.prod([old[a] for a in left])


def layer(kind, width, key, rank):
    kernel = jax.random.normal(key, (rank, width)) / 2
    if kind == "gated":
        return {"kernel": kernel, "gate": jax.random.normal(jax.random.split(key)[0], (rank, width))}
    return {"kernel": kernel, "bias": jax.random.normal(jax.random.split(key)[0], (1, width))}


def apply_layer(kind, params, x):
    if kind == "gated":
        return (x @ params["kernel"]) * jax.nn.sigmoid(x @ params["gate"])
    x = x @ params["kernel"] + params["bias"]
    if kind == "split":
        a, b = jnp.split(x, 2, axis=-1)
        return jnp.tanh(a) * b
    if kind == "heads":
        heads = jnp.tanh(x).reshape(x.shape[0], 2, -1)  # else products of products overflow
        return jnp.einsum("bhd,bkd,bke->bhe", heads, heads, heads).reshape(x.shape)
    if kind == "residual":
        return jax.nn.relu(x) + jnp.concatenate([x[:, ::2], x[:, 1::2]], axis=-1)
    return jax.nn.gelu(x)


KINDS = ("plain", "gated", "split", "heads", "residual")


@settings(max_examples=3)
@given(st.lists(st.sampled_from(KINDS), min_size=1, max_size=3), st.integers(0, 99))
def test_random_networks_shrink_exactly(kinds, seed):
    check_random_network(kinds, seed)


@pytest.mark.slow
@settings(max_examples=150)
@given(st.lists(st.sampled_from(KINDS), min_size=1, max_size=4), st.integers(0, 9999))
def test_many_random_networks_shrink_exactly(kinds, seed):
    check_random_network(kinds, seed)


def check_random_network(kinds, seed):
    rng = np.random.default_rng(seed)
    params, rank = {}, 3
    for i, kind in enumerate(kinds):
        width = 2 * int(rng.integers(2, 5))
        params[f"l{i}"] = layer(kind, width, jax.random.key(seed + i), rank)
        rank = width // 2 if kind == "split" else width
    params["out"] = {"kernel": jax.random.normal(jax.random.key(seed), (rank, 2))}

    def apply(params, x):
        for i, kind in enumerate(kinds):
            x = apply_layer(kind, params[f"l{i}"], x)
        return x @ params["out"]["kernel"]

    x = jax.random.normal(jax.random.key(seed), (4, 3))
    groups = structure.trace(apply, params, x)
    assert len(groups)
    kept = _removal.draw(groups, seed)
    out = structure.replay(apply, kept, groups)(structure.shrink(params, kept, groups), x)
    expected = apply(_removal.zeroed(params, kept, groups), x)
    assert _removal.difference(expected, out, float(jnp.max(jnp.abs(expected)))) <= 1e-5
