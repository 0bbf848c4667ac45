"""Packed kernels against the dense product: exact kernels, products and gradients, in every dtype and odd shapes."""

import dataclasses
import functools

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxticket as jt
from jaxticket import execution, scopes, units
from jaxticket.execution import _condensed
from tests.tiers import sample

FORMS = ["dense", "nm", "condensed", "blocks", "bcsr"]
DTYPES = [jnp.float32, jnp.bfloat16, jnp.float16]


def case(form, shape, dtype=jnp.float32, seed=0):
    """A kernel in a form, and the same kernel masked. Every mask has columns, groups or blocks that differ."""
    kernel = jax.random.normal(jax.random.key(seed), shape).astype(dtype)
    scores = jax.random.normal(jax.random.key(seed + 1), shape)
    if form == "nm":
        mask = jt.select(scores, 0.5, scope=scopes.groups(4, axis=0)) & (scores > -1)  # some groups keep fewer
        packed = execution.pack_nm(kernel, mask, n=2, m=4)
    elif form == "condensed":
        mask = jt.select(scores, 0.3, scope=scopes.slices(-1))
        packed = execution.pack_condensed(kernel, mask)
    elif form == "blocks":
        mask = jt.select(scores, 0.4, unit=units.block(4, 3))
        packed = execution.pack_blocks(kernel, mask, block=(4, 3))
    else:
        mask = scores > 0.5
        packed = execution.pack_dense(kernel, mask) if form == "dense" else execution.pack_bcsr(kernel, mask)
    return packed, jnp.where(mask, kernel, 0)


@jax.jit
def restore(forms):
    """The kernels of all forms, compiled at once."""
    return {name: packed.dense() for name, packed in forms.items()}


def wide(x):
    return np.asarray(x, np.float64)


def assert_product(y, x, kernel):
    """As exact as the result's dtype and sums in float32 allow."""
    dtype = jnp.result_type(x, kernel)
    assert y.dtype == dtype
    bound = wide(abs(x)) @ wide(abs(kernel)) * 1e-6 + abs(wide(x) @ wide(kernel)) * float(jnp.finfo(dtype).eps)
    assert np.all(abs(wide(y) - wide(x) @ wide(kernel)) <= bound + 1e-7)


@pytest.mark.parametrize("form", FORMS)
def test_code_that_multiplies_by_kernels_takes_packed_ones(form):
    packed, _ = case(form, (16, 12))
    x = jax.random.normal(jax.random.key(9), (3, 16))
    expected = execution.matmul(x, packed)
    for y in (x @ packed, np.asarray(x) @ packed, jax.jit(lambda x, packed: x @ packed)(x, packed)):
        np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("shape", "dtype"),
    sample(
        [(shape, dtype) for shape in [(16, 12), (19, 7), (1, 1), (5, 130), (130, 5)] for dtype in DTYPES],
        [((16, 12), jnp.bfloat16), ((19, 7), jnp.float32)],
    ),
)
def test_kernel_and_product(form, shape, dtype):
    packed, kernel = case(form, shape, dtype)
    assert packed.shape == shape
    assert packed.dtype == dtype
    several = [jax.random.normal(jax.random.key(9), (*rows, shape[0])).astype(dtype) for rows in [(), (3,), (2, 33)]]
    dense, products = jax.jit(lambda packed, xs: (packed.dense(), [execution.matmul(x, packed) for x in xs]))(
        packed, several
    )
    np.testing.assert_array_equal(dense, kernel)
    for x, y in zip(several, products, strict=True):
        assert y.shape == (*x.shape[:-1], shape[1])
        assert_product(y, x, kernel)


@pytest.mark.parametrize("product", [_condensed._at_once, _condensed._by_output, _condensed._by_input])
def test_every_device_has_the_same_condensed_product(product):
    packed, kernel = case("condensed", (19, 7))
    x = jax.random.normal(jax.random.key(9), (3, 19))
    np.testing.assert_allclose(product(x.T, packed.values, packed.indices).T, x @ kernel, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_gradients_are_those_of_the_kept_weights(form):
    packed, kernel = case(form, (19, 7))
    x = jax.random.normal(jax.random.key(9), (3, 19))
    weights = jnp.linspace(0, 1, 21).reshape(3, 7)

    def loss(x, values):
        return jnp.sum(weights * jnp.tanh(execution.matmul(x, dataclasses.replace(packed, values=values))))

    x_grad, values_grad = jax.jit(jax.grad(loss, (0, 1)))(x, packed.values)
    x_want, kernel_grad = jax.grad(lambda x, k: jnp.sum(weights * jnp.tanh(x @ k)), (0, 1))(x, kernel)
    np.testing.assert_allclose(x_grad, x_want, rtol=1e-4, atol=1e-5)
    want = kernel_grad if form == "dense" else jnp.where(kernel != 0, kernel_grad, 0)
    found = dataclasses.replace(packed, values=values_grad).dense()
    np.testing.assert_allclose(found, want, rtol=1e-4, atol=1e-5)
    # Nothing else of the gradient is different from zero: what only pads stays zero in training.
    total = sum(np.abs(leaf).sum() for leaf in jax.tree.leaves(values_grad))
    np.testing.assert_allclose(total, np.abs(want).sum(), rtol=1e-4)


@pytest.mark.parametrize("form", FORMS)
def test_forward_mode_and_second_derivatives(form):
    packed, kernel = case(form, (8, 6))
    x, direction = jax.random.normal(jax.random.key(9), (2, 3, 8))

    def curvature(product):
        loss = lambda x: jnp.sum(jnp.sin(product(x)))
        return jax.jvp(jax.grad(loss), (x,), (direction,))[1]

    found = curvature(lambda x: execution.matmul(x, packed))
    np.testing.assert_allclose(found, curvature(lambda x: x @ kernel), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_vmap_over_inputs_and_over_values(form):
    packed, kernel = case(form, (8, 6))
    x = jax.random.normal(jax.random.key(9), (4, 3, 8))
    over_inputs = jax.vmap(functools.partial(execution.matmul, packed=packed))(x)
    np.testing.assert_allclose(over_inputs, x @ kernel, rtol=1e-4, atol=1e-5)
    scales = jnp.array([1.0, 2.0, -1.0, 0.5])
    values = jax.tree.map(lambda v: scales.reshape(-1, *[1] * v.ndim) * v[None], packed.values)
    over_values = jax.vmap(lambda x, values: execution.matmul(x, dataclasses.replace(packed, values=values)))(x, values)
    np.testing.assert_allclose(over_values, scales[:, None, None] * (x @ kernel), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_new_values_do_not_compile_again(form):
    packed, kernel = case(form, (8, 6))
    product = jax.jit(lambda x, packed: execution.matmul(x, packed))
    for scale in (1.0, 2.0):
        scaled = dataclasses.replace(packed, values=jax.tree.map(lambda v: scale * v, packed.values))
        np.testing.assert_allclose(product(jnp.ones((2, 8)), scaled), scale * (jnp.ones((2, 8)) @ kernel), rtol=1e-5)
    assert product._cache_size() == 1


@pytest.mark.parametrize("form", FORMS)
def test_inputs_and_kernels_of_different_dtypes_promote_as_in_a_dense_product(form):
    packed, kernel = case(form, (16, 12), jnp.bfloat16)
    x = jax.random.normal(jax.random.key(9), (3, 16))
    y = jax.jit(execution.matmul)(x, packed)
    assert y.dtype == (x @ kernel).dtype == jnp.float32
    np.testing.assert_allclose(y, x @ kernel.astype(jnp.float32), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_narrow_floats_are_summed_in_float32(form):
    """4,096 ones: bfloat16 alone would stop counting at 256."""
    kernel, mask = jnp.ones((4096, 2), jnp.bfloat16), jnp.ones((4096, 2), bool)
    pack = {
        "nm": functools.partial(execution.pack_nm, n=4, m=4),
        "blocks": functools.partial(execution.pack_blocks, block=(16, 2)),
    }.get(form, getattr(execution, f"pack_{form}"))
    assert execution.matmul(kernel.T, pack(kernel, mask)).tolist() == [[4096.0, 4096.0]] * 2


@pytest.mark.parametrize("fraction", [0.0, 1.0])
def test_masks_that_keep_nothing_or_everything(fraction):
    kernel, mask, x = jnp.arange(1.0, 21).reshape(4, 5), jnp.full((4, 5), fraction == 1), jnp.ones((2, 4))
    packed = execution.pack_all(kernel, mask) | {"nm": execution.pack_nm(kernel, mask, n=4, m=4)}
    assert set(packed) == set(FORMS)

    def everything(packed):
        y, pull = jax.vjp(lambda x: execution.matmul(x, packed), x)
        return packed.dense(), y, *pull(y)

    for dense, y, gradient in jax.jit(lambda forms: [*map(everything, forms)])([*packed.values()]):
        np.testing.assert_array_equal(dense, fraction * kernel)
        np.testing.assert_allclose(y, fraction * (x @ kernel))
        np.testing.assert_allclose(gradient, fraction * (x @ kernel @ kernel.T), rtol=1e-6)


def test_kept_zeros_and_infinities_are_stored():
    """A kept weight may be zero, and infinities stay in their places."""
    kernel = jnp.array([[0.0, jnp.inf], [3.0, 1.0], [0.0, 2.0], [jnp.nan, 0.0]])
    mask = jnp.array([[True, True], [True, True], [False, False], [False, False]])
    packed = execution.pack_all(kernel, mask)
    for dense in restore(packed).values():
        np.testing.assert_array_equal(dense, jnp.where(mask, kernel, 0))
    for form in ("condensed", "blocks", "bcsr"):
        assert sum(leaf.size for leaf in jax.tree.leaves(packed[form].values)) == 4


def test_bytes_count_positions_too():
    kernel = jnp.ones((8, 4))
    mask = jt.select(kernel, 0.5, scope=scopes.groups(4, axis=0))
    assert execution.pack_dense(kernel, mask).nbytes == 32 * 4
    assert execution.pack_nm(kernel, mask, n=2, m=4).nbytes == 16 * (4 + 1)
    assert execution.pack_condensed(kernel, mask).nbytes == 16 * (4 + 4)
    assert execution.pack_bcsr(kernel, mask).nbytes == 16 * (4 + 4) + 5 * 4


@st.composite
def masked_kernels(draw):
    """Few shapes, since each is compiled; masks of a broadcast axis, too."""
    shape = draw(st.sampled_from([(6, 4), (7, 9)]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    size = draw(st.sampled_from([shape, (1, shape[1]), (shape[0], 1)]))
    return jnp.asarray(rng.normal(size=shape), jnp.float32), jnp.asarray(rng.random(size) < draw(st.floats(0, 1)))


@hypothesis.given(masked_kernels())
@hypothesis.settings(max_examples=8)
def test_every_form_that_a_mask_admits_restores_the_kernel(drawn):
    kernel, mask = drawn
    for dense in restore(execution.pack_all(kernel, mask)).values():
        np.testing.assert_array_equal(dense, np.where(mask, kernel, 0))
