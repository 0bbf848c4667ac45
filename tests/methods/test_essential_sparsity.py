"""The sweep prunes exactly what it says, and the knee is where a curve breaks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxticket import filters, loops, scopes, scores
from jaxticket.errors import InputError, NoMatchError
from jaxticket.methods.analysis import essential_sparsity
from jaxticket.methods.analysis.essential_sparsity import Knee, knee

RNG = np.random.default_rng(0)
PARAMS = {
    "embedding": jnp.asarray(RNG.normal(size=(9, 8)), jnp.float32),
    "blocks": {
        name: {"kernel": jnp.asarray(scale * RNG.normal(size=(8, 10)), jnp.float32), "bias": jnp.ones(10)}
        for name, scale in {"a": 1.0, "b": 0.3}.items()
    },
}
WHERE = filters.match("kernel$")


def swept(prune, densities):
    """The pruned parameters, as the quality function sees them."""
    seen = []
    quality = lambda params: jax.tree.map(lambda p: p + 0, params)
    for point in essential_sparsity.sweep(
        PARAMS, quality, prune=prune, densities=densities, where=WHERE, key=jax.random.key(0)
    ):
        seen.append(point.quality)
    return seen


def kept(params):
    return [int((params["blocks"][name]["kernel"] != 0).sum()) for name in "ab"]


def test_counts_are_exact_and_the_rest_stays():
    dense, some, few = swept(loops.prune_by(), [1.0, 0.45, 0.1])
    jax.tree.map(np.testing.assert_array_equal, dense, PARAMS)
    assert [sum(kept(p)) for p in (some, few)] == [72, 16]
    assert kept(some)[0] > kept(some)[1], "one threshold for all"
    for params in (some, few):
        np.testing.assert_array_equal(params["embedding"], PARAMS["embedding"])
        np.testing.assert_array_equal(params["blocks"]["a"]["bias"], PARAMS["blocks"]["a"]["bias"])
    (layered,) = swept(loops.prune_by(scope=scopes.leaf()), [0.45])
    assert kept(layered) == [36, 36]


def test_n_of_m_inputs_of_each_output():
    (pruned,) = swept(loops.prune_by(scope=scopes.groups(4, axis=0)), [0.5])
    for name in "ab":
        alive = np.asarray(pruned["blocks"][name]["kernel"] != 0).reshape(2, 4, 10)
        np.testing.assert_array_equal(alive.sum(1), 2)


def test_random_pruning_draws_from_the_key():
    (one,), (same,) = (swept(loops.prune_by(scores.random), [0.5]) for _ in range(2))
    jax.tree.map(np.testing.assert_array_equal, one, same)
    (largest,) = swept(loops.prune_by(), [0.5])
    assert not np.array_equal(one["blocks"]["a"]["kernel"], largest["blocks"]["a"]["kernel"])


def test_quality_compiles_once():
    traces = []

    def quality(params):
        traces.append(1)
        return params["embedding"].sum()

    options = {"prune": loops.prune_by(), "where": WHERE, "key": jax.random.key(0)}
    assert len(list(essential_sparsity.sweep(PARAMS, quality, densities=[1.0, 0.5, 0.2], **options))) == 3
    assert len(traces) == 1
    with pytest.raises(InputError, match="densities is empty"):
        essential_sparsity.sweep(PARAMS, quality, densities=[], **options)
    with pytest.raises(NoMatchError):
        essential_sparsity.sweep(PARAMS, quality, densities=[0.5], **{**options, "where": filters.match("nothing")})


def test_the_knee():
    s = [0.0, 0.1, 0.3, 0.5, 0.7, 0.9]
    assert knee(s, [1, 1, 0.999, 0.98, 0.6, 0.1]) == Knee(0.3, 0.5)
    assert knee(s, [1, 0.98, 1, 1, 1, 1]).essential == 0, "a later recovery does not count"
    assert knee(s, [0.8, 0.8, 0.8, 0.79, 0.75, 0.1], drop=0.1) == Knee(0.7, 0.7)
    assert knee(s, [1] * 6).essential == 0.9
    for bad in ([0.1, 0.2, 0.3], [0.0, 0.2, 0.2], [0.0, 0.5]):
        with pytest.raises(InputError, match="must rise from 0"):
            knee(bad, [1] * len(bad))
