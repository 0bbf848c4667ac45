"""Containers of flax, equinox and plain dicts: masks and parameters meet by their paths, in the caller's containers."""

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from flax.training.train_state import TrainState

import jaxticket as jt
from jaxticket import _tree, filters
from jaxticket.errors import InputError, StructureError

X = jnp.ones((3, 4))


class Network(nnx.Module):
    def __init__(self):
        rngs = nnx.Rngs(0)
        self.a, self.b = nnx.Linear(4, 8, rngs=rngs), nnx.Linear(8, 2, rngs=rngs)

    def __call__(self, x):
        return self.b(nnx.relu(self.a(x)))


def rigl(inner=None):
    return jt.sparsify(inner or optax.adam(0.1), jt.rigl(0.25, every=1, stop=99), key=jax.random.key(0))


def masks_of(model):
    """The same mask in the containers of users: nnx states of arrays and of parameters, and a dict."""
    state = nnx.state(model, nnx.Param)
    mask = jt.select(jt.scores.magnitude(state), 0.25, where=filters.weights())
    return {"state": mask, "pure": nnx.as_pure(mask), "dict": nnx.to_pure_dict(mask)}


def step(model, optimizer):
    optimizer.update(model, nnx.grad(lambda m: jnp.sum(m(X) ** 2))(model))


def test_an_nnx_optimizer_is_sparse_from_step_0():
    model = Network()
    optimizer = nnx.Optimizer(model, rigl(), wrt=nnx.Param)
    nnx.update(model, jt.mask_params(nnx.state(model, nnx.Param), optimizer.opt_state))
    for _ in range(3):
        params, mask = nnx.state(model, nnx.Param), jt.mask_of(optimizer.opt_state)
        assert float(jt.density(params, mask)) == 0.25
        assert int(jt.masks.outside(params, mask)) == 0
        assert int(jt.masks.outside(nnx.to_pure_dict(params), mask)) == 0
        step(model, optimizer)


@pytest.mark.parametrize("container", ["state", "pure", "dict"])
@pytest.mark.parametrize("transform", ["sparsify", "keep_params_sparse", "freeze"])
def test_transforms_take_a_mask_in_any_container(transform, container):
    model = Network()
    masks, start = masks_of(model), nnx.to_pure_dict(nnx.state(model, nnx.Param))
    mask = masks[container]
    if transform == "sparsify":
        tx = jt.sparsify(optax.adam(0.1), jt.static(0.5), mask=mask)
    else:
        tx = optax.chain(optax.adam(0.1), getattr(jt, transform)(mask))
    step(model, nnx.Optimizer(model, tx, wrt=nnx.Param))
    params = nnx.to_pure_dict(nnx.state(model, nnx.Param))
    kept = masks["dict"]["a"]["kernel"]
    rest = start["a"]["kernel"] if transform == "freeze" else jnp.zeros((4, 8))
    np.testing.assert_array_equal(params["a"]["kernel"][~kept], rest[~kept])
    assert (params["a"]["kernel"] != start["a"]["kernel"])[kept].any()


def test_answers_come_in_the_callers_containers():
    model = Network()
    params = nnx.state(model, nnx.Param)
    for container, mask in masks_of(model).items():
        assert jax.tree.structure(jt.apply_mask(params, mask)) == jax.tree.structure(params)
        assert jt.masks.summary(params, mask).maskable.kept == 12, container
        pure = nnx.to_pure_dict(params)
        assert jax.tree.structure(jt.apply_mask(pure, mask)) == jax.tree.structure(pure)
        scores = jt.scores.magnitude(pure)
        assert type(jt.select(scores, 0.1, mask=mask)) is dict


def test_leaves_meet_by_path_not_by_position():
    class Layer(eqx.Module):
        weight: jax.Array
        bias: jax.Array | None

    layer = Layer(jnp.array([[1.0, 2.0]]), jnp.array([3.0, 4.0]))
    mask = {"bias": jnp.array([False, True]), "weight": jnp.array([[True, False]])}
    masked = jt.apply_mask(layer, mask)
    assert type(masked) is Layer
    assert masked.weight.tolist() == [[1, 0]]
    assert masked.bias.tolist() == [0, 4]
    assert type(jt.masks.intersection(mask, jax.tree.map(lambda p: p > 1, layer))) is dict


@pytest.mark.parametrize("tree", [{"a": 1}, {"a/b": 1, "a": {"b": 2}}, {"b": {"a": 1}, "a": 2}])
def test_trees_of_other_paths_stay_as_they_are(tree):
    assert _tree.align(tree, {"a": {"b": 1}, "b": 2}) is tree


def test_a_list_of_another_length_is_refused():
    with pytest.raises(StructureError, match="only mask has '1'"):
        jt.apply_mask((jnp.ones(2),), [jnp.ones(2, bool), None])


def test_no_variable_of_an_nnx_state_holds_none():
    model = Network()
    optimizer = nnx.Optimizer(model, rigl(), wrt=nnx.Param)
    shapes = lambda: [v.get_value().shape for _, v in nnx.to_flat_state(nnx.state(optimizer))]
    before = shapes()
    step(model, optimizer)
    assert shapes() == before
    tx = jt.sparsify(optax.sgd(0.1), jt.itop(0.25, steps=9, every=1, grow=jt.scores.unfired), key=jax.random.key(0))
    held = jax.tree.leaves(tx.init(nnx.state(model, nnx.Param)), is_leaf=lambda x: isinstance(x, nnx.Variable))
    assert all(v.get_value() is not None for v in held if isinstance(v, nnx.Variable))


def test_a_loop_of_ones_own_over_nnx_states():
    params = nnx.state(Network(), nnx.Param)
    tx = jt.sparsify(optax.adam(0.1), jt.itop(0.25, steps=9, every=1, grow=jt.scores.unfired), key=jax.random.key(0))
    params, state = jt.init(tx, params)

    @jax.jit
    def train(params, state):
        def body(carry, _):
            params, state = carry
            updates, state = tx.update(params, state, params)
            return (optax.apply_updates(params, updates), state), None

        return jax.lax.scan(body, (params, state), None, length=3)[0]

    params, state = train(params, state)
    assert int(jt.masks.outside(params, jt.mask_of(state))) == 0


def mlp():
    return eqx.nn.MLP(4, 2, 8, 1, key=jax.random.key(0))


def equinox_step(tx, model, state):
    grads = eqx.filter_grad(lambda m: jnp.sum(jax.vmap(m)(X) ** 2))(model)
    updates, state = tx.update(grads, state, model)
    return eqx.apply_updates(model, updates), state


def test_equinox_modules_train_as_in_their_own_examples():
    tx = rigl()
    model, state = jt.init(tx, mlp())
    reference = tx.init(eqx.filter(mlp(), eqx.is_inexact_array))
    assert jax.tree.structure(state) == jax.tree.structure(reference)
    for _ in range(3):
        assert int(jt.masks.outside(model, jt.mask_of(state))) == 0
        model, state = equinox_step(tx, model, state)
    assert float(jt.density(model, jt.mask_of(state))) == 0.25
    assert len(jt.masks.summary(model, jt.mask_of(state)).rows) == 4
    assert jt.describe(jt.static(0.5), model).maskable.kept == 24
    assert model(X[0]).shape == (2,)


def test_the_steps_of_an_equinox_module_are_those_of_its_arrays():
    tx = rigl(optax.adamw(0.1))
    model, state = jt.init(tx, mlp())
    arrays = eqx.filter(model, eqx.is_inexact_array)
    grads = eqx.filter_grad(lambda m: jnp.sum(jax.vmap(m)(X) ** 2))(model)
    ours, theirs = tx.update(grads, state, model), tx.update(grads, state, arrays)
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


@pytest.mark.parametrize(
    "end",
    [
        lambda mask: jt.keep_params_sparse(mask),
        lambda mask: jt.transforms.project_l0(0.25),
        lambda mask: jt.transforms.shrink(0.25, 0.9, stop=9),
        lambda mask: jt.transforms.prox_l1(0.01),
        lambda mask: jt.transforms.prox_l1(0.01, mask),
        lambda mask: jt.transforms.soft_prune(0.25, when=jt.schedules.every(1)),
    ],
)
def test_the_ends_of_chains_take_equinox_modules(end):
    arrays = eqx.filter(mlp(), eqx.is_inexact_array)
    mask = jt.select(jt.scores.magnitude(arrays), 0.25, where=filters.weights())
    tx = optax.chain(optax.adamw(0.1), end(mask))
    model, _ = equinox_step(tx, mlp(), tx.init(arrays))
    assert model(X[0]).shape == (2,)


def test_frozen_leaves_without_gradient_stay():
    model = mlp()
    spec = eqx.tree_at(lambda m: m.layers[1].weight, jax.tree.map(lambda _: False, model), True)
    trained, frozen = eqx.partition(model, spec)
    tx = jt.sparsify(optax.adam(0.1), jt.static(0.25))
    state = tx.init(trained)
    grads = eqx.filter_grad(lambda t: jnp.sum(jax.vmap(eqx.combine(t, frozen))(X) ** 2))(trained)
    updates, _ = tx.update(grads, state, model)
    assert updates.layers[0].weight is None
    assert int(jnp.sum(eqx.apply_updates(model, updates).layers[1].weight != 0)) == 4


def test_a_sparsified_leaf_needs_a_gradient():
    params = {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}
    tx = jt.sparsify(optax.sgd(0.1), jt.static(0.5))
    with pytest.raises(StructureError, match="at 'kernel' only one of grads and params is None"):
        tx.update({"kernel": None, "bias": jnp.ones(2)}, tx.init(params), params)


def test_modules_that_can_be_called_are_trees_of_bool():
    model = eqx.filter(mlp(), eqx.is_inexact_array)
    where = jax.tree.map(lambda p: p.ndim == 2 and p.shape[1] == 8, model)
    assert callable(where)
    assert jt.describe(jt.static(0.5, where=where), model).maskable.size == 16
    assert jt.allocate.erk(model, 0.5, where=where).layers[0].weight is None
    with pytest.raises(InputError, match="not MLP"):
        filters.weights() & where
    tx = optax.chain(optax.sgd(0.1), jt.transforms.prox_l1(0.1, jax.tree.map(lambda p: p > 0, model)))
    equinox_step(tx, mlp(), tx.init(model))


def test_trainstates_of_linen():
    dense = nn.Dense(8)
    params = dense.init(jax.random.key(0), X)["params"]
    state = TrainState.create(apply_fn=dense.apply, params=params, tx=rigl())
    state = state.replace(params=jt.mask_params(state.params, state.opt_state))
    assert int(jnp.sum(state.params["kernel"] != 0)) == 8


@pytest.mark.parametrize(
    "state",
    [optax.adam(0.1).init({"w": jnp.ones((2, 2))}), optax.chain(rigl(), optax.clip(1.0)).init({"w": jnp.ones((2, 2))})],
)
def test_mask_params_refuses_states_that_cannot_be_sparse(state):
    with pytest.raises(InputError, match=r"SparseState|comes last"):
        jt.mask_params({"w": jnp.ones((2, 2))}, state)


@pytest.mark.parametrize("plan", [jt.static(0.5), jt.rigl(0.5, every=1, stop=9)])
def test_optax_gives_a_whole_subtree_to_another_optimizer(plan):
    params = {"body": {"kernel": jnp.arange(1.0, 9).reshape(2, 4)}, "head": {"kernel": jnp.ones((4, 2))}}
    sparse = jt.sparsify(optax.sgd(0.1), plan, key=jax.random.key(0))
    tx = optax.partition({"sparse": sparse, "dense": optax.sgd(0.1)}, {"body": "sparse", "head": "dense"})
    params, state = jt.init(tx, params)
    updates, state = jax.jit(tx.update)(jax.tree.map(jnp.ones_like, params), state, params)
    params = optax.apply_updates(params, updates)
    mask = jt.mask_of(state)
    assert mask["head"] is None
    assert int(mask["body"]["kernel"].sum()) == 4
    assert not params["body"]["kernel"][~mask["body"]["kernel"]].any()
    np.testing.assert_array_equal(jt.apply_mask(params, mask)["head"]["kernel"], params["head"]["kernel"])
    assert float(jt.density(params, mask)) == 0.5


def test_none_is_not_a_mask():
    with pytest.raises(StructureError):
        jt.apply_mask({"kernel": jnp.ones(2)}, None)
