"""N:M sparsity: groups lie along the inputs of each weight, whatever the framework, or an error asks for their axis."""

import equinox as eqx
import flax.linen as nn
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import jaxticket as jt
from jaxticket import filters, masks, reparam, scopes, scores
from jaxticket._jaxpr import captured, input_axes
from jaxticket.errors import InputError, NoMatchError

KEY = jax.random.key(0)


class Attention(nn.Module):
    heads: int

    @nn.compact
    def __call__(self, x):
        return nn.MultiHeadDotProductAttention(num_heads=self.heads, qkv_features=8 * self.heads)(x)


def attention(heads):
    model = Attention(heads)
    x = jnp.ones((2, 5, 16))
    return (lambda params, x: model.apply({"params": params}, x)), model.init(KEY, x)["params"], x


def equinox():
    model = eqx.nn.MLP(8, 4, 12, 2, key=KEY)
    params, static = eqx.partition(model, eqx.is_inexact_array)
    return (lambda params, x: jax.vmap(eqx.combine(params, static))(x)), params, jnp.ones((2, 8))


def equinox_conv():
    model = eqx.nn.Conv1d(8, 4, 3, key=KEY)
    params, static = eqx.partition(model, eqx.is_inexact_array)
    return (lambda params, x: jax.vmap(eqx.combine(params, static))(x)), params, jnp.ones((2, 8, 6))


def haiku():
    model = hk.without_apply_rng(hk.transform(lambda x: hk.Linear(4)(hk.Conv2D(8, 3)(x))))
    x = jnp.ones((2, 6, 6, 4))
    return model.apply, model.init(KEY, x), x


def fused():
    """A kernel of (inputs, gates, width), whose name is that of any dense layer."""
    model = nnx.LinearGeneral(8, (3, 4), rngs=nnx.Rngs(0))
    graph, params = nnx.split(model, nnx.Param)
    return (lambda params, x: nnx.merge(graph, params)(x)), params, jnp.ones((2, 8))


def scanned():
    params = {"layers": {"kernel": jax.random.normal(KEY, (3, 8, 8))}}

    def apply(params, x):
        return jax.lax.scan(lambda x, w: (x @ w, None), x, params["layers"]["kernel"])[0]

    return apply, params, jnp.ones((2, 8))


BY_NAME = {
    "attention of 3 heads": lambda: attention(3),
    "attention of 4 heads": lambda: attention(4),
    "equinox": equinox,
    "equinox conv": equinox_conv,
    "haiku": haiku,
}
BY_MODEL = BY_NAME | {"fused": fused, "scanned": scanned}


def in_groups(mask, axis):
    """The number of survivors of each group of four along an axis."""
    moved = np.moveaxis(np.asarray(mask), axis, -1)
    return moved.reshape(*moved.shape[:-1], -1, 4).sum(-1)


@pytest.mark.parametrize("name", BY_NAME)
def test_names_and_products_tell_the_same_axis(name):
    apply, params, x = BY_NAME[name]()
    scored = filters.only(scores.magnitude(params), filters.weights())
    by_name = jt.select(scored, 0.5, scope=scopes.groups(4))
    by_model = jt.select(scored, 0.5, scope=scopes.groups(4, axis=scopes.input_axes(apply, params, x)))
    assert jax.tree.all(jax.tree.map(np.array_equal, by_name, by_model))
    assert masks.is_nm(by_name, 2, 4)
    assert not masks.is_nm(by_name, 1, 4)
    assert float(jt.density(scored, by_name)) == 0.5


@pytest.mark.parametrize(
    ("make", "shape", "axis"),
    [
        (lambda: attention(3)[1]["MultiHeadDotProductAttention_0"]["query"], (16, 3, 8), 0),
        (lambda: attention(3)[1]["MultiHeadDotProductAttention_0"]["out"], (3, 8, 16), 1),
    ],
    ids=["query", "out"],
)
def test_two_of_four_inputs_of_each_head_survive(make, shape, axis):
    kernel = make()["kernel"]
    assert kernel.shape == shape
    layer = "query" if axis == 0 else "out"
    mask = jt.select({layer: {"kernel": jnp.abs(kernel)}}, 0.5, scope=scopes.groups(4))
    assert (in_groups(mask[layer]["kernel"], axis) == 2).all()


def test_equinox_keeps_two_of_four_inputs():
    _, params, _ = equinox()
    tx = jt.sparsify(
        optax.adam(0.1), jt.sparse_evolutionary(0.5, every=2, scope=scopes.groups(4), allocate=None), key=KEY
    )
    params, state = jt.init(tx, params)
    for _ in range(3):
        updates, state = tx.update(jax.tree.map(jnp.cos, params), state, params)
        params = optax.apply_updates(params, updates)
    for layer in jt.mask_of(state).layers:
        assert (in_groups(layer.weight, 1) == 2).all()


def test_gates_of_groups_lie_along_inputs():
    _, params, _ = equinox()
    method = reparam.pdp(0.5, start=0, ramp=1, stop=10, scope=scopes.groups(4))
    mask = method.mask(method.init(params), count=jnp.int32(10))
    assert masks.is_nm(mask, 2, 4)


@pytest.mark.parametrize(("name", "axis"), [("fused", 0), ("scanned", 1)])
def test_an_axis_that_names_do_not_tell_is_asked_for_or_read_from_the_model(name, axis):
    apply, params, x = BY_MODEL[name]()
    scored = filters.only(scores.magnitude(params), filters.weights())
    with pytest.raises(InputError, match=r"kernel.*input_axes"):
        jt.select(scored, 0.5, scope=scopes.groups(4))
    with pytest.raises(InputError, match="kernel"):
        masks.is_nm(jax.tree.map(lambda s: s > 0, scored), 2, 4)
    axes = scopes.input_axes(apply, params, x)
    mask = jt.select(scored, 0.5, scope=scopes.groups(4, axis=axes))
    (kernel,) = jax.tree.leaves(mask)
    assert (in_groups(kernel, axis) == 2).all()
    given = jt.select(scored, 0.5, scope=scopes.groups(4, axis={"kernel$": axis}))
    assert np.array_equal(kernel, jax.tree.leaves(given)[0])
    assert masks.is_nm(mask, 2, 4, axis=axes)
    assert not masks.is_nm(mask, 2, 4, axis=2)


@pytest.mark.parametrize("name", BY_NAME)
def test_the_weights_of_each_output_compete(name):
    """Products say what an output is: the axes of the weight that they do not sum over."""
    apply, params, x = BY_NAME[name]()
    scored = filters.only(scores.magnitude(params), filters.weights())
    mask = jt.select(scored, 0.5, scope=scopes.slices())
    summed = {}

    def note(product):
        summed[product.weight.leaf] = input_axes(product)

    jax.eval_shape(lambda p, x: captured(apply, p, x, note)[0], params, x)
    both = (jax.tree.leaves(tree, is_leaf=lambda leaf: leaf is None) for tree in (mask, params))
    present = [(kept, leaf) for kept, leaf in zip(*both, strict=True) if leaf is not None]
    for index, (kept, leaf) in enumerate(present):
        if kept is not None:
            inputs = int(np.prod([leaf.shape[a] for a in summed[index]]))
            assert np.all(np.sum(kept, summed[index]) == round(inputs / 2)), kept.shape


@pytest.mark.parametrize("axis", [0, 1])
def test_an_axis_of_layers_competes_only_if_it_is_not_named(axis):
    """Layers first, as a scan has them, or second, as in MaxText. The first layer has the larger weights."""
    drawn = np.random.default_rng(0).random((2, 8, 3)) + np.array([10, 0])[:, None, None]
    scored = {"layers": {"kernel": jnp.asarray(np.moveaxis(drawn, 0, axis), jnp.float32)}}
    kept = lambda scope, **options: jt.select(scored, 0.5, scope=scope, **options)["layers"]["kernel"]
    of_layers = lambda mask: np.moveaxis(np.asarray(mask), axis, 0).sum(1).tolist()
    assert of_layers(kept(scopes.slices(-1))) == [[8] * 3, [0] * 3], "all inputs of the first layer, none of the second"
    right = [[4] * 3] * 2
    assert of_layers(kept(scopes.slices((axis, -1)))) == right
    assert of_layers(kept(scopes.slices(-1), stacked={"layers": axis})) == right
    assert of_layers(kept(scopes.slices(), stacked={"layers": axis})) == right
    with pytest.raises(
        InputError, match=r"'layers/kernel' does not say which axes .* stacked=\{'layers/kernel': axis\}"
    ):
        kept(scopes.slices())


def test_outputs_that_names_do_not_give():
    for shape in ((2, 3, 4, 5), (3,)):
        with pytest.raises(InputError, match="does not say which axes"):
            jt.select({"query": {"kernel": jnp.ones(shape)}}, 0.5, scope=scopes.slices())
    stacked = jt.select({"query": {"kernel": jnp.ones((2, 4, 3, 5))}}, 0.5, scope=scopes.slices(), stacked={"query": 0})
    assert (stacked["query"]["kernel"].sum(1) == 2).all()


def test_rules_that_match_nothing_raise():
    with pytest.raises(NoMatchError, match="nowhere"):
        jt.select({"kernel": jnp.ones((4, 2))}, 0.5, scope=scopes.groups(4, axis={"nowhere": 0}))


def test_a_weight_that_is_multiplied_both_ways_has_no_axis_of_inputs():
    params = {"tied": {"kernel": jnp.ones((4, 6))}}
    with pytest.raises(InputError, match="tied/kernel"):
        scopes.input_axes(lambda p, x: x @ p["tied"]["kernel"] @ p["tied"]["kernel"].T, params, jnp.ones((2, 4)))


def test_strict_groups_must_divide_the_axis():
    scored = {"kernel": jnp.arange(12.0).reshape(6, 2)}
    assert jt.select(scored, 0.5, scope=scopes.groups(4))["kernel"].sum() == 6
    for axis in (None, 0):
        with pytest.raises(InputError, match="multiple of 4"):
            jt.select(scored, 0.5, scope=scopes.groups(4, axis=axis, strict=True))
    assert jt.select(scored, 0.5, scope=scopes.groups(3, strict=True))["kernel"].sum() == 8


@pytest.mark.parametrize(
    ("kept", "n", "holds"),
    [([1, 1, 0, 0, 0, 1], 2, True), ([1, 1, 0, 0, 0, 1], 1, False), ([0, 0, 0, 0, 0, 0], 0, True)],
)
def test_is_nm_counts_each_group(kept, n, holds):
    column = jnp.array(kept, bool)[:, None]
    assert masks.is_nm({"a": {"kernel": column}, "bias": None}, n, 4) == holds
    assert masks.is_nm(column.T, n, 4, axis=1) == holds


def test_is_nm_takes_a_channel_mask_for_whole_groups():
    assert not masks.is_nm({"kernel": jnp.array([[True, False]])}, 2, 4)
    assert masks.is_nm({"kernel": jnp.array([[False, False]])}, 2, 4)
    assert jax.jit(lambda mask: masks.is_nm(mask, 2, 4))({"kernel": jnp.ones((4, 1), bool)}) == jnp.bool_(False)
