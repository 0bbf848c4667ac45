"""AP: a part of each round's budget prunes the negative weights that moved least, so that fewer neurons die."""

import numbers
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxticket import _tree, masks, scopes
from jaxticket._check_trees import check_structure
from jaxticket.errors import InputError, StructureError
from jaxticket.loops._level import PruneFn
from jaxticket.selection import select
from jaxticket.typing import Density, Key, Mask, Params

__all__ = ["activate_while_pruning"]


def activate_while_pruning(prune: PruneFn, start: Params, *, share: float = 0.1) -> PruneFn:
    """Prune as `prune` does, but take negative weights for a share of those removed (AP; Liu et al., 2022).

    Of the weights that a level removes, `prune` chooses all but the share. The rest are, among the negative survivors,
    those whose |trained − start| is smallest. The number kept is that of the density, as without AP. Where there
    are too few negative weights, `prune` chooses the missing ones. `diagnostics.dead_neurons` measures the effect.

    Args:
      prune: a pruning function of single weights, such as `loops.prune_by()`.
      start: the weights from which each level's training begins: `ticket.params` under `rewinds.weights()` and
        `everything()`. It does not work with policies that continue from trained weights, where it would be the last
        level's.
      share: the share of the weights that a level removes; published as 2 of 20 %.

    Returns:
      A `prune=` for `imp` and `imp_scan`, for masks of full shape and one density for all leaves.

    Raises:
      InputError: a share outside [0, 1]; when pruning, a tree of densities.
      StructureError: when pruning, masks of channels, or a `start` of another structure.

    Examples:
      >>> from jaxticket.loops import prune_by
      >>> start, trained = {"w": jnp.array([[3.0, -1.0, -2.0, 2.0]])}, {"w": jnp.array([[3.0, -5.0, -2.1, 1.0]])}
      >>> half = activate_while_pruning(prune_by(), start, share=0.5)
      >>> half(trained, {"w": jnp.ones((1, 4), bool)}, 0.5, key=jax.random.key(0))["w"]  # 1 is small, −2.1 is idle
      Array([[ True,  True, False, False]], dtype=bool)
    """
    if not 0 <= share <= 1:
        raise InputError(f"share={share} is not a fraction in [0, 1]; 0.1 of the weights removed is published.")

    def prune_with_share(params: Params, mask: Mask, density: Density, *, key: Key) -> Mask:
        _check(params, mask, density, start)
        size = sum(m.size for m in jax.tree.leaves(mask))
        known = not any(isinstance(x, jax.core.Tracer) for x in jax.tree.leaves((params, mask, density)))
        count: Any = np if known else jnp  # numpy's counts are exact in float64, for masks of any size
        final = count.maximum(count.rint(density * size), 1)
        before = count.asarray(masks.nnz(params, mask))
        middle = final + count.maximum(count.rint(share * (before - final)), 0)
        by_prune = prune(params, mask, middle / size, key=key)

        negative = _tree.map_present(lambda m, p: m & (p < 0), by_prune, params)
        below = count.asarray(masks.nnz(params, negative))
        movement = _tree.map_present(lambda n, p, p0: jnp.where(n, jnp.abs(p - p0), jnp.inf), negative, params, start)
        least = count.maximum(final, middle - below)
        by_movement = select(movement, least / size, scope=scopes.tree(), mask=by_prune)
        return prune(params, by_movement, density, key=key)  # the missing ones: usually none

    return prune_with_share


def _check(params: Params, mask: Mask, density: Density, start: Params) -> None:
    check_structure("start", start, "params", params)
    if not isinstance(density, numbers.Real) and getattr(density, "ndim", None) != 0:
        raise InputError(f"density={density!r} must be one number for all leaves: AP splits their joint budget.")
    if any(jax.tree.leaves(_tree.map_present(lambda m, p: m.shape != p.shape, mask, params))):
        raise StructureError("mask holds entries for several weights; AP prunes single ones: pass masks of full shape.")
