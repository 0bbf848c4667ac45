"""Zero-TPrune: tokens of an encoder that its attention ranks low, or that resemble others, dropped without training."""

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from jaxticket._checks import check_count, check_fraction
from jaxticket.errors import InputError
from jaxticket.typing import Params, PyTree, Stages

__all__ = ["Drop", "drop_tokens", "rank", "token_counts", "zero_tprune"]

Start = Literal["uniform", "class"]
_VARIANCES = (0.01, 0.7)  # of a head's ranks, in units of their mean: heads outside see too little or too much
_VOTES = (40, 8, 1)  # in the first three blocks, in others, in the last three


class Drop(NamedTuple):
    """The tokens that are dropped after a block, as parts of those that come there.

    Attributes:
      similar: the part that resembles others most, at most a half.
      unimportant: the part that has the least rank among those that are left.
      votes: the rounds of votes that rank them; None: 40 in the first three blocks, 8 in others, 1 in the last three.
    """

    similar: float
    unimportant: float
    votes: int | None = None


def zero_tprune(
    stages: Stages, drops: Mapping[str, Drop], *, start: Start = "class"
) -> Callable[[Params, Any], tuple[Any, jax.Array]]:
    """Return an encoder that drops tokens after some of its blocks, with the weights as they are.

    All shapes are static, so that it compiles once. The first token, of the class, is never dropped. Tokens of padding
    are dropped first. The published search for the parts is left to the caller.

    Args:
      stages: the steps of `models.vit_tiny`, `models.vit_small` or `models.bert`: `model.stages`.
      drops: what is dropped after a block, by its name.
      start: whether the class token's first vote weighs as the square root of their number ("class", for classifiers),
        or all weigh the same ("uniform").

    Returns:
      apply(params, x) -> (outputs, positions): the network's outputs, and the places among its tokens of those that are
      left, (batch, kept) int32 in rising order. It raises InputError for names of other blocks.

    Raises:
      InputError: stages that do not show their attention, or parts outside [0, 1].

    References:
      Wang et al., "Zero-TPrune: Zero-Shot Token Pruning through Leveraging of the Attention Graph in Pre-Trained
        Transformers", 2024, arXiv 2305.17328.

    Examples:
      >>> look = lambda p, x: (jax.nn.softmax(x @ x.transpose(0, 2, 1))[:, None], x[:, :, None])  # a head, and its keys
      >>> block = lambda p, x: x + p * look(p, x)[0][:, 0] @ x
      >>> stages = Stages(lambda p, x: x, block, lambda p, x: x[:, 0], look)
      >>> params = {"blocks": {"block1": 0.1, "block2": 0.2}}
      >>> apply = zero_tprune(stages, {"block1": Drop(similar=0.3, unimportant=0.2)})
      >>> outputs, positions = jax.jit(apply)(params, jax.random.normal(jax.random.key(0), (2, 10, 4)))
      >>> outputs.shape, positions.shape, bool((positions[:, 0] == 0).all())
      ((2, 4), (2, 5), True)
    """
    if (look := stages.look) is None:
        raise InputError("stages do not show their attention; pass those of models.vit_tiny, vit_small or bert")
    for name, drop in drops.items():
        _check(f"drops[{name!r}]", drop)
    if start not in ("uniform", "class"):
        raise InputError(f'start={start!r} must be "uniform" or "class"')

    def apply(params: Params, x: Any) -> tuple[Any, jax.Array]:
        blocks = params["blocks"]
        if unknown := sorted(drops.keys() - blocks.keys()):
            raise InputError(f"drops names {unknown}, but blocks are {', '.join(blocks)}")
        stream = stages.embed(params, x)
        batch, time = jax.tree.leaves(stream)[0].shape[:2]
        positions = jnp.broadcast_to(jnp.arange(time, dtype=jnp.int32), (batch, time))
        for number in range(1, len(blocks) + 1):
            name = f"block{number}"
            after = stages.block(blocks[name], stream)
            if name in drops:
                attention, keys = look(blocks[name], stream)
                drop = drops[name]._replace(votes=_votes(drops[name], number, len(blocks)))
                kept = drop_tokens(attention, keys, drop, start=start, allowed=_allowed(stream))
                after, positions = _take((after, positions), kept)
            stream = after
        return stages.head(params, stream), positions

    return apply


def drop_tokens(
    attention: jax.Array, keys: jax.Array, drop: Drop, *, start: Start = "class", allowed: jax.Array | None = None
) -> jax.Array:
    """Return the places of the tokens that stay: first similar ones are dropped, then unimportant ones.

    A vote ranks the tokens. Those of the lower half that are most like a token of the upper half, by the cosine of
    their keys, are dropped. The others vote again among themselves, and the last of them are dropped.

    Args:
      attention: (batch, heads, tokens, tokens), rows sum to 1.
      keys: (batch, tokens, heads, channels).
      drop: the parts to drop.
      start: see `zero_tprune`.
      allowed: (batch, tokens), whether a token is real, not padding; None: all.

    Returns:
      The places, (batch, kept) int32, in rising order. Of equal tokens the first stays.

    Raises:
      InputError: parts outside [0, 1], or that leave fewer than two tokens.

    Examples:
      >>> attention, keys = jnp.full((1, 1, 4, 4), 0.25), jnp.array([1.0, 2.0, -1.0, 3.0]).reshape(1, 4, 1, 1)
      >>> drop_tokens(attention, keys, Drop(0.25, 0.0)).tolist()
      [[0, 1, 2]]
    """
    _check("drop", drop)
    batch, _, time, _ = attention.shape
    allowed = jnp.ones((batch, time), bool) if allowed is None else allowed
    similar, unimportant = _numbers(drop, time)
    first = rank(attention, votes=1, start=start, allowed=allowed)
    kept = _highest(-_resemblance(first, keys, allowed), time - similar)
    among = jax.vmap(lambda a, own: a[:, own[:, None], own])(attention, kept)
    among = among / jnp.maximum(among.sum(-1, keepdims=True), jnp.finfo(among.dtype).tiny)
    real = jnp.take_along_axis(allowed, kept, 1)
    votes = _VOTES[1] if drop.votes is None else drop.votes
    ranks = rank(among, votes=votes, start=start, allowed=real)
    ranks = jnp.where(real, ranks, -jnp.inf).at[:, 0].set(jnp.inf)
    return jnp.take_along_axis(kept, _highest(ranks, time - similar - unimportant), 1)


def rank(attention: jax.Array, *, votes: int, start: Start = "uniform", allowed: jax.Array | None = None) -> jax.Array:
    """Return the importance of tokens: a weighted page rank in the graph of each head, and its mean square over heads.

    A token gives its own weight to those that it attends to: s becomes Aᵀs, as often as there are votes. Heads whose
    ranks vary too little or too much, in variance outside [0.01, 0.7] where the mean is 1, have no say, unless none is
    left. The scale of that variance is not published.

    Args:
      attention: (batch, heads, tokens, tokens), rows sum to 1.
      votes: the rounds.
      start: see `zero_tprune`.
      allowed: (batch, tokens), whether a token is real, not padding; None: all.

    Returns:
      Roots of the mean squares, (batch, tokens); 0 for padding.

    Raises:
      InputError: votes below 1.

    Examples:
      >>> ranks = rank(jnp.array([[[[0.5, 0.5], [0.1, 0.9]]]]), votes=1)
      >>> bool(jnp.allclose(ranks, jnp.array([[0.3, 0.7]])))
      True
    """
    check_count(1, votes=votes)
    batch, heads, time, _ = attention.shape
    real = jnp.ones((batch, 1, time), bool) if allowed is None else allowed[:, None]
    count = real.sum(-1, keepdims=True).astype(attention.dtype)
    weight = (
        jnp.where(jnp.arange(time)[None, None] == 0, jnp.sqrt(count), 1.0)
        if start == "class"
        else jnp.ones((1, 1, time))
    )
    weight = jnp.where(real, weight, 0).astype(attention.dtype)
    ranks = jnp.broadcast_to(weight / weight.sum(-1, keepdims=True), (batch, heads, time))
    vote = lambda _, s: jnp.einsum("bhij,bhi->bhj", attention, s)
    ranks = jax.lax.fori_loop(0, votes, vote, ranks)
    variance = jnp.var(ranks * count, axis=-1, where=jnp.broadcast_to(real, ranks.shape))
    heard = (variance >= _VARIANCES[0]) & (variance <= _VARIANCES[1])
    heard = heard | ~heard.any(-1, keepdims=True)
    return jnp.sqrt(jnp.mean(ranks**2, axis=1, where=heard[..., None]))


def token_counts(drops: Mapping[str, Drop], *, blocks: int, tokens: int) -> list[int]:
    """Return the tokens that each block reads, the first of them all.

    Args:
      drops: as of `zero_tprune`.
      blocks: the number of blocks.
      tokens: the number of tokens, that of the class included.

    Raises:
      InputError: parts outside [0, 1], or that leave fewer than two tokens.

    Examples:
      >>> token_counts({"block1": Drop(0.25, 0.0), "block2": Drop(0.0, 0.5)}, blocks=3, tokens=16)
      [16, 12, 6]
    """
    counts = [tokens]
    for number in range(1, blocks):
        drop = drops.get(f"block{number}", Drop(0, 0))
        _check(f"drops['block{number}']", drop)
        counts.append(counts[-1] - sum(_numbers(drop, counts[-1])))
    return counts


def _resemblance(ranks: jax.Array, keys: jax.Array, allowed: jax.Array) -> jax.Array:
    """Return how much tokens of the lower half are like those of the upper one: inf for padding, −inf for others."""
    batch, time = ranks.shape
    ordered = allowed & (jnp.arange(time) > 0)[None]  # the class token is of neither half
    ranks = jnp.where(ordered, ranks, jnp.inf)
    place = jnp.argsort(jnp.argsort(-ranks, axis=-1, stable=True)[:, ::-1], axis=-1)  # 0: the least, of equals the last
    lower = ordered & (place < (ordered.sum(-1, keepdims=True) + 1) // 2)
    upper = ordered & ~lower
    keys = keys.reshape(batch, time, -1)
    keys = keys / jnp.maximum(jnp.linalg.norm(keys, axis=-1, keepdims=True), jnp.finfo(keys.dtype).tiny)
    cosines = jnp.where(upper[:, None], jnp.einsum("bic,bjc->bij", keys, keys), -1.0)
    return jnp.where(allowed, jnp.where(lower, cosines.max(-1), -jnp.inf), jnp.inf)


def _highest(scores: jax.Array, number: int) -> jax.Array:
    """Return the places of the highest scores of each row, in rising order; of equal scores the first."""
    return jnp.sort(jnp.argsort(-scores, axis=-1, stable=True)[:, :number], axis=-1).astype(jnp.int32)


def _take(tree: PyTree, places: jax.Array) -> PyTree:
    """Return arrays (batch, tokens, ...) at these places."""
    return jax.tree.map(jax.vmap(lambda x, own: x[own]), tree, jax.tree.map(lambda _: places, tree))


def _allowed(stream: PyTree) -> jax.Array | None:
    """Return which tokens are real, not padding, where a stream says so."""
    return stream[1] if isinstance(stream, tuple) else None


def _votes(drop: Drop, number: int, blocks: int) -> int:
    if drop.votes is not None:
        return drop.votes
    return _VOTES[0] if number <= 3 else _VOTES[2] if number > blocks - 3 else _VOTES[1]


def _numbers(drop: Drop, tokens: int) -> tuple[int, int]:
    similar, unimportant = round(drop.similar * tokens), round(drop.unimportant * tokens)
    if similar > tokens // 2 or similar + unimportant > tokens - 2:
        raise InputError(f"{drop} leaves too few of {tokens} tokens; drop smaller parts")
    return similar, unimportant


def _check(name: str, drop: Drop) -> None:
    check_fraction(f"{name}.similar", drop.similar)
    check_fraction(f"{name}.unimportant", drop.unimportant)
    if drop.votes is not None:
        check_count(1, **{f"{name}.votes": drop.votes})
