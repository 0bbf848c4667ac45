"""Scores that need the loss or the model, against float64 written out by hand; and LAMP over modules."""

import itertools
import json
import pathlib

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import jaxticket as jt
from jaxticket import scores, units
from jaxticket.errors import InputError, NoMatchError, StructureError

GOLDEN = json.loads((pathlib.Path(__file__).parents[1] / "golden" / "probe.json").read_text())
RNG = np.random.default_rng(0)
PARAMS = {
    "hidden": {"bias": RNG.normal(size=(1, 4)), "kernel": RNG.normal(size=(5, 4))},
    "out": {"bias": RNG.normal(size=(1, 3)), "kernel": RNG.normal(size=(4, 3))},
}
BATCHES = [(RNG.normal(size=(8, 5)), RNG.integers(0, 3, 8)) for _ in range(3)]
MASK = {
    "hidden": {"bias": None, "kernel": RNG.random((5, 4)) < 0.6},
    "out": {"bias": None, "kernel": RNG.random((1, 3)) < 2},
}
ON_DATA = {"snip": scores.snip, "grasp": scores.grasp, "fisher": scores.fisher, "taylor": scores.taylor}


def as_float32(tree):
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.float32 if x.dtype == np.float64 else None), tree)


def apply(params, x):
    hidden = jnp.tanh(x @ params["hidden"]["kernel"] + params["hidden"]["bias"])
    return hidden @ params["out"]["kernel"] + params["out"]["bias"]


def loss(params, batch):
    return optax.softmax_cross_entropy_with_integer_labels(apply(params, batch[0]), batch[1]).mean()


def loss_without_gather(params, batch):
    """The same loss. JAX 0.12 refuses the derivative of optax's gather of logits on Explicit axes."""
    return optax.softmax_cross_entropy(apply(params, batch[0]), jax.nn.one_hot(batch[1], 3)).mean()


# Made once, since each compiles its own functions.
SCORES = {name: factory(loss, as_float32(BATCHES)) for name, factory in ON_DATA.items()}


def gradient64(params, x, y):
    """Backpropagation through `loss`, in numpy."""
    hidden = np.tanh(x @ params["hidden"]["kernel"] + params["hidden"]["bias"])
    logits = hidden @ params["out"]["kernel"] + params["out"]["bias"]
    p = np.exp(logits - logits.max(1, keepdims=True))
    back = (p / p.sum(1, keepdims=True) - np.eye(3)[y]) / len(y)
    down = back @ params["out"]["kernel"].T * (1 - hidden**2)
    return {
        "hidden": {"bias": down.sum(0, keepdims=True), "kernel": x.T @ down},
        "out": {"bias": back.sum(0, keepdims=True), "kernel": hidden.T @ back},
    }


def order(tree):
    """All entries from the best to the worst, as one flat index."""
    return np.argsort(-np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)]), kind="stable")


def mean(trees):
    return jax.tree.map(lambda *leaves: sum(leaves) / len(leaves), *trees)


def snip64(params, masked, alive):
    return jax.tree.map(lambda p, g: abs(p * g), params, mean([gradient64(masked, *b) for b in BATCHES]))


def taylor64(params, masked, alive):
    each = [jax.tree.map(lambda p, g: (p * g) ** 2, masked, gradient64(masked, *b)) for b in BATCHES]
    return mean(each)


def fisher64(params, masked, alive):
    single = [gradient64(masked, x[i : i + 1], y[i : i + 1]) for x, y in BATCHES for i in range(len(y))]
    return jax.tree.map(lambda p, f: p**2 * f / 2, params, mean([jax.tree.map(np.square, g) for g in single]))


def grasp64(params, masked, alive):
    """The Hessian's product by central differences of the exact gradient."""

    def gradient(step):
        moved = jax.tree.map(lambda p, a, g: p + step * a * g, masked, alive, along)
        return mean([gradient64(moved, *b) for b in BATCHES])

    along = jax.tree.map(np.zeros_like, params)
    along = gradient(0.0)
    return jax.tree.map(lambda p, a, b: p * (a - b) / 2e-5, params, gradient(1e-5), gradient(-1e-5))


ORACLES = {"snip": snip64, "grasp": grasp64, "fisher": fisher64, "taylor": taylor64}


@pytest.mark.parametrize("mask", [None, MASK], ids=["dense", "masked"])
@pytest.mark.parametrize("name", ORACLES)
def test_values_against_float64(name, mask):
    alive = jax.tree.map(np.ones_like, PARAMS)
    if mask is not None:  # leaves that are not sparsified stay, and are no part of GraSP's gradient
        alive = jax.tree.map(lambda p, m: np.zeros_like(p) if m is None else m * np.ones_like(p), PARAMS, mask,
                             is_leaf=lambda x: x is None)  # fmt: skip
    masked = jax.tree.map(lambda p, a, leaf: p if mask is None or leaf.shape[0] == 1 else p * a, PARAMS, alive, PARAMS)
    expected = ORACLES[name](PARAMS, masked, alive)
    scored = SCORES[name](as_float32(PARAMS), mask=mask)
    for layer in PARAMS:
        np.testing.assert_allclose(scored[layer]["kernel"], expected[layer]["kernel"], rtol=2e-3, atol=2e-6)
        if mask is None:
            np.testing.assert_allclose(scored[layer]["bias"], expected[layer]["bias"], rtol=2e-3, atol=2e-6)
        else:
            assert scored[layer]["bias"] is None


@pytest.mark.parametrize("name", ["snip", "grasp"])
def test_quadratic_golden(name):
    golden = GOLDEN["quadratic"]
    quadratic = lambda params, matrix: params["w"] @ matrix @ params["w"] / 2
    matrix = jnp.array(golden["matrix"])
    scored = ON_DATA[name](quadratic, [0.5 * matrix, 1.5 * matrix])({"w": jnp.array(golden["weights"])})
    np.testing.assert_allclose(scored["w"], golden[name], rtol=1e-6)
    scaled = ON_DATA[name](lambda params, matrix: 64 * quadratic(params, matrix), [matrix])(
        {"w": jnp.array(golden["weights"])}
    )
    np.testing.assert_array_equal(order(scaled), order(scored))  # the scale of the loss does not matter


def test_snip_is_the_gradient_by_gates():
    params, batches = as_float32(PARAMS), as_float32(BATCHES)
    scored = SCORES["snip"](params)

    @jax.jit
    def of_gates(gates):
        return sum(loss(jt.masks.gate(params, gates), batch) for batch in batches) / 3

    gates = jax.grad(of_gates)(jax.tree.map(jnp.ones_like, params))
    jax.tree.map(lambda s, g: np.testing.assert_allclose(s, abs(g), rtol=1e-5, atol=1e-8), scored, gates)


def test_removing_what_grasp_scores_lowest_raises_the_gradient_norm():
    from_best = order(SCORES["grasp"](as_float32(PARAMS)))
    flat, restore = jax.flatten_util.ravel_pytree(PARAMS)

    def norm_without(places):
        pruned = jax.tree.map(np.asarray, restore(np.where(np.isin(np.arange(flat.size), places), 0, flat)))
        gradient = mean([gradient64(pruned, *b) for b in BATCHES])
        return np.sqrt(sum(np.sum(g**2) for g in jax.tree.leaves(gradient)))

    assert norm_without(from_best[-4:]) > norm_without(from_best[:4]) * 1.05


def test_taylor_squares_the_signed_sum_of_each_filter():
    params, batches = as_float32(PARAMS), as_float32(BATCHES)
    each = [jax.tree.map(lambda p, g: p * g, PARAMS, gradient64(PARAMS, *b)) for b in BATCHES]
    for unit, axes in [(units.axis(-1), 0), (units.axis(-2, reduce=units.l2), 1)]:
        scored = scores.taylor(loss, batches, unit=unit)(params)["hidden"]["kernel"]
        sums = [np.sum(tree["hidden"]["kernel"], axes, keepdims=True) for tree in each]
        expected = sum(np.square(s) for s in sums) / 3
        np.testing.assert_allclose(scored, np.broadcast_to(expected, (5, 4)), rtol=1e-4)
    blocks = scores.taylor(loss, batches, unit=units.block(2, 2))(params)["hidden"]["kernel"]  # 5 rows: a ragged edge
    corner = sum(np.square(tree["hidden"]["kernel"][4:, 2:].sum()) for tree in each) / 3
    np.testing.assert_allclose(blocks[4:, 2:], np.full((1, 2), corner), rtol=1e-4)


def test_taylor_selects_the_filter_that_single_weights_would_miss():
    """A filter whose large contributions cancel goes first."""
    params = {"w": jnp.array([[3.0, 1.0], [-3.0, 1.0]])}
    score = scores.taylor(lambda p, batch: jnp.vdot(p["w"], batch), [jnp.ones((2, 2))], unit=units.axis(-1))
    kept = jt.select(score(params), 0.5, unit=units.axis(-1))
    np.testing.assert_array_equal(jnp.broadcast_to(kept["w"], (2, 2)), [[False, True], [False, True]])


def mlp(depth, width, scale=1.0):
    rng = np.random.default_rng(depth)
    return [rng.normal(size=(width, width)) * scale for _ in range(depth)]


def flow(kernels, x):
    for kernel in kernels[:-1]:
        x = jax.nn.relu(x @ kernel)
    return x @ kernels[-1]


def synflow64(kernels, mask):
    positive = [abs(k) * m for k, m in zip(kernels, mask)]
    forward, backward = [np.ones((1, len(kernels[0])))], [np.ones((1, kernels[-1].shape[1]))]
    for kernel in positive:
        forward.append(forward[-1] @ kernel)
    for kernel in reversed(positive):
        backward.append(backward[-1] @ kernel.T)
    shares = [f.T * k * b for f, k, b in zip(forward, positive, backward[-2::-1])]
    return [s / forward[-1].sum() for s in shares]


@pytest.mark.parametrize(("depth", "scale"), [(3, 1.0), (14, 500.0)], ids=["shallow", "beyond float32"])
def test_synflow_against_float64(depth, scale):
    kernels = mlp(depth, 6, scale)
    mask = [abs(k) > 0.2 * scale for k in kernels]
    score = scores.synflow(flow, jax.ShapeDtypeStruct((9, 6), jnp.float32))
    for found, expected in zip(score(as_float32(kernels), mask=mask), synflow64(kernels, mask), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4)
    assert (scale > 1) == (np.prod([abs(k).mean() * 6 for k in kernels]) > 1e38)


def test_synflow_is_conserved_and_sees_neither_signs_nor_data():
    kernels = as_float32(mlp(3, 6))
    scored = scores.synflow(flow, jnp.zeros((2, 6)))(kernels)
    for before, after in itertools.pairwise(scored):  # each neuron: what comes in goes out
        np.testing.assert_allclose(before.sum(0), after.sum(1), rtol=1e-5)
    np.testing.assert_allclose([s.sum() for s in scored], 1, rtol=1e-6)
    again = scores.synflow(flow, jnp.full((5, 6), 7.0))([-k for k in kernels])
    jax.tree.map(np.testing.assert_array_equal, again, scored)


def test_synflow_of_a_cut_network_is_zero():
    kernels = as_float32(mlp(3, 6))
    scored = scores.synflow(flow, jnp.zeros((2, 6)))([kernels[0], jnp.zeros((6, 6)), kernels[2]])
    assert all((s == 0).all() for s in scored)


def test_synflow_takes_the_size_of_biases_and_of_inputs_of_any_shape():
    score = scores.synflow(
        lambda p, x: x["a"] @ p["w"] + p["b"] + x["b"].sum(), {"a": jnp.ones((4, 2)), "b": jnp.ones(4)}
    )
    scored = score({"w": jnp.array([[1.0], [-2.0]]), "b": jnp.array([[-4.0]])})
    np.testing.assert_allclose(scored["w"], [[1 / 8], [2 / 8]])  # R = 1 + 2 + 4 + 1
    np.testing.assert_allclose(scored["b"], [[4 / 8]])


@pytest.mark.parametrize(
    ("name", "kind"), [("grasp", AxisType.Auto), ("fisher", AxisType.Auto), ("snip", AxisType.Explicit)]
)
def test_batches_sharded_over_devices_give_the_same_mask(name, kind):
    params = as_float32(PARAMS)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(kind,))
    sharded = jax.device_put(as_float32(BATCHES), NamedSharding(mesh, PartitionSpec("data")))
    replicated = jax.device_put(params, NamedSharding(mesh, PartitionSpec()))
    alone, spread = SCORES[name](params), ON_DATA[name](loss_without_gather, sharded)(replicated)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), alone, spread)
    np.testing.assert_array_equal(order(spread), order(alone))


@pytest.mark.parametrize("name", ["snip", "fisher"])
def test_one_trace_for_all_batches_masks_and_calls(name):
    traced = []

    def counted(params, batch):
        traced.append(1)
        return loss(params, batch)

    score = ON_DATA[name](counted, as_float32(BATCHES))
    first = score(as_float32(PARAMS), mask=MASK)
    other = jax.tree.map(lambda m: ~m, MASK)
    again = score(as_float32(PARAMS), mask=other)
    assert len(traced) == 1
    assert not np.allclose(first["hidden"]["kernel"], again["hidden"]["kernel"])


def test_compiled_and_mapped_scores_are_those_of_each_replicate():
    score = SCORES["snip"]
    replicates = jax.tree.map(lambda p: jnp.stack([p, -p]), as_float32(PARAMS))
    mapped = jax.jit(jax.vmap(score))(replicates)
    for i in range(2):
        alone = score(jax.tree.map(lambda p: p[i], replicates))
        jax.tree.map(lambda m, a: np.testing.assert_allclose(m[i], a, rtol=1e-4, atol=1e-6), mapped, alone)


def test_leaves_that_are_not_scored_and_dtypes():
    params = {"w": jnp.array([2.0, 4.0], jnp.bfloat16), "n": jnp.array(3), "none": None, "fixed": jnp.ones(2)}
    mask = {"w": jnp.array([True, False]), "n": None, "none": None, "fixed": None}
    linear = lambda p, batch: (jnp.vdot(p["w"], batch) * p["n"] + p["fixed"].sum()).astype(jnp.float32)
    batches = [jnp.array([1.0, 0.5], jnp.bfloat16)] * 2
    found = {name: factory(linear, batches)(params, mask=mask) for name, factory in ON_DATA.items() if name != "fisher"}
    for scored in found.values():
        assert scored["w"].dtype == jnp.float32
        assert scored["n"] is scored["none"] is scored["fixed"] is None
    np.testing.assert_array_equal(found["snip"]["w"], [6, 6])  # a dead weight scores as if it came back
    np.testing.assert_array_equal(found["taylor"]["w"], [36, 0])
    empty = optax.MaskedNode()
    assert scores.snip(loss, batches)(empty) == empty
    assert scores.synflow(apply, jnp.ones((1, 2)))(empty) == empty


@pytest.mark.parametrize("factory", ON_DATA.values())
def test_errors(factory):
    for bad in (iter([1]), (b for b in BATCHES), jnp.ones((2, 3)), 3):
        with pytest.raises(InputError, match=r"list\(batches\)"):
            factory(loss, bad)
    with pytest.raises(InputError, match="at least one batch"):
        factory(loss, [])(as_float32(PARAMS))
    with pytest.raises(InputError, match=r"shape \(8, 3\)|shape \(1, 3\)"):
        factory(lambda p, b: apply(p, b[0]), as_float32(BATCHES))(as_float32(PARAMS))
    with pytest.raises(StructureError, match="mask"):
        factory(loss, as_float32(BATCHES))(as_float32(PARAMS), mask={"hidden": None})


def test_errors_of_single_scores():
    with pytest.raises(InputError, match="first axis"):
        scores.fisher(loss, [(jnp.ones((8, 5)), jnp.zeros(7, int))])(as_float32(PARAMS))
    with pytest.raises(InputError, match="scalar"):
        scores.synflow(flow, 1.0)


def test_module_golden():
    golden = GOLDEN["module"]
    params = {"in": jnp.array(golden["weights"][:1]), "out": jnp.array(golden["weights"][1:])}
    scored = jax.jit(scores.module(scores.magnitude, lambda path: "mlp"))(params)
    expected = np.divide(golden["numerators"], golden["denominators"])
    np.testing.assert_allclose(np.concatenate([scored["in"], scored["out"]]), expected, rtol=1e-6)


def test_modules_of_one_leaf_are_lamp_and_one_module_is_global_magnitude():
    params = {"a": jnp.asarray(mlp(7, 7)[0][:, :3], jnp.float32), "b": jnp.array([[9.0, 0.1]]), "none": None}
    mask = {"a": abs(params["a"]) > 0.5, "b": jnp.array([[True, True]]), "none": None}
    by_leaf = jax.jit(scores.lamp(scores.magnitude))(params, mask=mask)
    found = jax.jit(scores.module(scores.magnitude, {"^a": 1}))(params, mask=mask)
    jax.tree.map(np.testing.assert_array_equal, found, by_leaf)
    assert found["none"] is None
    together = jax.jit(scores.module(scores.magnitude, {"": "net"}))(params)
    np.testing.assert_array_equal(order(together), order(jax.tree.map(np.abs, params)))


def test_the_mask_of_modules_ignores_the_scale_of_a_module():
    params = dict(zip(("a/0", "a/1", "b/0", "b/1"), as_float32(mlp(4, 5)), strict=True))
    score = jax.jit(scores.module(scores.magnitude, lambda path: path[0]))
    scaled = {name: p / 8 if name[0] == "a" else p for name, p in params.items()}
    scored = score(params)
    jax.tree.map(np.testing.assert_array_equal, scored, score(scaled))
    assert max(float(scored[name].max()) for name in ("a/0", "a/1")) == 1


def test_module_errors():
    params = {"a": jnp.ones(2)}
    with pytest.raises(InputError, match="regular expression"):
        scores.module(scores.magnitude, {"(": 1})(params)
    with pytest.raises(NoMatchError, match="'b'"):
        scores.module(scores.magnitude, {"b": 1})(params)
