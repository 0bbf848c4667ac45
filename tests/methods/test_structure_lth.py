"""Structure-LTH: golden masks, partitions against all others of small graphs, planted blocks, and dense products."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxticket as jt
from jaxticket import execution, schedules, scores, tickets
from jaxticket.errors import InputError, StructureError
from jaxticket.methods.channels import structure_lth
from jaxticket.methods.channels.structure_lth import arrange, count_cut, find_blocks, in_each_round, partition, refill
from jaxticket.typing import Trained
from tests.reference.published import structure_lth as published

ROWS = np.array([[1, 1, 1, 0], [1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1]], bool)
FALLING = np.tril(np.ones((4, 4), bool))[::-1]
LAYOUT = ("NHWC", "HWIO", "NHWC")


def kept(rows, **options):
    """The rows that stay whole."""
    (mask,) = refill([jnp.asarray(rows.T)], **options)
    assert mask.shape == (1, len(rows))
    return np.flatnonzero(mask[0]).tolist()


def planted(blocks=4, rows=32, columns=12, seed=0):
    """Blocks on a diagonal, in a random order; and the block of each row and column."""
    generator = np.random.default_rng(seed)
    row, column = (generator.permutation(np.repeat(np.arange(blocks), n)) for n in (rows, columns))
    return row[:, None] == column[None], row, column


def sparse(*shape, density=0.2, seed=0):
    return np.random.default_rng(seed).random(shape) < density


def as_sets(labels):
    return {frozenset(np.flatnonzero(labels == label).tolist()) for label in np.unique(labels)}


def test_golden_refill():
    assert kept(ROWS) == [0, 2]
    assert kept(ROWS, rate=0.5) == [0, 2, 3]
    assert kept(ROWS, rate=1.0) == [0, 1, 2, 3]
    assert kept(FALLING) == [0, 1]
    assert kept(np.zeros((3, 4), bool)) == [0]
    # What the authors' code keeps of the same masks: half of a row among them, and a row more.
    assert published.refill_as_published(ROWS, 0.0, 0).sum() == 10
    assert published.refill_as_published(FALLING, 0.0, 0).mean() == 0.75


@pytest.mark.parametrize("rate", [0.0, 0.25])
def test_whole_channels_of_the_highest_scores_stay(rate):
    mask = {"conv": jnp.asarray(sparse(3, 3, 7, 50)), "dense": jnp.asarray(sparse(60, 30, density=0.4)), "bias": None}
    weights = {"conv": jax.random.normal(jax.random.key(0), (3, 3, 7, 50)), "dense": jnp.ones((60, 30)), "bias": None}
    new = jax.jit(lambda mask: refill(mask, rate=rate))(mask)
    assert new["bias"] is None
    for name in ("conv", "dense"):
        counts = np.asarray(mask[name]).reshape(-1, mask[name].shape[-1]).sum(0)
        n = counts.sum() / (mask[name].size // counts.size)
        chosen = np.asarray(new[name]).ravel()
        assert chosen.size == counts.size
        assert chosen.sum() == int(n + (counts.size - n) * rate)
        assert counts[chosen].min() >= counts[~chosen].max()
        assert rate or chosen.mean() <= mask[name].mean()
    np.testing.assert_array_equal(refill(new)["conv"], new["conv"])  # whole channels are those of their own mask
    by_size = refill(mask, rate=rate, scores=scores.magnitude(weights))
    sums = np.abs(weights["conv"]).reshape(-1, 50).sum(0)
    chosen = np.asarray(by_size["conv"]).ravel()
    assert sums[chosen].min() > sums[~chosen].max()
    assert chosen.sum() == np.asarray(new["conv"]).sum()


def test_golden_inputs_of_a_block():
    rows = np.array([[1, 1, 1, 0, 0], [1, 1, 0, 0, 0], [1, 1, 0, 0, 1]], bool)
    (block,) = find_blocks(rows.T, parts=1, least_channels=1)
    assert block.outputs.tolist() == [0, 1, 2]
    assert block.inputs.tolist() == [0, 1] == published.columns_of(rows, 1.5)
    assert published.columns_as_published(rows, 1.5) == [0, 1, 2, 4]


@pytest.mark.parametrize("seed", range(12))
def test_no_other_halves_of_small_graphs_cut_less(seed):
    pins = sparse(8, 10, density=0.35, seed=seed)
    halves = [np.isin(np.arange(8), own).astype(int) for own in itertools.combinations(range(8), 4)]
    assert count_cut(pins, partition(pins, 2)) == min(count_cut(pins, labels) for labels in halves)


def test_parts_of_small_graphs_spread_columns_over_fewer_parts_than_nearly_all_others():
    """Halves are divided by what is left of their columns, also of those that are cut already."""
    generator = np.random.default_rng(0)
    others = [generator.permutation([0, 0, 1, 1, 2, 2, 3, 3]) for _ in range(300)]
    spread = lambda pins, labels: sum(pins[labels == part].any(0).sum() for part in range(4))
    for seed in range(8):
        pins = sparse(8, 10, density=0.3, seed=seed)
        ours = spread(pins, partition(pins, 4))
        assert np.mean([spread(pins, labels) < ours for labels in others]) < 0.05


def test_moves_repair_halves_that_similarity_alone_gets_wrong():
    """Small edges decide, and rows that share one large edge are more alike than those that share a small one."""
    pins, row, _ = planted(blocks=2, rows=16, columns=6)
    noise = sparse(32, 60, density=0.5, seed=3)  # edges that all halves cut
    assert as_sets(partition(np.hstack([pins, noise]), 2)) == as_sets(row)


@pytest.mark.parametrize(("rows", "parts"), [(37, 8), (5, 8), (0, 3), (24, 5), (33, 1)])
def test_sizes_are_balanced(rows, parts):
    sizes = np.bincount(partition(sparse(rows, 20), parts), minlength=parts)
    assert sizes.size == parts
    assert sizes.max() - sizes.min() <= 1


def test_an_imbalance_finds_unequal_parts():
    row = np.random.default_rng(1).permutation(np.repeat([0, 1], [22, 18]))
    pins = row[:, None] == np.repeat([0, 1], 9)[None]
    assert count_cut(pins, partition(pins, 2)) > 0
    assert as_sets(partition(pins, 2, imbalance=0.1)) == as_sets(row)


def test_planted_blocks_are_recovered():
    pins, row, column = planted()
    assert as_sets(partition(pins, 4)) == as_sets(row)
    wide = find_blocks(pins.T, parts=4, ratio=11)  # then no input may be missed: 11 > 11 · 1 is false
    assert {(frozenset(b.outputs.tolist()), frozenset(b.inputs.tolist())) for b in wide} == {
        (frozenset(np.flatnonzero(row == i)), frozenset(np.flatnonzero(column == i))) for i in range(4)
    }
    mask = jnp.asarray(pins.T)
    np.testing.assert_array_equal(structure_lth.regroup(mask, parts=4, ratio=11), mask)
    # With the authors' ratio a block ends at 8 of 12 inputs, which exceed 1.5 times the 4 that are missed.
    assert [(len(b.outputs), len(b.inputs)) for b in find_blocks(pins.T, parts=4)] == [(32, 8)] * 4


@pytest.mark.parametrize("channels", [1, 64, 128])
def test_layers_of_up_to_128_channels_stay(channels):
    mask = jnp.asarray(sparse(3, 3, 4, channels))
    assert find_blocks(mask) == []
    np.testing.assert_array_equal(structure_lth.regroup([mask])[0], mask)


def test_blocks_of_larger_layers_are_dense():
    mask = sparse(90, 300, density=0.3)
    blocks = find_blocks(mask)
    assert [len(block.outputs) for block in blocks] == [32, 6] * 4 + [32, 5] * 4  # of 38 and 37 channels
    new = np.asarray(structure_lth.regroup([jnp.asarray(mask)])[0])
    for outputs, inputs in blocks:
        assert new[np.ix_(inputs, outputs)].all()
    assert new.sum() == sum(len(outputs) * len(inputs) for outputs, inputs in blocks)


def test_a_masked_convolution_is_a_gathered_product():
    kernel, x = (jax.random.normal(jax.random.key(i), shape) for i, shape in enumerate([(3, 3, 8, 150), (2, 9, 9, 8)]))
    mask = structure_lth.regroup([jnp.asarray(sparse(3, 3, 8, 150))])[0]
    assert 0.1 < mask.mean() < 0.9
    masked = jax.lax.conv_general_dilated(x, kernel * mask, (1, 1), "SAME", dimension_numbers=LAYOUT)
    order, width = arrange(mask)
    assert width == 19  # of 150 channels in 8 parts
    as_matrix = lambda array: np.asarray(array).transpose(2, 0, 1, 3).reshape(-1, 150)
    packed = execution.pack_blocks(as_matrix(kernel)[:, order], as_matrix(mask)[:, order], block=(1, width))
    assert sum(values.size for values in packed.values) < 1.02 * mask.sum()
    patches = jax.lax.conv_general_dilated_patches(x, (3, 3), (1, 1), "SAME", dimension_numbers=LAYOUT)
    product = execution.matmul(patches, packed)[..., np.unique(order, return_index=True)[1]]
    np.testing.assert_allclose(product, masked, rtol=1e-5, atol=1e-5)


def test_rounds_prune_what_is_coarse():
    params = {"kernel": jax.random.normal(jax.random.key(0), (30, 40)), "bias": jnp.zeros(40)}
    begin = tickets.Ticket(params, {"kernel": jnp.ones((30, 40), bool), "bias": None})
    train = lambda params, state, mask, key, *, step, opt_state: Trained(params, state, {})
    search = jt.imp(
        train,
        begin,
        densities=schedules.levels(4, rate=0.2),
        prune=in_each_round(refill, rate=0.2),
        key=jax.random.key(1),
    )
    channels = [int(np.broadcast_to(level.ticket.mask["kernel"], (30, 40))[0].sum()) for level in search]
    assert channels == [40, 32, 25, 20]  # int(.8 · 40), int(.8 · 32), int(.8 · 25)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda mask: refill({"b": mask[0]}), "'b' has shape"),
        (lambda mask: refill([mask], rate=1.5), "rate"),
        (lambda mask: refill([mask + 1.0]), "not bool"),
        (lambda mask: find_blocks(mask, parts=0), "parts"),
        (lambda mask: find_blocks(mask, least_channels=0), "least_channels"),
        (lambda mask: find_blocks(mask, imbalance=2), "imbalance"),
        (lambda mask: find_blocks(mask[0]), "kernel"),
        (jax.jit(lambda mask: structure_lth.regroup([mask])), "traced"),
        (lambda mask: partition(np.ones(3, bool), 2), "matrix"),
        (lambda mask: in_each_round(refill, rate=-1), "rate"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(InputError, match=message):
        call(jnp.asarray(ROWS))


def test_scores_must_be_those_of_all_channels():
    with pytest.raises(StructureError, match="score each channel"):
        refill({"a": jnp.asarray(ROWS)}, scores={"a": jnp.ones((4, 5))})
    with pytest.raises(StructureError, match="have nothing"):
        refill({"a": jnp.asarray(ROWS)}, scores={"a": None})
