"""Occasional changes to the untrained weights of a supermask, with which smaller networks hold strong tickets.

They are pure functions of a latent, to call between steps. They change pruned weights alone: the realised parameters
stay the same.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, PartitionSpec

from jaxticket import _tree
from jaxticket._check_trees import check_fits, check_structure
from jaxticket._checks import check_key, check_number, known
from jaxticket.errors import InputError
from jaxticket.masks import summary
from jaxticket.reparam._base import Latent
from jaxticket.reparam._initialise import draw_leaves, kaiming_normal
from jaxticket.typing import Key, Mask, Params

Redraw = Callable[..., Params]  # (params, *, key) -> params


def recycle(latent: Latent, fraction: float, *, mask: Mask | None = None) -> Latent:
    """Give the lowest-scored weights the values of the highest-scored (weight recycling; Gorbett & Whitley, 2023).

    In each leaf it changes a `fraction` of the weights, rounded down. The i-th lowest takes the value of the i-th among
    as many of the highest. Scores and mask stay. It sorts each leaf, and so gathers it on a mesh: call it only when it
    is due. The authors' configurations differ: every 10 epochs with 0.2 for Biprop, ResNet-18 and Conv-6; every 3
    epochs with 0.1 for edge-popup on Conv-2, 4 and 8 with signed constants. All last until the end, but for the last
    epoch.

    Args:
      latent: the latent parameters.
      fraction: the part of the weights that changes, at most the part that is pruned.
      mask: the mask of `Reparam.mask`; its kept weights never change.

    Returns:
      The latent parameters.

    Raises:
      InputError: a fraction outside (0, ½], or above the part of some leaf that a mask of known values prunes.

    Examples:
      >>> from jaxticket import schedules
      >>> latent = Latent({"w": jnp.array([1.0, 2.0, 3.0, 4.0])}, {"w": jnp.array([0.1, 0.4, -0.2, -0.3])})
      >>> due = schedules.every(300, start=300, stop=1200)
      >>> renewed = lambda latent, count: jax.lax.cond(due(count), lambda l: recycle(l, 0.25), lambda l: l, latent)
      >>> renewed(latent, 299).weights["w"], renewed(latent, 300).weights["w"]
      (Array([1., 2., 3., 4.], dtype=float32), Array([2., 2., 3., 4.], dtype=float32))
    """
    _check_scored(latent)
    check_number(fraction=fraction)
    if not 0 < known(fraction) <= 0.5:
        raise InputError(f"fraction={fraction} must be above 0 and at most 0.5; 0.2 and 0.1 are the authors'.")
    if mask is not None:
        _check_room(latent.weights, mask, fraction)

    recycle_if_scored = lambda w, s: w if s is None else _recycle_leaf(w, s, fraction)
    recycled = _tree.tree_map(recycle_if_scored, latent.weights, latent.learned)
    return latent._replace(weights=recycled if mask is None else _outside(mask, recycled, latent.weights))


def rerandomise(
    latent: Latent, *, key: Key, mask: Mask, fraction: float | jax.Array = 0.1, redraw: Redraw = kaiming_normal
) -> Latent:
    """Redraw pruned weights, each with a probability of `fraction` (IteRand; Chijiwa et al., 2021).

    The authors' configurations all have 0.1: every 300 steps on CIFAR-10, every 1,000 on ImageNet. Their weights are
    Kaiming-uniform, or signed constants, and their scores count as they are: those of `edge_popup` count by their
    absolute value.

    Args:
      latent: the latent parameters.
      key: a typed PRNG key.
      mask: the mask of `Reparam.mask`; its kept weights stay bit for bit.
      fraction: the probability.
      redraw: (params, *, key) -> params, as the weights were drawn: `kaiming_normal`, `signed_constant` or a partial.

    Returns:
      The latent parameters.

    Raises:
      InputError: a fraction outside (0, 1].
      StructureError: a mask that does not fit the weights.

    Examples:
      >>> latent = Latent({"w": jnp.ones((1, 2))}, {"w": jnp.array([[0.1, 0.4]])})
      >>> mask = {"w": jnp.array([[False, True]])}
      >>> (rerandomise(latent, key=jax.random.key(0), mask=mask, fraction=1.0).weights["w"] == 1).tolist()
      [[False, True]]
    """
    _check_scored(latent)
    check_number(fraction=fraction)
    if not isinstance(fraction, jax.core.Tracer) and not 0 < known(fraction) <= 1:
        raise InputError(f"fraction={fraction} must be above 0 and at most 1; 0.1 is the authors'.")
    check_key("key", key)
    mask = check_fits(latent.weights, mask)
    redraw_key, coin_key = jax.random.split(key)
    fresh = redraw(latent.weights, key=redraw_key)
    sparsified = _tree.map_present(lambda w, m: w, latent.weights, mask)
    coins = draw_leaves(sparsified, coin_key, lambda key, shape, _: jax.random.uniform(key, shape))
    change = lambda c, f, w: w if c is None else jnp.where(c < fraction, f, w)
    changed = _tree.tree_map(change, coins, fresh, latent.weights)
    return latent._replace(weights=_outside(mask, changed, latent.weights))


def _recycle_leaf(w: jax.Array, s: jax.Array, fraction: float) -> jax.Array:
    layout = jax.typeof(w).sharding
    explicit = AxisType.Explicit in layout.mesh.axis_types  # a sort then needs whole leaves
    if explicit:
        w, s = (jax.sharding.reshard(x, PartitionSpec()) for x in (w, s))
    count = int(fraction * s.size)
    order = jnp.argsort(-jnp.abs(s.ravel()), stable=True)  # of equal scores the lower index ranks higher
    flat = w.ravel()
    new = flat.at[order[s.size - count :]].set(flat[order[:count]]).reshape(w.shape)
    return jax.sharding.reshard(new, layout) if explicit else new


def _outside(mask: Mask, new: Params, old: Params) -> Params:
    """Return the new weights where the mask prunes, the old ones elsewhere."""
    return _tree.tree_map(lambda m, n, o: o if m is None else jnp.where(m, o, n), mask, new, old)


def _check_scored(latent: Latent) -> None:
    if not isinstance(latent, Latent):
        raise InputError(f"latent is a {type(latent).__name__}, not a Latent; pass that of edge_popup or biprop.")
    check_structure("latent.learned", latent.learned, "latent.weights", latent.weights)


def _check_room(weights: Params, mask: Mask, fraction: float) -> None:
    mask = check_fits(weights, mask)
    if any(isinstance(m, jax.core.Tracer) for m in jax.tree.leaves(mask)):
        return
    for row in summary(weights, mask).rows:
        wanted, pruned = int(fraction * row.size), row.size - row.kept
        if row.density is not None and wanted > pruned:
            raise InputError(
                f"fraction={fraction} of {row.path!r} is {wanted} weights, but only {pruned} of its {row.size} are "
                "pruned; pass a smaller fraction."
            )
