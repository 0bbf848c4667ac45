"""Scores of examples against float64 by hand: perceptrons, sure and unsure, in batches of any size, on meshes."""

import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from scipy.special import logsumexp, softmax

from jaxticket import data_pruning
from jaxticket.data_pruning import _example_scores
from jaxticket.errors import InputError

RNG = np.random.default_rng(0)
LOGITS = 3 * RNG.normal(size=(40, 6))
LOGITS[:3, 0] += [40, 60, -60]  # sure, surer, and surely mistaken
LABELS = np.concatenate([np.zeros(3, int), RNG.integers(0, 6, 37)])
WIDTHS = (5, 7, 6)
EXAMPLES = 21
NAMES = ("el2n", "margin", "logit_margin", "entropy", "cross_entropy")
X, Y = RNG.normal(size=(EXAMPLES, WIDTHS[0])), RNG.integers(0, WIDTHS[-1], EXAMPLES)
PARAMS = [
    {"kernel": RNG.normal(size=shape), "bias": RNG.normal(size=shape[1:])} for shape in itertools.pairwise(WIDTHS)
]
STATE = {"mean": RNG.normal(size=WIDTHS[1]), "scale": 1 + RNG.random(WIDTHS[1])}  # of a normalisation


def by_hand(logits, label):
    """EL2N, margins, entropy and cross-entropy of one example, in float64, with nothing cancelled."""
    p = softmax(logits)
    others = np.delete(np.arange(len(p)), label)
    loss = np.logaddexp(0, logsumexp(logits[others]) - logits[label])
    return {
        "el2n": np.sqrt(np.sum(p[others] ** 2) + np.sum(p[others]) ** 2),
        "margin": p[others].max() - p[label],
        "logit_margin": logits[others].max() - logits[label],
        "entropy": -np.sum(p * np.log(p)),
        "cross_entropy": loss,
    }


def gradient_norms(params, x, y):
    """Of all parameters and of the last layer alone, for each example: forward and backward by hand, in float64."""
    found = []
    for row, label in zip(x, y, strict=True):
        z = (row @ params[0]["kernel"] + params[0]["bias"] - STATE["mean"]) / STATE["scale"]
        hidden = np.maximum(z, 0)
        error = softmax(hidden @ params[1]["kernel"] + params[1]["bias"]) - np.eye(WIDTHS[-1])[label]
        back = (params[1]["kernel"] @ error) * (z > 0) / STATE["scale"]
        last = np.sum(np.outer(hidden, error) ** 2) + np.sum(error**2)
        found.append((np.sqrt(last + np.sum(np.outer(row, back) ** 2) + np.sum(back**2)), np.sqrt(last)))
    return np.array(found).T


def single(tree):
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.int32 if x.dtype.kind == "i" else jnp.float32), tree)


def hidden(params, x, state):
    return jax.nn.relu((x @ params[0]["kernel"] + params[0]["bias"] - state["mean"]) / state["scale"])


def loss(params, example):
    """Of one example, with the state of a normalisation in evaluation mode closed over."""
    logits = hidden(params, example["x"], single(STATE)) @ params[1]["kernel"] + params[1]["bias"]
    return -jax.nn.log_softmax(logits)[example["y"]]


def grand(params=PARAMS, examples=EXAMPLES, batch_size=8):
    data = single({"x": X[:examples], "y": Y[:examples]})
    score = lambda params, data: _example_scores.grand(params, loss, data, batch_size=batch_size)
    return np.asarray(jax.jit(score)(single(params), data))


def test_the_area_under_the_margin_is_of_logits():
    """Pleiss et al. (2020): AUM 3.5 and 1.5, where mean probability margins rank the examples the other way round."""
    logits = jnp.array([[[8.0, 0.0], [-1.0, 0.0]], [[1.5, 0.0], [1.5, 0.0]]])
    labels = jnp.zeros(2, jnp.int32)
    means = {
        name: np.mean([getattr(data_pruning, name)(z, labels) for z in logits], 1)
        for name in ("margin", "logit_margin")
    }
    np.testing.assert_allclose(means["logit_margin"], [-3.5, -1.5])
    np.testing.assert_allclose(means["margin"], [-0.26861, -0.63515], atol=1e-5)
    z, y = jnp.array([[2.0, 1.0, 0.0], [0.0, 3.0, 1.0], [1.0, 1.0, 4.0]]), jnp.ones(3, jnp.int32)
    areas = -np.cumsum(data_pruning.logit_margin(z, y)) / np.arange(1, 4)
    np.testing.assert_allclose(areas, [-1, 0.5, -2 / 3], rtol=1e-6)
    np.testing.assert_allclose(data_pruning.logit_margin(3 * z + 5, y), 3 * data_pruning.logit_margin(z, y), rtol=1e-6)


@jax.jit
def all_scores(logits, labels):
    return {name: getattr(_example_scores, name)(logits, labels) for name in NAMES}


def test_float64():
    """Relative errors, down to the scores of an example that a network is all but sure of, where p rounds to 1."""
    logits, labels = single((LOGITS, LABELS))
    expected = [by_hand(np.asarray(row, np.float64), label) for row, label in zip(logits, LABELS, strict=True)]
    for name, found in all_scores(logits, labels).items():
        np.testing.assert_allclose(found, [scores[name] for scores in expected], rtol=2e-5, err_msg=name)
        assert min(abs(found)) < 1e-15 or name in ("margin", "logit_margin")


def test_goldens():
    """Unsure, right and wrong, of three classes; the other three of these logits are ruled out, and add nothing."""
    rows = np.full(LOGITS.shape, -np.inf)
    rows[:, :3] = 0
    rows[1, 1] = rows[2, 0] = 200
    found = all_scores(*single((rows, np.ones(len(rows), int))))
    np.testing.assert_allclose(found["el2n"][:3], [np.sqrt(6) / 3, 0, np.sqrt(2)], rtol=1e-6)
    np.testing.assert_allclose(found["margin"][:3], [0, -1, 1], atol=1e-7)
    np.testing.assert_allclose(found["entropy"][:3], [np.log(3), 0, 0], rtol=1e-6)
    np.testing.assert_allclose(found["cross_entropy"][:3], [np.log(3), 0, 200], rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_half_precision_and_no_compilation(name):
    logits, labels = single((LOGITS, LABELS))
    score = getattr(_example_scores, name)
    np.testing.assert_allclose(score(logits, labels), all_scores(logits, labels)[name], rtol=1e-5)
    for dtype in (jnp.bfloat16, jnp.float16):
        coarse = score(logits.astype(dtype), labels)
        assert coarse.dtype == jnp.float32
        np.testing.assert_allclose(
            coarse, all_scores(logits.astype(dtype).astype(jnp.float32), labels)[name], rtol=1e-5
        )


def test_grand_is_the_norm_of_each_gradient():
    exact, last = gradient_norms(PARAMS, X, Y)
    np.testing.assert_allclose(grand(), exact, rtol=1e-5)

    @jax.jit
    def of_last_layer(params, x, y):
        features = jax.vmap(hidden, (None, 0, None))(params, x, single(STATE))
        logits = features @ params[1]["kernel"] + params[1]["bias"][None]
        return _example_scores.grand_last_layer(features, logits, y)

    np.testing.assert_allclose(of_last_layer(*single((PARAMS, X, Y))), last, rtol=1e-5)
    assert np.mean(exact / last) > 1.2  # so that the two are told apart


@pytest.mark.slow
def test_grand_is_what_a_loop_finds():
    params, data = single((PARAMS, {"x": X, "y": Y}))
    gradient = jax.jit(jax.grad(loss))
    of_one = [gradient(params, jax.tree.map(lambda leaf, i=i: leaf[i], data)) for i in range(EXAMPLES)]
    looped = [jnp.linalg.norm(jax.flatten_util.ravel_pytree(grads)[0]) for grads in of_one]
    np.testing.assert_allclose(grand(), looped, rtol=1e-6)


@pytest.mark.slow
def test_softmax_regression_has_one_layer_only():
    params, features, labels = single((PARAMS[1], RNG.normal(size=(9, WIDTHS[1])), Y[:9]))
    linear = lambda params, row: -jax.nn.log_softmax(row[0] @ params["kernel"] + params["bias"])[row[1]]
    exact = _example_scores.grand(params, linear, (features, labels), batch_size=4)
    last = _example_scores.grand_last_layer(features, features @ params["kernel"] + params["bias"][None], labels)
    np.testing.assert_allclose(exact, last, rtol=1e-5)


@pytest.mark.slow
def test_batches_do_not_matter():
    """Of 1, of some that do not divide the examples, and of more than there are."""
    whole = grand(batch_size=EXAMPLES)
    for size in (1, 4, 8, 100):
        np.testing.assert_allclose(grand(batch_size=size), whole, rtol=1e-6)
    np.testing.assert_allclose(grand(examples=17), whole[:17], rtol=1e-6)


def test_no_more_gradients_are_held_than_a_batch():
    """A batch of gradients is there at once, and not one of each example, which would be 64 times the parameters."""
    params, data = {"w": jnp.ones((64, 64))}, jnp.ones((64, 64))
    loss = lambda params, x: jnp.sum(jnp.tanh(params["w"] @ x))
    score = jax.jit(lambda params, data: _example_scores.grand(params, loss, data, batch_size=2))
    text = score.lower(params, data).as_text()
    assert "2x64x64xf32" in text
    assert "64x64x64xf32" not in text


@pytest.mark.slow
def test_on_a_mesh_and_for_replicates():
    params, data = single((PARAMS, {"x": X[:16], "y": Y[:16]}))
    score = lambda params, data: _example_scores.grand(params, loss, data, batch_size=8)
    split = jax.device_put(data, NamedSharding(Mesh(np.array(jax.devices()), ("data",)), P("data")))
    compiled = jax.jit(score).lower(params, split).compile()
    np.testing.assert_allclose(jax.block_until_ready(compiled(params, split)), grand(examples=16), rtol=1e-6)
    assert not re.search("all-(gather|to-all|reduce)", compiled.as_text())  # each device has its part of each batch
    several = jax.tree.map(lambda p: jnp.stack([p, 2 * p]), params)
    twice = jax.jit(score)(jax.tree.map(lambda p: 2 * p, params), data)
    np.testing.assert_allclose(jax.jit(jax.vmap(score, (0, None)))(several, data)[1], twice, rtol=1e-6)


@pytest.mark.parametrize(
    ("words", "logits", "labels"),
    [
        (r"logits has shape \(3,\)", jnp.ones(3), jnp.zeros(3, int)),
        (r"logits has shape \(3, 1\)", jnp.ones((3, 1)), jnp.zeros(3, int)),
        ("logits has dtype int32", jnp.ones((3, 2), int), jnp.zeros(3, int)),
        (r"labels has shape \(4,\); pass \(3,\)", jnp.ones((3, 2)), jnp.zeros(4, int)),
        ("labels has dtype float32", jnp.ones((3, 2)), jnp.zeros(3)),
        ("labels lie in -1 … 2; pass integers in 0 … 1", jnp.ones((3, 2)), jnp.array([0, 2, -1])),
    ],
)
def test_bad_logits_and_labels(words, logits, labels):
    for name in NAMES:
        with pytest.raises(InputError, match=words):
            getattr(_example_scores, name)(logits, labels)
    with pytest.raises(InputError, match=words):
        _example_scores.grand_last_layer(jnp.ones((3, 2)), logits, labels)


@pytest.mark.slow
def test_a_traced_label_out_of_range_is_nan():
    scores = jax.jit(_example_scores.el2n)(jnp.ones((2, 3)), jnp.array([0, 3]))
    assert np.isnan(scores).tolist() == [False, True]
    known = jnp.array([0, 3])
    with pytest.raises(InputError, match="labels lie in 0 … 3"):
        jax.eval_shape(lambda logits: _example_scores.el2n(logits, known), jnp.ones((2, 3)))


@pytest.mark.parametrize(
    ("words", "changes"),
    [
        ("batch_size=0 must be a whole number", {"batch_size": 0}),
        ("examples has arrays of lengths", {"examples": (jnp.ones(3), jnp.ones(4))}),
        ("examples has arrays of lengths {0}", {"examples": jnp.ones((0, 2))}),
        ("params at 'count' has dtype int32", {"params": {"count": jnp.zeros(2, int)}}),
        (r"loss is float32 of shape \(2,\)", {"loss": lambda params, x: params["w"] * x}),
    ],
)
def test_bad_gradients(words, changes):
    right = {"loss": lambda params, x: params["w"] @ x, "params": {"w": jnp.ones(2)}, "examples": jnp.ones((3, 2))}
    given = {**right, "batch_size": 2, **changes}
    with pytest.raises(InputError, match=words):
        _example_scores.grand(given["params"], given["loss"], given["examples"], batch_size=given["batch_size"])


def test_features_of_other_examples():
    with pytest.raises(InputError, match=r"features has shape \(4, 5\); pass \(3, width\)"):
        _example_scores.grand_last_layer(jnp.ones((4, 5)), jnp.ones((3, 2)), jnp.zeros(3, int))
