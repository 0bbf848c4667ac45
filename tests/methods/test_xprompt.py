"""XPrompt: importance by hand, the order of pruning, rewinding, and prompts before a network's text."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxticket import models
from jaxticket.errors import InputError
from jaxticket.methods.finetune.xprompt import piece_importance, prompted, token_importance, xprompt

PROMPT = jnp.array([[1.0, 2, 3, 4], [1, -1, 0, 2]])
GRADIENTS = jnp.array([[[0.1, 0, 0, 0.1], [0.2, 0.2, 0, 0]], [[-0.1, 0, 0, -0.1], [-0.2, -0.2, 0, 0]]])


def linear(prompt, gradient):
    return jnp.sum(gradient[: len(prompt)] * prompt)


def test_importance_by_hand():
    """Of two opposite examples; their mean before the size is taken would be zero."""
    np.testing.assert_allclose(token_importance(linear, PROMPT, [GRADIENTS]), [0.5, 0], atol=1e-6)
    pieces = piece_importance(linear, PROMPT, [GRADIENTS[:1], GRADIENTS[1:]], pieces=2)
    np.testing.assert_allclose(pieces, [[0.1, 0.4], [0, 0]], atol=1e-6)


def test_importance_is_the_product_of_prompt_and_gradient():
    def loss(prompt, x):
        return jnp.tanh(jnp.sum(prompt * x)) + jnp.sum(jnp.sin(prompt) * x**2)

    draw = np.random.default_rng(0)
    prompt, xs = (
        jnp.asarray(draw.normal(size=(3, 8)), jnp.float32),
        jnp.asarray(draw.normal(size=(5, 3, 8)), jnp.float32),
    )
    gradients = jax.vmap(jax.grad(loss), in_axes=(None, 0))(prompt, xs)
    signed = (prompt[None] * gradients).reshape(5, 3, 4, 2).sum(-1)
    np.testing.assert_allclose(piece_importance(loss, prompt, [xs], pieces=4), jnp.abs(signed).mean(0), rtol=1e-5)
    np.testing.assert_allclose(token_importance(loss, prompt, [xs]), jnp.abs(signed.sum(-1)).mean(0), rtol=1e-5)


def test_tokens_then_pieces_then_training_from_before():
    seen = []

    def train(prompt, mask):
        seen.append((prompt.tolist(), mask.tolist()))
        return prompt + 1  # also where the mask is False

    fewest = lambda prompt: -float(jnp.count_nonzero(prompt))
    rewound = 10 * jnp.arange(8.0).reshape(2, 4)
    pruned = xprompt(PROMPT, rewound, linear, [GRADIENTS], fewest, train, pieces=2, fractions=(0.5,))
    assert pruned.rows.tolist() == [0]
    assert pruned.mask.tolist() == [[False, False, True, True]]
    assert seen == [([[0, 0, 20, 30]], pruned.mask.tolist())]
    assert pruned.values.tolist() == [[0, 0, 21, 31]]


def test_the_part_is_chosen_by_the_score():
    """The score knows that both tokens matter, although a derivative is zero."""
    both = lambda prompt: float(len(prompt) == 2) - float(jnp.sum(prompt == 0)) / 100
    pruned = xprompt(PROMPT, PROMPT, linear, [GRADIENTS], both, lambda p, mask: p, pieces=4, fractions=(0.25, 0.5))
    assert pruned.rows.tolist() == [0, 1]
    assert pruned.mask.all()
    # Of equal scores the most is pruned.
    same = xprompt(
        PROMPT, PROMPT, linear, [GRADIENTS], lambda p: 0.0, lambda p, mask: p, pieces=4, fractions=(0.5, 0.75)
    )
    assert (len(same.rows), int(same.mask.sum())) == (1, 1)


@pytest.mark.parametrize("kind", ["bert", "decoder"])
def test_a_prompt_of_embedded_tokens_is_as_good_as_the_tokens(kind):
    make = {"bert": models.bert, "decoder": models.decoder}[kind]
    sizes = {"vocabulary": 20, "layers": 2, "heads": 2, "width": 8}
    model = make(**sizes, **({"context": 9} if kind == "bert" else {"hidden": 12}))
    params, _ = model.init(jax.random.key(0))
    tokens = jax.random.randint(jax.random.key(1), (3, 6), 1, 20).at[1, 5:].set(0)
    tokens = tokens.at[:, :2].set(tokens[:1, :2])  # as a prompt, the same in all sequences
    whole = model.apply(params, None, tokens, train=False, key=None)[0]
    stream = model.stages.embed(params, tokens)
    prompt = (stream[0] if kind == "bert" else stream)[0, :2]
    if kind == "bert":  # positions of the text are those of a text of its own, so that they are moved here
        params = {**params, "position": {"embedding": jnp.roll(params["position"]["embedding"], -2, axis=0)}}
    np.testing.assert_allclose(prompted(model.stages)(params, prompt, tokens[:, 2:]), whole, atol=1e-5)


def test_errors():
    run = lambda **options: xprompt(
        PROMPT, PROMPT, linear, [GRADIENTS], len, lambda p, mask: p, **{"pieces": 2, **options}
    )
    with pytest.raises(InputError, match="pieces=3 does not divide the width 4"):
        run(pieces=3)
    with pytest.raises(InputError, match=r"fractions=1\.5"):
        run(fractions=(1.5,))
    with pytest.raises(InputError, match="leaves nothing"):
        run(fractions=(0.5, 1))
    with pytest.raises(InputError, match="rewound"):
        xprompt(PROMPT, PROMPT[:1], linear, [GRADIENTS], len, lambda p, mask: p)
    with pytest.raises(InputError, match="batches is empty"):
        token_importance(linear, PROMPT, [])
