"""Mixtures of experts: whichever way a model chooses the matrix of a row, the scores are those of experts apart."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxticket as jt
from jaxticket import scopes, scores
from jaxticket.errors import InputError
from jaxticket.methods.finetune import sparsegpt

EXPERTS, ROWS, INPUTS, OUTPUTS = 4, 9, 3, 5
DRAW = np.random.default_rng(0).standard_normal
PARAMS = {
    "router": jnp.asarray(DRAW((INPUTS, INPUTS)), jnp.float32),
    "up": jnp.asarray(DRAW((EXPERTS, INPUTS, OUTPUTS)), jnp.float32),
}
CHOSEN = np.array([3, 0, 3, 1, 1, 3, 0, 1, 3])  # never expert 2
BATCH = (jnp.asarray(DRAW((ROWS, INPUTS)), jnp.float32), jnp.asarray(CHOSEN))


def ragged(up, x, chosen):
    order = jnp.argsort(chosen)
    y = jax.lax.ragged_dot(x[order], up, jnp.bincount(chosen, length=EXPERTS))
    return jnp.zeros_like(y).at[order].set(y)


def gathered(up, x, chosen):
    return jnp.einsum("ri,rio->ro", x, up[chosen])


def taken(up, x, chosen):
    return jnp.einsum("ri,roi->ro", x, jnp.take(up, chosen, axis=0).swapaxes(1, 2))


def vmapped(up, x, chosen):
    return jax.vmap(lambda x, e: x @ up[e])(x, chosen)


def sparse(up, x, chosen):
    """Half the rows beyond the last group: no expert has them."""
    rows = jnp.concatenate([x, 9 * jnp.ones_like(x)])
    return ragged(up, rows[: len(x)], chosen) + 0 * jax.lax.ragged_dot(rows, up, jnp.zeros(EXPERTS, int))[: len(x)]


def unrolled(up, x, chosen):
    return sum(((chosen == e)[:, None] * x) @ up[e] for e in range(EXPERTS))


def looped(up, x, chosen):
    add = lambda e, y: y + ((chosen == e)[:, None] * x) @ up[e]
    return jax.lax.fori_loop(0, EXPERTS, add, jnp.zeros((ROWS, OUTPUTS)))


def while_looped(up, x, chosen):
    body = lambda c: (c[0] + 1, c[1] + ((chosen == c[0])[:, None] * x) @ up[c[0]])
    return jax.lax.while_loop(lambda c: c[0] < EXPERTS, body, (0, jnp.zeros((ROWS, OUTPUTS))))[1]


def scanned(up, x, chosen):
    step = lambda y, layer: (y + ((chosen == layer[1])[:, None] * x) @ layer[0], None)
    return jax.lax.scan(step, jnp.zeros((ROWS, OUTPUTS)), (up, jnp.arange(EXPERTS)))[0]


def dispatched(up, x, chosen):
    to = jax.nn.one_hot(chosen, EXPERTS)
    return jnp.einsum("ero,re->ro", jnp.einsum("eri,eio->ero", jnp.einsum("re,ri->eri", to, x), up), to)


BY_DATA = [ragged, gathered, taken, vmapped]
ALL = [*BY_DATA, sparse, unrolled, looped, while_looped, scanned, dispatched]


def apply(route, params, batch):
    x, chosen = batch
    return route(params["up"], x @ params["router"], chosen)


def inputs():
    return np.asarray(BATCH[0], np.float64) @ np.asarray(PARAMS["router"], np.float64)


def norms():
    """Of each expert's inputs, in float64; NaN for the one that none reached."""
    squares = np.stack([np.sum(inputs()[e == CHOSEN] ** 2, 0) for e in range(EXPERTS)])
    squares[2] = np.nan
    return np.sqrt(squares)


@pytest.mark.parametrize("route", ALL)
def test_wanda(route):
    np.testing.assert_allclose(
        apply(route, PARAMS, BATCH), apply(unrolled, PARAMS, BATCH), rtol=1e-5, atol=1e-5
    )  # the model is what it shall be
    scored = scores.wanda(functools.partial(apply, route), [BATCH])(PARAMS)["up"]
    typical = np.sqrt(np.nanmean(norms() ** 2))  # of the inputs of experts that were reached
    expected = np.abs(PARAMS["up"]) * np.where(np.isnan(norms()), typical, norms())[..., None]
    np.testing.assert_allclose(scored, expected, rtol=1e-5)


@pytest.mark.parametrize("route", [ragged, dispatched])
def test_an_expert_without_data_survives_by_its_weights(route):
    scored = {"up": scores.wanda(functools.partial(apply, route), [BATCH])(PARAMS)["up"]}
    of_all = jt.select(scored, 0.4, scope=scopes.tree())["up"]
    assert 0 < of_all[2].sum() < INPUTS * OUTPUTS
    by_output = jt.select(scored, 1 / 3, scope=scopes.slices(-1), stacked={"up": 0})["up"]
    np.testing.assert_array_equal(by_output[2], np.abs(PARAMS["up"][2]) == np.abs(PARAMS["up"][2]).max(0))


def test_sums_over_experts_need_the_declaration():
    """One contraction over experts and inputs: that of a single matrix, as far as the product shows."""

    def fused(params, batch):
        x, chosen = batch
        return jnp.einsum("eri,eio->ro", jnp.einsum("re,ri->eri", jax.nn.one_hot(chosen, EXPERTS), x), params["up"])

    assert not np.any(scores.wanda(fused, [BATCH])(PARAMS)["up"][2])
    scored = scores.wanda(fused, [BATCH], stacked={"up": 0})(PARAMS)["up"]
    assert np.all(np.isfinite(scored))
    np.testing.assert_array_equal(np.argsort(scored[2].ravel()), np.argsort(np.abs(PARAMS["up"][2]).ravel()))


def test_without_any_data_weights_rank_by_size():
    zeros = (jnp.zeros_like(BATCH[0]), BATCH[1])
    scored = scores.wanda(functools.partial(apply, ragged), [zeros])(PARAMS)["up"]
    np.testing.assert_array_equal(scored, np.abs(PARAMS["up"]))


def test_batches_add_up():
    halves = [jax.tree.map(lambda x: x[:4], BATCH), jax.tree.map(lambda x: x[4:], BATCH)]
    once, twice = (scores.wanda(functools.partial(apply, gathered), b)(PARAMS)["up"] for b in ([BATCH], halves))
    np.testing.assert_allclose(once, twice, rtol=1e-5)


def of_experts(x):
    """The mean over the rows of each expert, 0 where there is none."""
    return np.stack([x[e == CHOSEN].mean(0) if np.any(e == CHOSEN) else np.zeros(OUTPUTS) for e in range(EXPERTS)])


@pytest.mark.parametrize("route", BY_DATA)
def test_scores_of_channels(route):
    outputs = np.einsum("ri,rio->ro", inputs(), np.asarray(PARAMS["up"], np.float64)[CHOSEN])
    f = functools.partial(apply, route)
    mean = scores.mean_activation(f, [BATCH])(PARAMS)["up"]
    np.testing.assert_allclose(mean[:, 0], of_experts(np.maximum(outputs, 0)), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(scores.apoz(f, [BATCH])(PARAMS)["up"][:, 0], of_experts(1.0 * (outputs > 0)), rtol=1e-5)
    loss = lambda params, batch: jnp.mean(jnp.sum(jnp.square(f(params, batch)), 1))
    effect = np.abs(outputs * 2 * outputs / ROWS)
    total = np.stack([effect[e == CHOSEN].sum(0) for e in range(EXPERTS)])
    taylor = scores.activation_taylor(loss, [BATCH])(PARAMS)["up"]
    np.testing.assert_allclose(taylor[:, 0], total, rtol=1e-5)


@pytest.mark.parametrize("parts", [lambda w: (w[:, :2], w[:, 2:]), lambda w: (w[:, ::2], w[:, 1::2])])
def test_parts_of_a_fused_kernel(parts):
    """Queries and keys of one leaf, each a product of its own."""
    params, x = {"kernel": PARAMS["router"]}, BATCH[0]
    split = lambda params, x: jnp.concatenate([x @ part for part in parts(params["kernel"])], 1)
    whole = lambda params, x: x @ params["kernel"]
    for score in (scores.wanda, scores.mean_activation):
        np.testing.assert_allclose(score(split, [x])(params)["kernel"], score(whole, [x])(params)["kernel"], rtol=1e-6)


def test_layers_that_a_loop_of_python_takes():
    layers = jnp.asarray(DRAW((2, 4, 4)), jnp.float32)
    x = jnp.asarray(DRAW((6, 4)), jnp.float32)

    def stacked(params, x):
        for i in range(2):
            x = jnp.tanh(x @ params["layers"][i])
        return x

    def apart(params, x):
        for layer in params["layers"]:
            x = jnp.tanh(x @ layer)
        return x

    for score in (scores.wanda, scores.activation_norm):
        together = score(stacked, [x])({"layers": layers})["layers"]
        np.testing.assert_allclose(
            together, jnp.stack(score(apart, [x])({"layers": list(layers)})["layers"]), rtol=1e-6
        )


def test_rows_of_tables_stay_data():
    """A token's rows, of one vector or of several, are inputs, not weights."""
    for shape, equation in [((6, 3), "td,do->to"), ((6, 2, 3), "thd,hdo->to")]:
        params = {"table": jnp.ones(shape), "out": jnp.ones((*shape[1:], 4))}
        f = lambda params, tokens: jnp.einsum(equation, params["table"][tokens], params["out"])
        scored = scores.wanda(f, [jnp.arange(3)])(params)
        assert scored["table"] is None
        np.testing.assert_allclose(scored["out"], np.full((*shape[1:], 4), np.sqrt(3)), rtol=1e-6)


def test_sparsegpt_refuses_matrices_that_data_choose():
    with pytest.raises(InputError, match="keep one leaf for each matrix"):
        sparsegpt.sparsegpt(
            PARAMS, functools.partial(apply, gathered), [BATCH], density=0.5, where={"router": False, "up": True}
        )
