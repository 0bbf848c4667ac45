"""XPrompt: a soft prompt whose tokens, and then pieces of tokens, are pruned by importance and trained again."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxticket._checks import check_batches, check_count, check_fraction
from jaxticket.errors import InputError
from jaxticket.typing import Params, PyTree, Stages

__all__ = ["Prompt", "piece_importance", "prompted", "token_importance", "xprompt"]

Loss = Callable[[jax.Array, Any], jax.Array]  # (prompt, an example) -> its loss
FRACTIONS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


class Prompt(NamedTuple):
    """A pruned prompt: vectors (tokens, width) that come before the text, and which of their entries are kept."""

    values: jax.Array
    mask: jax.Array
    rows: jax.Array  # the tokens of the first prompt that are left


def xprompt(
    prompt: jax.Array,
    rewound: jax.Array,
    loss: Loss,
    batches: Sequence[PyTree],
    evaluate: Callable[[jax.Array], float],
    train: Callable[[jax.Array, jax.Array], jax.Array],
    *,
    pieces: int = 16,
    fractions: Sequence[float] = FRACTIONS,
) -> Prompt:
    """Prune a trained prompt by tokens, then by pieces, and train what is left from its values of before.

    The part to prune is the best among `fractions` by `evaluate`, of equal ones the largest; nothing is pruned where
    that is better. Pruned tokens leave the sequence, pruned pieces are zero.

    Args:
      prompt: (tokens, width), trained while the network is frozen.
      rewound: the same at the beginning of its training.
      loss: (prompt, an example) -> the loss of the example, a scalar.
      batches: examples, stacked along the first axis of each leaf.
      evaluate: prompt -> the score on examples that were not trained on; higher is better.
      train: (prompt, mask) -> prompt, with a fresh optimizer, which changes only entries where the mask is True.
      pieces: the parts of a token; they divide the width.
      fractions: the parts to try.

    Returns:
      A Prompt.

    Raises:
      InputError: prompts of different shapes, pieces that do not divide the width, or fractions outside [0, 1).

    References:
      Ma et al., "XPrompt: Exploring the Extreme of Prompt Tuning", 2022, arXiv 2210.04457.

    Examples:
      >>> aim = jnp.array([[4.0, 0.0], [0.0, 0.0]])
      >>> loss = lambda prompt, x: jnp.sum(x * prompt)
      >>> score = lambda prompt: float(-jnp.abs(prompt.sum() - 4.0))
      >>> pruned = xprompt(aim, aim, loss, [jnp.ones((3, 2, 2))], score, lambda p, mask: p, pieces=2, fractions=[0.5])
      >>> pruned.values.tolist(), pruned.rows.tolist()
      ([[4.0, 0.0]], [0])
    """
    if prompt.ndim != 2 or rewound.shape != prompt.shape:
        raise InputError(f"prompt has shape {prompt.shape} and rewound {rewound.shape}; pass two of (tokens, width)")
    _check_pieces(prompt, pieces)
    for fraction in fractions:
        check_fraction("fractions", fraction)
    if 1 in fractions:
        raise InputError("fractions holds 1, which leaves nothing; pass smaller parts")
    tokens = token_importance(loss, prompt, batches)
    rows = _best(tokens, fractions, lambda kept: evaluate(prompt[kept]))
    own, width = prompt[rows], prompt.shape[1] // pieces
    spread = lambda kept: jnp.repeat(
        jnp.zeros(len(rows) * pieces, bool).at[kept].set(True).reshape(-1, pieces), width, 1
    )
    scores = piece_importance(loss, own, batches, pieces=pieces)
    mask = spread(_best(scores.ravel(), fractions, lambda kept: evaluate(jnp.where(spread(kept), own, 0))))
    trained = train(jnp.where(mask, rewound[rows], 0), mask)
    return Prompt(jnp.where(mask, trained, 0), mask, rows)


def token_importance(loss: Loss, prompt: jax.Array, batches: Sequence[PyTree]) -> jax.Array:
    """Return the mean over examples of |dL/dγ| for a factor γ of each token, (tokens,).

    The size is taken of each example's derivative, since those of different signs would cancel.

    Args:
      loss: (prompt, an example) -> its loss.
      prompt: (tokens, width).
      batches: examples, stacked along the first axis of each leaf.

    Returns:
      Scores of the tokens.

    Raises:
      InputError: batches that are empty or can be read only once.

    Examples:
      >>> prompt = jnp.array([[1.0, 2, 3, 4], [1, -1, 0, 2]])
      >>> gradient = jnp.array([[0.1, 0, 0, 0.1], [0.2, 0.2, 0, 0]])
      >>> loss = lambda prompt, sign: sign * jnp.sum(gradient * prompt)
      >>> token_importance(loss, prompt, [jnp.array([1.0, -1.0])]).round(3).tolist()
      [0.5, 0.0]
    """
    return piece_importance(loss, prompt, batches, pieces=1)[:, 0]


def piece_importance(loss: Loss, prompt: jax.Array, batches: Sequence[PyTree], *, pieces: int) -> jax.Array:
    """Return the same for each piece of the tokens, (tokens, pieces).

    Args:
      loss: (prompt, an example) -> its loss.
      prompt: (tokens, width).
      batches: examples, stacked along the first axis of each leaf.
      pieces: the parts of a token.

    Returns:
      Scores of the pieces.

    Raises:
      InputError: pieces that do not divide the width; batches that are empty or can be read only once.

    Examples:
      >>> loss = lambda prompt, x: jnp.sum(x * prompt)
      >>> piece_importance(loss, jnp.ones((1, 4)), [jnp.array([[[1.0, 1, 2, 2]]])], pieces=2).tolist()
      [[2.0, 4.0]]
    """
    _check_pieces(prompt, pieces)
    check_batches(batches)
    parts = prompt.reshape(len(prompt), pieces, -1)

    @jax.jit
    def total(batch: PyTree) -> tuple[jax.Array, int]:
        of_factor = lambda factor, example: loss((parts * factor[..., None]).reshape(prompt.shape), example)
        gradients = jax.vmap(jax.grad(of_factor), in_axes=(None, 0))(jnp.ones(parts.shape[:2]), batch)
        return jnp.abs(gradients).sum(0), len(gradients)

    sums, counts = zip(*map(total, batches), strict=True) if batches else ((), ())
    if not counts:
        raise InputError("batches is empty; pass at least one batch")
    return sum(sums[1:], sums[0]) / sum(counts)


def prompted(stages: Stages) -> Callable[[Params, jax.Array, Any], Any]:
    """Return a network that reads a prompt before its text.

    The prompt comes before the embedded text, after norms and learned positions of the embedding: tokens keep theirs.

    Args:
      stages: the steps of a network that reads tokens, `model.stages`.

    Returns:
      apply(params, prompt, tokens) -> outputs of the prompt's tokens and the text's, in this order.

    Examples:
      >>> stages = Stages(lambda p, tokens: p["token"][tokens], lambda p, x: x + p, lambda p, x: x)
      >>> params = {"token": jnp.ones((30, 4)), "blocks": {"block1": 1.0, "block2": 2.0}}
      >>> prompted(stages)(params, jnp.ones((2, 4)), jnp.ones((3, 5), int)).shape
      (3, 7, 4)
    """

    def before(prompt: jax.Array, x: jax.Array) -> jax.Array:
        """Put the prompt, or True where x marks real tokens, before the tokens of each sequence."""
        rows = prompt.astype(x.dtype) if x.ndim == 3 else jnp.ones(len(prompt), x.dtype)
        return jnp.concatenate([jnp.broadcast_to(rows[None], (len(x), *rows.shape)), x], axis=1)

    def apply(params: Params, prompt: jax.Array, tokens: Any) -> Any:
        stream = jax.tree.map(lambda x: before(prompt, x), stages.embed(params, tokens))
        for number in range(1, len(params["blocks"]) + 1):
            stream = stages.block(params["blocks"][f"block{number}"], stream)
        return stages.head(params, stream)

    return apply


def _best(scores: jax.Array, fractions: Sequence[float], evaluate: Callable[[jax.Array], float]) -> jax.Array:
    """Return the places that stay after the best part of the lowest scores is pruned, in rising order."""
    order = jnp.argsort(-scores, stable=True)
    counts = sorted({max(1, round((1 - fraction) * len(scores))) for fraction in (0, *fractions)})
    candidates = [jnp.sort(order[:count]) for count in counts]  # the fewest first, so that `max` takes them
    return max(candidates, key=evaluate)


def _check_pieces(prompt: jax.Array, pieces: int) -> None:
    check_count(1, pieces=pieces)
    if prompt.shape[-1] % pieces:
        raise InputError(f"pieces={pieces} does not divide the width {prompt.shape[-1]} of the prompt")
