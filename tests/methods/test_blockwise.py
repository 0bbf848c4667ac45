"""Pruning block by block: the order of the inputs, resumption, meshes, and what is compiled."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType

from jaxticket import filters, masks, models, structure
from jaxticket.errors import InputError
from jaxticket.methods.finetune import blockwise
from jaxticket.methods.finetune.blockwise import by_magnitude, by_structure, by_wanda, prune_blocks
from jaxticket.methods.finetune.sparsegpt import sparsegpt

# Two linear layers as the blocks of a network, from the specification's worked example: kernels are (inputs, outputs).
LINEAR = models.Stages(embed=lambda outer, x: x, block=lambda p, x: x @ p["kernel"], head=lambda outer, x: x)
FIRST = jnp.array([[4.0, 2.0], [-1.0, 4.0], [2.0, -6.0], [0.5, 1.5]])
BLOCKS = [("block1", {"kernel": FIRST}), ("block2", {"kernel": jnp.array([[3.0], [1.0]])})]
X = jnp.array([[1.0, 0, 0, 6], [0, 3, 1, 8]])
METHODS = {
    "magnitude": by_magnitude(0.5),
    "wanda": by_wanda(0.5),
    "wanda_groups": by_wanda(0.25, group=4),
    "sparsegpt": functools.partial(sparsegpt, density=0.5, sequential=False),
}


def kept(pruned):
    return [block.mask["kernel"].astype(int).T.tolist() for block in pruned]


@functools.cache
def decoder():
    model = models.decoder(vocabulary=30, layers=3, heads=4, key_value_heads=2, width=8, hidden=12, depth=4)
    params = model.init(jax.random.key(0))[0]
    return model, params, [jax.random.randint(jax.random.key(seed), (2, 9), 0, 30) for seed in range(3)]


def run(method, params=None, batches=None, **options):
    model, own, tokens = decoder()
    params = own if params is None else params
    return list(prune_blocks(model.stages, params, params["blocks"], batches or tokens, method, **options))


def assert_same(a, b):
    for own, other in zip(a, b, strict=True):
        assert own.name == other.name
        jax.tree.map(np.testing.assert_array_equal, own.mask, other.mask)
        jax.tree.map(functools.partial(np.testing.assert_allclose, atol=1e-5), own.params, other.params)


def test_a_block_sees_the_pruned_ones_before_it():
    """By the dense outputs the second block would lose the other input: scores 22.8 and 21.1, not 24.2 and 25.6."""
    assert kept(prune_blocks(LINEAR, {}, BLOCKS, [X], by_wanda(0.5))) == [[[1, 0, 0, 1], [0, 1, 0, 1]], [[0, 1]]]
    (dense,) = prune_blocks(LINEAR, {}, BLOCKS[1:], [X @ FIRST], by_wanda(0.5))
    assert kept([dense]) == [[[1, 0]]]


def test_batches_may_be_split():
    rows = [X[:1], X[1:]]
    assert kept(prune_blocks(LINEAR, {}, BLOCKS, rows, by_wanda(0.5))) == [[[1, 0, 0, 1], [0, 1, 0, 1]], [[0, 1]]]
    tokens = decoder()[2]
    together = run(METHODS["sparsegpt"], batches=[jnp.concatenate(tokens)])
    assert_same(together, run(METHODS["sparsegpt"]))


@pytest.mark.parametrize("name", METHODS)
def test_every_layer_has_the_density_and_the_network_runs(name):
    model, params, tokens = decoder()
    pruned = run(METHODS[name])
    assert [block.name for block in pruned] == ["block1", "block2", "block3"]
    for block in pruned:
        summary = masks.summary(block.params, block.mask)
        assert summary.maskable.density == (0.25 if name == "wanda_groups" else 0.5)
        for p, m in zip(
            jax.tree.leaves(block.params), jax.tree.leaves(block.mask, is_leaf=lambda m: m is None), strict=True
        ):
            assert m is None or bool((jnp.where(m, 0, p) == 0).all())
    sparse = {**params, "blocks": {block.name: block.params for block in pruned}}
    outputs, _ = model.apply(sparse, None, tokens[0], train=False, key=None)
    assert bool(jnp.isfinite(outputs).all())


def test_groups_of_inputs():
    for block in run(METHODS["wanda_groups"]):
        mask = block.mask["mlp"]["output"]["kernel"]  # (12, 8)
        assert (np.asarray(mask).reshape(3, 4, 8).sum(1) == 1).all()
        mask = block.mask["attention"]["query"]["kernel"]  # (8, 4, 4)
        assert (np.asarray(mask).reshape(2, 4, 4, 4).sum(1) == 1).all()


@pytest.mark.parametrize("name", ["wanda", "sparsegpt"])
def test_finished_blocks_only_run(name):
    whole = run(METHODS[name])
    finished = {block.name: (block.params, block.mask) for block in whole[:2]}
    calls = []

    def watched(params, apply, streams):
        calls.append(len(streams))
        return METHODS[name](params, apply, streams)

    assert_same(run(watched, finished=finished), whole)
    assert calls == [3]


def test_blocks_of_equal_shapes_are_compiled_once():
    blockwise._measure.clear_cache()
    run(METHODS["wanda"])
    assert blockwise._measure._cache_size() == 1
    run(by_wanda(0.3))
    assert blockwise._measure._cache_size() == 1


def test_blocks_by_name_come_in_their_order():
    blocks = {name: {"kernel": jnp.eye(2) * number} for number, name in enumerate(["block1", "block10", "block2"], 1)}
    assert [b.name for b in prune_blocks(LINEAR, {}, blocks, [X[:, :2]], by_wanda(0.5))] == [
        "block1",
        "block2",
        "block10",
    ]


def test_a_block_is_read_when_it_is_asked_for():
    model, params, tokens = decoder()
    read = []

    def blocks():
        for name, block in params["blocks"].items():
            read.append(name)
            yield name, block

    pruned = prune_blocks(model.stages, params, blocks(), tokens, METHODS["wanda"])
    assert next(pruned).name == "block1"
    assert read == ["block1"]


def test_bfloat16_weights_keep_their_type():
    params = jax.tree.map(lambda p: p.astype(jnp.bfloat16), decoder()[1])
    for name in ("wanda", "sparsegpt"):
        pruned = run(METHODS[name], params)
        assert {leaf.dtype for block in pruned for leaf in jax.tree.leaves(block.params)} == {jnp.dtype(jnp.bfloat16)}


def test_heads_and_hidden_units_are_removed():
    """A smaller block computes what the whole one does where the weights of removed units are zero."""
    model, params, tokens = decoder()
    pruned = run(by_structure(0.5))
    stream = model.stages.embed(params, tokens[0])
    for block in pruned:
        shape = lambda part, leaf, block=block: block.params[part][leaf]["kernel"].shape
        assert block.mask is None
        assert (shape("attention", "query"), shape("attention", "key")) == ((8, 2, 4), (8, 1, 4))
        assert (shape("mlp", "gate"), shape("mlp", "output")) == ((8, 6), (6, 8))
        dense = params["blocks"][block.name]
        groups = structure.trace(model.stages.block, dense, stream)
        zeroed = zeros_where_gone(dense, block.params, groups)
        whole, small = model.stages.block(zeroed, stream), model.stages.block(block.params, stream)
        np.testing.assert_allclose(whole, small, atol=1e-5)
        stream = small
    sparse = {**params, "blocks": {block.name: block.params for block in pruned}}
    outputs, _ = model.apply(sparse, None, tokens[0], train=False, key=None)
    np.testing.assert_allclose(outputs, model.stages.head(params, stream), atol=1e-5)


def zeros_where_gone(dense, small, groups):
    """The dense block with zeros for the units of which `small` has no column of queries or gates."""
    kept = {}
    for group, part, leaf in (("attention/query/kernel:1", "attention", "key"), ("mlp/gate/kernel:1", "mlp", "gate")):
        columns = lambda tree, part=part, leaf=leaf: np.asarray(tree[part][leaf]["kernel"]).swapaxes(0, 1)
        own = columns(small)
        kept[group] = np.array([any(np.array_equal(column, other) for other in own) for column in columns(dense)])
    return masks.apply_mask(dense, structure.spread(kept, groups, dense))


def test_units_of_the_least_inputs_are_removed():
    """Hidden units whose gates see a large input stay, although their weights are the smaller."""
    block = lambda p, x: jax.nn.relu(x @ p["first"]["kernel"]) @ p["second"]["kernel"]
    params = {
        "first": {"kernel": jnp.array([[1.0, 0, 1, 0], [0, 2, 0, 2]])},
        "second": {"kernel": jnp.ones((4, 2)) / 100},
    }
    stages = models.Stages(lambda outer, x: x, block, lambda outer, x: x)
    x = jnp.array([[9.0, 1.0], [8.0, 0.5]])
    (pruned,) = prune_blocks(stages, {}, {"block1": params}, [x], by_structure(0.5))
    assert pruned.params["first"]["kernel"].tolist() == [[1, 1], [0, 0]]


def test_on_a_mesh():
    _, params, tokens = decoder()
    auto = (AxisType.Auto, AxisType.Auto)
    mesh = jax.make_mesh((2, 2), ("data", "model"), axis_types=auto, devices=jax.devices()[:4])
    spread = lambda *axes: jax.NamedSharding(mesh, jax.P(*axes))
    place = lambda p: jax.device_put(p, spread(*[None] * (p.ndim - 1), "model" if p.ndim > 1 else None))
    tokens = [jax.device_put(batch, spread("data", None)) for batch in tokens]
    for name in ("wanda", "sparsegpt"):
        sharded = run(METHODS[name], jax.tree.map(place, params), tokens)
        assert_same(sharded, run(METHODS[name]))


def test_layers_that_see_the_dense_block():
    """Each leaf is pruned as if it were alone, and not after those before it."""
    _, params, _ = decoder()
    model, block = decoder()[0], params["blocks"]["block1"]
    streams = [model.stages.embed(params, batch) for batch in decoder()[2]]
    together, _ = sparsegpt(block, model.stages.block, streams, 0.5, sequential=False)
    one_by_one, _ = sparsegpt(block, model.stages.block, streams, 0.5)
    for path in ("attention/out", "mlp/output"):
        part, leaf = path.split("/")
        alone, _ = sparsegpt(block, model.stages.block, streams, 0.5, where=filters.match(f"{path}/kernel"))
        kernel = together[part][leaf]["kernel"]
        np.testing.assert_allclose(kernel, alone[part][leaf]["kernel"], atol=1e-5)
        assert float(jnp.abs(kernel - one_by_one[part][leaf]["kernel"]).max()) > 1e-3


@pytest.mark.parametrize("make", [by_magnitude, by_wanda])
def test_bad_arguments(make):
    with pytest.raises(InputError, match=r"density=1\.5"):
        make(1.5)
    with pytest.raises(InputError, match="group=0"):
        make(0.5, group=0)
    with pytest.raises(InputError, match="fraction=2"):
        by_structure(2)
    with pytest.raises(InputError, match="exclude"):
        by_structure(0.5, exclude="(")


def test_bad_batches_and_leaves():
    with pytest.raises(InputError, match="batches is empty"):
        next(prune_blocks(LINEAR, {}, BLOCKS, [], by_wanda(0.5)))
    unused = {**BLOCKS[0][1], "unused": {"kernel": jnp.ones((2, 2))}}
    with pytest.raises(InputError, match=r"\['unused/kernel'\] are never multiplied"):
        next(prune_blocks(LINEAR, {}, [("block1", unused)], [X], by_wanda(0.5)))
    with pytest.raises(InputError, match=r"batches\[1\] gives"):
        next(prune_blocks(LINEAR, {}, BLOCKS, [X, X * jnp.nan], by_wanda(0.5)))
