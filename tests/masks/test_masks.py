"""Masks form a Boolean algebra, act on parameters, are measured and packed."""

import hypothesis
import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxticket import masks
from jaxticket.errors import InputError, StructureError

few = hypothesis.settings(max_examples=30)


@st.composite
def mask_trees(draw, number=1, broadcast=True):
    """Parameters, and masks of them whose leaves may have axes of size 1."""
    shape = draw(st.sampled_from([(), (1,), (4,), (3, 5), (2, 1, 4)]))  # few: each is compiled
    params = {"w": draw(hnp.arrays(np.float32, shape, elements=st.integers(-9, 9).map(float))), "b": np.ones(2)}

    def one():
        size = draw(st.sampled_from([shape, (1, *shape[1:])])) if broadcast and shape else shape
        return {"w": jnp.asarray(draw(hnp.arrays(bool, size))), "b": None}

    return jax.tree.map(jnp.asarray, params), *[one() for _ in range(number)]


def full(mask, params):
    return np.broadcast_to(mask["w"], params["w"].shape)


def assert_same(a, b, params):
    assert a["b"] is b["b"] is None
    assert a["w"].dtype == b["w"].dtype == bool
    np.testing.assert_array_equal(full(a, params), full(b, params))


@hypothesis.given(mask_trees(number=3))
@few
def test_boolean_algebra(drawn):
    params, a, b, c = drawn
    union, intersection, difference, complement = masks.union, masks.intersection, masks.difference, masks.complement
    laws = [
        (union(a, b), union(b, a)),
        (intersection(a, b), intersection(b, a)),
        (union(a, union(b, c)), union(union(a, b), c)),
        (union(a, a), a),
        (intersection(a, a), a),
        (union(a, intersection(a, b)), a),
        (intersection(a, union(a, b)), a),
        (union(a, intersection(b, c)), intersection(union(a, b), union(a, c))),
        (intersection(a, union(b, c)), union(intersection(a, b), intersection(a, c))),
        (complement(union(a, b)), intersection(complement(a), complement(b))),
        (complement(intersection(a, b)), union(complement(a), complement(b))),
        (complement(complement(a)), a),
        (union(a, complement(a)), masks.full_like(a)),
        (intersection(a, complement(a)), masks.empty_like(a)),
        (union(a, masks.empty_like(b)), a),
        (intersection(a, masks.full_like(b)), a),
        (difference(a, b), intersection(a, complement(b))),
    ]
    for left, right in laws:
        assert_same(left, right, params)
    # The laws hold for the dual algebra too: pin which operation is which.
    np.testing.assert_array_equal(full(union(a, b), params), full(a, params) | full(b, params))
    assert masks.full_like(a)["w"].all()
    assert masks.full_like(a)["w"].shape == a["w"].shape


@pytest.mark.parametrize("operation", [masks.union, masks.intersection, masks.difference])
def test_algebra_errors(operation):
    a = {"w": jnp.ones((2, 3), bool), "b": None}
    with pytest.raises(StructureError, match="structure"):
        operation(a, {"w": a["w"]})
    with pytest.raises(StructureError, match=r"'w'.*do not broadcast"):
        operation(a, {"w": jnp.ones((3, 3), bool), "b": None})
    with pytest.raises(StructureError, match=r"'w'.*do not broadcast"):
        operation(a, {"w": jnp.ones(3, bool), "b": None})
    with pytest.raises(StructureError, match=r"'b'.*None"):
        operation(a, {"w": a["w"], "b": jnp.ones(2, bool)})


@hypothesis.given(mask_trees(number=2))
@few
def test_apply_mask_laws(drawn):
    params, a, b = drawn
    once = masks.apply_mask(params, a)
    np.testing.assert_array_equal(once["w"], np.where(full(a, params), params["w"], 0))
    np.testing.assert_array_equal(once["b"], params["b"])
    np.testing.assert_array_equal(masks.apply_mask(once, a)["w"], once["w"])
    np.testing.assert_array_equal(
        masks.apply_mask(params, masks.intersection(a, b))["w"], masks.apply_mask(once, b)["w"]
    )


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16, jnp.int8])
def test_apply_mask_lands_on_zero_and_keeps_the_dtype(dtype):
    values = jnp.array([3, 2], dtype) if dtype == jnp.int8 else jnp.array([jnp.nan, -jnp.inf], dtype)
    dropped = masks.apply_mask(values, jnp.array([False, False]))
    assert dropped.dtype == dtype
    assert not np.asarray(dropped).view(np.uint8).any()  # +0, bit for bit
    assert masks.apply_mask({"w": values, "x": None}, {"w": None, "x": None})["w"] is values


def test_apply_mask_errors():
    params = {"a": {"w": jnp.ones((2, 3))}}
    with pytest.raises(StructureError, match="mask"):
        masks.apply_mask(params, {"b": {"w": jnp.ones((2, 3), bool)}})
    for shape in ((3, 3), (3,), (1, 2, 3), (2, 2)):
        with pytest.raises(StructureError, match="'a/w'"):
            masks.apply_mask(params, {"a": {"w": jnp.ones(shape, bool)}})
    with pytest.raises(InputError, match="gate"):
        masks.apply_mask(params, {"a": {"w": jnp.ones((2, 3))}})


def test_gate():
    params = {"w": jnp.array([[2.0, 3.0], [4.0, 5.0]]), "b": jnp.ones(2), "half": jnp.ones(2, jnp.bfloat16)}
    gates = {"w": jnp.array([[1.0, 0.5]]), "b": None, "half": jnp.ones(2)}
    gated = masks.gate(params, gates)
    np.testing.assert_array_equal(gated["w"], [[2, 1.5], [4, 2.5]])
    assert gated["b"] is params["b"]
    assert gated["half"].dtype == jnp.bfloat16
    slope = jax.grad(lambda g: jnp.sum(masks.gate(params, g)["w"] ** 2))(gates)
    np.testing.assert_array_equal(slope["w"], [[2 * (4 + 16), 2 * 0.5 * (9 + 25)]])
    with pytest.raises(StructureError, match="soft_mask at 'w'"):
        masks.gate(params, gates | {"w": jnp.ones((3, 2))})


@hypothesis.given(mask_trees(number=2))
@few
def test_measures_count_weights(drawn):
    params, a, b = drawn
    x, y, n = full(a, params), full(b, params), params["w"].size
    measured = {
        "density": (masks.density(params, a), x.sum() / n),
        "iou": (masks.iou(params, a, b), (x & y).sum() / (x | y).sum() if (x | y).any() else 1),
        "hamming": (masks.hamming(params, a, b), (x ^ y).sum() / n),
        "churn": (masks.churn(params, a, b), (y & ~x).sum() / y.sum() if y.any() else 0),
    }
    for name, (value, expected) in measured.items():
        assert value.dtype == jnp.float32, name
        assert value.shape == (), name
        np.testing.assert_allclose(value, expected, rtol=1e-6, err_msg=name)
    count = jax.jit(masks.nnz)(params, a)
    assert count.dtype == jnp.int32
    assert count == x.sum()


def test_leaves_weigh_by_their_size():
    params = {"a": jnp.ones((10, 9)), "b": jnp.ones((2, 5)), "c": jnp.ones(1000)}
    mask = {"a": jnp.zeros((1, 1), bool), "b": jnp.ones((1, 5), bool), "c": None}
    np.testing.assert_allclose(masks.density(params, mask), 0.1)
    assert masks.nnz(params, mask) == 10
    np.testing.assert_allclose(masks.hamming(params, mask, masks.full_like(mask)), 0.9)
    assert masks.density(params, {"a": None, "b": None, "c": None}) == 1


def test_more_weights_than_int32_can_count():
    params = {"w": jax.ShapeDtypeStruct((2**20, 2**14), jnp.float32), "v": jax.ShapeDtypeStruct((4, 4), jnp.float32)}
    half = {"w": jnp.arange(2**14)[None] < 2**13, "v": None}
    assert masks.density(params, half) == 0.5
    assert masks.churn(params, masks.complement(half), half) == 1
    assert masks.iou(params, half, masks.full_like(half)) == 0.5
    assert masks.summary(params, half).maskable.kept == 2**33
    with pytest.raises(InputError, match="density"):
        masks.nnz(params, half)
    whole = {"w": jax.ShapeDtypeStruct((2**20, 2**14), jnp.bool_), "v": None}
    assert jax.eval_shape(masks.density, params, whole).dtype == jnp.float32


@pytest.mark.parametrize("measure", [masks.iou, masks.hamming, masks.churn])
def test_measure_errors(measure):
    params = {"w": jnp.ones((2, 3)), "b": jnp.ones(3)}
    mask = {"w": jnp.ones((2, 3), bool), "b": None}
    with pytest.raises(StructureError, match="'w'"):
        measure(params, mask, {"w": jnp.ones((3, 3), bool), "b": None})
    with pytest.raises(StructureError, match="None"):
        measure(params, mask, {"w": mask["w"], "b": jnp.ones(3, bool)})


def test_summary():
    params = {"l": {"kernel": jnp.ones((100, 30)), "bias": jnp.ones(30)}, "out": {"kernel": jnp.ones((30, 2))}}
    mask = {
        "l": {"kernel": jnp.arange(30)[None] < 3, "bias": None},
        "out": {"kernel": jnp.arange(60).reshape(30, 2) < 6},
    }
    report = masks.summary(params, mask)
    assert report.rows == (
        ("l/bias", (30,), 30, 30, None),
        ("l/kernel", (100, 30), 300, 3000, 0.1),
        ("out/kernel", (30, 2), 6, 60, 0.1),
    )
    assert report.maskable == ("maskable", None, 306, 3060, 0.1)
    assert report.all == ("all", None, 336, 3090, 336 / 3090)
    lines = str(report).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert lines[3].split() == ["l/kernel", "(100,", "30)", "300", "3,000", "0.1000"]
    assert lines[-2].split() == ["maskable", "306", "3,060", "0.1000"]
    with pytest.raises(InputError, match="jit"):
        jax.jit(lambda m: masks.summary(params, m).all.kept)(mask)


# Sizes of every remainder by 8, in up to four dimensions; few shapes, since each is compiled.
@hypothesis.given(
    mask=hnp.arrays(bool, st.sampled_from([(), (0, 3), *((n,) for n in range(1, 10)), (17,), (3, 1, 2, 5)]))
)
@hypothesis.settings(max_examples=60)
def test_packing_loses_nothing(mask):
    tree = {"w": jnp.asarray(mask), "b": None}
    packed = masks.pack(tree)
    back = masks.unpack(packed)
    assert back["b"] is None
    assert back["w"].dtype == bool
    np.testing.assert_array_equal(back["w"], mask)
    last = mask.shape[-1] if mask.ndim else 1
    assert packed["w"].bits.shape == (*mask.shape[:-1], -(-last // 8))
    assert packed["w"].bits.dtype == jnp.uint8


@pytest.mark.parametrize("shape", [(3,), (3, 5), (3, 1), (3, 2, 16)])
def test_packing_maps_over_a_batch(shape):
    mask = jax.random.bernoulli(jax.random.key(0), shape=shape)
    packed = jax.jit(jax.vmap(masks.pack))(mask)
    np.testing.assert_array_equal(masks.unpack(packed), mask)
    np.testing.assert_array_equal(jax.vmap(masks.unpack)(packed), mask)
