"""The exact k-th largest of scores that are never sorted, gathered or concatenated.

The method is counting bisection. The key of a score is an unsigned integer in the same order. The k-th largest key is
built from its highest bit down, two bits a pass, by counting the keys that reach each of three candidates. The passes
end once every group's count is exactly the wanted one. A pass is one variadic reduce, so leaves that are sharded
exchange a few counts. Ties are cut by the same bisection on the position. Keys and positions of large trees are
computed again in each pass, within its reduce, and never stored: selection needs no memory beyond its scores and masks.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxticket import _tree
from jaxticket._batching import any_replicate
from jaxticket._check_trees import check_leaves
from jaxticket._checks import check_number
from jaxticket.errors import InputError
from jaxticket.selection import _counting, _keys, _passes
from jaxticket.selection._contest import Contest, Values
from jaxticket.selection._counting import Count
from jaxticket.selection._passes import Leaf
from jaxticket.typing import Scores

# (leaf, its number, 0, a value v of its groups, a step) -> the counts at v + step, v + 2 step and v + 3 step.
CountFn = Callable[[Leaf, int, jax.Array, jax.Array, jax.Array], list[Count]]


def keep_top(contest: Contest, k: list[Count]) -> list[jax.Array]:
    """Return masks with exactly k True a group, those of the largest keys; among equals the lower position survives.

    Where fewer than k are alive, all of them are kept.
    """
    contest = contest.stored()
    k = lax.optimization_barrier(k)  # else each leaf's number is a part of its programs, and none are alike
    thresholds, exact = _separate(contest, k, until_exact=True)
    at, bits = contest.spread(thresholds), contest.position_bits

    def cut_ties() -> list[Values]:
        cuts: list[Values] = []
        for digit_bits in bits:
            leading = _by_leaf(contest, cuts)

            def count(
                leaf: Leaf, i: int, origin: jax.Array, value: jax.Array, step: jax.Array, leading: Any = leading
            ) -> list[Count]:
                return _passes.count_before(leaf, origin, at[i], leading[i], value, step)

            found, _ = _bisect(contest, count, _at_most, k, bits=digit_bits, dtype=np.dtype("uint32"), until_exact=True)
            cuts.append(found)
        return cuts

    def keep_ties() -> list[Values]:
        end = [_passes.NOWHERE, *(np.uint32(0) for _ in bits[1:])]
        return [[lax.full_like(t, digit, dtype=jnp.uint32) for t in thresholds] for digit in end]

    cuts = _by_leaf(contest, lax.cond(_all_exact(exact), keep_ties, cut_ties))
    # Within an outer loop this zero differs for XLA in each iteration; else it would compute positions once, outside.
    origin, at = lax.optimization_barrier((jnp.uint32(0), at))
    return [_passes.cut(leaf, origin, t, c) for leaf, t, c in zip(contest.leaves(), at, cuts, strict=True)]


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

    def count(leaf: Leaf, i: int, origin: jax.Array, value: jax.Array, step: jax.Array) -> list[Count]:
        del i, origin
        return _passes.count_reaching(leaf, value, step)

    unsigned = jax.eval_shape(_passes.make_keys, contest.leaves()[0]).dtype
    bits = 8 * unsigned.itemsize
    return _bisect(contest, count, _counting.at_least, k, bits=bits, dtype=unsigned, until_exact=until_exact)


def _by_leaf(contest: Contest, values: Sequence[Values]) -> list[list[jax.Array]]:
    """Return several values of groups as one list a leaf."""
    spread = [contest.spread(v) for v in values]
    return [[v[i] for v in spread] for i in range(len(contest.scores))]


def _bisect(
    contest: Contest,
    count: CountFn,
    accept: Callable[[Count, Count], jax.Array],
    wanted: list[Count],
    *,
    bits: int,
    dtype: np.dtype,
    until_exact: bool,
) -> tuple[Values, list[jax.Array]]:
    """Return the largest value v of `bits` bits, two bits a pass, for which accept(n, wanted) holds (as it does at v =
    0).

    n is the count of a group at v; it rises or falls with v. Arrays that `count` makes should depend on the scores or
    on the 0 that it is given. The second result is whether n = wanted at this value, as far as the counts on the way
    show. `until_exact` stops as soon as they show that for every group.
    """
    passes = bits // 2
    leaves = contest.leaves()

    def step(i: jax.Array, carry: tuple[Values, list[jax.Array]]) -> tuple[Values, list[jax.Array]]:
        values, exact = carry
        # The barrier keeps its computation, which differs between loops, out of the programs of leaves.
        unit = lax.optimization_barrier(jnp.ones((), dtype) << (bits - 2 - 2 * i).astype(dtype))
        scores, origin = contest.scores, jnp.uint32(0)
        if contest.large:
            # For XLA these differ in each pass; else it would compute keys and positions once, outside, and store them.
            scores, origin, _ = lax.optimization_barrier((scores, origin, i))
        counts = contest.gather(
            [
                count(dataclasses.replace(leaf, scores=s), number, origin, value, unit)
                for number, (leaf, s, value) in enumerate(zip(leaves, scores, contest.spread(values), strict=True))
            ]
        )
        moved = [
            _passes.advance(*group_set, unit, accept=accept)
            for group_set in zip(values, exact, zip(*counts, strict=True), wanted, strict=True)
        ]
        return [value for value, _ in moved], [seen for _, seen in moved]

    # Inside shard_map the type of this zero varies between devices, as that of the scores does.
    zero = functools.reduce(lax.add, [lax.full_like(s, 0, jnp.uint32, shape=()) for s in contest.scores])
    start = (
        [lax.add(lax.full_like(w[0], 0, dtype), lax.convert_element_type(zero, dtype)) for w in wanted],
        [lax.bitwise_or(lax.full_like(w[0], False, jnp.bool_), lax.gt(zero, jnp.uint32(0))) for w in wanted],
    )
    if contest.on_explicit_mesh:  # there the type of a carry holds its sharding: take that of the counts
        typed = jax.eval_shape(lambda carry: step(jnp.int32(0), carry), start)
        start = jax.tree.map(lambda t: jnp.zeros(t.shape, t.dtype, device=t.sharding), typed)
    if not until_exact:
        return lax.fori_loop(0, passes, step, start)

    def resumes(carry: tuple[jax.Array, tuple[Values, list[jax.Array]]]) -> jax.Array:
        i, (_, exact) = carry
        # On a GPU the host would wait for the answer at each pass, unless it knows the number of passes beforehand.
        may_stop = lax.platform_dependent(
            cuda=lambda: jnp.bool_(False), rocm=lambda: jnp.bool_(False), default=lambda: jnp.bool_(True)
        )
        return (i < passes) & ~(may_stop & _all_exact(exact))

    return lax.while_loop(resumes, lambda carry: (carry[0] + 1, step(*carry)), (jnp.int32(0), start))[1]


def _all_exact(exact: list[jax.Array]) -> jax.Array:
    """Whether every group is exact, and under vmap every replicate."""
    scalars = [lax.reshape(e, ()) if e.size == 1 else lax.reduce_and(e, range(e.ndim)) for e in exact]
    every = functools.reduce(lax.bitwise_and, scalars)
    return ~any_replicate(~every)


def _at_most(a: Count, b: Count) -> jax.Array:
    return _counting.at_least(b, a)
