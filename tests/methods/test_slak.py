"""SLaK's training: ratios of SNIP, random regrowth with a cosine, and averages in which newborn weights start anew."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxticket as jt
from jaxticket import filters, masks, models, schedules, scores
from jaxticket.errors import InputError, StructureError
from jaxticket.methods.channels.slak import average, ratios, slak


def refresh(plan, params, mask, state, count):
    signals = {"params": params, "grads": params, "count": jnp.int32(count), "key": jax.random.key(count), "aux": None}
    return plan.refresh.update(mask, state, **signals)


def test_ratios_keep_the_threshold():
    """Of scores 5 to 1 the density 0.4 keeps two; the authors' strict threshold keeps one."""
    score = {"kernel": jnp.array([[5.0, 4.0, 3.0, 2.0, 1.0]])}
    assert ratios(score, score, 0.4) == {"kernel": 0.4}
    strict = score["kernel"] > jax.lax.top_k(score["kernel"], int(5 * 0.4))[0][0, -1]
    assert int(strict.sum()) == 1


def test_nearly_dense_leaves_are_dense():
    score = {"a": {"kernel": jnp.full((10, 10), 9.0).at[0, 0].set(0)}, "b": {"kernel": jnp.ones((10, 10))}}
    shares = ratios(score, score, 0.5)
    assert shares["a"]["kernel"] == 1.0
    assert shares["b"]["kernel"] == pytest.approx(0.01)


def test_blocks_of_tiny_layer_scales_bear_the_sparsity():
    """Layer scales of 1e-6 make gradients of blocks as small: all else is dense, and masks have exactly the density."""
    how = {"classes": 10, "kernels": (9, 5), "small": 3, "depths": (1, 2), "dims": (8, 16), "patch": 2, "channels": 1}
    model = models.slak(**how)
    params, state = model.init(jax.random.key(0))
    batch = jax.random.normal(jax.random.key(1), (20, 16, 16, 1)), jnp.arange(20) % 10

    def loss(params, batch):
        logits, _ = model.apply(params, state, batch[0], train=True, key=None)
        return optax.softmax_cross_entropy_with_integer_labels(logits, batch[1]).mean()

    shares = ratios(params, scores.snip(loss, [batch])(params))
    outside = {"stem": shares["stage1"]["entry"], "between": shares["stage2"]["entry"], "output": shares["output"]}
    assert min(jax.tree.leaves(outside)) > 0.95, outside
    blocks = [share for name in ("block1", "block2") for share in jax.tree.leaves(shares["stage2"][name])]
    assert max(blocks) < 0.9
    mask = slak(shares, steps=10).refresh.init(params, None, key=jax.random.key(2))[0]
    number = sum(p.size for p in jax.tree.leaves(params) if p.ndim > 1)
    assert (
        0
        <= int(masks.nnz(params, mask)) - round(0.6 * number)
        <= 0.01 * sum(p.size for p, share in zip(*map(leaves_with_none, (params, shares)), strict=True) if share == 1)
    )
    for p, share, m in zip(*map(leaves_with_none, (params, shares, mask)), strict=True):
        assert share is None or int(jnp.broadcast_to(m, p.shape).sum()) == round(share * p.size)


def leaves_with_none(tree):
    return jax.tree.leaves(tree, is_leaf=lambda x: x is None)


def test_every_kernel_is_sparsified():
    params, _ = jax.eval_shape(models.slak(kernels=(7,), depths=(1,), dims=(8,)).init, jax.random.key(0))
    assert filters.weights()(params) == jax.tree.map(lambda x: x.ndim in (2, 4), params)


def test_drop_fraction():
    falls = {0.5: [0.5, 0.427509, 0.2525, 0.077491, 0.005], 0.3: [0.3, None, 0.1525, None, 0.005]}
    for initial, expected in falls.items():
        fraction = schedules.cosine(initial, stop=100, final=0.005)
        for t, value in zip((0, 25, 50, 75, 100), expected, strict=True):
            assert value is None or float(fraction(jnp.int32(t))) == pytest.approx(value, abs=1e-6)


@pytest.mark.parametrize(("every", "refreshes"), [(2000, 46), (100, 936)])
def test_refreshes_of_300_epochs(every, refreshes):
    """The plan is asked before each update, the authors' code after it: their last refresh may follow all updates."""
    plan = slak(1.0, steps=93_600, every=every)
    due = jax.vmap(plan.when)
    assert int(due(jnp.arange(1, 93_601)).sum()) == refreshes
    assert int(due(jnp.arange(93_600)).sum()) == refreshes - (93_600 % every == 0)


def test_refresh_replaces_the_smallest():
    """Of ten weights a quarter is dropped, rounded up: three. As many grow, so the number stays."""
    params = {"kernel": jnp.arange(1.0, 41.0).reshape(4, 10)}
    plan = slak({"kernel": 0.25}, steps=1000, every=1, drop_fraction=0.25)
    mask, state = plan.refresh.init(params, None, key=jax.random.key(0))
    assert int(masks.nnz(params, mask)) == 10
    worst = np.sort(np.asarray(params["kernel"])[np.asarray(mask["kernel"])])
    new, _ = refresh(plan, params, mask, state, 1)
    assert int(masks.nnz(params, new)) == 10
    kept = np.asarray(params["kernel"])[np.asarray(new["kernel"])]
    assert set(worst[3:]) <= set(kept)  # the seven largest stay
    assert set(kept) != set(worst)


def test_average():
    mean, params = {"w": jnp.array([0.5, 0.2, 0.0]), "b": jnp.zeros(1)}, {"w": jnp.array([1.0, 1, 2]), "b": jnp.ones(1)}
    new = average(mean, params, {"w": jnp.array([True, False, True]), "b": None})
    np.testing.assert_allclose(new["w"], [0.50005, 0, 2], rtol=1e-6)
    np.testing.assert_allclose(new["b"], [1e-4], rtol=1e-3)  # a dense leaf has no newborn weights
    with pytest.raises(InputError, match="decay=2"):
        average(mean, params, {"w": None, "b": None}, decay=2)


def test_average_of_trees_that_differ():
    params = {"w": jnp.ones((2, 3)), "b": jnp.ones(2)}
    mask = {"w": jnp.ones((2, 1), bool), "b": None}
    with pytest.raises(StructureError, match="only params has 'b'"):
        average({"w": params["w"]}, params, mask)
    with pytest.raises(StructureError, match=r"mean at 'w' has shape \(3,\)"):
        average({**params, "w": jnp.ones(3)}, params, mask)
    with pytest.raises(StructureError, match="mask at 'w'"):
        average(params, params, {"w": jnp.ones((3, 3), bool), "b": None})
    frozen = {"w": params["w"], "b": None}
    assert average(frozen, frozen, mask)["b"] is None


def test_weights_that_return_at_once_keep_their_values():
    """Of two weights in three places that are all kept but one, most dropped weights return, with their values."""
    params = {"kernel": jnp.arange(1.0, 31.0).reshape(3, 10)}
    tx = jt.sparsify(optax.sgd(0.0), slak(0.9, steps=100, every=1, drop_fraction=0.5), key=jax.random.key(0))
    params, state = jt.init(tx, params)
    step = jax.jit(lambda params, state: tx.update(jax.tree.map(jnp.ones_like, params), state, params))
    first = params["kernel"]
    for _ in range(2):
        updates, state = step(params, state)
        params = optax.apply_updates(params, updates)
    mask = jt.mask_of(state)["kernel"]
    smallest = jnp.sort(first[first != 0])[: 27 - 13]  # of 27 weights 14 are dropped
    returned = smallest[jnp.isin(smallest, params["kernel"])]
    assert int(mask.sum()) == 27
    assert len(returned) >= 14 - 3  # only three places were empty
    assert bool((params["kernel"] == jnp.where(mask, first, 0)).all())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps=0 must be"),
        ({"steps": 2.5}, "steps=2.5 must be"),
        ({"every": 0}, "every=0 must be"),
        ({"drop_fraction": 2}, "drop_fraction=2 is not"),
        ({"drop_fraction": 0.001}, "drop_fraction=0.001 is below 0.005"),
        ({"drop_fraction": "most"}, "drop_fraction='most' is a str"),
    ],
)
def test_errors(options, message):
    with pytest.raises(InputError, match=message):
        slak(0.5, **{"steps": 10, **options})
