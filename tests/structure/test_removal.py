"""Removed channels: outputs and gradients are those of the network in which all their members are zero."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxticket import structure
from tests.structure import _removal
from tests.structure.networks.table import NETWORKS

TOLERANCE = 1e-5
# One network of a kind of rule; the others are in `make slow`.
SAMPLE = (
    "branches",
    "dropout",
    "fused_projection_of_parts_heads_channels",
    "linen_attention",
    "linen_cnn_trained",
    "rotary_pairs",
)
# JAX has no reverse mode for these.
NOT_DIFFERENTIABLE = ("while_loop", "products_of_groups_of_rows")


def tiers(networks):
    return [n if n.name in SAMPLE else pytest.param(n, marks=pytest.mark.slow) for n in networks]


@pytest.mark.parametrize("network", tiers(NETWORKS), ids=lambda n: getattr(n, "name", None))
def test_removed_channels_are_zeroed_channels(network):
    out, gradient = _removal.errors(
        network.apply,
        network.variables,
        network.inputs,
        outputs=network.outputs,
        differentiable=network.name not in NOT_DIFFERENTIABLE,
    )
    assert out <= TOLERANCE
    assert gradient <= TOLERANCE


def mlp(params, x):
    for name in ("a", "b"):
        x = jnp.tanh(x @ params[name]["kernel"] + params[name]["bias"][None])
    return x @ params["c"]["kernel"]


def mlp_params(widths=(5, 8, 6, 3)):
    keys = iter(jax.random.split(jax.random.key(0), 9))
    layers = {
        name: {"kernel": jax.random.normal(next(keys), (m, n)), "bias": jax.random.normal(next(keys), (n,))}
        for name, m, n in zip("abc", widths, widths[1:], strict=False)
    }
    return {**layers, "c": {"kernel": layers["c"]["kernel"]}}


X = jax.random.normal(jax.random.key(9), (7, 5))


def test_a_smaller_network_runs_under_every_transformation():
    params = mlp_params()
    groups = structure.trace(mlp, params, X)
    kept = _removal.draw(groups, 1)
    smaller, run = structure.shrink(params, kept, groups), structure.replay(mlp, kept, groups)
    expected = mlp(_removal.zeroed(params, kept, groups), X)
    np.testing.assert_allclose(jax.jit(run)(smaller, X), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(jax.vmap(run, (None, 0))(smaller, X[:, None])[:, 0], expected, rtol=1e-5, atol=1e-6)
    _, scanned = jax.lax.scan(lambda carry, x: (carry, run(smaller, x[None])[0]), None, X)
    np.testing.assert_allclose(scanned, expected, rtol=1e-5, atol=1e-6)


def test_a_partial_zip_of_members_is_not_a_removal():
    """The control: without the columns that read a channel, a zeroed channel is not a removed one."""
    params = mlp_params()
    apply = lambda p, x: jnp.exp(x @ p["a"]["kernel"] + p["a"]["bias"][None]) @ p["b"]["kernel"]  # exp(0) is not 0
    groups = structure.trace(apply, {"a": params["a"], "b": {"kernel": params["b"]["kernel"]}}, X)
    params = {"a": params["a"], "b": {"kernel": params["b"]["kernel"]}}
    kept = _removal.draw(groups, 2)
    mask = structure.spread(kept, groups, params)
    run = structure.replay(apply, kept, groups)
    removed = run(structure.shrink(params, kept, groups), X)
    producers = {"a": jax.tree.map(jnp.where, mask["a"], params["a"], jax.tree.map(jnp.zeros_like, params["a"]))}
    assert jnp.max(jnp.abs(apply({**params, **producers}, X) - removed)) > 0.1
    np.testing.assert_allclose(apply(_removal.zeroed(params, kept, groups), X), removed, rtol=1e-5)


def test_training_goes_on_as_if_masked():
    params, rate = mlp_params(), 0.05
    target = jax.random.normal(jax.random.key(3), (7, 3))
    groups = structure.trace(mlp, params, X)
    kept = _removal.draw(groups, 3)
    mask = structure.spread(kept, groups, params)
    run = structure.replay(mlp, kept, groups)
    masked, smaller = _removal.zeroed(params, kept, groups), structure.shrink(params, kept, groups)

    def train(apply, params):
        def step(params, _):
            grads = jax.grad(lambda p: jnp.mean((apply(p, X) - target) ** 2))(params)
            return jax.tree.map(lambda p, g: p - rate * g, params, grads), None

        return jax.lax.scan(step, params, length=20)[0]

    trained = train(lambda p, x: mlp(_masked(p, mask), x), masked)
    for a, b in zip(
        jax.tree.leaves(structure.shrink(trained, kept, groups)), jax.tree.leaves(train(run, smaller)), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def _masked(params, mask):
    return jax.tree.map(jnp.where, mask, params, jax.tree.map(jnp.zeros_like, params))


def test_expand_puts_channels_back():
    params = mlp_params()
    groups = structure.trace(mlp, params, X)
    kept = _removal.draw(groups, 4)
    back = structure.expand(structure.shrink(params, kept, groups), kept, groups)
    jax.tree.map(np.testing.assert_array_equal, back, _removal.zeroed(params, kept, groups))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("whole", [False, True])
def test_masks_expand_to_channels_that_are_dropped_where_they_were_removed(channels, whole):
    """The same, with axes of size 1 or not, and however many channels are kept."""
    params = mlp_params()
    groups = structure.trace(mlp, params, X)
    kept = {"a/kernel:1": np.arange(8) < channels}
    mask = {"b": {"kernel": jnp.ones((8, 1) if whole else (1, 1), bool)}}
    back = structure.expand(structure.shrink(mask, kept, groups), kept, groups)["b"]["kernel"]
    np.testing.assert_array_equal(back, kept["a/kernel:1"][:, None])
    shared = structure.expand({"b": {"kernel": jnp.full((1, 6), 2.0)}}, kept, groups)["b"]["kernel"]
    assert shared.shape == ((8, 6) if channels == 1 else (1, 6))


def test_a_custom_derivative_stays():
    """The rule of the function is used at the new size, not the derivative of its body."""

    @jax.custom_jvp
    def clipped(x):
        return jnp.clip(x, -1.0, 1.0)

    clipped.defjvp(lambda primals, tangents: (clipped(*primals), 7.0 * tangents[0]))

    @jax.custom_vjp
    def stepped(x):
        return jnp.sign(x)

    stepped.defvjp(lambda x: (jnp.sign(x), x), lambda x, g: (g * jnp.cos(x),))
    for function in (clipped, stepped):
        apply = lambda p, x, f=function: f(x @ p["a"]["kernel"]) @ p["b"]["kernel"]
        params = {name: {"kernel": mlp_params()[name]["kernel"]} for name in "ab"}
        out, gradient = _removal.errors(apply, params, (X,))
        assert out <= TOLERANCE
        assert gradient <= TOLERANCE


def test_sizes_of_the_batch_may_change():
    params = mlp_params()
    groups = structure.trace(mlp, params, X)
    kept = _removal.draw(groups, 5)
    run = structure.replay(mlp, kept, groups)
    assert run(structure.shrink(params, kept, groups), jnp.ones((2, 5))).shape == (2, 3)


def contraction(make):
    """A network that sums over hidden channels of two branches, neither of which is a weight."""

    def apply(params, x):
        q, k = (make(x @ params[name]["kernel"]) for name in ("a", "b"))
        return q @ k.T

    keys = jax.random.split(jax.random.key(0))
    return apply, {name: {"kernel": jax.random.normal(key, (5, 6))} for name, key in zip("ab", keys, strict=True)}


@pytest.mark.parametrize(
    ("make", "exact"),
    [
        (jnp.tanh, True),
        (jax.nn.relu, True),
        (jax.nn.relu6, True),
        (lambda h: jnp.clip(h, -1.0, 1.0), True),
        (lambda h: jnp.minimum(h, 2.0), True),
        (jnp.exp, False),
        (lambda h: jax.nn.relu(h + 1), False),
        (lambda h: jnp.minimum(h - 1, 0), False),
        (lambda h: jnp.maximum(h, 0.5), False),
        (lambda h: jnp.arctan2(h, -1.0), False),
        (lambda h: jnp.pad(h, ((0, 1), (0, 0)), constant_values=1), False),
        (lambda h: jax.lax.cumlogsumexp(h, axis=0), False),
    ],
)
def test_what_does_not_become_zero_is_inexact(make, exact):
    apply, params = contraction(make)
    (group,) = structure.trace(apply, params, X)
    assert (group.inexact is None) == exact
    kept = {group.name: np.arange(6) > 2}
    removed = structure.replay(apply, kept, structure.trace(apply, params, X), allow_inexact=True)(
        structure.shrink(params, kept, structure.trace(apply, params, X), allow_inexact=True), X
    )
    masked = apply(_removal.zeroed(params, kept, structure.trace(apply, params, X)), X)
    assert (_removal.difference(masked, removed, float(jnp.max(jnp.abs(masked)))) <= TOLERANCE) == exact


def test_a_key_in_a_closure_is_a_constant():
    key = jax.random.key(1)
    apply = lambda p, x: (x @ p["a"]["kernel"] * jax.random.bernoulli(key, 0.5, (7, 8))) @ p["b"]["kernel"]
    params = {name: {"kernel": mlp_params()[name]["kernel"]} for name in "ab"}
    out, gradient = _removal.errors(apply, params, (X,))
    assert max(out, gradient) <= TOLERANCE


def test_a_rule_beside_integers_is_not_lost():
    @jax.custom_vjp
    def doubled(h):
        return 2 * h, (h > 0).astype(int)

    doubled.defvjp(lambda h: (doubled(h), None), lambda _, g: (7.0 * g[0],))
    apply = lambda p, x: doubled(jnp.tanh(x @ p["a"]["kernel"]))[0] @ p["b"]["kernel"]
    params = {name: {"kernel": mlp_params()[name]["kernel"]} for name in "ab"}
    groups = structure.trace(apply, params, X)
    assert len(groups) == 0
    assert groups.unknown == ("custom_vjp_call",)


def test_a_debug_print_couples_nothing():
    def apply(params, x):
        hidden = x @ params["a"]["kernel"]
        jax.debug.callback(lambda h: None, hidden)
        return hidden @ params["b"]["kernel"]

    params = {name: {"kernel": mlp_params()[name]["kernel"]} for name in "ab"}
    assert len(structure.trace(apply, params, X)) == 1
