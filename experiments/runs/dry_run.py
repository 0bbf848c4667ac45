"""The lines that the plans of --dry-run have in common, and the sizes in them."""

import functools
import pathlib
from collections.abc import Callable

import jax

from jaxticket import filters
from jaxticket.typing import Key, Params, PyTree

TIME = "time         unknown before the first program has run; the progress line then shows the rest"


def folder(of_run: pathlib.Path) -> str:
    """Return the line of the run's folder, which says whether the run would resume."""
    return f"run folder   {of_run} ({'exists: would resume' if of_run.exists() else 'new'})"


def sizes(init: Callable[[Key], tuple[Params, PyTree]]) -> tuple[int, int]:
    """Return the number of parameters of a network, and of those that can be pruned; nothing is computed.

    >>> import jax.numpy as jnp
    >>> sizes(lambda key: ({"kernel": jnp.ones((3, 4)), "bias": jnp.ones(4)}, None))
    (16, 12)
    """
    params, _ = jax.eval_shape(init, jax.random.key(0))
    mask = jax.eval_shape(functools.partial(filters.full_mask, where=filters.weights()), params)
    count, prunable = (sum(leaf.size for leaf in jax.tree.leaves(tree)) for tree in (params, mask))
    return count, prunable
