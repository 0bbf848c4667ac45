"""Densities taken from scores or masks."""

import math

import jax
import numpy as np

from jaxticket import _tree, filters, scopes, units
from jaxticket._check_trees import check_arrays, check_fits, check_structure
from jaxticket._checks import check_affordable
from jaxticket.allocate._shares import check_density, check_minimum, leaves_of, ratio
from jaxticket.errors import InputError
from jaxticket.selection._floors import protect
from jaxticket.selection._select import select
from jaxticket.typing import Filter, Mask, Params, PyTree, Scores


def from_mask(params: Params, mask: Mask) -> PyTree:
    """Return the densities of a given mask, leaf by leaf: the start of the layer-wise controls of Su et al. (2020).

    Args:
      params: pytree of which only shapes are read.
      mask: a mask with the structure of `params`, whose values are known.

    Returns:
      Densities like those of `uniform`; None where the mask is None.

    Raises:
      InputError: a mask under jit.
      StructureError: a mask that does not fit the parameters.

    Examples:
      >>> import jax.numpy as jnp
      >>> from_mask({"w": jnp.ones((2, 2)), "b": jnp.ones(2)}, {"w": jnp.array([[True], [False]]), "b": None})
      {'b': None, 'w': 0.5}
    """
    mask = check_fits(params, mask)
    _check_known("mask", mask, "from_mask")
    # Each entry of a broadcast mask stands for equally many weights.
    return _tree.map_present(lambda m: ratio(int(np.count_nonzero(m)), math.prod(m.shape)), mask)


def from_scores(
    params: Params,
    scores: Scores,
    density: float,
    *,
    where: Filter | PyTree = filters.weights(),
    minimum: int = 0,
) -> PyTree:
    """Return the densities that global selection by these scores gives: SNIP, GraSP, SynFlow or LAMP ratios.

    Random masks of these densities are "random pruning" with a good ratio (Liu et al., 2022). LAMP's own pruning is
    magnitude within them (Lee et al., 2021). For scores in rounds take `from_mask` of the mask that `start` makes.

    Args:
      params: pytree of which only shapes are read.
      scores: pytree with the structure of `params`, whose values are known.
      density: the fraction kept of all weights that `where` chooses.
      where: the leaves that are sparsified.
      minimum: the number of weights that every leaf keeps (all of a leaf that has fewer), those of its best scores; the
        rest is filled up globally (Gupta et al., 2022, Global MP with a minimum threshold).

    Returns:
      Densities like those of `uniform`.

    Raises:
      InputError: scores under jit, or a density less than the minima hold.
      StructureError: scores that do not have the structure of the parameters.

    Examples:
      >>> import jax.numpy as jnp
      >>> scores = {"a": jnp.array([[0.9, 0.8, 0.7, 0.6]]), "b": jnp.array([[0.1, 0.05]])}
      >>> from_scores(scores, scores, 0.5, where=filters.everything(), minimum=1)
      {'a': 0.5, 'b': 0.5}
    """
    density, minimum = check_density("density", density), check_minimum(minimum)
    _check_known("scores", scores, "from_scores")
    scores = check_structure("scores", scores, "params", params)
    check_arrays("scores", scores)
    chosen = filters.only(params, where)
    scored = _tree.tree_map(lambda p, s: None if p is None else s, chosen, scores)
    check_structure("scores", scored, "the leaves that where chooses", chosen)
    sizes = np.array([leaf.size for leaf in leaves_of(chosen)], np.int64)
    check_affordable(density, round(density * int(sizes.sum())), np.minimum(minimum, sizes), minimum=minimum)
    unit = units.element()
    full = _tree.map_present(lambda s: np.ones((1,) * s.ndim, bool), scored)
    protected = protect(scored, density, minimum=minimum, unit=unit, mask=full)
    return from_mask(chosen, select(protected, density, unit=unit, scope=scopes.tree()))


def _check_known(name: str, tree: PyTree, function: str) -> None:
    if any(isinstance(x, jax.core.Tracer) for x in jax.tree.leaves(tree)):
        raise InputError(
            f"{name} is traced; densities are Python floats, so call {function} outside jit, vmap and grad."
        )
