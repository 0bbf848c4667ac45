"""Frozen weights plus a low-rank and a sparse correction that are trained."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxticket import _layers, _tree, filters, masks
from jaxticket._check_trees import check_arrays
from jaxticket._checks import check_count, check_fraction, check_key, known
from jaxticket._dtypes import wide_dtype
from jaxticket.errors import InputError
from jaxticket.reparam._base import Latent, Reparam, copy_params, only_real, trains
from jaxticket.selection import select
from jaxticket.typing import Filter, Key, Mask, Params, ScoreFn, Scores

_DEVIATION = 0.02  # of the first factors (Chen et al., 2023)
_EXACT = 2**24  # the integers that float32 holds
_PLACES: dict[str, Any] = {"unique_indices": True, "indices_are_sorted": True, "mode": "promise_in_bounds"}


class Correction(NamedTuple):
    """The trained correction of a leaf, a matrix of n inputs × m outputs: the last axis, (heads, head size) of queries,
    keys and values.
    """

    left: jax.Array  # (n, rank)
    right: jax.Array  # (rank, m)
    values: jax.Array  # (places,)


def low_rank_residual(
    *,
    rank: int = 1,
    rounds: int = 1,
    rank_step: int = 5,
    turns: int = 2,
    threshold: float = 0.01,
    key: Key | None = None,
) -> ScoreFn:
    """Score weights by |W − U V|, the residual of a low-rank approximation (GreBsmo; Zhou & Tao, 2013).

    High scores are the places for a sparse correction. In a round U V is fitted to W − S and S to W − U V in turns, S
    from zeros. Each further round adds `rank_step` rows to V. Leaves of two axes or more are matrices of inputs ×
    outputs, as in `additive`; others score None.

    DSEE's published code has 100 rounds and a random start: rank 496 at the end, which leaves a residual unlike that of
    rank 1 (it finds no planted entry of a 768 × 768 matrix, a single round all). Its script for heads has one round, as
    here, and the singular vectors of W miss fewer than a random start. The code keeps places of S, which is zero below
    the threshold; here such places are ranked too.

    Args:
      rank: the rank of the approximation in the first round.
      rounds: the number of rounds.
      rank_step: the rows that each further round adds.
      turns: the turns of a round.
      threshold: residuals below it are noise and not part of S.
      key: a typed PRNG key for a start from random rows, as in the authors' code; the same for all leaves. By default
        the start is the first singular vectors.

    Returns:
      The score. It raises InputError for a leaf whose smaller axis is not above the rank of the last round: nothing
      would be left of it.

    Raises:
      InputError: a rank, rounds, steps or turns below 1.

    Examples:
      >>> import jax.numpy as jnp
      >>> spiked = jnp.ones((4, 4)).at[1, 2].add(3.0)
      >>> jnp.argmax(low_rank_residual()({"w": spiked})["w"])
      Array(6, dtype=int32)
    """
    check_count(1, rank=rank, rounds=rounds, rank_step=rank_step, turns=turns)
    if key is not None:
        check_key("key", key)
    last = rank + rank_step * (rounds - 1)

    def residual_of(name: str, p: jax.Array, place: _layers.Place) -> jax.Array | None:
        if p.ndim < 2 or not jnp.issubdtype(p.dtype, jnp.floating):
            return None
        w = p.reshape(_as_matrix(p, place)).T.astype(wide_dtype(p.dtype))  # outputs × inputs
        if last >= min(w.shape):
            raise InputError(
                f"{name!r} is a matrix of {w.shape[1]} × {w.shape[0]}, of which a rank of {last} leaves nothing; take "
                "fewer rounds, or leave it out with where=."
            )
        if key is None:
            right = jnp.linalg.svd(w, full_matrices=False)[2][:rank]
        else:
            right = jax.random.normal(key, (rank, w.shape[1]), w.dtype)
        residual = noise = w
        for index in range(rounds):
            if index:
                right = jnp.concatenate([right, jnp.linalg.qr(noise)[1][:rank_step]])
            sparse = jnp.zeros_like(w)
            for _ in range(turns):
                left = jnp.linalg.qr((w - sparse) @ right.T)[0]
                right = left.T @ (w - sparse)
                residual = w - left @ right
                sparse = jnp.where(jnp.abs(residual) < threshold, 0, residual)
            noise = residual - sparse
        return jnp.abs(residual).T.reshape(p.shape)

    def score(params: Params, **_: Any) -> Scores:
        check_arrays("params", params)
        return _tree.map_present(residual_of, _tree.names(params), params, _layers.places(params))

    return score


def additive(
    mask: Mask | None = None,
    *,
    rank: int,
    residual_density: float,
    scale: float | None = None,
    places: ScoreFn = low_rank_residual(),
    where: Filter = filters.weights(),
) -> Reparam:
    """Train a low-rank plus sparse correction of pruned and frozen weights (DSEE; Chen et al., 2023).

        p = W ⊙ S₁ + α (U V + S₂)

    U starts as noise, V and S₂ as zeros: the first parameters are W ⊙ S₁. S₂ has fixed places, the best-scored ones of
    the unmasked W. `wrap` trains the group "learned" alone; to train a head or biases too, partition by your own
    labels. The parameters are dense where U V is, and the mask includes it: to profit from S₁, keep the three parts
    apart.

    With `residual_density=0` and `scale=alpha / rank` it is LoRA (Hu et al., 2022), whose code draws U otherwise. The
    factors are leaves as any: `sparsify(tx, plan)` with `where=filters.match("^learned/")` in the plan prunes them.

    A leaf of n × m with k places costs rank · (n + m) + k trained numbers, and 8 bytes a place (of a matrix) for the
    positions. The realised leaf is the only dense array. Each step scatters and gathers k numbers.

    Args:
      mask: S₁; None leaves, and None as the mask, keep all.
      rank: the rank of U V, 0 for none.
      residual_density: the fraction of a leaf's weights that S₂ may change, 0 for none. It is not traced.
      scale: α, by default 32 / rank, as in the authors' code (1 without a low-rank part).
      places: the score of the places of S₂, computed once.
      where: the leaves that are corrected.

    Returns:
      The reparametrisation.

    Raises:
      InputError: a negative rank or a density outside [0, 1]; in `init`, no key where rank > 0, or axes of more than
        2^24 where there are places.
    Examples:
      >>> import jax, jax.numpy as jnp
      >>> tuned = additive({"w": jnp.array([[True, False], [True, True]])}, rank=1, residual_density=0.25)
      >>> latent = tuned.init({"w": jnp.ones((2, 2))}, key=jax.random.key(0))
      >>> tuned.realise(latent, count=0)["w"], jax.tree.map(jnp.size, latent.learned["w"])
      (Array([[1., 0.],
             [1., 1.]], dtype=float32), Correction(left=2, right=2, values=1))
    """
    check_count(0, rank=rank)
    check_fraction("residual_density", residual_density)
    residual_density = known(residual_density)
    factor = (32 / rank if rank else 1.0) if scale is None else scale

    def init(params: Params, *, key: Key | None = None) -> Latent:
        corrected = only_real(params, where)
        if key is not None:
            check_key("key", key)
        if rank and key is None:
            raise InputError("additive draws its first factors: pass a key to init, or rank=0.")
        positions = _tree.map_present(lambda p: jnp.zeros((0, p.ndim), jnp.float32), corrected)
        if residual_density:
            scored = _tree.map_present(lambda p, s: s, corrected, places(corrected))
            positions = _tree.map_present(lambda m: _coordinates(m, residual_density), select(scored, residual_density))
        position = jax.tree.unflatten(_tree.structure(params), range(_tree.structure(params).num_leaves))
        drawn = lambda i: None if key is None else jax.random.fold_in(key, i)
        first = lambda p, at, i, place: _first(_as_matrix(p, place), len(at), rank, drawn(i))
        learned = _tree.map_present(first, corrected, positions, position, _layers.places(params))
        weights = params if mask is None else masks.apply_mask(params, mask)
        return Latent(copy_params(weights), learned, positions)

    def realise(latent: Latent, *, count: Any, key: Key | None = None) -> Params:
        del count, key

        def correct(w: jax.Array, c: Correction | None, at: jax.Array | None) -> jax.Array:
            if c is None or at is None:
                return w
            low_rank = w + (factor * c.left @ c.right).astype(w.dtype).reshape(w.shape)
            return low_rank.at[_index(at)].add((factor * c.values).astype(w.dtype), **_PLACES)

        return _tree.tree_map(correct, latent.weights, latent.learned, latent.constants)

    def mask_of(latent: Latent, *, count: Any) -> Mask:
        del count

        def keep(w: jax.Array, m: jax.Array | None, at: jax.Array | None) -> jax.Array | None:
            if at is None:
                return m
            if m is None or rank:
                return jnp.ones_like(w, dtype=bool)
            return jnp.broadcast_to(m, w.shape).at[_index(at)].set(True, **_PLACES)

        s1 = _tree.tree_map(lambda _: None, latent.weights) if mask is None else mask
        return _tree.tree_map(keep, latent.weights, s1, latent.constants)

    return Reparam(init, realise, mask_of, trains("learned"))


def _as_matrix(p: jax.Array, place: _layers.Place) -> tuple[int, int]:
    """Return the numbers of inputs and outputs of a leaf: the last axis are outputs, or the last two by its name."""
    own = 2 if p.ndim > 2 and _layers.output_axes(place, p.ndim) == (-2, -1) else 1
    return math.prod(p.shape[:-own]), math.prod(p.shape[-own:])


def _first(sizes: tuple[int, int], places: int, rank: int, key: Key | None) -> Correction:
    inputs, outputs = sizes
    left = jnp.zeros((inputs, 0)) if key is None else _DEVIATION * jax.random.normal(key, (inputs, rank))
    return Correction(left, jnp.zeros((rank, outputs)), jnp.zeros(places))


def _coordinates(mask: jax.Array, density: float) -> jax.Array:
    """Return the indices of the entries kept, (places, axes), as floats, since jax.grad does not accept integers."""
    if max(mask.shape) > _EXACT:
        raise InputError(f"a leaf of shape {mask.shape} has an axis above {_EXACT}; leave it out with where=.")
    size = max(1, int(np.rint(density * mask.size)))
    return jnp.stack(jnp.nonzero(mask, size=size), axis=1).astype(jnp.float32)


def _index(at: jax.Array) -> tuple[jax.Array, ...]:
    return tuple(at[:, axis].astype(jnp.int32) for axis in range(at.shape[1]))
