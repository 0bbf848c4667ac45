"""Layer tickets: which blocks go, and the network without them."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxticket import apply_mask, diagnostics, models, scores
from jaxticket.errors import InputError, NoMatchError
from jaxticket.methods.channels.layers import block_mask, measure_blocks, remove_blocks, score_blocks, select_blocks

MODEL = models.resnet_20(width=4, channels=1)
PARAMS, STATE = MODEL.init(jax.random.key(0))
X = jax.random.normal(jax.random.key(1), (12, 8, 8, 1))
Y = jnp.arange(12) % 10


def logits(params, state=STATE):
    return MODEL.apply(params, state, X, train=False, key=None)[0]


def loss(params, batch):
    return optax.softmax_cross_entropy_with_integer_labels(logits(params), batch).mean()


def resnet_32(values):
    """Return scores of the 15 blocks of a ResNet-32, in which the first of each stage would go first."""
    names = [f"stage{stage}/block{block}" for stage in (1, 2, 3) for block in range(1, 6)]
    values = iter(values)
    return {name: -1.0 if name.endswith("block1") else next(values) for name in names}


def depths(scores, gone):
    return [sum(name.startswith(f"stage{stage}") for name in scores if name not in gone) for stage in (1, 2, 3)]


def published(values, blocks, count):
    """Return the mask over removable blocks of `new_blocks` (arturjordao/DeepPruning@a951b3a, rebuild_layers.py)."""
    values, blocks = np.array(values, float), list(blocks)
    stage_of = [stage for stage, number in enumerate(blocks) for _ in range(number - 1)]
    mask = np.ones(len(values))
    while count > 0 and not np.all(np.isinf(values)):
        least = np.argmin(values)
        if blocks[stage_of[least]] - 1 > 1:
            mask[least] = 0
            blocks[stage_of[least]] -= 1
            count -= 1
        values[least] = np.inf
    return mask, blocks


def test_a_stage_keeps_two_blocks():
    scores = resnet_32([0.1, 0.2, 0.3, 0.4, *[0.9] * 4, *[0.8] * 4])
    gone = select_blocks(scores, 5)
    assert gone == ("stage1/block2", "stage1/block3", "stage1/block4", "stage3/block2", "stage3/block3")
    assert depths(scores, gone) == [2, 5, 3]


@given(st.lists(st.integers(0, 9), min_size=12, max_size=12), st.integers(0, 9))
def test_blocks_go_as_published(values, count):
    scores = resnet_32(map(float, values))
    mask, left = published(values, (5, 5, 5), count)
    gone = select_blocks(scores, count)
    removable = [name for name in scores if not name.endswith("block1")]
    assert {name for name, kept in zip(removable, mask, strict=True) if not kept} == set(gone)
    assert depths(scores, gone) == left


def test_the_scores_of_weights_are_summed_with_their_signs():
    weights = {"block1": {"kernel": jnp.array([[3.0, -3.0]])}, "block10": jnp.ones(1), "block2": jnp.ones(1)}
    summed = score_blocks(weights)
    assert summed == {"block1": 0.0, "block2": 1.0, "block10": 1.0}
    assert list(summed) == ["block1", "block2", "block10"]
    absolute = score_blocks(jax.tree.map(jnp.abs, weights))
    assert select_blocks(summed, 1, minimum=1) == ("block2",), "the first block stays"
    assert absolute["block1"] == 6.0


def test_a_shallower_network_is_the_gated_one():
    gone = ("stage1/block2", "stage3/block3")
    gated = logits(apply_mask(PARAMS, block_mask(PARAMS, gone)))
    np.testing.assert_allclose(logits(remove_blocks(PARAMS, gone), remove_blocks(STATE, gone)), gated, atol=1e-6)
    assert np.abs(gated - logits(PARAMS)).max() > 1e-2
    np.testing.assert_array_equal(logits(apply_mask(PARAMS, block_mask(PARAMS, ()))), logits(PARAMS))


def test_a_block_that_adds_nothing_is_worth_nothing():
    idle = jax.tree_util.tree_map_with_path(
        lambda path, p: jnp.zeros_like(p) if "stage2']['block2']['layer2" in jax.tree_util.keystr(path) else p, PARAMS
    )
    idle["output"]["kernel"] *= 20
    by_cka = measure_blocks(logits, idle, lambda a, b: 1 - diagnostics.linear_cka(a, b))
    divergence = lambda a, b: optax.losses.kl_divergence(jax.nn.log_softmax(a), jax.nn.softmax(b)).mean()
    by_divergence = measure_blocks(logits, idle, divergence)
    for measured in (by_cka, by_divergence):
        assert measured["stage2/block2"] == pytest.approx(0, abs=1e-5)
        assert measured["stage3/block2"] > 1e-4
    # The mean over examples of the sum over classes of q · (log q − log p), where q lacks the block.
    p, q = (
        np.asarray(jax.nn.softmax(logits(params)), np.float64)
        for params in (idle, apply_mask(idle, block_mask(idle, ["stage3/block2"])))
    )
    expected = (q * (np.log(q) - np.log(p))).sum(1).mean()
    assert by_divergence["stage3/block2"] == pytest.approx(expected, rel=1e-3)


def test_scores_at_initialisation():
    weights = score_blocks(scores.snip(loss, [Y])(PARAMS))
    assert list(weights) == [f"stage{stage}/block{block}" for stage in (1, 2, 3) for block in (1, 2, 3)]
    gradient = jax.grad(loss)(PARAMS, Y)["stage1"]["block2"]
    kernels = PARAMS["stage1"]["block2"]
    expected = sum(
        np.abs(np.asarray(kernels[layer][part][name]) * np.asarray(gradient[layer][part][name])).sum()
        for layer, part, name in (
            (layer, part, name) for layer in kernels for part in kernels[layer] for name in kernels[layer][part]
        )
    )
    assert weights["stage1/block2"] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    ("run", "error", "match"),
    [
        (lambda: select_blocks(resnet_32([1.0] * 12), 10), InputError, "count=10 must be at most 9"),
        (lambda: select_blocks({"block1": 1.0}, -1), InputError, "count"),
        (lambda: select_blocks({"block1": 1.0}, 0, minimum=0), InputError, "minimum"),
        (lambda: select_blocks({"block1": float("nan")}, 0), InputError, "finite"),
        (lambda: score_blocks({"kernel": jnp.ones(2)}), NoMatchError, "no scored leaf, such as kernel"),
        (lambda: score_blocks(PARAMS, blocks="("), InputError, "blocks"),
        (lambda: remove_blocks(PARAMS, ("stage1/block9",)), InputError, "'stage1/block9' is not the path"),
        (lambda: remove_blocks({"a": 1}, ("a/b",)), InputError, "'a/b' is not the path"),
        (lambda: block_mask(PARAMS, ("stage1/block9",)), NoMatchError, "'stage1/block9' is not the path of a block"),
    ],
)
def test_bad_input(run, error, match):
    with pytest.raises(error, match=match):
        run()
