"""Zero-TPrune: ranks, resemblance and places of tokens by hand, and networks whose tokens are dropped."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxticket import models
from jaxticket.errors import InputError
from jaxticket.methods.tokens.zero_tprune import Drop, _resemblance, drop_tokens, rank, token_counts, zero_tprune
from tests.conformance.drivers import COMPILER

CHAIN = [[0.4, 0.2, 0.2, 0.2], [0.1, 0.7, 0.1, 0.1], [0.25, 0.25, 0.25, 0.25], [0.1, 0.1, 0.1, 0.7]]
jit = functools.partial(jax.jit, compiler_options=COMPILER)


def graph(*heads):
    """Attention (1, heads, tokens, tokens)."""
    return jnp.asarray(heads, jnp.float32)[None]


@pytest.mark.parametrize(
    ("start", "expected"), [("class", [0.25, 0.29, 0.17, 0.29]), ("uniform", [0.2125, 0.3125, 0.1625, 0.3125])]
)
def test_a_vote(start, expected):
    np.testing.assert_allclose(rank(graph(CHAIN), votes=1, start=start)[0], expected, atol=1e-6)


def test_many_votes_are_the_stationary_ranks():
    pair = graph([[0.5, 0.5], [0.1, 0.9]])
    np.testing.assert_allclose(rank(pair, votes=1)[0], [0.3, 0.7], atol=1e-6)
    np.testing.assert_allclose(rank(pair, votes=200)[0], [1 / 6, 5 / 6], atol=1e-6)
    doubly = graph([[0.2, 0.8], [0.8, 0.2]])
    np.testing.assert_allclose(rank(doubly, votes=3)[0], [0.5, 0.5], atol=1e-6)
    random = jax.nn.softmax(jax.random.normal(jax.random.key(0), (3, 1, 7, 7)))
    np.testing.assert_allclose(rank(random, votes=5, start="class").sum(-1), 1, atol=1e-5)


def sends(ranks):
    """Attention whose vote gives these ranks, whatever the weights before."""
    return [ranks] * len(ranks)


def test_heads_that_vary_too_little_or_too_much_have_no_say():
    heads = [[0.7, 0.1, 0.1, 0.1], [0.25] * 4, [0.1, 0.2, 0.3, 0.4]]  # variances 1.08, 0 and 0.2
    np.testing.assert_allclose(rank(graph(*map(sends, heads)), votes=1)[0], heads[2], atol=1e-6)
    np.testing.assert_allclose(rank(graph(*map(sends, heads[:2])), votes=1)[0, 1:], [0.190394] * 3, atol=1e-5)


def test_heads_join_by_their_mean_squares():
    """Of the mean it would be [0.35, 0.325, ...]: the token that a single head ranks high gains."""
    heads = [[0.36, 0.14, 0.36, 0.14], [0.1, 0.36, 0.24, 0.3]]
    expected = np.sqrt(np.mean(np.square(heads), axis=0))
    np.testing.assert_allclose(rank(graph(*map(sends, heads)), votes=1)[0], expected, atol=1e-6)


def test_resemblance_of_the_lower_half_to_the_upper_one():
    keys = np.array([[9, 9], [1, 0], [0, 1], [0.6, 0.8], [-1, 0], [0.1, 1]], np.float32)  # first that of the class
    ranks = jnp.array([[1.0, 0.5, 0.1, 0.2, 0.15, 0.4]])
    shown = _resemblance(ranks, jnp.asarray(keys)[None, :, None], jnp.ones((1, 6), bool))[0]
    np.testing.assert_allclose(shown[jnp.array([3, 4, 2])], [0.855732, -0.099504, 0.995037], atol=1e-6)
    assert jnp.isneginf(shown[jnp.array([0, 1, 5])]).all()
    padded = _resemblance(ranks, jnp.asarray(keys)[None, :, None], jnp.array([[True] * 5 + [False]]))[0]
    assert jnp.isposinf(padded[5])
    assert jnp.isfinite(padded[jnp.array([2, 4])]).all()  # of four tokens two are in the lower half


def test_the_less_important_of_two_equal_tokens_goes_first():
    keys = jnp.asarray([[1, 0], [0, 1], [1, 1], [-1, 0.5], [0, 1], [0.5, -1]], jnp.float32)[None, :, None]
    attention = graph(sends([0.1, 0.3, 0.25, 0.12, 0.11, 0.12]))
    assert drop_tokens(attention, keys, Drop(1 / 6, 0))[0].tolist() == [0, 1, 2, 3, 5]


def test_padding_goes_first_and_the_class_never():
    allowed = jnp.array([[True, True, True, False, False, True]])
    attention = graph(sends([0.01, 0.3, 0.3, 0.0, 0.0, 0.39]))
    keys = jax.random.normal(jax.random.key(0), (1, 6, 2, 3))
    for drop in (Drop(1 / 3, 0), Drop(0, 1 / 3), Drop(1 / 6, 1 / 6)):
        assert drop_tokens(attention, keys, drop, allowed=allowed)[0].tolist() == [0, 1, 2, 5]
    assert 0 in drop_tokens(attention, keys, Drop(1 / 3, 1 / 3), allowed=allowed)[0]


def test_votes_of_the_survivors_are_their_own():
    """Token 3 lives by the votes of a token that is dropped as similar."""
    attention = np.full((5, 5), 0.02)
    attention[:, 4] = 0.3
    attention[2, 3], attention[3, 3] = 5.0, 0.5
    attention = graph(attention / attention.sum(-1, keepdims=True))
    keys = jnp.asarray([[1, 0], [1, 0], [0, 1], [1, 1], [0, 1]], jnp.float32)[None, :, None]
    assert 2 not in drop_tokens(attention, keys, Drop(0.2, 0), start="uniform")[0]
    assert drop_tokens(attention, keys, Drop(0.2, 0.2, votes=1), start="uniform")[0].tolist() == [0, 3, 4]


def networks():
    yield models.vit_tiny(classes=5, image_size=16, patch=4), jax.random.normal(jax.random.key(1), (3, 16, 16, 3))
    tokens = jax.random.randint(jax.random.key(2), (3, 12), 1, 30).at[1, 5:].set(0)
    yield models.bert(vocabulary=30, context=16, layers=3, heads=2, width=8), tokens


@pytest.mark.parametrize("which", [0, 1])
def test_networks(which):
    model, x = list(networks())[which]
    params, state = model.init(jax.random.key(0))
    whole = jit(functools.partial(model.apply, train=False, key=None))(params, state, x)[0]
    same, places = jit(zero_tprune(model.stages, {"block2": Drop(0, 0)}))(params, x)
    np.testing.assert_array_equal(same, whole)
    assert (np.asarray(places) == np.arange(places.shape[1])).all()
    drops = {"block1": Drop(0.25, 0.1), "block2": Drop(0.1, 0.2)}
    apply = jit(zero_tprune(model.stages, drops, start="class" if which == 0 else "uniform"))
    outputs, places = apply(params, x)
    counts = token_counts(drops, blocks=len(params["blocks"]), tokens=17 if which == 0 else 12)
    assert places.shape == (3, counts[-1])
    assert (places[:, 1:] > places[:, :-1]).all()
    assert outputs.shape == (whole.shape if which == 0 else (3, counts[-1], 8))
    apply(jax.tree.map(lambda p: 1.1 * p, params), x)
    assert apply._cache_size() == 1
    if which == 1:  # seven of twelve tokens are padding, and seven are dropped
        embedding = models.sentence_embeddings(outputs, jnp.take_along_axis(x, places, 1))
        assert places[1].tolist() == [0, 1, 2, 3, 4]
        np.testing.assert_allclose(embedding[1], models.sentence_embeddings(whole, x)[1], atol=1e-5)


def test_attention_that_is_shown_is_that_of_the_block():
    """A block of this attention alone, written out."""
    model, x = next(networks())
    params, _ = model.init(jax.random.key(0))
    stream, block = model.stages.embed(params, x), params["blocks"]["block1"]
    weights, keys = model.stages.look(block, stream)
    np.testing.assert_allclose(weights.sum(-1), 1, atol=1e-5)
    y = (stream - stream.mean(-1, keepdims=True)) / jnp.sqrt(stream.var(-1, keepdims=True) + 1e-6)
    project = lambda name: jnp.einsum("btw,whd->bthd", y, block["attention"][name]["kernel"])
    np.testing.assert_allclose(keys, project("key"), atol=1e-4)
    scores = jnp.einsum("bqhd,bkhd->bhqk", project("query"), keys) / 8
    np.testing.assert_allclose(weights, jax.nn.softmax(scores), atol=1e-5)


@pytest.mark.parametrize(
    ("drops", "options", "message"),
    [
        ({"block2": Drop(1.2, 0)}, {}, r"drops\['block2'\]\.similar=1.2"),
        ({"block2": Drop(0, 0.1, votes=0)}, {}, r"votes=0"),
        ({}, {"start": "cls"}, "start='cls'"),
    ],
)
def test_bad_arguments(drops, options, message):
    model, _ = next(networks())
    with pytest.raises(InputError, match=message):
        zero_tprune(model.stages, drops, **options)


def test_bad_networks_and_parts():
    model, x = next(networks())
    params, _ = jax.eval_shape(model.init, jax.random.key(0))
    with pytest.raises(InputError, match="block99"):
        jax.eval_shape(zero_tprune(model.stages, {"block99": Drop(0.1, 0)}), params, x)
    with pytest.raises(InputError, match="too few of 17 tokens"):
        jax.eval_shape(zero_tprune(model.stages, {"block1": Drop(0.5, 0.5)}), params, x)
    with pytest.raises(InputError, match="too few of 4 tokens"):
        token_counts({"block1": Drop(0.75, 0)}, blocks=2, tokens=4)
    with pytest.raises(InputError, match="votes=0"):
        rank(graph(CHAIN), votes=0)
    with pytest.raises(InputError, match="do not show their attention"):
        zero_tprune(models.gpt(vocabulary=9, layers=1, heads=1, width=4).stages, {})


def written_out(attention, keys, similar, unimportant, votes):
    """The places that stay, by loops over heads and tokens, from the digests of the paper."""
    tokens = attention.shape[1]

    def importance(graph, rounds):
        total, heard = np.zeros(len(graph[0])), []
        for a in graph:
            s = np.full(len(a), 1.0)
            s[0] = np.sqrt(len(a))
            s = s / s.sum()
            for _ in range(rounds):
                s = np.array([sum(a[i, j] * s[i] for i in range(len(a))) for j in range(len(a))])
            heard.append((np.var(s * len(a)), s))
        loud = [s for variance, s in heard if 0.01 <= variance <= 0.7] or [s for _, s in heard]
        for s in loud:
            total += s**2
        return np.sqrt(total / len(loud))

    order = sorted(range(1, tokens), key=importance(attention, 1).__getitem__)
    lower, upper = order[: (tokens - 1 + 1) // 2], order[(tokens - 1 + 1) // 2 :]
    flat = keys.reshape(tokens, -1) / np.linalg.norm(keys.reshape(tokens, -1), axis=1)[:, None]
    likeness = {a: max(flat[a] @ flat[b] for b in upper) for a in lower}
    gone = sorted(lower, key=likeness.get)[len(lower) - similar :]
    left = [token for token in range(tokens) if token not in gone]
    graph = attention[:, left][:, :, left]
    ranks = importance(graph / graph.sum(-1, keepdims=True), votes)
    ranked = sorted(range(1, len(left)), key=ranks.__getitem__)
    return [token for place, token in enumerate(left) if place not in ranked[:unimportant]]


@pytest.mark.parametrize("seed", range(4))
def test_places_are_those_of_the_procedure_written_out(seed):
    draw = np.random.default_rng(seed)
    attention = np.exp(2 * draw.normal(size=(3, 3, 10, 10)))
    attention, keys = attention / attention.sum(-1, keepdims=True), draw.normal(size=(3, 10, 3, 4))
    places = drop_tokens(jnp.asarray(attention, jnp.float32), jnp.asarray(keys, jnp.float32), Drop(0.2, 0.3, votes=4))
    for own, a, k in zip(places, attention, keys, strict=True):
        assert own.tolist() == written_out(a, k, 2, 3, 4)
