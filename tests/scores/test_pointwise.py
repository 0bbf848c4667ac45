"""Pointwise scores and their normalisers."""

import json
import pathlib

import hypothesis
import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxticket import scores
from jaxticket.errors import InputError, StructureError

GOLDEN = json.loads((pathlib.Path(__file__).parents[1] / "golden" / "scores.json").read_text())

PARAMS = {
    "w": jnp.array([[2.0, -1.0], [0.5, -4.0]]),
    "half": jnp.array([-1.5], jnp.bfloat16),
    "none": None,
    "n": jnp.array(3),
}
GRADS = {
    "w": jnp.array([[-3.0, -1.0], [0.0, 2.0]]),
    "half": jnp.array([2.0], jnp.bfloat16),
    "none": None,
    "n": jnp.array(0),
}
PRODUCTS = (scores.saliency, scores.movement)  # in float32, since small products underflow
POINTWISE = [scores.magnitude, scores.random, scores.gradient, scores.saliency, scores.movement]
NORMALISERS = [scores.lamp, scores.layer_mean, scores.unit_norm]


def given_scores(values):
    """A ScoreFn that returns the given leaf."""
    return lambda params, **_: {"w": jnp.asarray(values)}


@pytest.mark.parametrize(
    ("score", "w", "half"),
    [
        (scores.magnitude, [[2, 1], [0.5, 4]], 1.5),
        (scores.gradient, [[3, 1], [0, 2]], 2),
        (scores.saliency, [[6, 1], [0, 8]], 3),
        (scores.movement, [[6, -1], [0, 8]], 3),
    ],
)
def test_values(score, w, half):
    scored = jax.jit(score)(PARAMS, grads=GRADS)
    np.testing.assert_array_equal(scored["w"], w)
    np.testing.assert_array_equal(scored["half"], [half])


@pytest.mark.parametrize("score", POINTWISE)
def test_leaves_that_are_not_float_score_none_and_others_in_a_dtype_that_holds_them(score):
    scored = score(PARAMS, grads=GRADS, key=jax.random.key(0))
    assert scored["none"] is None
    assert scored["n"] is None
    assert scored["w"].dtype == jnp.float32
    assert scored["half"].dtype == (jnp.float32 if score in (scores.random, *PRODUCTS) else jnp.bfloat16)


@pytest.mark.parametrize("score", [scores.gradient, scores.saliency, scores.movement])
def test_gradients_are_required(score):
    with pytest.raises(InputError, match="grads=None"):
        score(PARAMS)
    with pytest.raises(StructureError, match="grads"):
        score(PARAMS, grads={"w": GRADS["w"]})


def test_random_is_uniform_and_depends_on_the_position_alone():
    params = {"a": jnp.ones((100, 50)), "b": jnp.ones((100, 50)), "none": None}
    key = jax.random.key(1)
    scored = scores.random(params, key=key)
    assert 0 <= scored["a"].min() < scored["a"].max() < 1
    assert abs(float(scored["a"].mean()) - 0.5) < 0.02
    assert not np.array_equal(scored["a"], scored["b"])
    again = scores.random(params | {"a": jnp.ones((3,), jnp.bfloat16)}, key=key)
    np.testing.assert_array_equal(again["b"], scored["b"])
    assert not np.array_equal(scores.random(params, key=jax.random.key(2))["a"], scored["a"])
    with pytest.raises(InputError, match="key="):
        scores.random(params)


@pytest.mark.parametrize(
    "inner",
    [
        optax.sgd(0.1, momentum=0.9),
        optax.adam(0.1),
        optax.lion(0.1),
        optax.chain(optax.clip(10.0), optax.adamw(0.1)),
        optax.inject_hyperparams(optax.adam)(learning_rate=0.1),
    ],
)
def test_momentum(inner):
    params = {"w": jnp.array([1.0, 2.0]), "b": jnp.array([1.0])}
    grads = {"w": jnp.array([-3.0, 1.0]), "b": jnp.array([2.0])}
    _, state = inner.update(grads, inner.init(params), params)
    scored = scores.momentum(params, aux=state)
    np.testing.assert_allclose(scored["w"] / scored["w"][1], [3, 1], rtol=1e-6)
    np.testing.assert_allclose(scored["b"] / scored["w"][1], [2], rtol=1e-6)


def test_momentum_of_several_optimizers_and_of_none():
    params = {"w": jnp.array([1.0]), "b": jnp.array([1.0]), "c": jnp.array([1.0])}
    inner = optax.multi_transform(
        {"adam": optax.adam(0.1, b1=0.5), "sgd": optax.sgd(0.1, momentum=0.9), "plain": optax.sgd(0.1)},
        {"w": "adam", "b": "sgd", "c": "plain"},
    )
    _, state = inner.update(jax.tree.map(lambda p: -4 * p, params), inner.init(params), params)
    scored = scores.momentum(params, aux=state)
    assert scored["c"] is None
    np.testing.assert_allclose([scored["w"][0], scored["b"][0]], [2, 4])


def test_momentum_errors():
    with pytest.raises(InputError, match="aux=None"):
        scores.momentum(PARAMS)
    for inner in (optax.sgd(0.1), optax.rmsprop(0.1)):
        with pytest.raises(InputError, match="no first moment"):
            scores.momentum({"w": jnp.ones(2)}, aux=inner.init({"w": jnp.ones(2)}))


def test_a_tree_without_leaves_passes_through():
    empty = optax.MaskedNode()
    for score in (*POINTWISE, scores.lamp(scores.magnitude), scores.unit_norm(scores.gradient)):
        assert score(empty, grads=empty, key=jax.random.key(0)) == empty


def test_lamp_golden():
    golden = GOLDEN["lamp"]
    scored = scores.lamp(scores.magnitude)({"w": jnp.array(golden["weights"])})["w"]
    np.testing.assert_allclose(scored, np.divide(golden["numerators"], golden["denominators"]), rtol=1e-6)


@hypothesis.given(
    hnp.arrays(np.float32, st.sampled_from([(1,), (7,), (3, 5), (2, 3, 4)]), elements=st.integers(-9, 9).map(float))
)
@hypothesis.settings(max_examples=60)
def test_lamp_by_its_definition(w):
    scored = np.asarray(scores.lamp(scores.magnitude)({"w": jnp.asarray(w)})["w"]).ravel()
    order = sorted(range(w.size), key=lambda i: (-abs(w.flat[i]), i))
    total = 0.0
    for i in order:
        square = float(w.flat[i]) ** 2
        total += square
        np.testing.assert_allclose(scored[i], square / total if square else 0, rtol=1e-5)
    assert (np.diff(scored[order]) <= 0).all()


def test_lamp_ignores_scale_and_survives_extremes():
    w = jax.random.normal(jax.random.key(0), (64, 32))
    scored = scores.lamp(scores.magnitude)({"w": w})["w"]
    for scale in (2.0**-100, 2.0**100):
        np.testing.assert_array_equal(scores.lamp(scores.magnitude)({"w": w * scale})["w"], scored)
    assert scored.max() == 1
    np.testing.assert_array_equal(scores.lamp(given_scores([jnp.nan, 1.0, jnp.inf, 0.0]))({})["w"], [0, 0, 1, 0])


def test_lamp_of_the_dead_is_zero():
    w = jnp.array([[5.0, 1.0], [2.0, 0.0]])
    mask = {"w": jnp.array([[False, True], [True, True]])}
    scored = scores.lamp(scores.magnitude)({"w": w}, mask=mask)["w"]
    np.testing.assert_allclose(scored, [[0, 1 / 5], [1, 0]], rtol=1e-6)


def test_layer_mean_and_unit_norm_count_the_living():
    w = {"w": jnp.array([[3.0, 100.0], [-4.0, 0.0]])}
    mask = {"w": jnp.array([[True, False]])}
    np.testing.assert_allclose(
        scores.layer_mean(scores.magnitude)(w, mask=mask)["w"], [[6 / 7, 200 / 7], [8 / 7, 0]], rtol=1e-6
    )
    np.testing.assert_allclose(scores.unit_norm(scores.magnitude)(w, mask=mask)["w"], [[0.6, 20], [0.8, 0]], rtol=1e-6)
    np.testing.assert_allclose(scores.layer_mean(scores.magnitude)(w)["w"], w["w"].at[1, 0].set(4) * 4 / 107, rtol=1e-6)


def test_signs_stay():
    np.testing.assert_allclose(scores.layer_mean(given_scores([-1.0, 3.0]))({})["w"], [-0.5, 1.5])
    np.testing.assert_allclose(scores.unit_norm(given_scores([-3.0, 4.0]))({})["w"], [-0.6, 0.8], rtol=1e-6)


@pytest.mark.parametrize("wrapper", NORMALISERS)
def test_degenerate_leaves(wrapper):
    normalised = wrapper(scores.magnitude)
    assert (normalised({"w": jnp.zeros((2, 3))})["w"] == 0).all()
    assert normalised({"w": jnp.zeros((0, 3))})["w"].shape == (0, 3)
    assert (normalised({"w": jnp.ones((2, 3))}, mask={"w": jnp.zeros((2, 3), bool)})["w"] == 0).all()
    tiny = normalised({"w": jnp.full((4,), 1e-30)})["w"]
    assert 0.2 < tiny.min() <= tiny.max() <= 1
    assert normalised(PARAMS)["n"] is None
    assert normalised(PARAMS)["half"].dtype == jnp.float32
    scored = normalised({"w": jnp.ones(2), "b": jnp.ones(2)}, mask={"w": jnp.ones(2, bool), "b": None})
    assert scored["b"] is None
    with pytest.raises(StructureError, match="mask"):
        normalised({"w": jnp.ones(2)}, mask={"v": jnp.ones(2, bool)})


@pytest.mark.parametrize("wrapper", NORMALISERS)
def test_normalisers_compile_and_map(wrapper):
    w = jax.random.normal(jax.random.key(0), (3, 4, 5))
    normalised = wrapper(scores.magnitude)
    eager = jnp.stack([normalised({"w": x})["w"] for x in w])
    np.testing.assert_allclose(jax.jit(jax.vmap(lambda x: normalised({"w": x})["w"]))(w), eager, rtol=1e-6)


def test_signals_reach_the_score():
    scored = scores.unit_norm(scores.gradient)({"w": jnp.ones(2)}, grads={"w": jnp.array([3.0, 4.0])})
    np.testing.assert_allclose(scored["w"], [0.6, 0.8], rtol=1e-6)


def test_random_noise_passes_tests_of_uniformity_and_independence():
    """Equidistribution of 64 cells, of pairs of neighbours along both axes, and of the same entry under other keys."""
    like = jnp.zeros((300, 500))
    a, b = (np.asarray(scores.random(like, key=jax.random.key(seed))) for seed in (5, 6))

    def excess(cells):
        counts = np.bincount(cells.ravel(), minlength=64)
        expected = cells.size / 64
        return np.sum((counts - expected) ** 2 / expected)

    def pairs(x, y):
        return 8 * (x * 8).astype(int) + (y * 8).astype(int)

    for cells in ((a * 64).astype(int), pairs(a[:-1], a[1:]), pairs(a[:, :-1], a[:, 1:]), pairs(a, b)):
        assert excess(cells) < 104.0  # 99.9 % of chi-square with 63 degrees of freedom is 103.4
    assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 4 / np.sqrt(a.size)
    assert len(np.unique(a)) > 0.99 * a.size  # 24 bits leave few ties


@pytest.mark.parametrize("normalise", [scores.lamp, scores.layer_mean, scores.unit_norm])
def test_normalisers_take_channel_scores_under_full_masks(normalise):
    """A channel lives where any of its weights does; the dead one does not count in the norm."""
    channels = lambda params, **signals: jax.tree.map(lambda p: jnp.sum(jnp.abs(p), 0, keepdims=True), params)
    params = {"w": jnp.array([[1.0, 2.0, 9.0], [3.0, 4.0, 9.0]])}
    mask = {"w": jnp.array([[True, True, False], [False, True, False]])}
    found = normalise(channels)(params, mask=mask)["w"]
    alone = normalise(channels)({"w": params["w"][:, :2]})["w"]
    np.testing.assert_array_equal(found[:, :2], alone)
