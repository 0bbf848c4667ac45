"""Monarch kernels against the authors' definition in numpy: products, projections, their optimum, gradients, draws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxticket import execution
from jaxticket.errors import InputError

# (inputs, outputs), blocks, and the shapes of the factors
SIZES = [
    ((16, 16), 4, (4, 4, 4), (4, 4, 4)),
    ((32, 16), 4, (4, 4, 8), (4, 4, 4)),
    ((16, 32), 4, (4, 4, 4), (4, 8, 4)),
    ((64, 48), 4, (4, 12, 16), (4, 12, 12)),
    ((24, 24), (6, 4), (6, 4, 4), (4, 6, 6)),
    ((5, 7), 2, (2, 4, 3), (2, 4, 4)),
]


def block_diagonal(blocks):
    """A matrix (rows, columns) with the blocks on its diagonal."""
    rows, columns = (sum(block.shape[axis] for block in blocks) for axis in (0, 1))
    matrix, row, column = np.zeros((rows, columns)), 0, 0
    for block in blocks:
        matrix[row : row + block.shape[0], column : column + block.shape[1]] = block
        row, column = row + block.shape[0], column + block.shape[1]
    return matrix


def as_published(x, first, second):
    """The third implementation of blockdiag_butterfly_multiply in HazyResearch/fly: dense factors and permutations."""
    l = len(second)
    middle = x @ block_diagonal(first).T
    middle = middle.reshape(len(x), -1, l).transpose(0, 2, 1).reshape(len(x), -1)
    out = middle @ block_diagonal(second).T
    return out.reshape(len(x), l, -1).transpose(0, 2, 1).reshape(len(x), -1)


def squared_tails(matrix, k, l, rank):
    """The part of a matrix (outputs, inputs) that no Monarch matrix has: its blocks beyond the rank."""
    width = matrix.shape[1] // k
    blocks = [matrix[j::l, i * width : (i + 1) * width] for i in range(k) for j in range(l)]
    return sum(np.sum(np.linalg.svd(block, compute_uv=False)[rank:] ** 2) for block in blocks)


def test_goldens():
    first, second = jnp.array([[[1.0, 2], [3, 4]], [[5, 6], [7, 8]]]), jnp.array([[[1.0, 0], [2, 1]], [[0, 1], [1, 1]]])
    packed = execution.Monarch((first, second), (4, 4))
    np.testing.assert_array_equal(jnp.array([1.0, 2, 3, 4]) @ packed, [5, 53, 49, 64])
    np.testing.assert_array_equal(packed.dense().T, [[1, 2, 0, 0], [0, 0, 7, 8], [2, 4, 5, 6], [3, 4, 7, 8]])
    for exact in (np.eye(4, dtype=np.float32), np.ones((4, 4), np.float32)):
        np.testing.assert_allclose(execution.pack_monarch(exact, blocks=2).dense(), exact, atol=1e-6)
    counted = np.arange(1.0, 17, dtype=np.float32).reshape(4, 4)
    projected = execution.pack_monarch(counted.T, blocks=2).dense().T
    np.testing.assert_allclose(np.sum((counted - projected) ** 2), 0.823634, rtol=1e-4)
    np.testing.assert_allclose(projected[0], [1.433568, 1.615184, 3.333828, 3.69914], rtol=1e-5)


@pytest.mark.parametrize(("shape", "blocks", "first", "second"), SIZES)
def test_products_and_projections(shape, blocks, first, second):
    generator = np.random.default_rng(0)
    kernel = generator.normal(size=shape).astype(np.float32)
    x = generator.normal(size=(3, shape[0])).astype(np.float32)
    packed = jax.jit(execution.pack_monarch, static_argnames="blocks")(kernel, blocks=blocks)
    assert tuple(v.shape for v in packed.values) == (first, second)
    wide = np.pad(x, ((0, 0), (0, first[0] * first[2] - shape[0])))
    expected = as_published(wide, *map(np.asarray, packed.values))[:, : shape[1]]
    np.testing.assert_allclose(jnp.asarray(x) @ packed, expected, rtol=2e-5, atol=2e-5)
    np.testing.assert_allclose(jnp.asarray(x) @ packed.dense(), expected, rtol=2e-5, atol=2e-5)
    again = execution.pack_monarch(packed.dense(), blocks=blocks).dense()
    np.testing.assert_allclose(again, packed.dense(), atol=1e-5)
    padded = np.pad(kernel, ((0, wide.shape[1] - shape[0]), (0, second[0] * second[1] - shape[1])))
    least = squared_tails(padded.T, first[0], second[0], second[2] // first[0])
    np.testing.assert_allclose(np.sum((kernel - packed.dense()) ** 2), least, rtol=1e-4, atol=1e-8)


def test_the_fourier_transform_is_exactly_a_monarch_matrix():
    """The real and imaginary parts are not, so their blocks' second singular values tell: the complex ones vanish."""
    n, m = 16, 4
    dft = np.fft.fft(np.eye(n), norm="ortho")[:, np.arange(n).reshape(m, m).T.ravel()]
    assert squared_tails(dft, m, m, 1) < 1e-28
    assert squared_tails(np.fft.fft(np.eye(n), norm="ortho"), m, m, 1) > 0.1


def test_a_higher_rank_is_nearer_and_a_full_one_exact():
    kernel = np.random.default_rng(1).normal(size=(12, 20)).astype(np.float32)
    errors = [
        float(np.sum((kernel - execution.pack_monarch(kernel, blocks=4, rank=rank).dense()) ** 2))
        for rank in (1, 2, 3, 7)
    ]
    assert errors[0] > errors[1] > errors[2] + 1
    np.testing.assert_allclose(errors[2:], 0, atol=1e-8)


def test_gradients_are_those_of_the_dense_product():
    packed = execution.draw_monarch((6, 9), key=jax.random.key(0), blocks=3)
    x = jax.random.normal(jax.random.key(1), (4, 6))
    fast, slow = (
        jax.grad(loss, argnums=(0, 1))(x, packed)
        for loss in (lambda x, p: jnp.sum((x @ p) ** 2), lambda x, p: jnp.sum((x @ p.dense()) ** 2))
    )
    assert jax.tree.structure(fast[1]) == jax.tree.structure(packed)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), fast, slow)


def test_draws_are_those_of_the_authors_layers():
    drawn = execution.draw_monarch((5, 7), key=jax.random.key(0))
    assert [v.shape for v in drawn.values] == [(4, 2, 2), (4, 2, 2)]
    for factor in execution.draw_monarch((784, 1024), key=jax.random.key(0), blocks=16).values:
        bound = factor.shape[-1] ** -0.5
        assert 0.99 * bound < float(jnp.max(jnp.abs(factor))) <= bound
        np.testing.assert_allclose(jnp.var(factor), bound**2 / 3, rtol=0.03)
    ratios = {(768, 3072, 4): 0.3125, (768, 768, 4): 0.5, (784, 1024, 16): 0.1104}
    for (rows, columns, blocks), ratio in ratios.items():
        drawn = execution.draw_monarch((rows, columns), key=jax.random.key(0), blocks=blocks)
        assert drawn.nbytes / (4 * rows * columns) == pytest.approx(ratio, abs=1e-4)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_narrow_floats_are_summed_in_float32(dtype):
    packed = jax.tree.map(lambda v: v.astype(dtype), execution.draw_monarch((64, 64), key=jax.random.key(0)))
    x = jax.random.normal(jax.random.key(1), (5, 64), dtype)
    exact = np.asarray(x, np.float64) @ np.asarray(jax.tree.map(lambda v: v.astype(jnp.float32), packed).dense())
    y = x @ packed
    assert y.dtype == dtype
    np.testing.assert_allclose(
        np.asarray(y, np.float64), exact, atol=4 * float(jnp.finfo(dtype).eps) * abs(exact).max()
    )


@pytest.mark.parametrize("blocks", [4, (2, 8), (8, 2)])
def test_the_identity_is_kept_at_the_default_rank(blocks):
    """As many entries as the smaller side of the kernel pass the middle, whatever the numbers of blocks."""
    identity = np.eye(64, dtype=np.float32)
    np.testing.assert_allclose(execution.pack_monarch(identity, blocks=blocks).dense(), identity, atol=1e-6)
    first, second = execution.draw_monarch((64, 64), key=jax.random.key(0), blocks=blocks).values
    assert first.shape[0] * first.shape[1] == second.shape[0] * second.shape[2] == 64


def test_no_rows_have_no_outputs():
    packed = execution.draw_monarch((5, 7), key=jax.random.key(0))
    assert (jnp.ones((0, 5)) @ packed).shape == (0, 7)
    assert (jnp.ones((2, 0, 5)) @ packed).shape == (2, 0, 7)


def test_whole_numbers_of_any_type_are_counts():
    packed = execution.pack_monarch(jnp.eye(8), blocks=(2.0, np.int64(4)), rank=1.0)
    np.testing.assert_array_equal(packed.dense(), execution.pack_monarch(jnp.eye(8), blocks=(2, 4), rank=1).dense())
    drawn = execution.draw_monarch(np.array([8, 6]), key=jax.random.key(0))
    assert [type(size) for size in drawn.shape] == [int, int]


@pytest.mark.parametrize(
    ("shape", "options", "names"),
    [
        ((4,), {}, "shape"),
        ((0, 4), {}, "shape"),
        ((4, 4), {"blocks": 0}, "blocks"),
        ((4, 4), {"blocks": (2, 2, 2)}, r"blocks=\(2, 2, 2\) must be"),
        ((4, 4), {"rank": 0}, "rank"),
    ],
)
def test_bad_input(shape, options, names):
    for call in (
        lambda: execution.pack_monarch(jnp.ones(shape), **options),
        lambda: execution.draw_monarch(shape, key=jax.random.key(0), **options),
    ):
        with pytest.raises(InputError, match=names):
            call()


@pytest.mark.parametrize("shape", [(-4, 4), (4, 2.5)])
def test_sizes_that_no_kernel_has(shape):
    with pytest.raises(InputError, match="shape"):
        execution.draw_monarch(shape, key=jax.random.key(0))
