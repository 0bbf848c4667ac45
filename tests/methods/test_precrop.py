"""PreCrop: widths that make layers densest within a budget, from shapes alone."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxticket as jt
from jaxticket import models, scopes, scores, structure
from jaxticket.errors import InputError
from jaxticket.methods.channels.precrop import precrop, precrop_densities


def kernel(*shape):
    return {"kernel": jnp.zeros(shape)}


def convolve(x, layer):
    return jax.lax.conv_general_dilated(x, layer["kernel"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def convolutions(params, x):
    hidden = jax.nn.relu(convolve(jax.nn.relu(convolve(x, params["a"])), params["b"]))
    return hidden.mean((1, 2)) @ params["head"]["kernel"]


def chain(params, x):
    for layer in params.values():
        x = x @ layer["kernel"]
    return x


def kept_at(groups, widths):
    return {group.name: np.arange(group.width) < widths[group.name] for group in groups}


def test_golden():
    """The ratios of c_06 are .4220 and .5697; weights count, of which there are 76,736."""
    params = {"a": kernel(3, 3, 3, 64), "b": kernel(3, 3, 64, 128), "head": kernel(128, 10)}
    groups = structure.trace(convolutions, params, jnp.ones((1, 8, 8, 3)))
    widths = precrop(params, groups, 0.25)
    assert widths == {"a/kernel:3": 27, "b/kernel:3": 73}
    assert groups.params(kept_at(groups, widths)) == 19_198


def part(density, *shape):
    """A mask of this density."""
    return jnp.arange(np.prod(shape)).reshape(shape) < round(density * np.prod(shape))


def test_golden_densities():
    """c_06: at densities 1, .2194 and 1 the square roots alone are widths of 64 and 60, and 45 and 43 in the budget."""
    params = {"a": kernel(3, 3, 3, 64), "b": kernel(3, 3, 64, 128), "head": kernel(128, 10)}
    groups = structure.trace(convolutions, params, jnp.ones((1, 8, 8, 3)))
    mask = {"a": {"kernel": None}, "b": {"kernel": part(0.2194, 3, 3, 64, 128)}, "head": {"kernel": None}}
    widths = precrop_densities(params, groups, 0.25, mask)
    assert widths == {"a/kernel:3": 45, "b/kernel:3": 43}
    assert groups.params(kept_at(groups, widths)) == 19_060
    alone = {"a/kernel:3": 64, "b/kernel:3": 60}
    wide = groups.params(kept_at(groups, alone))
    assert wide == 36_888
    assert precrop_densities(params, groups, wide / groups.params(), mask) == alone


@pytest.mark.parametrize("cost", ["params", "macs"])
def test_the_densities_of_synflow_give_a_residual_network_its_widths(cost):
    model = models.resnet_20(width=8)
    params, state = model.init(jax.random.key(0))
    apply = lambda v, x: model.apply(v["params"], v["state"], x, train=False, key=None)[0]
    variables = {"params": params, "state": state}
    x = jnp.ones((1, 8, 8, 3))
    groups = structure.trace(apply, variables, x)
    synflow = scores.synflow(lambda p, x: apply({"params": p, "state": state}, x), x)
    plan = jt.static(0.1, score=synflow, scope=scopes.tree(), rounds=10)
    mask = jt.mask_of(jt.init(jt.sparsify(optax.identity(), plan), params)[1])
    mask = {"params": mask, "state": jax.tree.map(lambda _: None, state)}
    widths = precrop_densities(variables, groups, 0.3, mask, cost=cost)
    count = getattr(groups, cost)
    assert 0.97 * 0.3 < count(kept_at(groups, widths)) / count() <= 1.01 * 0.3
    assert widths != precrop(variables, groups, 0.3, cost=cost)


@pytest.mark.parametrize("cost", ["params", "macs"])
def test_no_other_widths_are_denser(cost):
    """Against all widths that fit, of three hidden layers: the product of the sizes of layers is the largest."""
    params = {"a": kernel(25, 40), "b": kernel(40, 60), "c": kernel(60, 30), "d": kernel(30, 150)}
    groups = structure.trace(chain, params, jnp.ones((1, 25)))
    widths = tuple(precrop(params, groups, 0.4, cost=cost).values())
    spent = lambda a, b, c: 25 * a + a * b + b * c + c * 150
    score = lambda a, b, c: 2 * np.log(1.0 * a * b * c)
    budget = 0.4 * spent(40, 60, 30)
    every = np.meshgrid(np.arange(1, 41), np.arange(1, 61), np.arange(1, 31))
    best = np.where(spent(*every) <= budget, score(*every), -np.inf).max()
    assert 0.97 * budget < spent(*widths) <= 1.01 * budget
    assert abs(score(*widths) - best) < 0.04  # a step of a width of 30


@pytest.mark.parametrize(
    ("sizes", "fraction", "grow"),
    [((97, 13, 189, 7), 0.5, True), ((24, 3, 216, 1555, 171, 8, 71, 4, 263), 0.99, False)],
)
def test_an_optimisation_that_stops_at_the_limits_of_precision_starts_again(sizes, fraction, grow):
    params = {
        str(i): {"kernel": jax.ShapeDtypeStruct(pair, np.float32)} for i, pair in enumerate(itertools.pairwise(sizes))
    }
    groups = structure.trace(chain, params, jax.ShapeDtypeStruct((1, sizes[0]), np.float32))
    widths = (sizes[0], *precrop(params, groups, fraction, grow=grow).values(), sizes[-1])
    assert 0.98 < sum(a * b for a, b in itertools.pairwise(widths)) / (fraction * groups.params()) <= 1.01


def test_a_program_without_products_has_no_multiply_adds():
    params = {"a": kernel(1, 4), "b": kernel(1, 4)}
    apply = lambda p, x: (jnp.tanh(x * p["a"]["kernel"]) * p["b"]["kernel"]).sum(-1)
    groups = structure.trace(apply, params, jnp.ones((3, 1)))
    with pytest.raises(InputError, match="cost: the program has no macs"):
        precrop(params, groups, 0.5, cost="macs")


def test_small_layers_stay_whole():
    params = {"a": kernel(4, 4), "b": kernel(4, 400), "c": kernel(400, 10)}
    groups = structure.trace(chain, params, jnp.ones((1, 4)))
    assert precrop(params, groups, 0.2) == {"a/kernel:1": 4, "b/kernel:1": 79}


@pytest.mark.parametrize("cost", ["params", "macs"])
@pytest.mark.parametrize("fraction", [0.5, 0.1])
def test_a_residual_network_meets_its_budget(cost, fraction):
    model = models.resnet_20(width=8)
    params, state = jax.eval_shape(model.init, jax.random.key(0))
    apply = lambda v, x: model.apply(v["params"], v["state"], x, train=False, key=None)[0]
    variables = {"params": params, "state": state}
    groups = structure.trace(apply, variables, jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32))
    widths = precrop(variables, groups, fraction, cost=cost)
    assert all(1 <= widths[group.name] <= group.width for group in groups)
    count = getattr(groups, cost)
    assert 0.97 * fraction < count(kept_at(groups, widths)) / count() <= 1.01 * fraction


def test_groups_may_grow_at_the_same_cost():
    params = {"a": kernel(4, 32), "b": kernel(32, 2), "c": kernel(2, 4)}
    groups = structure.trace(chain, params, jnp.ones((1, 4)))
    wide = precrop(params, groups, 1.0, grow=True)
    assert wide["a/kernel:1"] < 32
    assert wide["b/kernel:1"] > 2
    a, b = wide.values()
    assert 0.95 * groups.params() < 4 * a + a * b + b * 4 <= 1.01 * groups.params()
    assert precrop(params, groups, 1.0) == {"a/kernel:1": 32, "b/kernel:1": 2}


@pytest.mark.parametrize(
    ("changed", "names"),
    [
        ({"fraction": 0}, "fraction is 0"),
        ({"fraction": 1.5}, "fraction"),
        ({"fraction": 0.01}, "cannot be met; one channel a group leaves"),
        ({"cost": "time"}, "cost is 'time'"),
        ({"params": {"other": kernel(8, 12)}}, "other/kernel is not a leaf"),
    ],
)
def test_bad_input(changed, names):
    params = {"a": kernel(5, 8), "b": kernel(8, 12)}
    groups = structure.trace(chain, params, jnp.ones((1, 5)))
    given = {"params": params, "fraction": 0.5, **changed}
    with pytest.raises(InputError, match=names):
        precrop(given.pop("params"), groups, given.pop("fraction"), **given)
