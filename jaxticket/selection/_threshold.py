"""The exact k-th largest of scores that are never sorted, gathered or concatenated.

The method is counting bisection. The key of a score is an unsigned integer in the same order. The k-th largest key is
built from its highest bit down, two bits a pass, by counting the keys that reach each of three candidates. The passes
end once every group's count is exactly the wanted one. A pass is one variadic reduce, so leaves that are sharded
exchange a few counts. Ties are cut by the same bisection on the position. Keys and positions of large trees are
computed again in each pass, within its reduce, and never stored: selection needs no memory beyond its scores and masks.
"""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxticket import _tree
from jaxticket._batching import any_replicate
from jaxticket._checks import check_leaves, check_number
from jaxticket.errors import InputError
from jaxticket.selection import _counting, _keys
from jaxticket.selection._contest import Contest, Values, position_bits, positions
from jaxticket.selection._counting import Count
from jaxticket.typing import Scores

_LAST = np.uint32(0xFFFFFFFF)


def keep_top(contest: Contest, k: list[Count]) -> list[jax.Array]:
    """Return masks with exactly k True a group, those of the largest keys; among equals the lower position survives.

    Where fewer than k are alive, all of them are kept.
    """
    contest = contest.stored()
    thresholds, exact = _separate(contest, k, until_exact=True)
    at = contest.spread(thresholds)

    def rank(i: int, key: jax.Array, origin: jax.Array) -> list[jax.Array]:
        """Return digits that order the entries above the threshold, then the ties by position, then the rest."""
        tied = key == at[i]
        if contest.alive is not None:
            tied &= contest.alive[i]
        first, *others = positions(contest, i, origin)
        return [jnp.where(key > at[i], 0, jnp.where(tied, first + 1, _LAST)), *others]

    def cut_ties() -> list[jax.Array]:
        cuts: list[Values] = []
        leading = lambda i: [contest.spread(cut)[i] for cut in cuts]
        for bits in position_bits(contest):
            before = lambda i, key, zero, candidate: _before(
                rank(i, key, zero)[: len(cuts) + 1], [*leading(i), candidate]
            )
            cut, _ = _bisect(contest, before, _at_most, k, bits=bits, dtype=np.dtype("uint32"), until_exact=True)
            cuts.append(cut)
        return [_before(rank(i, key, jnp.uint32(0)), leading(i)) for i, key in enumerate(contest.keys())]

    return jax.lax.cond(
        _all_exact(exact), lambda: [key >= t for key, t in zip(contest.keys(), at, strict=True)], cut_ties
    )


def threshold(scores: Scores, k: int | jax.Array) -> jax.Array:
    """Return the exact k-th largest entry of all leaves of `scores` together, without sorting: 16 counting passes.

    Args:
      scores: pytree of real arrays (None leaves are passed over); float32, bfloat16, float16 or integers, of any sign.
        NaN ranks below −inf.
      k: the number of entries that reach the threshold, 1 ≤ k ≤ their number; may be traced (then it is clipped).

    Returns:
      A scalar in the common dtype of the scores (float32 for 16-bit floats).

    Raises:
      InputError: k out of range, no scores, or dtypes without a common exact order.

    Examples:
      >>> import jax.numpy as jnp
      >>> threshold({"a": jnp.array([3.0, -1.0]), "b": jnp.array([2.0])}, 2)
      Array(2., dtype=float32)
    """
    check_leaves("scores", scores)
    check_number(k=k)
    arrays = [jnp.asarray(s) for s in _tree.leaves(scores) if s is not None]
    size = sum(a.size for a in arrays)
    if size == 0:
        raise InputError("scores holds no entries; pass at least one array.")
    if not isinstance(k, jax.Array) and not 1 <= k <= size:
        raise InputError(f"k={k} is out of range for scores with {size} entries; pass 1 ≤ k ≤ {size}.")
    contest = Contest(arrays, [tuple(range(a.ndim)) for a in arrays], joint=True, key=_keys.of(arrays))
    digits = _counting.digits_for(size)
    if isinstance(k, jax.Array):
        wanted = (
            _counting.of_float(jnp.clip(k, 1, size).astype(jnp.float32), digits)
            if digits > 1
            else (jnp.clip(k, 1, size).astype(jnp.int32),)
        )
    else:
        wanted = _counting.of_int(k, digits)
    return _keys.from_key(_separate(contest, [wanted], until_exact=False)[0][0], _keys.common_dtype(arrays))


def _separate(contest: Contest, k: list[Count], *, until_exact: bool) -> tuple[Values, list[jax.Array]]:
    """Return a threshold that at least k keys of each group reach (all ones where k = 0), and whether exactly k do.

    The second result may be False where exactly k do. The threshold is the largest, unless `until_exact` accepts any
    that exactly k keys reach.
    """
    unsigned = jax.eval_shape(contest.keys)[0].dtype
    reaches = lambda i, key, origin, t: key >= t
    bits = 8 * unsigned.itemsize
    return _bisect(contest, reaches, _counting.at_least, k, bits=bits, dtype=unsigned, until_exact=until_exact)


def _bisect(
    contest: Contest,
    predicate: Callable[[int, jax.Array, jax.Array, jax.Array], jax.Array],
    accept: Callable[[Count, Count], jax.Array],
    wanted: list[Count],
    *,
    bits: int,
    dtype: np.dtype,
    until_exact: bool,
) -> tuple[Values, list[jax.Array]]:
    """Return the largest value v of `bits` bits, two bits a pass, for which accept(n, wanted) holds (as it does at v =
    0).

    n is the number of entries for which predicate(leaf, its keys, 0, v) holds; it rises or falls with v. Arrays that
    the predicate makes should depend on the keys or that 0. The second result is whether n = wanted at this value, as
    far as the counts on the way show. `until_exact` stops as soon as they show that for every group.
    """
    passes = bits // 2

    def step(i: jax.Array, carry: tuple[Values, list[jax.Array]]) -> tuple[Values, list[jax.Array]]:
        values, exact = carry
        shift = (bits - 2 - 2 * i).astype(dtype)
        unit = jnp.ones((), dtype)
        spread = [contest.spread([v + ((unit * j) << shift) for v in values]) for j in (1, 2, 3)]
        scores, origin = contest.scores, jnp.uint32(0)
        if contest.large:
            # For XLA these differ in each pass; else it would compute keys and positions once, outside, and store them.
            scores, origin, _ = jax.lax.optimization_barrier((scores, origin, i))
        counts = contest.tally(
            [[predicate(leaf, key, origin, c[leaf]) for c in spread] for leaf, key in enumerate(contest.keys(scores))]
        )
        accepted = [[accept(n, w) for n, w in zip(ns, wanted, strict=True)] for ns in counts]
        equal = [[_counting.equal(n, w) for n, w in zip(ns, wanted, strict=True)] for ns in counts]
        steps = [sum(ok.astype(dtype) for ok in oks) for oks in zip(*accepted, strict=True)]
        # Beyond a candidate with n = wanted only values with the same n are accepted.
        exact = [functools.reduce(jnp.logical_or, es, e) for e, *es in zip(exact, *equal, strict=True)]
        return [v + (s << shift) for v, s in zip(values, steps, strict=True)], exact

    # Inside shard_map the type of this zero varies between devices, as that of the scores does.
    zero = sum((jnp.zeros_like(s, shape=(), dtype=jnp.uint32) for s in contest.scores), jnp.uint32(0))
    start = (
        [jnp.zeros_like(w[0], dtype=dtype) + zero.astype(dtype) for w in wanted],
        [jnp.zeros_like(w[0], dtype=bool) | (zero > 0) for w in wanted],
    )
    if contest.on_explicit_mesh:  # there the type of a carry holds its sharding: take that of the counts
        typed = jax.eval_shape(lambda carry: step(jnp.int32(0), carry), start)
        start = jax.tree.map(lambda t: jnp.zeros(t.shape, t.dtype, device=t.sharding), typed)
    if not until_exact:
        return jax.lax.fori_loop(0, passes, step, start)

    def resumes(carry: tuple[jax.Array, tuple[Values, list[jax.Array]]]) -> jax.Array:
        i, (_, exact) = carry
        # On a GPU the host would wait for the answer at each pass, unless it knows the number of passes beforehand.
        may_stop = jax.lax.platform_dependent(
            cuda=lambda: jnp.bool_(False), rocm=lambda: jnp.bool_(False), default=lambda: jnp.bool_(True)
        )
        return (i < passes) & ~(may_stop & _all_exact(exact))

    return jax.lax.while_loop(resumes, lambda carry: (carry[0] + 1, step(*carry)), (jnp.int32(0), start))[1]


def _all_exact(exact: list[jax.Array]) -> jax.Array:
    """Whether every group is exact, and under vmap every replicate."""
    return ~any_replicate(~jnp.all(jnp.stack([jnp.all(e) for e in exact])))


def _at_most(a: Count, b: Count) -> jax.Array:
    return _counting.at_least(b, a)


def _before(position: Sequence[jax.Array], cut: Sequence[jax.Array]) -> jax.Array:
    """Whether position < cut, lexicographically."""
    before = position[-1] < cut[-1]
    for p, c in zip(reversed(position[:-1]), reversed(cut[:-1]), strict=True):
        before = (p < c) | ((p == c) & before)
    return before
